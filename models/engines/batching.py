"""Which requests are answered together.

Input: for each request its base, adapter and what it shares with others. Output: batches, as places in the input. Pure
values; it cannot fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """What batching needs to know of one request."""

    #: Where it stands in the call.
    number: int
    base: str
    adapter: str
    #: Equal where the same adapter is asked about the same images.
    prefix: str
    #: Tokens of the question.
    length: int


def plan_batches(places: Sequence[Place], batch: int, *, mixing: bool) -> list[list[int]]:
    """Return batches of at most `batch` requests, each on one base.

    With `mixing` what is left over of several adapters fills a batch; without, every batch has one adapter. Requests on
    the same images stand together, and those of like length, so that little padding is read.
    """
    batches: list[list[int]] = []
    for base in dict.fromkeys(place.base for place in places):
        rest: list[Place] = []
        for adapter in dict.fromkeys(place.adapter for place in places if place.base == base):
            own = sorted(
                (place for place in places if (place.base, place.adapter) == (base, adapter)),
                key=lambda place: (place.length, place.prefix, place.number),
            )
            full = len(own) - len(own) % batch if mixing else len(own)
            batches += _chunks(own[:full], batch)
            rest += own[full:]
        batches += _chunks(rest, batch)
    return batches


def _chunks(places: Sequence[Place], batch: int) -> list[list[int]]:
    return [[place.number for place in places[start : start + batch]] for start in range(0, len(places), batch)]
