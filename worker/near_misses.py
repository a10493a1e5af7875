"""Why nobody takes a series, in one line: the adapter that came nearest, and what was in its way. Pure.

Input: what each adapter says of the series. Output: the line, which stands first in the reason that the ledger keeps;
what every rule said follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.headers import InstanceHeader
    from models.adapter import AdapterDefinition

#: Stands between what decided that nobody takes a series and what each rule says.
RULE_BY_RULE = "; rule by rule: "


@dataclass(frozen=True, slots=True)
class Miss:
    """An adapter that does not take a series."""

    adapter: str
    why: str
    #: How near it came: 0 not its kind of image, 1 its kind and no image of it accepted, 2 images accepted; then
    #: whether the adapter is a specialised one.
    nearness: tuple[int, bool]


def miss(
    adapter: AdapterDefinition, headers: Sequence[InstanceHeader], obstacles: Sequence[str], *, is_accepted: bool
) -> Miss:
    """Return how near a series came to an adapter.

    Args:
        adapter: It does not take the series.
        headers: Of the series.
        obstacles: What was in the way.
        is_accepted: Whether the adapter accepts any of the images by themselves.
    """
    kinds = adapter.acceptance
    is_kind = any(h.sop_class_uid in kinds.sop_class_uids and h.modality in kinds.modalities for h in headers)
    return Miss(adapter.name, ", ".join(obstacles), (2 if is_accepted else int(is_kind), not adapter.general))


def by_how_little(missed: Sequence[Miss]) -> str:
    """Return why the adapters that came nearest do not take a series; together where several say the same."""
    nearest = max((one.nearness for one in missed), default=(0, False))
    if nearest[0] == 0:
        kinds = dict.fromkeys(one.why for one in missed)
        return f"no adapter takes this kind of image: {', '.join(kinds)}" if kinds else "no adapter is enabled"
    names: dict[str, list[str]] = {}
    for one in missed:
        if one.nearness == nearest:
            names.setdefault(one.why, []).append(one.adapter)
    return "no adapter takes it: " + "; ".join(f"{', '.join(who)}: {why}" for why, who in names.items())


def decisive_part(reason: str) -> str:
    """Return what decided about a series, without what every other rule said."""
    return reason.partition(RULE_BY_RULE)[0]
