"""Coded concepts (PS3.3 section 8) that the project reads or writes, each verified against a published dictionary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: code value, coding scheme designator and code meaning (PS3.3 8.1-8.3)."""

    value: str
    scheme: str
    meaning: str
