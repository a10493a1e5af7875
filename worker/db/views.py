"""One row -> its shape in `worker.schemas`. Pure: everything a view shows is loaded by `worker.db.queries` before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from worker import schemas
from worker.db.records import Delivery, Event, Job, Result, Review, Series, Study
from worker.db.review_records import standing_signature
from worker.states import DeliveryState, InstanceState, StudyState

#: (series id, instance state) -> number of instances.
InstanceCounts = Mapping[tuple[int, InstanceState], int]


def study_view(study: Study, state: StudyState, counts: InstanceCounts) -> schemas.StudyView:
    """Return a study as the list shows it."""
    return schemas.StudyView(**_study(study, state, counts), jobs=[schemas.JobView(**_job(job)) for job in study.jobs])


def study_detail(
    study: Study, state: StudyState, counts: InstanceCounts, history: Sequence[Event]
) -> schemas.StudyDetail:
    """Return a study with its history and reviews."""
    return schemas.StudyDetail(
        **_study(study, state, counts),
        jobs=[schemas.JobDetail(**_job_detail(job)) for job in study.jobs],
        history=[_event(event) for event in history],
    )


def seen_digest(job: Job) -> str:
    """Return what tells this answer, as a page shows it, from the same job's answer after a change (SHA-256).

    What people said before belongs to it: who corrects what is signed must have seen the last correction, and a second
    reader the opinion of the first.
    """
    shown: dict[str, Any] = {
        "findings": job.findings,
        "model_input": None if job.model_input is None else job.model_input.get("digest"),
        "revision": job.revision,
        "answered_at": None if job.answered_at is None else job.answered_at.isoformat(),
        "confidence": job.confidence,
    }
    signed = standing_signature(job)
    if signed is not None:
        shown["signed"] = signed.id
    if job.second_reader:
        shown["opinion"] = max((review.id for review in job.reviews if review.action == "opinion"), default=None)
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def review_case(job: Job) -> schemas.ReviewCase:
    """Return a job as a reviewer sees it."""
    return schemas.ReviewCase(**_job_detail(job), **_identity(job.study), study_id=job.study_id)


def _identity(study: Study) -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "patient_id": study.patient_id,
        "patient_name": study.patient_name,
        "study_date": study.study_date,
        "study_description": study.study_description,
    }


def _study(study: Study, state: StudyState, counts: InstanceCounts) -> dict[str, Any]:
    series = [_series(row, counts) for row in study.series]
    return {
        "id": study.id,
        **_identity(study),
        "state": state.value,
        "revision": max((row.revision for row in series), default=0),
        "instances": sum(row.instances for row in series),
        "conflicts": sum(row.conflicts for row in series),
        "missing": sum(row.missing for row in series),
        "first_received_at": study.first_received_at,
        "series": series,
    }


def _series(series: Series, counts: InstanceCounts) -> schemas.SeriesView:
    adapters = series.route_adapter.split(",") if series.route_adapter else []
    return schemas.SeriesView(
        series_instance_uid=series.series_instance_uid,
        modality=series.modality,
        instances=counts.get((series.id, InstanceState.STORED), 0),
        conflicts=counts.get((series.id, InstanceState.CONFLICT), 0),
        missing=counts.get((series.id, InstanceState.MISSING), 0),
        state=series.state.value,
        revision=series.revision,
        route=schemas.RouteView(
            adapter=next(iter(adapters), None), adapters=adapters, rule=series.route_rule, reason=series.route_reason
        ),
    )


def _job(job: Job) -> dict[str, Any]:
    confidence = job.confidence or {}
    provenance = None if job.provenance is None else schemas.ProvenanceView(**{"files": {}, **job.provenance})
    is_standin = provenance is not None and provenance.is_standin
    return {
        "id": job.id,
        "adapter": job.adapter,
        "question": job.question,
        "series_instance_uid": job.series.series_instance_uid,
        "unit_uid": job.unit_uid,
        "revision": job.revision,
        "state": job.state.value,
        "priority": job.priority,
        "created_at": job.created_at,
        "attempts": job.attempts,
        "doubts": job.doubts,
        "findings": job.findings,
        "confidence": confidence.get("probability"),
        "calibrated": confidence.get("calibrated"),
        "method": confidence.get("method"),
        "decision": job.decision,
        "decision_reason": job.decision_reason,
        "provenance": provenance,
        "is_standin": is_standin,
        "notice": schemas.STANDIN_NOTICE if is_standin else None,
        "answered_at": job.answered_at,
        "error": job.error,
        "results": [_result(result) for result in job.results],
    }


def _job_detail(job: Job) -> dict[str, Any]:
    return {
        **_job(job),
        "answer_text": None if job.generation is None else job.generation["text"],
        "incomplete": [] if job.model_input is None else job.model_input["incomplete"],
        "model_input": _input(job.model_input) if job.model_input and "digest" in job.model_input else None,
        "reviews": [_review(review) for review in job.reviews],
        "seen": seen_digest(job),
        "waiting_since": job.waiting_since,
        "second_reader": job.second_reader,
        "not_before": job.not_before,
    }


def _input(stored: Mapping[str, Any]) -> schemas.InputView:
    return schemas.InputView(
        images=len(stored["image_sources"]),
        digest=stored["digest"],
        record=stored["record"],
        recipe=stored.get("recipe", []),
    )


def _review(review: Review) -> schemas.ReviewView:
    return schemas.ReviewView(
        action=review.action,
        reviewer_name=review.reviewer_name,
        reviewer_organization=review.reviewer_organization,
        comment=review.comment,
        findings=review.findings,
        decided_at=review.decided_at,
        undone_at=review.undone_at,
        shown=None if review.shown is None else schemas.ShownView(**review.shown),
        seen=review.seen,
    )


def _result(result: Result) -> schemas.ResultView:
    return schemas.ResultView(
        id=result.id,
        sop_instance_uid=result.sop_instance_uid,
        sop_class_uid=result.sop_class_uid,
        kind=result.kind,
        verified=result.verified,
        predecessor_sop_instance_uid=result.predecessor_sop_instance_uid,
        path=result.path,
        created_at=result.created_at,
        deliveries=[_delivery(delivery) for delivery in result.deliveries],
    )


def _delivery(delivery: Delivery) -> schemas.DeliveryView:
    return schemas.DeliveryView(
        id=delivery.id,
        destination=delivery.destination,
        state=delivery.state.value,
        confirmed=delivery.state is DeliveryState.CONFIRMED,
        attempts=delivery.attempts,
        tries=delivery.tries,
        last_error=delivery.last_error,
        not_before=delivery.not_before,
        delivered_at=delivery.delivered_at,
        confirmed_at=delivery.confirmed_at,
    )


def _event(event: Event) -> schemas.EventView:
    return schemas.EventView(
        at=event.at,
        subject=event.subject,
        subject_id=event.subject_id,
        from_state=event.from_state,
        to_state=event.to_state,
        reason=event.reason,
    )
