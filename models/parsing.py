"""Generation -> findings, or an honest `ParseFailure` that keeps the raw text and goes to a person."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """The answer did not have the adapter's form."""

    #: What is wrong, in words a reviewer understands.
    reason: str
    raw_text: str
