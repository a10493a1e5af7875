"""Jobs: claim -> render -> generate -> save, in batches; then, without a GPU, parse -> score -> decide, one by one.

Input: QUEUED jobs (inference), GENERATED jobs (scoring). Output: the raw answers; then findings, confidence, decision.
Each job of a batch succeeds or fails by itself. A permanent failure (an image that cannot be decoded, a request that no
model can answer) ends as a decision for review with the reason; any other is tried again a few times, and then goes to
a person too. While a model server is away its jobs wait, which costs them no attempt. A worker whose claim was taken
from it drops its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from models.adapter import AdapterDefinition
from models.calibration import Calibration
from models.confidence import decide
from models.engines import EngineDeviceError
from models.generation import Engine, Generation, GenerationFailure, GenerationRequest, ModelProvenance
from models.parsing import ParseFailure
from models.prompting import build_request, prompt_digest
from models.rendering import InputRecord, RenderError, RenderInterrupted
from worker.claims import Claim, claim_jobs, end_in_review, finish_claim, leases, try_again, wait_for_engine
from worker.db.calibrations import active_calibration
from worker.db.columns import utc_now
from worker.db.records import Job
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.db.units import asked_adapter, unit_files
from worker.rendering import renderer
from worker.settings import Settings
from worker.states import JobState

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A claimed job that can be put to the engine."""

    claim: Claim
    request: GenerationRequest
    record: InputRecord
    prompt_digest: str


def infer(
    db: Database,
    settings: Settings,
    adapters: Mapping[str, AdapterDefinition],
    engine: Engine,
    worker_name: str,
) -> list[str]:
    """Work on the most urgent queued jobs, up to `engine.batch` of them in one call of the engine.

    Returns:
        The ids of those that are ready for their next step; empty when there was nothing to do, or all will be tried
        again.

    Raises:
        EngineDeviceError: this process can answer nothing any more; its jobs are queued again.
    """
    claims = claim_jobs(db, settings, worker_name, settings.engine.batch)
    if not claims:
        return []
    ready: list[str] = []
    with leases(db, claims, settings.jobs.lease_s):
        rendered: list[_Rendered] = []
        for claim in claims:
            found = _render(db, settings, adapters, claim)
            if isinstance(found, _Rendered):
                rendered.append(found)
            elif found:
                ready.append(claim.job_id)
        answers, lost = _ask(engine, [one.request for one in rendered])
        for one, answer in zip(rendered, answers, strict=True):
            if _save(db, settings, engine, one, answer):
                ready.append(one.claim.job_id)
    if lost is not None:
        raise lost
    return ready


def _render(
    db: Database, settings: Settings, adapters: Mapping[str, AdapterDefinition], claim: Claim
) -> _Rendered | bool:
    """Return what to ask for a job; or, where that failed, whether the job is ready for its next step."""
    try:
        with db.reading() as session:
            job = session.get_one(Job, claim.job_id)
            adapter = asked_adapter(adapters, job)
            files = unit_files(session, job, adapter)
        model_input = renderer(settings.rendering).render(adapter, files)
        return _Rendered(claim, build_request(adapter, model_input), model_input.input_record(), prompt_digest(adapter))
    except RenderInterrupted as error:
        _bound(claim).warning("the making of images was interrupted", error=str(error))
        return try_again(db, settings, claim, f"the images could not be made: {error}")
    except RenderError as error:
        _bound(claim).warning("images cannot be shown to the model", error=str(error))
        return end_in_review(db, claim, f"the images cannot be shown to the model: {error}")
    except Exception as error:  # noqa: BLE001 - the process edge of a job: its failure is kept with its cause
        _bound(claim).exception("job failed")
        return try_again(db, settings, claim, f"{type(error).__name__}: {error}")


def _ask(
    engine: Engine, requests: Sequence[GenerationRequest]
) -> tuple[Sequence[Generation | GenerationFailure], EngineDeviceError | None]:
    """Return an answer or a failure for each request, and the error after which the engine can do no more."""
    if not requests:
        return [], None
    lost = None
    try:
        return engine.generate(requests), None
    except EngineDeviceError as error:
        reason, lost = str(error), error
    except Exception as error:
        log.exception("jobs failed", action="infer", jobs=len(requests))
        reason = f"{type(error).__name__}: {error}"
    return [GenerationFailure(reason, transient=True)] * len(requests), lost


def _save(
    db: Database, settings: Settings, engine: Engine, asked: _Rendered, answer: Generation | GenerationFailure
) -> bool:
    """Save an answer, or what became of the question; return whether the job is ready for its next step."""
    claim = asked.claim
    if isinstance(answer, GenerationFailure):
        _bound(claim).warning("the engine did not answer", error=answer.reason, transient=answer.transient)
        if answer.engine_away:
            return wait_for_engine(db, settings, claim, answer.reason)
        if answer.transient:
            return try_again(db, settings, claim, answer.reason)
        return end_in_review(db, claim, f"the model cannot answer: {answer.reason}")
    try:
        saved = finish_claim(
            db,
            claim,
            JobState.GENERATED,
            f"answered in {answer.elapsed_s:.2f} s",
            model_input=asked.record.to_json(),
            generation=answer.to_json(),
            prompt_digest=asked.prompt_digest,
            provenance=engine.provenance(asked.request.adapter).to_json(),
            answered_at=utc_now(),
            error=None,
        )
    except Exception as error:  # noqa: BLE001 - one answer that cannot be saved must not cost the others of its batch
        _bound(claim).exception("answer could not be saved")
        return try_again(db, settings, claim, f"{type(error).__name__}: {error}")
    if not saved:
        _bound(claim).warning("the claim was lost, the answer is dropped")
    return saved


def _bound(claim: Claim) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = log.bind(
        action="infer", job_id=claim.job_id, adapter=claim.adapter, attempt=claim.attempts
    )
    return bound


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
    """Return the calibration that the weights which answered this job, as it was asked, have at this site, if any."""
    if job.provenance is None:
        return None
    provenance = ModelProvenance.from_json(job.provenance)
    site = settings.review.organization
    return active_calibration(session, job.adapter, job.question_key, site, provenance, job.prompt_digest)
