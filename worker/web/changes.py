"""What a person would sign beside what was there before, field by field: a slip must be seen before it is signed.

Input: two findings of one adapter. Output: `Row` for each field of either. Nothing fails here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.wording import label, value_in_words

#: Tables of probabilities are the model's own; no person signs them.
_OF_THE_MODEL = frozenset({"probabilities"})


@dataclass(frozen=True, slots=True)
class Row:
    """One field."""

    name: str
    now: str
    before: str
    is_changed: bool


def is_unchanged(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Tell whether a person left everything as it was."""
    return before is not None and not any(row.is_changed for row in rows(now, before))


def rows(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[Row]:
    """Return the fields in the order of the findings that would be signed; without any before, none is changed."""
    found = []
    for name in dict.fromkeys([*now, *(before or {})]):
        if name in _OF_THE_MODEL:
            continue
        old = None if before is None else before.get(name)
        changed = before is not None and now.get(name) != old
        found.append(Row(label(name), value_in_words(now.get(name)), value_in_words(old), changed))
    return found
