"""Rows -> pages for people: all studies, one study's whole way, and pictures of key images.

Input: the ledger. Output: HTML and PNG. Nothing is changed here: a held answer's page shows the command that decides
it. A study that is not there, or a picture that cannot be made, is a page with 404 and the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.recipe import RecipeError
from models.rendering import RenderError
from worker import wording
from worker.db import queries
from worker.db.records import Delivery, Job, Result, Study
from worker.model_inputs import png, seen_by
from worker.rendering import renderer
from worker.schemas import JobDetail, JobView
from worker.settings import Settings
from worker.states import DeliveryState, JobState, StudyState
from worker.web.key_images import PictureError, png_of_capture

router = APIRouter(include_in_schema=False)

STUDIES_SHOWN = 100
#: Seconds after which a page on which something still moves is fetched again.
REFRESH_S = 5
MOVING = frozenset({StudyState.RECEIVING, StudyState.PROCESSING, StudyState.DELIVERING})
#: State -> how it is coloured: all is well, somebody or something is waited for, something is wrong.
COLOURS = {
    "good": frozenset({"done", "delivered", "confirmed", "released", "verified", "routed", "release"}),
    "wait": frozenset({"held", "receiving", "processing", "delivering", "queued", "running", "generated", "decided",
                       "pending", "sending", "unconfirmed", "accepted", "stable", "review"}),
    "bad": frozenset({"delivery_failed", "dead", "conflict", "missing", "rejected"}),
}  # fmt: skip


def _colour(state: str) -> str:
    return next((colour for colour, states in COLOURS.items() if state in states), "calm")


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters.update(
    colour=_colour,
    time=_time,
    clock=_clock,
    label=wording.label,
    in_words=wording.findings_in_words,
    value_in_words=wording.value_in_words,
    sure=wording.confidence_in_words,
    delivered=wording.deliveries_in_words,
)
templates.env.tests["dictionary"] = _is_mapping


@router.get("/", response_class=HTMLResponse)
def index(request: Request, q: Annotated[str, Query(max_length=64)] = "") -> Response:
    """Show the review queue and the newest studies, or the studies that a search finds."""
    wanted = q.strip()
    with request.app.state.database.reading() as session:
        studies = queries.studies(session, limit=STUDIES_SHOWN, search=wanted)
        held = queries.review_queue(session)
        counts = _counts(session)
    jobs = [*held, *(job for study in studies for job in study.jobs)]
    context = {
        "studies": studies,
        "held": [] if wanted else held,
        "counts": counts | {"answers to review": len(held)},
        "q": wanted,
        "shown_at_most": STUDIES_SHOWN,
        "refresh_s": REFRESH_S if any(study.state in MOVING for study in studies) else None,
    }
    return _page(request, "index.html", jobs, context)


@router.get("/studies/{uid}", response_class=HTMLResponse)
def study(request: Request, uid: str) -> Response:
    """Show one study, by Study Instance UID or accession number."""
    try:
        with request.app.state.database.reading() as session:
            studies = queries.study(session, uid)
    except queries.QueryError:
        message = f"No study has the UID or accession number {uid}."
        return _page(request, "message.html", [], {"message": message}, status_code=404)
    if len(studies) > 1:
        return RedirectResponse(f"/?{urlencode({'q': uid})}")
    found = studies[0]
    current = [job for job in found.jobs if job.state != "superseded"]
    context = {
        "study": found,
        "jobs": current,
        "superseded": [job for job in found.jobs if job.state == "superseded"],
        "commands": {job.id: _commands(job) for job in current},
        "refresh_s": REFRESH_S if found.state in MOVING else None,
    }
    return _page(request, "study.html", found.jobs, context)


@router.get("/results/{sop_instance_uid}.png")
def key_image(request: Request, sop_instance_uid: str, frame: Annotated[int, Query(ge=1)] = 1) -> Response:
    """Show a frame of a Secondary Capture that this software wrote."""
    with request.app.state.database.reading() as session:
        result = session.scalar(select(Result).where(Result.sop_instance_uid == sop_instance_uid))
    if result is None or result.kind != "sc":
        return Response("no such key image\n", status_code=404, media_type="text/plain")
    try:
        return Response(png_of_capture(Path(result.path), frame), media_type="image/png")
    except PictureError as error:
        return Response(f"{error}\n", status_code=404, media_type="text/plain")


@router.get("/jobs/{job_id}/inputs/{number}.png")
def model_input(request: Request, job_id: str, number: int) -> Response:
    """Show one of the very images that a job's model saw, counted from 1."""
    settings: Settings = request.app.state.settings
    with request.app.state.database.reading() as session:
        job = session.get(Job, job_id)
        try:
            record, files = seen_by(session, job) if job is not None else (None, [])
        except (RenderError, RecipeError) as error:
            return Response(f"{error}\n", status_code=404, media_type="text/plain")
    if record is None or not 1 <= number <= len(record.recipe):
        return Response("no such image\n", status_code=404, media_type="text/plain")
    try:
        return Response(png(renderer(settings.rendering).replay(record, files)[number - 1]), media_type="image/png")
    except RenderError as error:
        return Response(f"{error}\n", status_code=404, media_type="text/plain")


def _counts(session: Session) -> dict[str, int]:
    """Count what a person looks at first, over all studies and not only those shown."""
    unfinished = (JobState.QUEUED, JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.ACCEPTED)
    unsent = (DeliveryState.PENDING, DeliveryState.SENDING)
    wanted = {
        "studies received": select(func.count(Study.id)),
        "answers being worked on": select(func.count(Job.id)).where(Job.state.in_(unfinished)),
        "results to be sent": select(func.count(Delivery.id)).where(Delivery.state.in_(unsent)),
        "deliveries given up": select(func.count(Delivery.id)).where(Delivery.state == DeliveryState.DEAD),
    }
    return {name: session.scalar(count) or 0 for name, count in wanted.items()}


def _commands(job: JobDetail) -> list[str]:
    """Return the commands with which a person decides this job."""
    if job.state not in ("held", "released"):
        return []
    who = "--reviewer 'Family^Given'"
    return [
        f"dicom-worker review show {job.id}",
        f"dicom-worker review accept {job.id} {who}",
        f"dicom-worker review edit {job.id} {who} --findings FILE",
        f"dicom-worker review reject {job.id} {who} --reason 'TEXT'",
    ]


def _page(
    request: Request,
    name: str,
    jobs: Sequence[JobView],
    context: dict[str, Any],
    status_code: int = 200,
) -> Response:
    """Render a page; whatever the page shows, results of the stand-in say so at its top."""
    settings: Settings = request.app.state.settings
    everywhere = {
        "standin": settings.engine.kind == "standin" or any(job.is_standin for job in jobs),
        "ae_title": settings.dicom.ae_title,
        "dicom_port": settings.dicom.port,
        "refresh_s": None,
        "q": "",
    }
    return templates.TemplateResponse(request, name, everywhere | context, status_code=status_code)
