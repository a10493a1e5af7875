"""Which results a destination gets (pure): the site's `destinations[].when` against what is known of a result."""

from __future__ import annotations

from collections.abc import Collection

from worker.result_kinds import DEFAULT_KINDS, ResultKind
from worker.settings import Destination


def kinds_to_write(destinations: Collection[Destination]) -> frozenset[ResultKind]:
    """Return the kinds that are always kept, and those that a destination asks for."""
    asked = (kind for destination in destinations for kind in destination.results if isinstance(kind, ResultKind))
    return frozenset((*DEFAULT_KINDS, *asked))


def recipients(
    destinations: Collection[Destination],
    adapter: str,
    decision: str,
    calling_ae_titles: Collection[str],
    told: Collection[str],
) -> set[str]:
    """Return the names of the destinations that get a result: those whose rules it meets, and those told of it before.

    Args:
        destinations: All there are.
        adapter: As for `gets`.
        decision: As for `gets`.
        calling_ae_titles: As for `gets`.
        told: Names of those that were sent a message or a signed report of the same answer; what they hold must not
            become out of date.
    """
    return {
        destination.name
        for destination in destinations
        if destination.name in told or gets(destination, adapter, decision, calling_ae_titles)
    }


def gets(destination: Destination, adapter: str, decision: str, calling_ae_titles: Collection[str]) -> bool:
    """Return whether a destination gets a result.

    Args:
        destination: Where to.
        adapter: Name of the adapter that answered.
        decision: "release", or what a person decided: "accept", "edit" or "reject".
        calling_ae_titles: Who sent the images; the node itself may have adopted some, which has no title.
    """
    when = destination.when
    return (
        (not when.adapters or adapter in when.adapters)
        and (not when.decisions or decision in when.decisions)
        and (not when.calling_ae_titles or not set(when.calling_ae_titles).isdisjoint(calling_ae_titles))
    )
