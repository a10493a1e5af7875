"""How programs name a study: by its UID, or by an accession number that only it has.

Input: what stands in an address. Output: `StudyView.id`. On failure an answer 404 or 409 that says what to ask instead.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Path
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from worker.db.records import Study
from worker.web.api_document import NO_NUL

Reference = Annotated[
    str, Path(max_length=64, pattern=NO_NUL, description="Study Instance UID, or an accession number that only it has")
]


def one_study(session: Session, reference: str) -> int:
    """Return the number of the study that is meant. Raises `HTTPException`."""
    meant = or_(Study.study_instance_uid == reference, Study.accession_number == reference)
    found = session.execute(select(Study.id, Study.study_instance_uid).where(meant).limit(50)).all()
    if not found or not reference:
        raise HTTPException(404, f"no study has the UID or accession number {reference!r}; GET /api/studies lists them")
    if len(found) > 1:
        uids = ", ".join(row.study_instance_uid for row in found)
        raise HTTPException(409, f"the accession number {reference!r} has several studies, name one by its UID: {uids}")
    number: int = found[0].id
    return number
