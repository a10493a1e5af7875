"""Rows -> the answer that reporting writes, who signed it, and the report that it stands in the place of.

Input: a session and a job. Output: `Answer`, `Signature` and `Predecessor`, as one snapshot has them. Findings that do
not fit this release of the adapter raise pydantic's `ValidationError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.report import Person
from models.adapter import AdapterDefinition
from models.confidence import Confidence
from models.generation import ModelProvenance
from models.rendering import InputRecord
from worker.answers import Answer, Predecessor, Signature
from worker.db.queries import earlier_jobs
from worker.db.records import Instance, Job, Result
from worker.db.review_records import is_signed, signing_review
from worker.db.units import unit_files
from worker.document_places import document_uid
from worker.result_kinds import ResultKind
from worker.settings import Settings
from worker.states import InstanceState, JobState


def signature_of(settings: Settings, job: Job) -> Signature:
    """Return who signed a job, and whether the findings are theirs."""
    review = signing_review(job)
    return Signature(
        person=Person(review.reviewer_name, review.reviewer_organization or settings.review.organization),
        edited=review.findings != job.findings,
        signed_at=review.decided_at,
    )


def answer_of(
    session: Session, job: Job, adapter: AdapterDefinition, findings: Mapping[str, Any], signature: Signature | None
) -> Answer:
    """Return the answer with these findings. Raises `ValidationError` where they do not fit the adapter."""
    files = unit_files(session, job, adapter)
    digests = session.scalars(
        select(Instance.digest).where(
            Instance.series_id == job.series_id,
            Instance.state == InstanceState.STORED,
            Instance.sop_instance_uid.in_([file.header.sop_instance_uid for file in files]),
        )
    )
    return Answer(
        adapter=adapter,
        findings=adapter.findings.model_validate(findings),
        input_record=InputRecord.from_json(job.model_input or {}),
        provenance=ModelProvenance.from_json(job.provenance or {}),
        confidence=None if job.confidence is None else Confidence.from_json(job.confidence),
        answered_at=job.answered_at or job.created_at,
        revision=job.revision,
        files=tuple(files),
        digests=tuple(sorted(digests)),
        signature=signature,
        question_key=job.question_key,
    )


def predecessor_of(session: Session, job: Job, answer: Answer) -> Predecessor | None:
    """Return the report that the new one stands in the place of: what is signed or sent, else our own draft."""
    out = _last_report(job) if answer.signature else None
    for earlier in earlier_jobs(session, job):
        if out is None and (earlier.state is JobState.RELEASED or is_signed(earlier)):
            out = _last_report(earlier)
    if out is None and answer.signature:
        out = _draft(job, answer)
    return None if out is None else Predecessor(out.sop_instance_uid, Path(out.path))


def _last_report(job: Job) -> Result | None:
    """Return the newest SR of a job that was signed, else that was sent or queued."""
    reports = [row for row in job.results if row.kind == ResultKind.SR and (row.verified or row.deliveries)]
    return max(reports, key=lambda result: (result.verified, result.id), default=None)


def _draft(job: Job, answer: Answer) -> Result | None:
    """Return the unsigned SR of a held answer; a job that was retried may have others, of other answers."""
    if job.findings is None:
        return None
    unsigned = replace(answer, findings=answer.adapter.findings.model_validate(job.findings), signature=None)
    for result in job.results:
        uid = document_uid(unsigned, result.predecessor_sop_instance_uid, ResultKind.SR)
        if result.kind == ResultKind.SR and result.sop_instance_uid == uid:
            return result
    return None
