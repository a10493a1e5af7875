"""The rules in force, where they send the series of a received study, and rules that somebody tries out.

Input: settings, the enabled adapters, the headers that the ledger keeps, or rules as YAML. Output: shapes; the words of
rules. On failure `RulesError`, which says what is wrong with the rules line by line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceHeader
from models.adapter import AdapterDefinition
from worker.db.records import Instance, Series, Study
from worker.operations.rule_shapes import RuleInForce, RuleStep, SeriesRoute, StudyRoutes
from worker.routing import RouteDecision, SeriesSummary, route
from worker.series_preference import best_series_only
from worker.settings import RouteRule, SettingsError
from worker.settings_mistakes import mistakes_in_words
from worker.site import check_rules, named_by
from worker.states import InstanceState, SeriesState

#: Longest text of rules that is read.
LONGEST_TEXT = 200_000
#: Instances of a study whose headers are read to explain it.
INSTANCES_AT_MOST = 20_000
_RULES: TypeAdapter[list[RouteRule]] = TypeAdapter(list[RouteRule])


class RulesError(ValueError):
    """The rules cannot be used; the message says why, a line for each mistake."""


class _WithoutAliases(yaml.SafeLoader):
    """Reads YAML without aliases: a few lines of them stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("write out what stands behind * here; aliases are not followed")
        return super().compose_node(parent, index)


def read_rules(text: str, enabled: Mapping[str, AdapterDefinition]) -> list[RouteRule]:
    """Return rules from YAML: a list, or a settings file's `routes:` with the list below it.

    Raises:
        RulesError: It is no YAML, a rule has not the form of the settings, or names an adapter that is not enabled.
    """
    if len(text) > LONGEST_TEXT:
        raise RulesError(f"the rules are longer than {LONGEST_TEXT} characters")
    try:
        values = yaml.load(text, Loader=_WithoutAliases)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RulesError(f"this is no YAML: {error}") from None
    if isinstance(values, dict) and set(values) == {"routes"}:
        values = values["routes"]
    if values is None:
        values = []
    if not isinstance(values, list):
        raise RulesError("rules are a YAML list, each with `name`, `when` and `adapter`; or `routes:` with that list")
    return checked_rules(values, enabled)


def checked_rules(values: Sequence[Any], enabled: Mapping[str, AdapterDefinition]) -> list[RouteRule]:
    """Return rules from what a settings file or a program gives. Raises `RulesError`."""
    try:
        rules = _RULES.validate_python(list(values))
        check_rules(rules, enabled)
    except ValidationError as error:
        raise RulesError("\n".join(_named(line, values) for line in mistakes_in_words(error))) from None
    except SettingsError as error:
        raise RulesError(str(error)) from None
    return rules


def _named(mistake: str, values: Sequence[Any]) -> str:
    """Return a mistake with the rule that it is in, as people count them and by its name, in place of its index."""
    place, _, what = mistake.partition(": ")
    index, _, setting = place.partition(".")
    if not index.isdigit():
        return mistake
    rule = values[int(index)]
    name = rule.get("name") if isinstance(rule, dict) else None
    where = f"rule {int(index) + 1}" + (f" ({name[:64]})" if isinstance(name, str) and name else "")
    if not setting and not isinstance(rule, dict):
        return f"{where}: a rule has `name`, `when` and `adapter`, and this is none"
    return ": ".join(filter(None, (where, setting, what)))


def rules_as_yaml(rules: Sequence[RouteRule]) -> str:
    """Return rules as a settings file holds them, without what is as by default."""
    if not rules:
        return "[]\n"
    values = [rule.model_dump(mode="json", exclude_defaults=True) | {"adapter": rule.adapter} for rule in rules]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def rules_in_force(rules: Sequence[RouteRule], enabled: Mapping[str, AdapterDefinition]) -> list[RuleInForce]:
    """Return the site's rules and then the adapters' own, in the order in which they are looked at."""
    of_site = [
        RuleInForce(
            origin="site",
            name=rule.name,
            conditions=[
                f"{condition} is {pattern}" for condition, pattern in rule.when.model_dump(exclude_none=True).items()
            ],
            adapters=list(named_by(rule)),
            priority=rule.priority,
        )
        for rule in rules
    ]
    in_order = sorted(enabled.values(), key=lambda known: (known.general, known.name))
    return [*of_site, *(_own_rule(adapter) for adapter in in_order)]


def _own_rule(adapter: AdapterDefinition) -> RuleInForce:
    accepted = adapter.acceptance
    unasked = adapter.unasked_modalities
    conditions = [f"modality is {', '.join(sorted(accepted.modalities if unasked is None else unasked)) or 'any'}"]
    if accepted.body_regions:
        conditions.append(f"body region is {', '.join(sorted(accepted.body_regions))}")
    if accepted.min_age_years is not None:
        conditions.append(f"patient is at least {accepted.min_age_years:g} years old")
    if adapter.general:
        conditions.append("no specialised adapter takes it")
    if adapter.best_series_only:
        conditions.append("it is the best series of its study")
    return RuleInForce(
        origin="adapter", name=adapter.name, conditions=conditions, adapters=[adapter.name], priority="routine"
    )


def explain_study(
    session: Session, rules: Sequence[RouteRule], enabled: Mapping[str, AdapterDefinition], study_id: int
) -> StudyRoutes | None:
    """Return where the rules would send each series of a study now, and why; None where there is no such study."""
    study = session.get(Study, study_id)
    if study is None:
        return None
    rows = session.scalars(select(Series).where(Series.study_id == study_id).order_by(Series.id)).all()
    summaries = summaries_of(session, [row.id for row in rows], at_most=INSTANCES_AT_MOST)
    decided = decide(list(summaries.values()), rules, enabled)
    decisions = dict(zip(summaries, decided, strict=True))
    return StudyRoutes(
        study_id=study.id,
        study_instance_uid=study.study_instance_uid,
        series=[_series_route(row, summaries[row.id], decisions[row.id]) for row in rows if row.id in summaries],
        left_out=[
            f"series {row.series_instance_uid}: none of its images can be used"
            for row in rows
            if row.id not in summaries
        ],
    )


def decide(
    summaries: Sequence[SeriesSummary], rules: Sequence[RouteRule], enabled: Mapping[str, AdapterDefinition]
) -> list[RouteDecision]:
    """Return the decisions about all series of one study, as if each were there."""
    routed = [(summary, route(summary, rules, enabled)) for summary in summaries]
    return best_series_only(routed, enabled)


def summaries_of(session: Session, series_ids: Sequence[int], *, at_most: int) -> dict[int, SeriesSummary]:
    """Return what routing looks at, of each series that has images in use; `at_most` instances are read in all."""
    wanted = select(
        *(Instance.series_id, Instance.header, Instance.state, Instance.sop_instance_uid),
        *(Instance.calling_ae_title, Instance.called_ae_title),
    ).where(Instance.series_id.in_(series_ids))
    headers: dict[int, list[InstanceHeader]] = defaultdict(list)
    titles: dict[int, tuple[str, str]] = {}
    conflicts: dict[int, list[str]] = defaultdict(list)
    for row in session.execute(wanted.order_by(Instance.series_id, Instance.id).limit(at_most)):
        if row.state is InstanceState.STORED:
            titles.setdefault(row.series_id, (row.calling_ae_title, row.called_ae_title))
            if row.header:
                headers[row.series_id].append(InstanceHeader.from_json(row.header))
        elif row.state is InstanceState.CONFLICT:
            conflicts[row.series_id].append(row.sop_instance_uid)
    return {
        series_id: SeriesSummary(tuple(found), *titles[series_id], tuple(conflicts[series_id]))
        for series_id, found in headers.items()
    }


def _series_route(row: Series, summary: SeriesSummary, decision: RouteDecision) -> SeriesRoute:
    first = summary.headers[0]
    is_routed = row.state in (SeriesState.ROUTED, SeriesState.UNROUTED)
    return SeriesRoute(
        series_instance_uid=row.series_instance_uid,
        modality=row.modality,
        series_description=first.series_description,
        instances=len(summary.headers),
        adapters=list(decision.adapters),
        rule=decision.rule,
        reason=decision.reason,
        priority=decision.priority.value,
        doubts=list(decision.doubts),
        steps=[RuleStep(rule=step.rule, matched=step.matched, reasons=list(step.reasons)) for step in decision.trace],
        routed_adapters=row.route_adapter.split(",") if is_routed and row.route_adapter else [],
        routed_rule=row.route_rule if is_routed else None,
        routed_reason=row.route_reason if is_routed else None,
    )
