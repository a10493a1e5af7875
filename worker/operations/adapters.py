"""The adapters: can each be used, how fast does it answer, can its answers be read, do people agree with it.

Input: the ledger, the settings and the adapters' own definitions. Output: an `AdapterState` each. Figures are about the
last answers and decisions, so that years of them cost nothing, and so that they tell how it is now. Weights are looked
for on the disk at most once a minute.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.adapter import AdapterDefinition
from models.engines import EngineError
from models.weights_inspection import inspect_weights
from worker.db.calibrations import JUDGING, CalibrationRow, why_void
from worker.db.columns import utc_now
from worker.db.process_reports import reports
from worker.db.records import Job, Review
from worker.engine_setup import engine_config
from worker.operations.agreement import wilson_interval
from worker.operations.shapes import AdapterState, Agreement, CalibrationInUse
from worker.settings import Settings, SettingsError
from worker.site import enabled_adapters

#: The figures of answers are about so many of each adapter, the last ones.
LAST_ANSWERS = 200
#: Agreement is about the decisions of this time, and about so many at most, the last ones.
DECIDED_WITHIN = timedelta(days=90)
LAST_DECISIONS = 500
#: Seconds for which what was found on the disk is believed.
LOOK_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class _Weights:
    """What stands in the way of an adapter's use, and the revision that is there."""

    problems: tuple[str, ...]
    revision: str


class AdapterStates:
    """Looks at the adapters of one daemon; keeps for a minute what it found on the disk."""

    def __init__(self, settings: Settings) -> None:
        """Look at nothing yet."""
        self._settings = settings
        self._looked_at = 0.0
        self._known: list[tuple[AdapterDefinition, bool]] = []
        self._weights: dict[str, _Weights] = {}

    def all(self, session: Session) -> list[AdapterState]:
        """Return every adapter there is, the enabled ones first.

        Raises:
            SettingsError: `engine.enabled` or `adapters` names one that does not exist.
        """
        known = self._known = self._known or _definitions(self._settings)
        weights, resident = self._on_disk(), _resident(session)
        agreements, calibrations = _agreements(session), _calibrations(session)
        return [
            _state(
                session,
                definition,
                enabled=is_enabled,
                weights=weights.get(definition.name),
                resident=definition.name in resident,
                judged=agreements.get(definition.name, Counter()),
                calibrations=calibrations.get(definition.name, []),
            )
            for definition, is_enabled in known
        ]

    def _on_disk(self) -> Mapping[str, _Weights]:
        now = time.monotonic()
        if not self._weights or now - self._looked_at > LOOK_AGAIN_S:
            self._weights, self._looked_at = _inspected(self._settings), now
        return self._weights


def _definitions(settings: Settings) -> list[tuple[AdapterDefinition, bool]]:
    """Return all adapters as the site wants them and whether each is enabled, the enabled ones first."""
    enabled = enabled_adapters(settings)
    everything = settings.model_copy(update={"engine": settings.engine.model_copy(update={"enabled": []})})
    others = [one for name, one in enabled_adapters(everything).items() if name not in enabled]
    return [*((one, True) for one in enabled.values()), *((one, False) for one in others)]


def _inspected(settings: Settings) -> dict[str, _Weights]:
    try:
        config = engine_config(settings)
        states = inspect_weights(config)
    except (SettingsError, EngineError) as error:
        return {name: _Weights((str(error),), "") for name in enabled_adapters(settings)}
    of_base = {state.base: state.problems for state in states if not state.name}
    found = {
        state.name: _Weights(
            (*of_base.get(state.base, ()), *state.problems),
            state.found.revision if state.found else state.reference.revision,
        )
        for state in states
        if state.name
    }
    # A server has its weights elsewhere, and says itself where it lacks some.
    there = {name: _Weights((), own.reference.revision) for name, own in config.adapters.items()}
    return {**there, **found}


def _resident(session: Session) -> set[str]:
    fresh = [report for report in reports(session) if report.subject == "engine" and report.is_fresh]
    return {name for report in fresh for names in report.facts["resident"].values() for name in names}


def _state(
    session: Session,
    definition: AdapterDefinition,
    *,
    enabled: bool,
    weights: _Weights | None,
    resident: bool,
    judged: Counter[str],
    calibrations: Sequence[CalibrationInUse],
) -> AdapterState:
    problems = list(weights.problems) if weights else []
    answered = _answers(session, definition.name)
    with_provenance = select(Job.provenance).where(Job.adapter == definition.name, Job.answered_at.is_not(None))
    provenance = session.scalar(with_provenance.order_by(Job.answered_at.desc()).limit(1)) if answered else None
    day = utc_now() - timedelta(days=1)
    lately = sum(row.answered_at >= day for row in answered)
    if lately == LAST_ANSWERS:
        counted = select(func.count()).where(Job.adapter == definition.name, Job.answered_at >= day)
        lately = session.scalar(counted) or 0
    known = [row.parsed for row in answered if row.parsed is not None]
    spent = [row.answer_s for row in answered if row.answer_s is not None]
    low, high = wilson_interval(sum(known), len(known)) if known else (None, None)
    return AdapterState(
        name=definition.name,
        title=definition.title,
        version=definition.version,
        enabled=enabled,
        usable=enabled and not problems,
        problems=problems,
        resident=resident,
        base=definition.base.hub_id,
        lora=definition.lora.hub_id,
        revision=weights.revision if weights else definition.lora.revision,
        digest=(provenance or {}).get("adapter_digest"),
        answered_last=answered[0].answered_at if answered else None,
        answers_last_day=lately,
        answers=len(answered),
        median_answer_s=median(spent) if spent else None,
        parsed=sum(known),
        parse_known=len(known),
        parsed_low=low,
        parsed_high=high,
        timed=len(spent),
        agreement=agreement(judged),
        calibrations=list(calibrations),
    )


def _answers(session: Session, adapter: str) -> Sequence[Any]:
    """Return the figures of the last answers, from the index alone."""
    wanted = select(Job.answered_at, Job.answer_s, Job.parsed).where(
        Job.adapter == adapter, Job.answered_at.is_not(None)
    )
    return session.execute(wanted.order_by(Job.answered_at.desc()).limit(LAST_ANSWERS)).all()


def _agreements(session: Session) -> dict[str, Counter[str]]:
    """Count by adapter what people decided; of each job the last word."""
    decided = (
        select(Review.job_id, Review.action, Review.decided_at)
        .where(Review.decided_at >= utc_now() - DECIDED_WITHIN, Review.action.in_(JUDGING), Review.undone_at.is_(None))
        .order_by(Review.decided_at.desc())
        .limit(LAST_DECISIONS)
        .subquery()
    )
    named = select(decided.c.job_id, decided.c.action, Job.adapter).join(Job, Job.id == decided.c.job_id)
    last: dict[str, tuple[str, str]] = {}
    for job_id, action, adapter in session.execute(named.order_by(decided.c.decided_at.desc())):
        last.setdefault(job_id, (adapter, action))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for adapter, action in last.values():
        counts[adapter][action] += 1
    return counts


def agreement(judged: Mapping[str, int]) -> Agreement:
    """Return how often people let answers stand, from action -> how many."""
    accepted, edited, rejected = (judged.get(action, 0) for action in JUDGING)
    n = accepted + edited + rejected
    low, high = wilson_interval(accepted, n) if n else (None, None)
    return Agreement(
        accepted=accepted,
        edited=edited,
        rejected=rejected,
        n=n,
        share=accepted / n if n else None,
        low=low,
        high=high,
    )


def _calibrations(session: Session) -> dict[str, list[CalibrationInUse]]:
    found: dict[str, list[CalibrationInUse]] = defaultdict(list)
    for row in session.scalars(select(CalibrationRow).where(CalibrationRow.active).order_by(CalibrationRow.id)):
        found[row.adapter].append(
            CalibrationInUse(
                question_key=row.question_key,
                site=row.site,
                version=row.version,
                method=row.method,
                cases=row.cases,
                fitted_at=row.fitted_at,
                void=why_void(session, row),
            )
        )
    return found
