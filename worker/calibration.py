"""Reviewed jobs -> a new version of an adapter's calibration, or why there is none.

Input: the jobs that people accepted, edited or rejected. Output: for each question one `CalibrationOutcome`, with a
stored calibration or the reason against it, and everything that should be known about the cases. An accepted answer was
right; an edited one was right if what the answer says was kept (`models.decisive`). A rejected one is left out: images
are rejected for motion as well as answers for being wrong, and the ledger does not tell them apart.

Which cases are reviewed is no accident: most are held because the model was unsure. The outcome says so in words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from models.adapter import AdapterDefinition
from models.calibration import (
    Calibration,
    CalibrationError,
    CalibrationScope,
    Fit,
    ReviewedCase,
    fit,
    raw_method,
    raw_probability,
)
from models.confidence import Confidence
from models.decisive import same_answer
from models.generation import ModelProvenance
from models.prompting import prompt_digest
from worker.db.calibrations import JUDGING, reviewed_jobs, store_calibration
from worker.db.columns import utc_now
from worker.db.records import Job
from worker.db.sessions import Database
from worker.db.units import asked_adapter

log = structlog.get_logger()

#: Fewer reviewed cases than this above the release threshold say little about what is released.
FEW_SURE_CASES = 10


@dataclass(frozen=True, slots=True)
class CalibrationOutcome:
    """What came of one question of an adapter."""

    question_key: str
    calibration: Calibration | None
    fitted: Fit | None
    #: Why there is no calibration; empty where there is one.
    refusal: str
    #: Why jobs are or are not among the cases -> how many, e.g. "rejected" -> 3.
    counts: Mapping[str, int]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        version = self.calibration.version if self.calibration else 0
        return {
            "question_key": self.question_key,
            "version": version or None,
            "fitted": self.fitted and asdict(self.fitted),
            "refusal": self.refusal,
            "counts": dict(self.counts),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class _Judged:
    """A reviewed job with what a fit needs of it."""

    scope: CalibrationScope
    case: ReviewedCase
    answered_at: datetime
    #: Surer than the adapter's threshold for release.
    sure: bool
    #: "audit sample", "held" or "released": how it came before a person.
    way: str


def calibrate(
    db: Database, adapters: Mapping[str, AdapterDefinition], name: str, *, site: str = "", store: bool = True
) -> list[CalibrationOutcome]:
    """Fit each question of an adapter on its reviewed jobs; with `store` as a new version that is used from now on."""
    with db.reading() as session:
        by_question: dict[str, list[Job]] = defaultdict(list)
        for job in reviewed_jobs(session, name, site):
            by_question[job.question_key].append(job)
    outcomes = [_fitted(adapters, name, key, site, jobs) for key, jobs in sorted(by_question.items())]
    if not outcomes:
        whose = f" by people of {site!r}" if site else ""
        outcomes = [CalibrationOutcome("", None, None, f"no answer of {name} was reviewed{whose} yet", {}, ())]
    return [_stored(db, outcome) for outcome in outcomes] if store else outcomes


def _fitted(
    adapters: Mapping[str, AdapterDefinition], name: str, key: str, site: str, jobs: Sequence[Job]
) -> CalibrationOutcome:
    """Return the outcome as it would be stored, with version 0."""
    counts: Counter[str] = Counter()
    judged = []
    for job in jobs:
        found = _judge(adapters, job, site)
        if isinstance(found, str):
            counts[f"left out: {found}"] += 1
        else:
            judged.append(found)
    if not judged:
        return CalibrationOutcome(key, None, None, "no reviewed answer can be used", dict(counts), ())
    # The weights in use are those that answered last; others have a calibration of their own to need.
    scope = max(judged, key=lambda one: one.answered_at).scope
    usable = [one for one in judged if one.scope == scope]
    if others := len(judged) - len(usable):
        counts["left out: other weights, precision or kind of probability"] += others
    counts.update(f"used: {one.way}" for one in usable)
    warnings = _selection_warnings(usable)
    try:
        fitted = fit([one.case for one in usable])
    except CalibrationError as error:
        return CalibrationOutcome(key, None, None, str(error), dict(counts), warnings)
    preview = Calibration(scope, 0, fitted.method, fitted.parameters, fitted.cases, fitted.right, utc_now())
    return CalibrationOutcome(key, preview, fitted, "", dict(counts), (*fitted.warnings, *warnings))


def _judge(adapters: Mapping[str, AdapterDefinition], job: Job, site: str) -> _Judged | str:
    """Return what is learned from a reviewed job, or why nothing is."""
    last = next(
        review
        for review in reversed(job.reviews)
        if review.action in JUDGING and review.undone_at is None and (not site or review.reviewer_organization == site)
    )
    if last.action == "reject":
        return "rejected"
    if job.findings is None or job.confidence is None or job.provenance is None or job.answered_at is None:
        return "the answer did not parse, or there is none"
    try:
        adapter = asked_adapter(adapters, job)
    except LookupError:
        return "the adapter is not enabled, or cannot be asked this any more"
    if not job.prompt_digest:
        return "answered before prompts were kept with the answers"
    if job.prompt_digest != prompt_digest(adapter):
        return "the prompt was another one"
    confidence = Confidence.from_json(job.confidence)
    provenance = ModelProvenance.from_json(job.provenance)
    try:
        answer_class = adapter.answer_class(adapter.findings.model_validate(job.findings))
    except ValidationError:
        return "the findings have the form of an earlier version"
    return _Judged(
        scope=CalibrationScope(
            adapter=job.adapter,
            question_key=job.question_key,
            site=site,
            base_digest=provenance.base_digest,
            adapter_digest=provenance.adapter_digest,
            dtype=provenance.dtype,
            prompt_digest=job.prompt_digest,
            confidence_method=raw_method(confidence),
        ),
        case=ReviewedCase(
            raw_probability(confidence),
            last.action == "accept" or same_answer(adapter, job.findings, last.findings or {}),
        ),
        answered_at=job.answered_at,
        sure=confidence.probability >= adapter.policy.threshold(answer_class),
        way=_way(job),
    )


def _way(job: Job) -> str:
    if "audit sample" in (job.decision_reason or ""):
        return "audit sample"
    return "released and looked at afterwards" if job.decision == "release" else "held"


def _selection_warnings(usable: Sequence[_Judged]) -> tuple[str, ...]:
    """Say in words how far the reviewed cases may be from all cases."""
    said = []
    held = sum(one.way == "held" for one in usable)
    if held:
        said.append(
            f"{held} of {len(usable)} cases were reviewed because they were held, mostly for being unsure: among them "
            "wrong answers are more frequent than among all; audit samples (review.audit_fraction) make up for that"
        )
    sure = sum(one.sure for one in usable)
    if sure < FEW_SURE_CASES:
        said.append(
            f"only {sure} of the cases reach the threshold for release: how often answers are right that leave "
            "without a person is hardly known; draw more audit samples (review.audit_fraction)"
        )
    return tuple(said)


def _stored(db: Database, outcome: CalibrationOutcome) -> CalibrationOutcome:
    if outcome.calibration is None or outcome.fitted is None:
        return outcome
    with db.writing() as session:
        stored = store_calibration(session, outcome.calibration.scope, outcome.fitted, outcome.calibration.fitted_at)
    log.info("calibration stored", action="calibrate", adapter=stored.scope.adapter, version=stored.version)
    return CalibrationOutcome(outcome.question_key, stored, outcome.fitted, "", outcome.counts, outcome.warnings)
