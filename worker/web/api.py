"""The ledger as JSON for other programs, read-only; described in /api/openapi.json.

Input: a study's UID or accession number: programs know nothing else of a study, and this server logs no addresses.
Output: the shapes of `worker.schemas`, the same as `dicom-worker ... --json`.
A study that is not there is 404.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response

from worker.db import queries
from worker.roles import Role
from worker.schemas import StudyDetail, StudyView
from worker.web.access import requires
from worker.web.api_document import ERRORS, NO_NUL, Limit, Offset, next_page, problem
from worker.web.api_references import Reference, one_study

SEARCH = "a study UID, or beginnings of accession number, patient ID, parts of the patient's name, words of description"
router = APIRouter(prefix="/api", tags=["ledger"], dependencies=[requires(Role.VIEWER)], responses=ERRORS)


@router.get("/studies")
def studies(
    request: Request,
    response: Response,
    limit: Limit = 100,
    offset: Offset = 0,
    search: Annotated[str, Query(max_length=64, pattern=NO_NUL, description=SEARCH)] = "",
) -> list[StudyView]:
    """Return studies, the newest first; the Link header leads to the next page."""
    with request.app.state.database.reading() as session:
        found = queries.studies(session, limit=limit, offset=offset, search=search)
    next_page(request, response, offset=offset, limit=limit, returned=len(found))
    return found


@router.get(
    "/studies/{reference}",
    responses={404: problem("there is no such study"), 409: problem("several studies have this accession number")},
)
def study(request: Request, reference: Reference) -> StudyDetail:
    """Return one study with its history, by Study Instance UID or by an accession number that only it has."""
    with request.app.state.database.reading() as session:
        found = queries.study_numbered(session, one_study(session, reference))
    if found is None:
        raise HTTPException(404, "there is no such study any more")
    return found
