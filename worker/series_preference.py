"""Routes of all series of a study -> the same, without what is better asked about another series of it. Pure.

Input: each series with the decision that its own headers led to. Output: decisions; one that is set aside says so by
its rule, and why by its reason. `worker.db.preferred` comes to the same as series arrive, and asks again where the
preferred one gives no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dicom_node.headers import InstanceHeader
from dicom_node.series_choice import set_aside
from models.adapter import AdapterDefinition
from worker.db.preferred import RULE
from worker.routing import RouteDecision, SeriesSummary


def best_series_only(
    routed: Sequence[tuple[SeriesSummary, RouteDecision]], enabled: Mapping[str, AdapterDefinition]
) -> list[RouteDecision]:
    """Return the decisions about all series of one study once each is there, as `worker.db.preferred` comes to them.

    Args:
        routed: each series with its own decision.
        enabled: adapters by name.
    """
    found = [decision for _, decision in routed]
    for name in sorted({name for decision in found for name in decision.adapters if enabled[name].best_series_only}):
        candidates: dict[str, list[InstanceHeader]] = {}
        for summary, decision in routed:
            headers = [header for header in summary.headers if enabled[name].acceptance.obstacle(header) is None]
            if headers and name in decision.adapters and not decision.is_by_site:
                candidates[headers[0].series_instance_uid] = headers
        reasons = set_aside(candidates)
        for index, (summary, _) in enumerate(routed):
            reason = reasons.get(summary.headers[0].series_instance_uid)
            if reason is not None and not found[index].is_by_site:
                found[index] = not_asked(found[index], {name: f"not asked: {reason}"})
    return found


def not_asked(decision: RouteDecision, reasons: Mapping[str, str]) -> RouteDecision:
    """Return the decision without the adapters that are not asked, by name with the reason."""
    kept = tuple(assignment for assignment in decision.assignments if assignment.adapter not in reasons)
    if kept or not reasons:
        return replace(decision, assignments=kept)
    return replace(decision, assignments=(), rule=RULE, reason="; ".join(reasons.values()))
