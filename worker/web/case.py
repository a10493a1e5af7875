"""One case: everything that a person needs to decide, on one page.

Input: a job's id. Output: the page; with `errors` of a form that was sent it shows them at their fields. A case that is
not there is a page with 404.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from dicom_node.report import Person
from models.adapter import AdapterDefinition
from worker import review
from worker.db import queries
from worker.db.calibrations import CalibrationRow
from worker.db.columns import utc_now
from worker.db.priors import priors_of
from worker.db.records import Event, Job
from worker.db.review_records import standing_signature
from worker.db.units import asked_adapter
from worker.db.work_list import priority_name
from worker.people.user import User
from worker.review.cases import FINAL
from worker.roles import Role
from worker.schemas import ReviewCase, ReviewView
from worker.states import JobState
from worker.web import auditing
from worker.web.access import requires
from worker.web.decided import decided_banner
from worker.web.finding_forms import form_of
from worker.web.page import render
from worker.web.patients import named_otherwise, patient_of, unfit_adapters
from worker.web.reading_room import reader, site_adapters, why_only_looking
from worker.web.report_preview import preview

router = APIRouter(include_in_schema=False)
#: The page renews its claim this many times within the lease.
RENEWALS = 3
Viewer = Annotated[User, requires(Role.VIEWER)]


def renew_every_s(claim_s: float) -> int:
    """Return how often a page renews a claim of this length, in seconds."""
    return max(int(claim_s / RENEWALS), 1)


@router.get("/cases/{job_id}", response_class=HTMLResponse)
def case(
    request: Request,
    user: Viewer,
    job_id: str,
    view: Annotated[str, Query(max_length=32)] = "",
    decided: Annotated[str, Query(max_length=32)] = "",
) -> Response:
    """Show a case."""
    return show(request, user, job_id, view=view, decided=decided)


def show(
    request: Request,
    user: User,
    job_id: str,
    *,
    view: str = "",
    decided: str = "",
    trouble: str = "",
    opened: str = "",
    typed: Mapping[str, Any] | None = None,
    errors: Mapping[str, str] | None = None,
    comment: str = "",
    status_code: int = 200,
) -> Response:
    """Return the page of a case.

    Args:
        request: The request.
        user: Who looks.
        job_id: The case.
        view: Id of the work list's filters that the person goes on with.
        decided: A case that this user has just decided.
        trouble: Why a decision was not taken.
        opened: The form that is open ("accept", "edit", ...).
        typed: Findings as they were typed into the form.
        errors: Field -> what is wrong with it.
        comment: What was typed into that form's comment.
        status_code: HTTP status.
    """
    adapters = site_adapters(request)
    with request.app.state.database.reading() as session:
        job = session.get(Job, job_id)
        if job is None:
            message = {"title": "Not found", "message": "There is no such case. The work list shows what waits."}
            return render(request, "message.html", message | {"way_back": "/", "way": "To the work list"}, 404)
        shown = queries.review_case(session, job_id)
        context = _context(session, request, user, job, shown, adapters)
        context |= _forms(job, adapters, typed, errors)
        auditing.also_shown(request, (prior.study_id for prior in context["priors"]))
        context["decided"] = decided_banner(session, user, decided or job_id)
    settings = request.app.state.settings.review
    context |= {"trouble": trouble, "opened": opened, "comment": comment, "undo_s": settings.undo_s, "view": view}
    context["renew_every_s"] = renew_every_s(settings.claim_s)
    return render(request, "case.html", context, status_code, jobs=[shown])


def _context(
    session: Session,
    request: Request,
    user: User,
    job: Job,
    shown: ReviewCase,
    adapters: Mapping[str, AdapterDefinition],
) -> dict[str, Any]:
    only_looking = why_only_looking(user)
    person: Person | None = None if only_looking else reader(request, user)
    adapter = adapters.get(job.adapter)
    signed = _signed(job)
    unfit = unfit_adapters(session, job, adapters)
    priors = priors_of(session, job.study_id)
    can_sign = job.state in (JobState.HELD, JobState.RELEASED) and not only_looking
    return {
        "case": shown,
        "patient": patient_of(session, job),
        "priority": priority_name(job.priority),
        "adapter": adapter,
        "can_sign": can_sign,
        "can_correct": can_sign or (job.state is JobState.VERIFIED and not only_looking),
        "only_looking": only_looking,
        "person": person,
        "another_decides": _why_another_decides(shown, person, job),
        "not_named": _not_named(job),
        "preview": preview(adapters, job, job.findings if signed is None else signed, person),
        "is_signed": signed is not None,
        "decisive": _decisive(shown),
        "newer": _newer(session, job) if job.state is JobState.SUPERSEDED else None,
        "calibration": _calibration(session, job),
        "priors": priors,
        "named_otherwise": named_otherwise(job.study, priors),
        "history": _history(session, job),
        "targets": sorted(
            review.targets(adapters, job.adapter, job.question_key), key=lambda target: target.adapter in unfit
        ),
        "unfit": unfit,
        "titles": {name: known.title for name, known in adapters.items()},
        "now": utc_now(),
        "series_id": job.series_id,
    }


def _forms(
    job: Job,
    adapters: Mapping[str, AdapterDefinition],
    typed: Mapping[str, Any] | None,
    errors: Mapping[str, str] | None,
) -> dict[str, Any]:
    try:
        model = asked_adapter(adapters, job).findings
    except LookupError as error:
        return {"form": None, "no_form": str(error)}
    if job.model_input is None:
        return {"form": None, "no_form": "the model never saw the images: try again, re-route, or reject it"}
    values = typed if typed is not None else _signed(job) or job.findings
    return {"form": form_of(model, values, errors), "form_errors": errors or {}}


def _signed(job: Job) -> Mapping[str, Any] | None:
    """Return what stands signed of a job; None where nothing does."""
    if job.state not in (JobState.ACCEPTED, JobState.VERIFIED):
        return None
    signed = standing_signature(job)
    return None if signed is None else signed.findings


def _not_named(job: Job) -> list[str]:
    """Return the labels that the model was asked about and did not name: what it says is not there."""
    asked = list((job.question or {}).get("labels") or ())
    said = job.findings or {}
    named = [*(said.get("labels") or ()), said.get("label")]
    return [label for label in asked if label not in named] if {"labels", "label"} & said.keys() else []


def _decisive(shown: ReviewCase) -> ReviewView | None:
    """Return the decision that stands."""
    final = (entry for entry in reversed(shown.reviews) if entry.action in FINAL and entry.undone_at is None)
    return next(final, None)


def _newer(session: Session, job: Job) -> str | None:
    """Return the id of the job that stands in the place of a superseded one, if it is about the same images."""
    same = select(Job.id).where(
        Job.adapter == job.adapter, Job.question_key == job.question_key, Job.unit_uid == job.unit_uid
    )
    later = same.where(Job.revision > job.revision, Job.state != JobState.SUPERSEDED)
    return session.scalar(later.order_by(Job.revision.desc()).limit(1))


def _why_another_decides(shown: ReviewCase, person: Person | None, job: Job) -> str:
    """Say why a second reader is asked and this person is none; empty where they may decide."""
    opinions = [entry for entry in job.reviews if entry.action == "opinion"]
    if not shown.second_reader or person is None or not opinions:
        return ""
    account, name = opinions[-1].account, opinions[-1].reviewer_name
    if review.same_person(person, account, name):
        return "You asked for a second reader: another person decides."
    if review.why_no_second_reader(person, account, name):
        return (
            "Somebody of your name asked for a second reader: another person decides. If that was not you, "
            "an administrator can give you a name of your own."
        )
    return ""


def _calibration(session: Session, job: Job) -> CalibrationRow | None:
    """Return the calibration that made this probability what it is, if one did."""
    if not (job.confidence or {}).get("calibrated"):
        return None
    used = select(CalibrationRow).where(
        CalibrationRow.adapter == job.adapter, CalibrationRow.question_key == job.question_key
    )
    fitted_before = used.where(CalibrationRow.fitted_at <= (job.answered_at or job.created_at))
    return session.scalar(fitted_before.order_by(CalibrationRow.fitted_at.desc()).limit(1))


def _history(session: Session, job: Job) -> list[Event]:
    """Return what happened to this job and to what was sent of it."""
    deliveries = [str(delivery.id) for result in job.results for delivery in result.deliveries]
    of_job = (Event.subject == "job") & (Event.subject_id == job.id)
    of_deliveries = (Event.subject == "delivery") & Event.subject_id.in_(deliveries)
    wanted = select(Event).where(Event.study_id == job.study_id, or_(of_job, of_deliveries))
    return list(session.scalars(wanted.order_by(Event.id)))
