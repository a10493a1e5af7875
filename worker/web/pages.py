"""Rows -> pages for people: all studies, one study's whole way, and pictures of key images.

Input: the ledger. Output: HTML and PNG. Nothing is changed here: a held answer leads to its case, where it is decided.
Addresses hold this software's own numbers, never a UID, an accession number or what is searched for: browsers and
proxies keep addresses. A study that is not there, or a picture that cannot be made, is a page with 404 and the reason.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.recipe import RecipeError
from models.rendering import RenderError
from worker.db import queries
from worker.db.columns import utc_now
from worker.db.records import Delivery, Job, Result, Study
from worker.db.study_lines import StudyPage, found_lines, study_lines
from worker.model_inputs import png, seen_by
from worker.operations.why_not import why_not_of
from worker.rendering import renderer
from worker.roles import Role
from worker.settings import Settings
from worker.states import DeliveryState, JobState, StudyState
from worker.web.access import requires
from worker.web.api_document import LAST_NUMBER
from worker.web.key_images import PictureError, png_of_capture
from worker.web.page import render, status_of

router = APIRouter(include_in_schema=False, dependencies=[requires(Role.VIEWER)])

Number = Annotated[int | None, Query(ge=0, le=LAST_NUMBER)]
#: Seconds after which what a page shows is fetched again while something on it moves.
REFRESH_S = 5
MOVING = frozenset({StudyState.RECEIVING, StudyState.PROCESSING, StudyState.DELIVERING})


@router.get("/studies", response_class=HTMLResponse)
def newest(request: Request, before: Number = None, after: Number = None) -> Response:
    """Show studies, the newest first; further pages are named by the number of the study that they end or begin at."""
    with request.app.state.database.reading() as session:
        page = study_lines(session, before=before, after=after)
        counts = {} if page.has_newer else count_all(session)
    moving = any(study.state in MOVING for study in page.lines)
    return _studies(request, page, {"counts": counts, "renew_s": None if page.has_newer or not moving else REFRESH_S})


@router.get("/search")
def back_from_search() -> Response:
    """Lead to all studies who comes here without anything to search for (after a log-in, say)."""
    return RedirectResponse("/studies", status_code=303)


@router.post("/search", response_class=HTMLResponse)
def search(request: Request, q: Annotated[str, Form(max_length=64)] = "") -> Response:
    """Show the studies that a search finds; by POST, so that no address and no history holds what was searched for."""
    wanted = q.strip()
    if not wanted:
        return back_from_search()
    with request.app.state.database.reading() as session:
        page = found_lines(session, wanted)
    return _studies(request, page, {"q": wanted})


def _studies(request: Request, page: StudyPage, context: dict[str, Any]) -> Response:
    shown = any(answer.is_standin for study in page.lines for answer in study.answers)
    standin = shown or request.app.state.settings.engine.kind == "standin"
    context = {"page": page, "studies": page.lines, "standin": standin, **context}
    return render(request, "studies.html", context, status_of(request, context.get("renew_s")))


@router.get("/studies/{number}", response_class=HTMLResponse)
def study(request: Request, number: str) -> Response:
    """Show one study."""
    with request.app.state.database.reading() as session:
        row = queries.whole_study(session, int(number)) if _is_number(number) else None
        found = None if row is None else queries.detail_of(session, row)
        why = None if row is None else why_not_of(session, request.app.state.settings, row)
    if found is None:
        nothing = {"title": "Not found", "message": "There is no such study. Search for it above."}
        return render(request, "message.html", nothing, status_code=404)
    current = [job for job in found.jobs if job.state != "superseded"]
    renew_s = REFRESH_S if found.state in MOVING else None
    context = {
        "study": found,
        "why": why,
        "jobs": current,
        "superseded": [job for job in found.jobs if job.state == "superseded"],
        "renew_s": renew_s,
    }
    return render(request, "study.html", context, status_of(request, renew_s), found.jobs)


@router.get("/results/{number}.png")
def key_image(request: Request, number: str, frame: Annotated[int, Query(ge=1)] = 1) -> Response:
    """Show a frame of a Secondary Capture that this software wrote."""
    with request.app.state.database.reading() as session:
        result = session.get(Result, int(number)) if _is_number(number) else None
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


def count_all(session: Session) -> dict[str, int]:
    """Count what a person looks at first, over all studies and not only those shown, by one statement."""
    unfinished = (JobState.QUEUED, JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.ACCEPTED)
    unsent = (DeliveryState.PENDING, DeliveryState.SENDING)
    day = utc_now() - timedelta(days=1)
    wanted = {
        "studies in 24 hours": select(func.count(Study.id)).where(Study.first_received_at >= day),
        "answers to review": select(func.count(Job.id)).where(Job.state == JobState.HELD),
        "answers being worked on": select(func.count(Job.id)).where(Job.state.in_(unfinished)),
        "results to be sent": select(func.count(Delivery.id)).where(Delivery.state.in_(unsent)),
        "deliveries given up": select(func.count(Delivery.id)).where(Delivery.state == DeliveryState.DEAD),
    }
    counted = session.execute(select(*(count.scalar_subquery() for count in wanted.values()))).one()
    return dict(zip(wanted, counted, strict=True))


def _is_number(text: str) -> bool:
    """Whether a part of an address can be the number of a row (32 bits)."""
    return text.isascii() and text.isdigit() and len(text) < 10
