"""Job: claim -> render -> generate -> save; then, without a GPU, parse -> score -> decide. Each step is saved.

Input: QUEUED jobs (inference), GENERATED jobs (scoring). Output: the raw answer; then findings, confidence, decision.
A permanent failure (an image that cannot be decoded) ends as a decision for review with the reason; any other failure
is tried again a few times, and then goes to a person too. A worker whose claim was taken from it drops its answer.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.adapter import AdapterDefinition
from models.calibration import Calibration
from models.confidence import Outcome, decide
from models.generation import Engine, Generation, GenerationFailure, GenerationRequest, ModelProvenance
from models.parsing import ParseFailure
from models.prompting import build_request
from models.rendering import RenderError
from worker.db.calibrations import active_calibration
from worker.db.records import Job, utc_now
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.db.units import asked_adapter, unit_files
from worker.settings import Settings
from worker.states import JobState

log = structlog.get_logger()


class EngineFailureError(Exception):
    """The engine could not answer this one request."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds."""

    job_id: str
    token: str
    adapter: str
    attempts: int


def claim_next(db: Database, settings: Settings, worker_name: str) -> Claim | None:
    """Take the most urgent queued job, oldest first; a job that used up its attempts goes to a person instead."""
    with db.writing() as session:
        while (job := _most_urgent(session)) is not None:
            if job.attempts >= settings.jobs.max_attempts:
                give_up(session, job)
                continue
            token = uuid.uuid4().hex
            move_job(
                session,
                job,
                JobState.RUNNING,
                f"claimed by {worker_name}",
                attempts=job.attempts + 1,
                claim_token=token,
                claimed_by=worker_name,
                claim_expires_at=utc_now() + timedelta(seconds=settings.jobs.lease_s),
            )
            return Claim(job.id, token, job.adapter, job.attempts)
    return None


def _most_urgent(session: Session) -> Job | None:
    return session.scalar(
        select(Job)
        .where(Job.state == JobState.QUEUED, Job.not_before <= utc_now())
        .order_by(Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def give_up(session: Session, job: Job) -> None:
    """Hand a job that failed too often to a person."""
    reason = f"failed {job.attempts} times, last: {job.error or 'the worker died on it'}"
    move_job(
        session, job, JobState.DECIDED, reason, decision=Outcome.REVIEW.value, decision_reason=reason, claim_token=None
    )


def infer(
    db: Database,
    settings: Settings,
    adapters: Mapping[str, AdapterDefinition],
    engine: Engine,
    worker_name: str,
) -> str | None:
    """Work on the most urgent queued job.

    Returns:
        Its id when the job is ready for its next step, None when there was nothing to do or it will be tried again.
    """
    claim = claim_next(db, settings, worker_name)
    if claim is None:
        return None
    bound = log.bind(action="infer", job_id=claim.job_id, adapter=claim.adapter, attempt=claim.attempts)
    with _lease(db, claim, settings.jobs.lease_s):
        try:
            with db.reading() as session:
                job = session.get_one(Job, claim.job_id)
                adapter = asked_adapter(adapters, job)
                files = unit_files(session, job, adapter)
            model_input = adapter.render(files)
            generation = _answer(engine, build_request(adapter, model_input))
            provenance = engine.provenance(adapter.name)
        except RenderError as error:
            bound.warning("images cannot be shown to the model", error=str(error))
            return _end_in_review(db, claim, f"the images cannot be shown to the model: {error}")
        except Exception as error:  # noqa: BLE001 - the process edge of a job: its failure is kept with its cause
            bound.exception("job failed")
            return _try_again(db, settings, claim, f"{type(error).__name__}: {error}")
    with db.writing() as session:
        saved = (
            move_job(
                session,
                session.get_one(Job, claim.job_id),
                JobState.GENERATED,
                f"answered in {generation.elapsed_s:.2f} s",
                token=claim.token,
                claim_token=None,
                model_input=model_input.to_json(),
                generation=generation.to_json(),
                provenance=provenance.to_json(),
                answered_at=utc_now(),
                error=None,
            )
            if _still_ours(session, claim)
            else False
        )
    if not saved:
        bound.warning("the claim was lost, the answer is dropped")
        return None
    return claim.job_id


def _answer(engine: Engine, request: GenerationRequest) -> Generation:
    (answer,) = engine.generate([request])
    if isinstance(answer, GenerationFailure):
        raise EngineFailureError(answer.reason)
    return answer


def _still_ours(session: Session, claim: Claim) -> bool:
    job = session.get_one(Job, claim.job_id)
    return job.state is JobState.RUNNING and job.claim_token == claim.token


def _end_in_review(db: Database, claim: Claim, reason: str) -> str | None:
    with db.writing() as session:
        if not _still_ours(session, claim):
            return None
        job = session.get_one(Job, claim.job_id)
        moved = move_job(
            session,
            job,
            JobState.DECIDED,
            reason,
            token=claim.token,
            claim_token=None,
            decision=Outcome.REVIEW.value,
            decision_reason=reason,
            error=reason,
        )
    return claim.job_id if moved else None


def _try_again(db: Database, settings: Settings, claim: Claim, error: str) -> str | None:
    """Queue a failed job again, later each time, or hand it to a person."""
    with db.writing() as session:
        if not _still_ours(session, claim):
            return None
        job = session.get_one(Job, claim.job_id)
        pause_s = settings.jobs.retry_after_s * 2 ** (claim.attempts - 1)
        job.error = error
        move_job(
            session,
            job,
            JobState.QUEUED,
            f"attempt {claim.attempts} failed: {error}",
            token=claim.token,
            claim_token=None,
            not_before=utc_now() + timedelta(seconds=pause_s),
        )
        if job.attempts < settings.jobs.max_attempts:
            return None
        give_up(session, job)
    return claim.job_id


@contextmanager
def _lease(db: Database, claim: Claim, lease_s: float) -> Iterator[None]:
    """Renew the claim while the work goes on; a worker that dies stops renewing, and the dispatcher rescues the job."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(lease_s / 3):
            try:
                with db.writing() as session:
                    session.execute(
                        update(Job)
                        .where(Job.id == claim.job_id, Job.claim_token == claim.token)
                        .values(claim_expires_at=utc_now() + timedelta(seconds=lease_s))
                    )
            except Exception as error:  # noqa: BLE001 - a database hiccup: the next turn tries again
                log.warning("lease could not be renewed", action="infer", job_id=claim.job_id, error=str(error))

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def score(db: Database, settings: Settings, adapters: Mapping[str, AdapterDefinition], job_id: str) -> bool:
    """Parse and score a saved answer; return whether this call decided the job."""
    with db.writing() as session:
        job = session.get(Job, job_id)
        if job is None or job.state is not JobState.GENERATED or job.generation is None or job.model_input is None:
            return False
        adapter = asked_adapter(adapters, job)
        generation = Generation.from_json(job.generation)
        parsed = adapter.parse(generation)
        decision = decide(
            adapter,
            parsed,
            generation,
            incomplete=tuple(job.model_input["incomplete"]),
            doubts=tuple(job.doubts),
            audit_fraction=settings.review.audit_fraction,
            audit_key=job.unit_uid,
            calibration=_calibration(session, settings, job),
        )
        findings = None if isinstance(parsed, ParseFailure) else parsed.model_dump(mode="json")
        return move_job(
            session,
            job,
            JobState.DECIDED,
            f"{decision.outcome.value}: {decision.reason}",
            findings=findings,
            confidence=decision.confidence.to_json() if decision.confidence else None,
            decision=decision.outcome.value,
            decision_reason=decision.reason,
        )


def _calibration(session: Session, settings: Settings, job: Job) -> Calibration | None:
    """Return the calibration that the weights which answered this job have at this site, if any."""
    if job.provenance is None:
        return None
    provenance = ModelProvenance.from_json(job.provenance)
    return active_calibration(session, job.adapter, job.question_key, settings.review.organization, provenance)
