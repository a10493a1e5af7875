"""The viewer over HTTP: its page, the list of pictures of a series or a job, and frames as values.

Input: numbers of the database and ids of jobs; no address names a patient or holds a UID. Output: HTML, JSON, and
frames as little-endian values with the header `Frame-Values` (JSON) that says how to show them. Nothing is kept by the
browser beyond the page (`no-store`): a reading room's disk shall hold no patient's images. What is not there is 404, a
frame that cannot be decoded 422, each with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import structlog
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from sqlalchemy.orm import Session

from dicom_node.pixels import PixelError
from dicom_node.sandbox import SandboxError
from models.adapter import adapters
from models.recipe import FrameOf, RecipeError
from models.rendering import RenderError
from worker.db.records import Job
from worker.model_inputs import seen_by
from worker.roles import Role
from worker.web.access import requires
from worker.web.api_document import LAST_NUMBER
from worker.web.page import render
from worker.web.viewer import series
from worker.web.viewer.arrangement import Arrangement, to_json
from worker.web.viewer.marks import Marks, marks_of
from worker.web.viewer.series import Scope
from worker.web.viewer.store import FrameStore
from worker.web.viewer.values import Look

log = structlog.get_logger()
T = TypeVar("T")
Row = Annotated[int, Path(ge=1, le=LAST_NUMBER)]
router = APIRouter(prefix="/viewer", include_in_schema=False, dependencies=[requires(Role.VIEWER)])

_VALUES: Final = "application/octet-stream"
#: Windows that every CT reader has at hand, in HU: name, centre, width.
_CT_WINDOWS: Final = (("Soft tissue", 40, 400), ("Lung", -600, 1500), ("Bone", 400, 1800), ("Brain", 40, 80),
                      ("Liver", 60, 160))  # fmt: skip


@router.get("/series/{series_id}")
def series_page(request: Request, series_id: Row) -> Response:
    """Show the images of a series."""
    return _page(
        request, f"/viewer/series/{series_id}/frames", lambda session: series.of_series(session, series_id, sample=True)
    )


@router.get("/jobs/{job_id}")
def job_page(request: Request, job_id: str) -> Response:
    """Show the images of a job's unit, with what its model saw."""
    return _page(request, f"/viewer/jobs/{job_id}/frames", lambda session: _scope_of_job(session, job_id, sample=True))


@router.get("/series/{series_id}/frames")
def series_frames(request: Request, series_id: Row) -> dict[str, Any]:
    """Return the pictures of a series in order."""
    with request.app.state.database.reading() as session:
        scope = _found(lambda: series.of_series(session, series_id))
    return _listed(scope, _arranged(request, scope), Marks())


@router.get("/jobs/{job_id}/frames")
def job_frames(request: Request, job_id: str) -> dict[str, Any]:
    """Return the pictures of a job's unit in order, with marks where its model looked."""
    with request.app.state.database.reading() as session:
        scope = _found(lambda: _scope_of_job(session, job_id))
        arrangement = _arranged(request, scope)
        places = {FrameOf(one.sop_instance_uid, one.frame + 1): at for at, one in enumerate(arrangement.shown)}
        marks = marks_of(session.get_one(Job, job_id), places, adapters())
    return _listed(scope, arrangement, marks)


@router.get("/jobs/{job_id}/inputs/{number}.png")
def model_input(request: Request, job_id: str, number: int) -> Response:
    """Return one of the very images that a job's model saw, counted from 1."""
    with request.app.state.database.reading() as session:
        job = session.get(Job, job_id)
        if job is None:
            raise HTTPException(404, "there is no such job here; open it from its study")
        try:
            record, files = seen_by(session, job)
        except (RenderError, RecipeError) as error:
            raise HTTPException(404, str(error)) from None
    if not 1 <= number <= len(record.recipe):
        raise HTTPException(404, f"the model saw {len(record.recipe)} images, there is no image {number}")
    try:
        return Response(_store(request).model_inputs(record, files)[number - 1], media_type="image/png")
    except RenderError as error:
        raise HTTPException(422, str(error)) from None


@router.get("/series/{series_id}/instances/{instance_id}/frames/{number}")
def frame(
    request: Request,
    series_id: Row,
    instance_id: Row,
    number: Annotated[int, Path(ge=1)],
    look: Annotated[Look, Query(description="which values")] = Look.USUAL,
) -> Response:
    """Return a frame, counted from 1, as values."""
    with request.app.state.database.reading() as session:
        file = _found(lambda: series.image(session, series_id, instance_id))
    try:
        values = _store(request).frame(file, number - 1, look)
    except (PixelError, SandboxError) as error:
        log.warning("no picture", action="view", instance_id=instance_id, frame=number, error=str(error))
        raise HTTPException(422, f"{error.reason}; {error.remedy}") from None
    except OSError as error:
        log.error("the file of an image is gone", action="view", instance_id=instance_id, error=str(error))
        raise HTTPException(404, "the file of this image is gone from the store; send the image again") from None
    return Response(values.body(), media_type=_VALUES, headers={"Frame-Values": json.dumps(values.about)})


def _page(request: Request, frames_url: str, find: Callable[[Session], Scope]) -> Response:
    with request.app.state.database.reading() as session:
        try:
            scope = find(session)
        except LookupError as error:
            message = f"{error}."
            return render(request, "message.html", {"title": "Nothing to see", "message": message}, 404)
    _store(request).warm_up(scope.files)
    return render(request, "viewer.html", {"scope": scope, "frames_url": frames_url})


def _scope_of_job(session: Session, job_id: str, *, sample: bool = False) -> Scope:
    job = session.get(Job, job_id)
    if job is None:
        raise LookupError("there is no such job here; open it from its study")
    return series.of_job(session, job, sample=sample)


def _found(find: Callable[[], T]) -> T:
    try:
        return find()
    except LookupError as error:
        raise HTTPException(404, str(error)) from None


def _arranged(request: Request, scope: Scope) -> Arrangement:
    _store(request).warm_up(scope.files)
    try:
        return _store(request).arrange(scope.files)
    except SandboxError as error:
        raise HTTPException(422, f"the images cannot be put in order: {error.reason}; {error.remedy}") from None


def _listed(scope: Scope, arrangement: Arrangement, marks: Marks) -> dict[str, Any]:
    key = next((one["shown"] for one in marks.inputs if one["is_key"] and one["shown"] is not None), None)
    return {
        "modality": scope.modality,
        "description": scope.description,
        "adapter": scope.adapter,
        "frame_url": f"/viewer/series/{scope.series_id}/instances/{{instance}}/frames/{{number}}",
        "input_url": f"/viewer/jobs/{scope.job_id}/inputs/{{input}}.png" if marks.inputs else None,
        "first": arrangement.in_stack // 2 if key is None else key,
        "presets": [_preset(*one) for one in _CT_WINDOWS] if scope.modality == "CT" else [],
        **to_json(arrangement, scope.numbers),
        **marks.to_json(),
    }


def _preset(name: str, center: int, width: int) -> dict[str, Any]:
    """Return a LINEAR window with its bounds (PS3.3 C.11.2.1.2.1)."""
    middle, half = center - 0.5, (width - 1) / 2
    return {"name": name, "center": center, "width": width, "low": middle - half, "high": middle + half}


def _store(request: Request) -> FrameStore:
    store: FrameStore = request.app.state.frames
    return store
