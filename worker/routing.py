"""Header summary + rules -> a route decision that can explain itself. Pure: no database, clock or network.

Site rules come first, in order; then the specialised adapter that accepts the series; where there is none, every
general one that does. What matches nothing is left alone, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from dicom_node.headers import InstanceHeader
from dicom_node.regions import body_region
from models.acceptance import Acceptance
from models.adapter import AdapterDefinition
from models.confidence import intended_use_doubts
from models.question import Question
from worker.near_misses import RULE_BY_RULE, Miss, by_how_little, miss
from worker.settings import RouteRule
from worker.site import asked_by, named_by
from worker.states import Priority

#: RequestedProcedurePriority (0040,1003) values and what they mean for a job.
PRIORITY_OF_REQUEST = {"STAT": Priority.STAT, "HIGH": Priority.HIGH}
#: How the names of rules begin that a site wrote.
SITE_RULE = "site rule: "


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """What routing looks at: the headers of one series' usable instances, and who sent them."""

    headers: tuple[InstanceHeader, ...]
    calling_ae_title: str = ""
    called_ae_title: str = ""
    #: SOP Instance UIDs of which several different contents arrived.
    conflicting_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule that was looked at: whether it matched, and why or why not."""

    rule: str
    matched: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One adapter, one question: a job for each of the adapter's units."""

    adapter: str
    #: None where the adapter has but one question.
    question: Question | None
    #: SOP Instance UIDs the adapter is to see.
    accepted_uids: tuple[str, ...] = ()
    #: What makes the case doubtful for the adapter; each sentence forces review.
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Who takes the series, by which rule, and why; or why nobody does."""

    assignments: tuple[Assignment, ...]
    rule: str
    reason: str
    priority: Priority = Priority.ROUTINE
    trace: tuple[RuleTrace, ...] = field(default=(), repr=False)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that take the series, each once."""
        return tuple(dict.fromkeys(assignment.adapter for assignment in self.assignments))

    @property
    def is_by_site(self) -> bool:
        """Whether a rule of the site decided."""
        return self.rule.startswith(SITE_RULE)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What makes the case doubtful for any of them, each sentence once."""
        return tuple(dict.fromkeys(doubt for assignment in self.assignments for doubt in assignment.doubts))


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a series fits an adapter's acceptance."""

    accepted: tuple[InstanceHeader, ...]
    matches: tuple[str, ...]
    obstacles: tuple[str, ...]


def route(
    summary: SeriesSummary, rules: Sequence[RouteRule], enabled: Mapping[str, AdapterDefinition]
) -> RouteDecision:
    """Decide which adapter takes a series.

    Args:
        summary: the series.
        rules: site rules, in order.
        enabled: adapters by name, looked at in order of name.

    Returns:
        The decision with the trace of every rule looked at.
    """
    usable = tuple(h for h in summary.headers if not h.is_own_result)
    if not usable:
        reason = "made by this software: own results are never processed again"
        return RouteDecision((), "own results", reason, trace=(RuleTrace("own results", True, (reason,)),))
    trace: list[RuleTrace] = []
    usable_summary = replace(summary, headers=usable)
    for rule in rules:
        matched, reasons = _match_rule(rule, usable_summary)
        trace.append(RuleTrace(f"{SITE_RULE}{rule.name}", matched, reasons))
        if matched:
            return _by_site_rule(rule, usable_summary, enabled, reasons, trace)
    return _by_adapters(usable_summary, enabled, trace)


def _by_adapters(
    summary: SeriesSummary, enabled: Mapping[str, AdapterDefinition], trace: list[RuleTrace]
) -> RouteDecision:
    """Give the series to the first specialised adapter that accepts it, else to every general one that does."""
    chosen: list[tuple[AdapterDefinition, _Fit]] = []
    missed: list[Miss] = []
    for adapter in sorted(enabled.values(), key=lambda known: (known.general, known.name)):
        fit = _fit(summary.headers, adapter.acceptance)
        obstacles = fit.obstacles
        unasked = adapter.unasked_modalities
        if not obstacles and unasked is not None and fit.accepted[0].modality not in unasked:
            obstacles = (f"modality {fit.accepted[0].modality} is taken where a site rule asks for it",)
        elif not obstacles and adapter.general and any(not other.general for other, _ in chosen):
            obstacles = ("a specialised adapter takes it",)
        trace.append(RuleTrace(f"adapter: {adapter.name}", not obstacles, obstacles or fit.matches))
        if obstacles:
            missed.append(miss(adapter, summary.headers, obstacles, is_accepted=bool(fit.accepted)))
        elif adapter.general or not chosen:
            chosen.append((adapter, fit))
    if not chosen:
        each = "; ".join(f"{t.rule.removeprefix('adapter: ')}: {', '.join(t.reasons)}" for t in trace if not t.matched)
        return RouteDecision((), "none", f"{by_how_little(missed)}{RULE_BY_RULE}{each}", trace=tuple(trace))
    assignments = [
        _assignment(adapter, question, fit.accepted, summary)
        for adapter, fit in chosen
        for question in adapter.questions(fit.accepted[0])
    ]
    return RouteDecision(
        tuple(assignments),
        "adapter: " + ", ".join(adapter.name for adapter, _ in chosen),
        "; ".join(dict.fromkeys(match for _, fit in chosen for match in fit.matches)),
        _priority([header for _, fit in chosen for header in fit.accepted]),
        tuple(trace),
    )


def _by_site_rule(
    rule: RouteRule,
    summary: SeriesSummary,
    enabled: Mapping[str, AdapterDefinition],
    reasons: tuple[str, ...],
    trace: list[RuleTrace],
) -> RouteDecision:
    """Follow a site rule; where it overrules what the adapter accepts, the answer is held for a person."""
    label = f"{SITE_RULE}{rule.name}"
    if rule.adapter is None:
        return RouteDecision((), label, f"left alone by the site: {'; '.join(reasons)}", trace=tuple(trace))
    if missing := [name for name in named_by(rule) if name not in enabled]:
        reason = f"the rule names adapter {missing[0]!r}, which is not enabled (enabled: {', '.join(sorted(enabled))})"
        return RouteDecision((), label, reason, trace=tuple(trace))
    assignments: list[Assignment] = []
    seen: list[InstanceHeader] = []
    for name in named_by(rule):
        adapter = enabled[name]
        fit = _fit(summary.headers, adapter.acceptance)
        accepted = fit.accepted or summary.headers
        seen.extend(accepted)
        outside = tuple(f"outside intended use: {obstacle}" for obstacle in fit.obstacles)
        for question in asked_by(rule, adapter) or adapter.questions(accepted[0]):
            assigned = _assignment(adapter, question, accepted, summary)
            assignments.append(replace(assigned, doubts=(*outside, *assigned.doubts)))
    return RouteDecision(
        tuple(assignments), label, "; ".join(reasons), _priority(seen, Priority(rule.priority)), tuple(trace)
    )


def _priority(accepted: Sequence[InstanceHeader], at_least: Priority = Priority.ROUTINE) -> Priority:
    requested = [PRIORITY_OF_REQUEST.get(h.requested_procedure_priority.upper(), Priority.ROUTINE) for h in accepted]
    return max([at_least, *requested], key=lambda p: p.rank)


def _assignment(
    adapter: AdapterDefinition,
    question: Question | None,
    accepted: Sequence[InstanceHeader],
    summary: SeriesSummary,
) -> Assignment:
    doubts: list[str] = []
    ages = [h.patient_age_years for h in accepted if h.patient_age_years is not None]
    about_age = intended_use_doubts(adapter.acceptance, min(ages, default=None))
    doubts.extend(f"outside intended use: {doubt}" for doubt in about_age)
    doubts.extend(adapter.acceptance.doubts(accepted[0]))
    conflicts = {h.sop_instance_uid for h in accepted} & set(summary.conflicting_uids)
    doubts.extend(
        f"input in doubt: another object with UID {uid} but other content arrived" for uid in sorted(conflicts)
    )
    return Assignment(adapter.name, question, tuple(h.sop_instance_uid for h in accepted), tuple(doubts))


def _fit(headers: Sequence[InstanceHeader], acceptance: Acceptance) -> _Fit:
    """Hold a series against an adapter's acceptance, SOP class first: it is the one header that cannot be wrong."""
    matches: list[str] = []
    left_out: Counter[str] = Counter()
    accepted: list[InstanceHeader] = []
    for header in headers:
        obstacle = acceptance.obstacle(header)
        if obstacle is None:
            accepted.append(header)
        else:
            left_out[obstacle] += 1
    if not accepted:
        return _Fit((), (), tuple(left_out))
    matches.append(f"SOP class and modality {accepted[0].modality} accepted")
    matches.extend(f"{count} left out: {obstacle}" for obstacle, count in left_out.items())
    obstacles: list[str] = []
    if (obstacle := acceptance.too_few(accepted)) is not None:
        obstacles.append(obstacle)
    if acceptance.body_regions:
        _match_region(accepted, acceptance, matches, obstacles)
    ages = [h.patient_age_years for h in accepted if h.patient_age_years is not None]
    if acceptance.min_age_years is not None and ages:
        if min(ages) < acceptance.min_age_years:
            obstacles.append(f"patient aged {min(ages):.0f}, the adapter is for ages from {acceptance.min_age_years:g}")
        else:
            matches.append(f"patient aged {min(ages):.0f}")
    return _Fit(tuple(accepted), tuple(matches), tuple(obstacles))


def _match_region(
    accepted: Sequence[InstanceHeader], acceptance: Acceptance, matches: list[str], obstacles: list[str]
) -> None:
    region = body_region(accepted[0])
    shown = ", ".join(sorted(region.names)) or "unknown"
    by = f" (by {region.source} {region.value!r})" if region.source else ""
    if region.names & acceptance.body_regions:
        matches.append(f"body region {shown}{by}")
    else:
        obstacles.append(f"body region {shown}{by}, the adapter takes {', '.join(sorted(acceptance.body_regions))}")


def _match_rule(rule: RouteRule, summary: SeriesSummary) -> tuple[bool, tuple[str, ...]]:
    """Match a site rule's patterns; an empty rule matches everything, which is what a last rule is for."""
    header = summary.headers[0]
    reasons: list[str] = []
    matched = True
    for condition, pattern in rule.when.model_dump(exclude_none=True).items():
        values = _values_for(condition, header, summary)
        fits = any(fnmatchcase(value.lower(), pattern.lower()) for value in values)
        shown = " or ".join(repr(v) for v in values)
        reasons.append(f"{condition} {shown} {'matches' if fits else 'does not match'} {pattern!r}")
        matched = matched and fits
    return matched, tuple(reasons) or ("matches everything",)


def _values_for(condition: str, header: InstanceHeader, summary: SeriesSummary) -> tuple[str, ...]:
    if condition == "calling_ae_title":
        return (summary.calling_ae_title,)
    if condition == "called_ae_title":
        return (summary.called_ae_title,)
    if condition == "body_region":
        return tuple(sorted(body_region(header).names)) or ("",)
    return (str(getattr(header, condition)),)
