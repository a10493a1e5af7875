"""Calibrations in the database: their table, which is in use, the reviewed jobs to fit one on, and new versions.

Input: a session of `Database`. Output: values of `models.calibration`, or jobs. A version is never changed once it is
stored, but for being taken out of use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import String, Text, UniqueConstraint, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, selectinload

from models.calibration import Calibration, CalibrationScope, Fit, Method
from models.generation import ModelProvenance
from worker.db.columns import Record, utc_now
from worker.db.records import Job, Review
from worker.db.transitions import record_event


class CalibrationRow(Record):
    """What reviewed cases taught about an adapter's probabilities (`models.calibration.Calibration`)."""

    __tablename__ = "calibrations"
    id: Mapped[int] = mapped_column(primary_key=True)
    adapter: Mapped[str] = mapped_column(String(64))
    #: `Question.key`; empty where the adapter has but one question.
    question_key: Mapped[str] = mapped_column(String(64), default="")
    #: The reviewers' organisation; empty for all of them.
    site: Mapped[str] = mapped_column(String(256), default="")
    #: Counts up from 1 for each adapter, question and site.
    version: Mapped[int]
    #: "temperature" or "isotonic".
    method: Mapped[str] = mapped_column(String(32))
    parameters: Mapped[dict[str, Any]]
    #: What was calibrated: `Confidence.method` of the raw probability.
    confidence_method: Mapped[str] = mapped_column(Text)
    #: Weights, precision and prompt whose answers were reviewed; a calibration is of no use for others.
    base_digest: Mapped[str] = mapped_column(String(128))
    adapter_digest: Mapped[str] = mapped_column(String(128))
    dtype: Mapped[str] = mapped_column(String(32))
    prompt_digest: Mapped[str] = mapped_column(String(64), default="")
    #: Reviewed cases it was fitted on, and how many of them were right.
    cases: Mapped[int]
    right_cases: Mapped[int]
    fitted_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: At most one version of an adapter, question and site is in use.
    active: Mapped[bool] = mapped_column(default=True)
    __table_args__ = (UniqueConstraint("adapter", "question_key", "site", "version", name="uq_calibrations_version"),)


#: Actions by which a person says whether an answer stands.
JUDGING = ("accept", "edit", "reject")


def active_calibration(
    session: Session, adapter: str, question_key: str, site: str, provenance: ModelProvenance, prompt_digest: str
) -> Calibration | None:
    """Return the calibration in use for these weights and words: the site's own, else that of all sites, else None."""
    wanted = select(CalibrationRow).where(
        CalibrationRow.adapter == adapter,
        CalibrationRow.question_key == question_key,
        CalibrationRow.site.in_({site, ""}),
        CalibrationRow.active,
    )
    found = sorted(session.scalars(wanted), key=lambda row: row.site, reverse=True)
    usable = (calibration for calibration in map(_of_row, found) if calibration.scope.fits(provenance, prompt_digest))
    return next(usable, None)


def calibrations(session: Session) -> list[CalibrationRow]:
    """Return all versions: by adapter, question and site, the newest first."""
    order = (CalibrationRow.adapter, CalibrationRow.question_key, CalibrationRow.site, CalibrationRow.version.desc())
    return list(session.scalars(select(CalibrationRow).order_by(*order)))


def why_void(session: Session, row: CalibrationRow) -> str:
    """Say why a calibration in use does not apply to the last answer there is; empty where it does, or is out of use.

    A changed prompt and exchanged weights make it void without anybody deciding so.
    """
    if not row.active:
        return ""
    if not row.prompt_digest:
        return "fitted before prompts were kept with the answers"
    same = (Job.adapter == row.adapter, Job.question_key == row.question_key, Job.answered_at.is_not(None))
    last = session.scalar(select(Job).where(*same).order_by(Job.answered_at.desc()).limit(1))
    if last is None or last.provenance is None:
        return ""
    if last.prompt_digest != row.prompt_digest:
        return "the last answer was given to another prompt"
    provenance = ModelProvenance.from_json(last.provenance)
    fits = _of_row(row).scope.fits(provenance, last.prompt_digest)
    return "" if fits else "the last answer came from other weights, or in another precision"


def reviewed_jobs(session: Session, adapter: str, site: str = "") -> Sequence[Job]:
    """Return the adapter's answered jobs that a person accepted, edited or rejected, with their reviews.

    With a `site` only those that its people (`Review.reviewer_organization`) judged.
    """
    judged = select(Review.job_id).where(Review.action.in_(JUDGING), Review.undone_at.is_(None))
    if site:
        judged = judged.where(Review.reviewer_organization == site)
    wanted = select(Job).where(Job.adapter == adapter, Job.id.in_(judged)).order_by(Job.answered_at, Job.id)
    return session.scalars(wanted.options(selectinload(Job.reviews))).all()


def store_calibration(session: Session, scope: CalibrationScope, fit: Fit, fitted_at: datetime) -> Calibration:
    """Store a fit as the next version of its adapter, question and site, and use it from now on."""
    same = (
        CalibrationRow.adapter == scope.adapter,
        CalibrationRow.question_key == scope.question_key,
        CalibrationRow.site == scope.site,
    )
    version = (session.scalar(select(func.max(CalibrationRow.version)).where(*same)) or 0) + 1
    take_out_of_use(session, scope.adapter, scope.site, scope.question_key)
    row = CalibrationRow(
        **asdict(scope),
        version=version,
        method=fit.method.value,
        parameters=dict(fit.parameters),
        cases=fit.cases,
        right_cases=fit.right,
        fitted_at=fitted_at,
        active=True,
    )
    session.add(row)
    session.flush()
    reason = f"{fit.method.value} fitted on {fit.cases} reviewed cases of {scope.adapter}, version {version}"
    record_event(session, "calibration", row.id, study_id=None, reason=reason, to_state="active")
    return _of_row(row)


def take_out_of_use(session: Session, adapter: str, site: str, question_key: str | None = None) -> int:
    """Let answers be uncalibrated again, of one question or of all; return how many versions were in use."""
    in_use = [CalibrationRow.adapter == adapter, CalibrationRow.site == site, CalibrationRow.active]
    if question_key is not None:
        in_use.append(CalibrationRow.question_key == question_key)
    rows = session.scalars(select(CalibrationRow.id).where(*in_use)).all()
    session.execute(update(CalibrationRow).where(CalibrationRow.id.in_(rows)).values(active=False))
    for row_id in rows:
        states = {"from_state": "active", "to_state": "inactive"}
        record_event(session, "calibration", row_id, study_id=None, reason="taken out of use", **states)
    return len(rows)


def _of_row(row: CalibrationRow) -> Calibration:
    scope = CalibrationScope(
        adapter=row.adapter,
        question_key=row.question_key,
        site=row.site,
        base_digest=row.base_digest,
        adapter_digest=row.adapter_digest,
        dtype=row.dtype,
        prompt_digest=row.prompt_digest,
        confidence_method=row.confidence_method,
    )
    return Calibration(
        scope, row.version, Method(row.method), row.parameters, row.cases, row.right_cases, row.fitted_at
    )
