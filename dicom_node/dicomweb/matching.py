"""QIDO-RS queries (PS3.18 10.6.1, 8.3.4) -> what to look for, and whether a data set is it (PS3.4 C.2.2.2).

Input: the parameters of a query, in their order; a data set. Output: a frozen `Query`; a verdict. On failure:
`QueryError`, where a parameter is none that is known, is no key at this level, or has a value that cannot be matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.dicomweb.dicom_json import element_at
from dicom_node.uids import is_acceptable_uid


class QueryError(ValueError):
    """The query cannot be answered as asked; the message names the parameter and the remedy."""


class Level(IntEnum):
    """What is asked for."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


#: Keys of each level (PS3.18 table 10.6.1-5, and what sites ask besides); a level takes those of the levels above too.
KEYS: Final[Mapping[Level, tuple[str, ...]]] = {
    Level.STUDY: (
        *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "StudyID"),
        *("ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDescription"),
        *("IssuerOfPatientID", "InstitutionName"),
    ),
    Level.SERIES: (
        *("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "ProtocolName"),
        *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "StationName", "Manufacturer"),
        *("RequestAttributesSequence.ScheduledProcedureStepID", "RequestAttributesSequence.RequestedProcedureID"),
    ),
    Level.INSTANCE: ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "ContentDate", "NumberOfFrames"),
}
#: Parameters of a query that are no keys.
OTHER_PARAMETERS: Final = frozenset({"includefield", "limit", "offset", "fuzzymatching", "accept"})
_RANGE_VRS: Final = frozenset({"DA", "TM", "DT"})
_NUMBER_VRS: Final = frozenset({"IS", "DS", "US", "UL", "SS", "SL", "FL", "FD"})
_RANGE_END: Final = {"DA": re.compile(r"\d{8}"), "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")}
_MOST_PARAMETERS: Final = 100


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute that has to match."""

    #: Tags from the data set down; only the last may be no sequence.
    path: tuple[int, ...]
    vr: str
    #: Any of them will do.
    values: tuple[str, ...]
    name: str

    def matches(self, dataset: Dataset) -> bool:
        """Whether the data set has one of the values, at any item on the way."""
        return any(self._one(value) for value in _values(dataset, self.path))

    def _one(self, value: str) -> bool:
        return any(_matches(self.vr, wanted, value) for wanted in self.values)


@dataclass(frozen=True, slots=True)
class Query:
    """A query as understood."""

    level: Level
    keys: tuple[Key, ...] = ()
    #: Tags that the answer shall have besides the usual ones.
    include: frozenset[int] = frozenset()
    include_all: bool = False
    limit: int | None = None
    offset: int = 0
    is_fuzzy: bool = False

    def key(self, name: str) -> Key | None:
        """Return the key of this name, if it is asked for."""
        return next((key for key in self.keys if key.name == name), None)


def parse_query(parameters: Iterable[tuple[str, str]], level: Level) -> Query:
    """Read the parameters of a query. Raises `QueryError`."""
    keys: dict[str, Key] = {}
    others: dict[str, list[str]] = {}
    known = _known_keys(level)
    for number, (name, value) in enumerate(parameters):
        if number >= _MOST_PARAMETERS:
            raise QueryError(f"more than {_MOST_PARAMETERS} parameters")
        if name.lower() in OTHER_PARAMETERS:
            others.setdefault(name.lower(), []).append(value)
            continue
        key_name = _keyword_path(name)
        if key_name not in known:
            raise QueryError(
                f"{name[:80]!r} is no key of a query for {level.name.lower()} level; keys are {', '.join(known)}"
            )
        if key_name in keys:
            raise QueryError(f"{name} is given twice; give several UIDs as one list, separated by commas")
        if value.strip() not in ("", "*"):  # universal matching (PS3.4 C.2.2.2.3)
            keys[key_name] = _key(key_name, value.strip())
    include, include_all = _include(others.get("includefield", []))
    return Query(
        level=level,
        keys=tuple(keys.values()),
        include=include,
        include_all=include_all,
        limit=_count(others, "limit"),
        offset=_count(others, "offset") or 0,
        is_fuzzy=_flag(others.get("fuzzymatching", ["false"])[-1]),
    )


def uid_list(text: str, name: str) -> tuple[str, ...]:
    """Return the UIDs of a list, separated by commas or backslashes. Raises `QueryError`."""
    uids = tuple(part.strip() for part in re.split(r"[,\\]", text) if part.strip())
    for uid in uids:
        if not is_acceptable_uid(uid):
            raise QueryError(f"{name}: {uid[:80]!r} is not a UID")
    return uids


def matches_all(keys: Iterable[Key], dataset: Dataset) -> bool:
    """Whether a data set matches all keys."""
    return all(key.matches(dataset) for key in keys)


def range_of(text: str) -> tuple[str, str]:
    """Split a range into its ends, either of which may be empty; a single value is both."""
    start, hyphen, end = text.partition("-")
    return (start.strip(), end.strip()) if hyphen else (text, text)


def _known_keys(level: Level) -> list[str]:
    return [name for place in Level if place <= level for name in KEYS[place]]


def _keyword_path(name: str) -> str:
    """Return a parameter's name in keywords: clients write them or the tags' eight digits, joined by dots."""
    return ".".join(_KEYWORDS.get(part.upper(), part) for part in name.split("."))


_KEYWORDS: Final = {
    f"{tag:08X}": word
    for names in KEYS.values()
    for name in names
    for word in name.split(".")
    if (tag := tag_for_keyword(word)) is not None
}


def _key(name: str, value: str) -> Key:
    path = tuple(tag for word in name.split(".") if (tag := tag_for_keyword(word)) is not None)
    vr = dictionary_VR(path[-1])
    if vr == "UI":
        return Key(path, vr, uid_list(value, name), name)
    if vr == "CS":
        return Key(path, vr, tuple(part.strip() for part in re.split(r"[,\\]", value) if part.strip()), name)
    if vr in _RANGE_VRS:
        _check_range(name, vr, value)
    elif vr in _NUMBER_VRS and _number(value) is None:
        raise QueryError(f"{name}: {value[:80]!r} is no number")
    return Key(path, vr, (value,), name)


def _check_range(name: str, vr: str, value: str) -> None:
    start, end = range_of(value.replace(":", "") if vr == "TM" else value)
    form = _RANGE_END[vr]
    if not (start or end) or any(part and form.fullmatch(part) is None for part in (start, end)):
        written = "YYYYMMDD" if vr == "DA" else "HHMMSS"
        raise QueryError(f"{name}: {value[:80]!r} is no value or range; write {written} or {written}-{written}")


def _include(fields: list[str]) -> tuple[frozenset[int], bool]:
    tags: set[int] = set()
    for name in (part.strip() for text in fields for part in text.split(",")):
        if name.lower() == "all":
            return frozenset(tags), True
        first = name.split(".")[0]  # a sequence comes whole
        tag = int(first, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", first) else tag_for_keyword(first)
        if tag is None:
            raise QueryError(f"includefield: {name[:80]!r} is no attribute of the standard, nor a tag of eight digits")
        tags.add(tag)
    return frozenset(tags), False


def _count(others: Mapping[str, list[str]], name: str) -> int | None:
    if name not in others:
        return None
    text = others[name][-1].strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise QueryError(f"{name}: {text[:40]!r} is not a number of results")
    return int(text)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise QueryError(f"fuzzymatching: {text[:40]!r} is neither true nor false")
    return text.lower() == "true"


def _values(dataset: Dataset, path: tuple[int, ...]) -> list[str]:
    element = element_at(dataset, (path[0],))
    if element is None or element.value is None:
        return []
    if len(path) > 1:
        items: Any = element.value if element.VR == "SQ" else ()
        return [value for entry in items for value in _values(entry, path[1:])]
    several = element.value if isinstance(element.value, (MultiValue, list, tuple)) else [element.value]
    return [str(value).strip(" \0") for value in several if str(value).strip(" \0")]


def _matches(vr: str, wanted: str, value: str) -> bool:
    if vr == "UI":
        return wanted == value
    if vr in _RANGE_VRS:
        return _in_range(vr, wanted, value)
    if vr in _NUMBER_VRS:
        return _number(wanted) == _number(value)
    if vr == "PN":
        return any(_pattern(wanted, True).fullmatch(name) is not None for name in _spellings(value))
    return _pattern(wanted, False).fullmatch(value) is not None


def _in_range(vr: str, wanted: str, value: str) -> bool:
    """Compare as text, the shorter one standing for all it begins (PS3.4 C.2.2.2.5)."""
    if vr == "TM":
        wanted, value = wanted.replace(":", ""), value.replace(":", "")
    start, end = range_of(wanted)
    return (not start or value >= start[: len(value)]) and (not end or value[: len(end)] <= end)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _spellings(name: str) -> list[str]:
    """A person's name as it may be asked for: each alphabet by itself, without empty components at its end."""
    return [group.rstrip("^ ") for group in name.split("=") if group.strip("^ ")]


@lru_cache(maxsize=512)
def _pattern(wanted: str, is_name: bool) -> re.Pattern[str]:
    """`*` stands for any text and `?` for one character; brackets are themselves (PS3.4 C.2.2.2.4)."""
    text = (wanted.rstrip("^ ") or wanted) if is_name else wanted
    return re.compile(translate(text.replace("[", "[[]")), re.IGNORECASE if is_name else 0)
