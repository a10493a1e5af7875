"""The ledger as JSON for other programs, read-only; described in /api/openapi.json.

Input: a study's UID or accession number: programs know nothing else of a study, and this server logs no addresses.
Output: the shapes of `worker.schemas`, the same as `dicom-worker ... --json`.
A study that is not there is 404.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request

from worker.db import queries
from worker.roles import Role
from worker.schemas import ReviewCase, StudyDetail, StudyView
from worker.web.access import requires

router = APIRouter(prefix="/api", tags=["ledger"], dependencies=[requires(Role.VIEWER)])


@router.get("/studies")
def studies(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="studies returned at most, the newest first")] = 100,
    offset: Annotated[int, Query(ge=0, description="newest studies left out")] = 0,
    search: Annotated[str, Query(max_length=64, description="part of an accession number, patient ID or UID")] = "",
) -> list[StudyView]:
    """Return studies, the newest first."""
    with request.app.state.database.reading() as session:
        return queries.studies(session, limit=limit, offset=offset, search=search)


@router.get("/studies/{reference}", responses={404: {"description": "no such study"}, 409: {"description": "several"}})
def study(request: Request, reference: str) -> StudyDetail:
    """Return one study with its history, by Study Instance UID or by an accession number that only it has."""
    try:
        with request.app.state.database.reading() as session:
            found = queries.study(session, reference)
    except queries.QueryError as error:
        raise HTTPException(404, str(error)) from None
    if len(found) > 1:
        uids = ", ".join(study.study_instance_uid for study in found)
        raise HTTPException(409, f"the accession number {reference!r} has several studies, name one by its UID: {uids}")
    return found[0]


@router.get("/review")
def review_queue(request: Request) -> list[ReviewCase]:
    """Return what waits for a person, the most urgent first."""
    with request.app.state.database.reading() as session:
        return queries.review_queue(session)
