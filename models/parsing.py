"""Generation -> findings, or an honest `ParseFailure` that keeps the raw text and goes to a person.

Input: the raw text of a generation. Output: what each adapter's parser needs of it: the answer without the model's
thinking, the one JSON object in it, the one label it names, the texts under its headings. Lenient about the wrapping
(markdown, chatter around the object), strict about the content: nothing is guessed. On failure: `ParseFailure`, never
an exception.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from models.generation import Generation

#: MedGemma 1.5 thinks between these two; the answer is what follows the second.
THINKING_STARTS, THINKING_ENDS = "<unused94>", "<unused95>"
_SPECIAL_TOKENS = re.compile(r"<(?:eos|bos|pad|end_of_turn|start_of_turn|unused\d+)>")
_DECODER = json.JSONDecoder()
#: Where an object, or a list of objects, may begin.
OBJECT_OPENS, LIST_OPENS = re.compile(r'\{(?=\s*["}])'), re.compile(r"\[(?=\s*[{\]])")
#: An answer is a few thousand characters. One of which more than this must be looked at (nested brackets, each of which
#: may be where it begins) is junk, and would keep the process busy for minutes.
MOST_EXAMINED = 2_000_000
#: Finding the line of an error costs about this share of looking at the characters before it.
_LINE_COUNTING = 32


class TangledError(ValueError):
    """Too much of the answer may be where its JSON begins."""


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """The answer did not have the adapter's form."""

    #: What is wrong, in words a reviewer understands.
    reason: str
    raw_text: str

    def to_json(self) -> dict[str, str]:
        """Return a JSON-ready dictionary."""
        return {"reason": self.reason, "raw_text": self.raw_text}

    @classmethod
    def from_json(cls, stored: Mapping[str, str]) -> ParseFailure:
        """Rebuild a failure from `to_json`."""
        return cls(reason=stored["reason"], raw_text=stored["raw_text"])


def plain(name: str) -> str:
    """Return the name of a field or of a kind of answer as a reviewer reads it."""
    return name.replace("_", " ")


def answer_text(generation: Generation) -> str | ParseFailure:
    """Return the answer proper: what follows the model's thinking, without special tokens and outer blanks."""
    text = generation.text
    if THINKING_ENDS in text:
        text = text.rsplit(THINKING_ENDS, 1)[1]
    elif THINKING_STARTS in text:
        return ParseFailure("the model was still thinking when its answer ended", generation.text)
    text = _SPECIAL_TOKENS.sub("", text).strip()
    return text or ParseFailure("the answer is empty", generation.text)


def answered_object(generation: Generation, keys: Collection[str]) -> dict[str, Any] | ParseFailure:
    """Return the one JSON object with all of `keys` in the answer, whatever stands around it.

    An object repeated word for word is one answer; two that differ are none, because choosing would be guessing.
    """
    text = answer_text(generation)
    if isinstance(text, ParseFailure):
        return text
    try:
        objects, unfinished = _objects_in(text)
    except TangledError as error:
        return ParseFailure(str(error), generation.text)
    complete = [found for found in objects if all(key in found for key in keys)]
    if complete:
        if any(found != complete[0] for found in complete):
            return ParseFailure("the answer holds several JSON objects that differ", generation.text)
        return complete[0]
    if unfinished:
        return ParseFailure("the answer ends before its JSON object is complete", generation.text)
    if objects:
        missing = sorted(set(keys) - set(max(objects, key=lambda found: len(set(found) & set(keys)))))
        return ParseFailure(f"the JSON object in the answer lacks {', '.join(map(plain, missing))}", generation.text)
    return ParseFailure("the answer holds no JSON object", generation.text)


def answered_label(generation: Generation, labels: Collection[str]) -> str | ParseFailure:
    """Return the one label that the answer names.

    Scored labels decide by themselves. Otherwise the text must name exactly one label, as a whole word and not negated;
    "not blocked" is no answer, for it may stand for any of the others.
    """
    if generation.label_scores is not None:
        if set(generation.label_scores) != set(labels):
            named = ", ".join(sorted(generation.label_scores)) or "nothing"
            return ParseFailure(f"the engine scored {named}, not {', '.join(sorted(labels))}", generation.text)
        return max(generation.label_scores, key=lambda label: generation.label_scores[label])  # type: ignore[index]
    text = answer_text(generation)
    if isinstance(text, ParseFailure):
        return text
    words = re.findall(r"[^\W\d_]+(?:'t)?", text.lower())
    named_labels = {label for label in labels if label.lower() in words}
    if len(named_labels) != 1:
        what = "names none of" if not named_labels else "names more than one of"
        return ParseFailure(f"the answer {what}: {', '.join(labels)}", generation.text)
    label = named_labels.pop()
    if _is_negated(text, label):
        return ParseFailure(f"the answer negates {label!r} and names no other label", generation.text)
    return label


def answered_sections(generation: Generation, headings: Sequence[str]) -> dict[str, str] | ParseFailure:
    """Return what stands under each of `headings` in the answer, by heading; what stands before the first is dropped.

    A section repeated word for word is one; two that differ are none, because choosing would be guessing. An answer
    that was cut off is a failure even where every heading is there: the last section has no end.
    """
    text = answer_text(generation)
    if isinstance(text, ParseFailure):
        return text
    if generation.finish_reason == "length":
        return ParseFailure("the answer was cut off at the length limit", generation.text)
    found: dict[str, str] = {}
    for heading, start, end in section_spans(text, headings):
        section = text[start:end].removesuffix("```").strip()
        if found.setdefault(heading, section) != section:
            return ParseFailure(f'the answer has several sections "{heading}" that differ', generation.text)
    missing = [heading for heading in headings if heading not in found]
    if missing:
        named = ", ".join(f'"{heading}"' for heading in missing)
        return ParseFailure(f"the answer has no heading {named}", generation.text)
    for heading, section in found.items():
        if not section:
            return ParseFailure(f'nothing stands under the heading "{heading}"', generation.text)
    return {heading: found[heading] for heading in headings}


def section_spans(text: str, headings: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return (heading, start, end) of the text under each heading, in the order of the text; end exclusive.

    A heading begins a line and is alone on it or followed by a colon or dash, whatever its capitals, markdown or number
    ("## 2. **Final answer** -"). Within a line it counts behind a whole sentence, written as asked, with a colon. Those
    words within a sentence are no heading.
    """
    marks: list[tuple[int, int, str]] = []
    for heading in headings:
        words = r"[ \t_-]+".join(re.escape(word) for word in heading.split())
        begins_line = rf"^{_BEFORE_HEADING}(?i:{words}){_AFTER_HEADING}"
        within_line = rf"(?<=[.!?])[ \t]+[*_]{{0,3}}{words}[*_]{{0,3}}:[*_]{{0,3}}"
        found = re.finditer(rf"{begins_line}|{within_line}", text, re.MULTILINE)
        marks += [(match.start(), match.end(), heading) for match in found]
    marks.sort()
    ends = [*(start for start, _, _ in marks[1:]), len(text)][: len(marks)]
    return [(heading, start, end) for (_, start, heading), end in zip(marks, ends, strict=True)]


#: Markdown and numbers around a heading; its end is a separator, or the end of the line. Blanks are taken all at once
#: (`*+`): one way of dividing them between two places is enough, and thousands of blanks have millions of ways.
_BEFORE_HEADING = r"[ \t>]*(?:#{1,6}[ \t]*)?(?:(?:\d{1,2}[.)]|[-+])[ \t]+)?[*_`]{0,3}(?:\d{1,2}[.)][ \t]+)?"
_AFTER_HEADING = r"[ \t]*+(?:[*_`]{0,3}[ \t]*+(?:[:\uff1a]|[-\u2013\u2014]+(?=\s))[*_`]{0,3}|[*_`]{0,3}[ \t]*+(?=\r?$))"


def _is_negated(text: str, label: str) -> bool:
    """Tell whether a sentence with the label denies it, before it ("no sign that it is ...") or right behind it."""
    for sentence in re.split(r"[.;\n]+", text.lower()):
        words = re.findall(r"[^\W\d_]+(?:['\u2019]t)?", sentence)
        if label.lower() in words:
            at = words.index(label.lower())
            near = [*words[:at], *words[at + 1 : at + 3]]
            if any(word in _NEGATIONS or word.endswith(("n't", "n\u2019t")) for word in near):
                return True
    return False


_NEGATIONS = frozenset(
    {"not", "no", "non", "without", "never", "cannot", "neither", "nor", "unlikely", "if", "whether", "false"}
)


def field_spans(text: str) -> dict[str, tuple[int, int]]:
    """Return where each top-level value of the last JSON object in `text` stands: key -> (start, end), end exclusive.

    Strings are given without their quotes. A text without a complete object gives an empty answer.
    """
    try:
        positions = list(json_values(text, OBJECT_OPENS))
    except TangledError:
        return {}
    return _spans_of_object(text, positions[-1][0]) if positions else {}


def json_values(text: str, opens: re.Pattern[str], *, nested: bool = False) -> Iterator[tuple[int, int, Any]]:
    """Return (start, end, value) of the JSON objects or lists in `text` that begin where `opens` matches, in order.

    Without `nested` only the outermost ones. The characters looked at are counted, so that no answer takes long.

    Raises:
        TangledError: More than `MOST_EXAMINED` characters had to be looked at, or it nests deeper than any answer does.
    """
    examined, match = 0, opens.search(text)
    while match is not None:
        at = behind = match.start()
        try:
            value, end = _DECODER.raw_decode(text, at)
        except RecursionError:
            raise TangledError("the answer nests its brackets too deeply to be read") from None
        except ValueError as error:
            examined += _looked_at(error, text, at)
        else:
            examined += end - at
            behind = at if nested else end - 1
            yield at, end, value
        if examined > MOST_EXAMINED:
            raise TangledError("the answer holds too many brackets that open and never close to be read")
        match = opens.search(text, behind + 1)


def _looked_at(error: ValueError, text: str, start: int) -> int:
    """Return how many characters a decoder looked at that began at `start` and failed."""
    if not isinstance(error, json.JSONDecodeError) or error.msg.startswith("Unterminated string"):
        return len(text)
    return error.pos + 1 - start + error.pos // _LINE_COUNTING


def reason_of(error: ValidationError) -> str:
    """Say in one sentence what a findings model refused; the values stay out, they may be long."""
    places = (".".join(plain(str(part)) for part in fault["loc"]) or "answer" for fault in error.errors())
    parts = [f"{place}: {fault['msg']}" for place, fault in zip(places, error.errors(), strict=True)]
    return "the answer does not fit its form: " + "; ".join(parts)


def _objects_in(text: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the top-level JSON objects in `text`, and whether one begins there and never ends."""
    positions = list(json_values(text, OBJECT_OPENS))
    end = positions[-1][1] if positions else 0
    # An opening brace with a key behind it, after the last whole object: that one was cut off.
    unfinished = re.search(r'\{\s*(?:"|$)', text[end:]) is not None
    return [found for _, _, found in positions], unfinished


def _spans_of_object(text: str, start: int) -> dict[str, tuple[int, int]]:
    """Walk one valid JSON object and note where its values stand."""
    spans: dict[str, tuple[int, int]] = {}
    at = start + 1
    while (at := _skip(text, at, ",")) < len(text) and text[at] == '"':
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at, ":")
        value, end = _DECODER.raw_decode(text, at)
        spans[key] = (at + 1, end - 1) if isinstance(value, str) else (at, end)
        at = end
    return spans


def _skip(text: str, at: int, also: str) -> int:
    while at < len(text) and (text[at].isspace() or text[at] == also):
        at += 1
    return at
