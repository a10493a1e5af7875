"""A medical report in English -> what it states: entities with severity, place, side, denial, doubt, time and size.

Input: text. Output: a `ReadReport`. It is a reading by rules and a small word list (`report_lexicon.json`), in the
manner of NegEx (Chapman et al. 2001): a denial reaches from its cue to the end of the clause. It fails on nothing;
words that the list does not have are not seen, so that a text may state nothing at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_MM_OF_UNIT = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0}
#: A number with its unit, or one of "3 x 4 cm", where the unit stands at the end.
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(?=(?:\s*(?:mm|cm)?\s*x\s*\d+(?:\.\d+)?)*\s*(mm|millimeter|cm|centimeter)s?\b)")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[\n;]")
#: Words that look like a denial or a severity and are none.
_MISLEADING = (
    (re.compile(r"\bno (?:significant |interval )*change\b"), "unchanged"),
    (re.compile(r"\b(?:small|large) (?=bowel|intestin)"), ""),
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One entity as one sentence speaks of it."""

    entity: str
    #: "present", "denied" or "doubtful".
    status: str
    #: "mild", "moderate", "severe" or "".
    severity: str
    #: Sides and places named in the clause.
    places: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What a report states."""

    statements: tuple[Statement, ...]
    #: (entity or "", "new" | "unchanged" | ...).
    times: frozenset[tuple[str, str]]
    #: Sizes in mm, in order.
    sizes_mm: tuple[float, ...]
    sections: frozenset[str]

    def entities(self, *statuses: str) -> frozenset[str]:
        """Return the entities of these statuses."""
        return frozenset(statement.entity for statement in self.statements if statement.status in statuses)


@cache
def lexicon() -> Mapping[str, Any]:
    """Return the word list."""
    found: Mapping[str, Any] = json.loads(Path(__file__).with_name("report_lexicon.json").read_text(encoding="utf-8"))
    return found


def significance(entity: str) -> str:
    """Return "critical", "significant" or "minor"."""
    return str(lexicon()["entities"][entity]["significance"])


def read_report(text: str) -> ReadReport:
    """Return what a report states."""
    statements: dict[Statement, None] = {}
    times = set()
    for sentence in _sentences(text):
        clauses = list(_clauses(sentence))
        found = [statement for clause in clauses for statement in _statements(clause)]
        statements.update(dict.fromkeys(found))
        named = {statement.entity for statement in found} or {""}
        times |= {(entity, time) for time in _named("times", sentence) for entity in named}
    return ReadReport(tuple(statements), frozenset(times), tuple(_sizes(text.lower())), frozenset(_sections(text)))


def _sentences(text: str) -> Iterator[str]:
    plain = text.lower()
    for misleading, meant in _MISLEADING:
        plain = misleading.sub(meant, plain)
    for part in _SENTENCE_END.split(plain):
        if part.strip():
            yield " ".join(part.split())


def _clauses(sentence: str) -> Iterator[str]:
    """Cut a sentence where a denial ends: at "but" and alike, and at a comma before a severity or "with"."""
    ends = "|".join(map(re.escape, lexicon()["scope_ends"]))
    severities = "|".join(re.escape(word) for words in lexicon()["severities"].values() for word in words)
    for part in re.split(rf"\b(?=(?:{ends})\b)|,\s*(?=(?:and\s+)?(?:with|{severities})\b)", sentence):
        if part.strip(" ,"):
            yield part


def _statements(clause: str) -> Iterator[Statement]:
    denials = [match.start() for match in _any_of(lexicon()["negations_before"]).finditer(clause)]
    denied_after = [match.start() for match in _any_of(lexicon()["negations_after"]).finditer(clause)]
    doubtful = _any_of(lexicon()["uncertainties"]).search(clause) is not None
    places = frozenset((*_named("sides", clause), *_named("places", clause)))
    for entity, start in _entities(clause):
        denied = any(cue < start for cue in denials) or any(cue > start for cue in denied_after)
        # "Cannot be excluded" holds a denial and is a doubt.
        status = "doubtful" if doubtful else "denied" if denied else "present"
        yield Statement(entity, status, _severity(clause, start), places)


def _entities(clause: str) -> Iterator[tuple[str, int]]:
    """Yield each entity once with where it starts; the longest words win, so "pleural effusion" is one."""
    taken: list[tuple[int, int]] = []
    known = [(word, entity) for entity, entry in lexicon()["entities"].items() for word in entry["words"]]
    seen = set()
    for word, entity in sorted(known, key=lambda pair: -len(pair[0])):
        for match in _any_of((word,)).finditer(clause):
            if any(match.start() < end and start < match.end() for start, end in taken):
                continue
            taken.append(match.span())
            if entity not in seen:
                seen.add(entity)
                yield entity, match.start()


def _severity(clause: str, start: int) -> str:
    """Return the severity whose word is nearest to the entity."""
    nearest = [
        (abs(match.start() - start), name)
        for name, words in lexicon()["severities"].items()
        for match in _any_of(tuple(words)).finditer(clause)
    ]
    return min(nearest)[1] if nearest else ""


def _named(table: str, text: str) -> list[str]:
    return [name for name, words in lexicon()[table].items() if _any_of(tuple(words)).search(text)]


def _sizes(text: str) -> Iterator[float]:
    for match in _SIZE.finditer(text):
        yield float(match.group(1)) * _MM_OF_UNIT[match.group(2)]


def _sections(text: str) -> Iterator[str]:
    for name, words in lexicon()["sections"].items():
        heading = "|".join(map(re.escape, words))
        if re.search(rf"(?:^|\n|[.:]\s)\W*(?:{heading})\W*:", text.lower()):
            yield name


def _any_of(words: Sequence[str]) -> re.Pattern[str]:
    return _pattern(tuple(words))


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    ordered = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, ordered))})(?![\w-])")
