"""What the caption adapter finds: its pydantic model, and the parser that takes the caption out of the words around it.

Input: a `Generation`, and the language and question it answers. Output: `CaptionFindings`; an answer that is empty, cut
off, too short, plainly in another language, or about the model itself is a `ParseFailure`.

Only what cannot be part of a caption is taken away: the model's thinking, marks of Markdown, quotes around the whole,
"Caption:", "Sure! Here is the caption:", the question repeated, "Let me know if ...". The sentences stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from models.adapters.clinical_caption.languages import LANGUAGES, plain_language
from models.generation import Generation
from models.parsing import ParseFailure, answer_text, answered_object, reason_of

_FEWEST_WORDS: Final = 3
_FENCE: Final = re.compile(r"^```\w*\s*$", re.MULTILINE)
_MARKED_LINE: Final = re.compile(r"^[ \t]*(?:#{1,6}|[-*>\u2022])[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_EMPHASIS: Final = re.compile(r"(\*\*|__|\*)(?=\S)(.+?)(?<=\S)\1")
#: What may stand before a caption, in this order. "Here is ..." is a lead only where it names the caption and a
#: colon ends it: "Here is a chest X-ray: no effusion." is a caption.
_LEADS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:sure|certainly|of course|okay|gerne|natürlich|bien sûr|claro|por supuesto)\s?[!.,:]\s*",
        r"(?:here(?:'s|\u2019s| is)|hier ist|voici|aquí (?:está|tiene))\b[^.:\n]{0,60}"
        r"(?:caption|description|bildunterschrift|beschreibung|légende|leyenda|descripción)\b[^.:\n]{0,60}:\s*",
        r"(?:(?:clinical|medical|image|radiology)\s+)?(?:caption|bildunterschrift|bildbeschreibung|légende|leyenda)\s*:\s*",
    )
)
_CLOSING: Final = re.compile(
    r"\s*(?:let me know if|feel free to|i hope this helps|would you like me to)\b[^.!?]*[.!?]?\s*$", re.IGNORECASE
)
_ABOUT_ITSELF: Final = re.compile(
    r"\bas an ai\b|\bi(?:'m| am) (?:an ai|sorry|unable|not able)\b"
    r"|\bi (?:cannot|can't|can not) (?:provide|analy|see|view|interpret|assist|help)",
    re.IGNORECASE,
)
_QUOTES: Final = (('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("\u201e", "\u201c"), ("\u00ab", "\u00bb"))


class CaptionFindings(BaseModel):
    """The caption; the ledger's `findings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    caption: str = Field(min_length=1, max_length=4000)
    #: Language the caption is written in (BCP 47).
    language: str = Field("en", json_schema_extra={"enum": list(LANGUAGES)})

    @field_validator("caption", mode="before")
    @classmethod
    def _on_one_line(cls, caption: object) -> object:
        return " ".join(caption.split()) if isinstance(caption, str) else caption

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str) -> str:
        if language not in LANGUAGES:
            raise ValueError(f"the language must be one of {', '.join(LANGUAGES)}")
        return language


def parse(generation: Generation, *, language: str = "en", question: str = "") -> CaptionFindings | ParseFailure:
    """Return the caption of a generation.

    Args:
        generation: The raw answer.
        language: The language that was asked for (BCP 47).
        question: What was asked, in case the answer repeats it.
    """
    text = _bare_text(generation, question)
    if isinstance(text, ParseFailure):
        return text
    if len(re.findall(r"[^\W\d_]+", text)) < _FEWEST_WORDS:
        return ParseFailure(f"the answer has fewer than {_FEWEST_WORDS} words, too few for a caption", generation.text)
    spoken = plain_language(text)
    if spoken not in (None, language):
        reason = f"the answer is in {LANGUAGES[spoken]}, and {LANGUAGES[language]} was asked for"
        return ParseFailure(reason, generation.text)
    try:
        return CaptionFindings(caption=text, language=language)
    except ValidationError as error:
        return ParseFailure(reason_of(error), generation.text)


def answer_class(findings: BaseModel) -> str:
    """Return the key into the review policy: a caption is a caption, whatever it says."""
    CaptionFindings.model_validate(findings)
    return "caption"


def _bare_text(generation: Generation, question: str) -> str | ParseFailure:
    """Return the answer without what is plainly no part of a caption."""
    if generation.finish_reason == "length":
        return ParseFailure("the answer was cut off at the length limit", generation.text)
    text = answer_text(generation)
    if isinstance(text, ParseFailure):
        return text
    if re.match(r"thought\s*\n", text):
        # Without the marks nothing tells where the thinking ends.
        return ParseFailure("the model thought aloud, and its caption cannot be told from that", generation.text)
    text = _FENCE.sub("", text).strip()
    if text.startswith("{"):
        found = answered_object(generation, ["caption"])
        if isinstance(found, ParseFailure):
            return found
        if set(found) != {"caption"} or not isinstance(found["caption"], str):
            return ParseFailure("the JSON object in the answer holds other things than a caption", generation.text)
        text = found["caption"]
    text = _EMPHASIS.sub(r"\2", _MARKED_LINE.sub(_as_sentence, text)).strip()
    if _ABOUT_ITSELF.search(text):
        return ParseFailure("the model speaks about itself instead of the image", generation.text)
    text = _without_leads(text, " ".join(question.split()))
    return text or ParseFailure("the answer holds no caption", generation.text)


def _as_sentence(line: re.Match[str]) -> str:
    """Return a heading or an entry of a list with a full stop, or it would run into the next."""
    words = line[1]
    return words if words[-1] in ".,:;!?" else f"{words}."


def _without_leads(text: str, question: str) -> str:
    text = " ".join(text.split())
    if question and text.startswith(question):
        text = text[len(question) :].lstrip()
    for lead in _LEADS:
        if match := lead.match(text):
            text = text[match.end() :]
    text = _CLOSING.sub("", text)
    for opening, closing in _QUOTES:
        inside = text[1:-1]
        if len(text) > 1 and text[0] == opening and text[-1] == closing and opening not in inside:
            return inside.strip()
    return text
