"""Which body region an instance shows: header in, normalised region names and the attribute that decided out.

Attributes are asked in the order of trust: AnatomicRegionSequence, BodyPartExamined, ProtocolName, SeriesDescription,
StudyDescription, procedure codes. The first that names a region decides; later ones are not mixed in. Nothing known
gives an empty answer, never a guess. It cannot fail.

Of 71 real CT series 25 had a blank BodyPartExamined, so the free-text attributes matter; they are read by whole words
and by the run-together abbreviations that consoles use (ABDPEL, CHABPEL, TAP), in English with the commonest German,
French, Spanish and Italian words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dicom_node.codes import Code
from dicom_node.headers import InstanceHeader
from dicom_node.region_tables import ABBREVIATIONS, FOLDED_LETTERS, PIECES, REGIONS_BY_SCT, SRT_TO_SCT, STEMS

#: The normalised region names.
REGIONS: frozenset[str] = frozenset(
    {"head", "neck", "chest", "abdomen", "pelvis", "spine", "heart", "extremity", "eye", "breast", "whole_body"}
)


@dataclass(frozen=True, slots=True)
class BodyRegion:
    """The region or regions an instance shows, and what says so."""

    #: Normalised names out of `REGIONS`; empty where nothing is known.
    names: frozenset[str]
    #: Keyword of the deciding attribute, or "" where none decided.
    source: str
    #: That attribute's value as found.
    value: str

    def __str__(self) -> str:
        """Say it in words, for the route's explanation."""
        if not self.names:
            return "body region unknown: no attribute names one"
        return f"{', '.join(sorted(self.names))} (from {self.source} {self.value!r})"


_PIECE = re.compile("|".join(sorted(PIECES, key=len, reverse=True)))


def body_region(header: InstanceHeader) -> BodyRegion:
    """Return the region(s) that the most trusted attribute names, and which attribute that was."""
    asked: tuple[tuple[str, str, Callable[[], frozenset[str]]], ...] = (
        (
            "AnatomicRegionSequence",
            _spell(header.anatomic_regions),
            lambda: regions_of_codes(header.anatomic_regions),
        ),
        ("BodyPartExamined", header.body_part_examined, lambda: regions_in_text(header.body_part_examined)),
        ("ProtocolName", header.protocol_name, lambda: regions_in_text(header.protocol_name)),
        ("SeriesDescription", header.series_description, lambda: regions_in_text(header.series_description)),
        ("StudyDescription", header.study_description, lambda: regions_in_text(header.study_description)),
        ("ProcedureCodeSequence", _spell(header.procedure_codes), lambda: regions_of_codes(header.procedure_codes)),
    )
    for source, value, read in asked:
        if names := read():
            return BodyRegion(names, source, value)
    return BodyRegion(frozenset(), "", "")


def regions_of_codes(codes: Iterable[Code]) -> frozenset[str]:
    """Return the regions of coded concepts: by SNOMED CT value, by its retired SRT form, else by the code's meaning."""
    names: set[str] = set()
    for code in codes:
        value, scheme = code.value.strip().upper(), code.scheme.strip().upper()
        sct = value if scheme == "SCT" else SRT_TO_SCT.get(value, "") if scheme in {"SRT", "SNM3", "99SDM"} else ""
        names.update(REGIONS_BY_SCT[sct] if sct in REGIONS_BY_SCT else regions_in_text(code.meaning))
    return frozenset(names)


def regions_in_text(text: str) -> frozenset[str]:
    """Return the regions that a free-text attribute names, e.g. ``"Abdomen^AbdRoutine"`` or ``"CHABPEL"``."""
    words = _words(text)
    names: set[str] = set()
    for word in words:
        names.update(_regions_of_word(word))
    # Two-word names ("whole body") are looked for in the words put side by side; "body" alone is a body coil or filter.
    joined = " ".join(words)
    if re.search(r"\b(whole|total|ganz) ?(body|koerper)\b|\bpan ?(ct|scan)\b", joined):
        names.add("whole_body")
    if re.search(r"\b(c|t|l|ls|cervical|thoracic|lumbar) spine\b", joined):
        # "Thoracic spine" is a spine examination, "cervical spine" is not one of the neck.
        names -= {"chest", "neck"}
    return frozenset(names)


def _regions_of_word(word: str) -> frozenset[str]:
    if word in ABBREVIATIONS:
        return frozenset(ABBREVIATIONS[word])
    # Compounds first: the stems would read "thoraxabdomen" as a chest.
    if compound := _regions_of_compound(word):
        return compound
    found = {
        region
        for region, stems in STEMS.items()
        for stem in stems
        if word == stem or (stem.endswith("*") and word.startswith(stem[:-1]))
    }
    return frozenset(found)


def _regions_of_compound(word: str) -> frozenset[str]:
    """Split a run-together word completely into known pieces, or return nothing."""
    pieces, at = [], 0
    while at < len(word):
        match = _PIECE.match(word, at)
        if match is None:
            return frozenset()
        pieces.append(PIECES[match.group()])
        at = match.end()
    # One piece of two letters ("ab", "ch") says too little.
    return frozenset(pieces) if len(word) > 2 else frozenset()


def _words(text: str) -> list[str]:
    """Split on everything that is not a letter and at camel case ("AbdRoutine"), in lower case, accents folded."""
    split = re.sub(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])", " ", text)
    folded = re.sub(r"\b(head|feet) first\b", "", split.lower().translate(FOLDED_LETTERS))  # how the patient lies
    return [word for word in re.split(r"[^a-z]+", folded) if word]


def _spell(codes: Iterable[Code]) -> str:
    return ", ".join(f"({code.value}, {code.scheme}, {code.meaning!r})" for code in codes)
