"""Rejected answers -> rejection notes: what a person took back is taken back wherever it had been sent.

Input: a REJECTED job of which destinations have results. Output, in one transaction: a Key Object Selection for each
set of results that destinations have (IHE Imaging Object Change Management, RAD-66), a message that takes back
what was told by FHIR or HL7, and the deliveries to those destinations, whatever kinds and rules they are set to. On
failure `RetractionError`, `MessageError` or `SpoolError`; the job stays in the dispatcher's view and is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.key_objects import build_rejection_note
from dicom_node.report import Person
from dicom_node.results import check_rejection_note, write_dicom
from dicom_node.spool import Spool, StoredFile
from worker.db.outbox import queue_result
from worker.db.records import Job, Result, Review
from worker.db.retractions import arrived_at, replaced, to_retract
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.document_places import place_of_note
from worker.documents import Document
from worker.messages.outgoing import build_endings, to_take_back
from worker.result_kinds import REJECTION
from worker.settings import Settings

log = structlog.get_logger()

#: `review.rejection_title` -> CID 7010. Its other titles (worklist entry, retention) never say why an answer is wrong.
TITLES: Final = {"quality": codes.REJECTED_FOR_QUALITY, "patient_safety": codes.REJECTED_FOR_SAFETY}


#: What a person does to reject an answer (`Review.action`).
REJECTING: Final = ("reject", "reroute")


class RetractionError(Exception):
    """A rejection note cannot be written; the message says which and why."""


@dataclass(frozen=True, slots=True)
class _Note:
    """A note, where it goes, and what it rejects."""

    sop_instance_uid: str
    sop_class_uid: str
    data: bytes
    rejected: tuple[str, ...]
    destinations: tuple[str, ...]

    @property
    def document(self) -> Document:
        """The note as it is kept."""
        return Document(REJECTION, self.sop_instance_uid, self.sop_class_uid, self.data)


def write_rejection_notes(db: Database, spool: Spool, settings: Settings, job_id: str) -> tuple[str, ...]:
    """Write what takes back the results of a rejected job.

    Returns:
        The names of the destinations that have something new to be sent; empty where nothing is to be taken back.

    Raises:
        RetractionError: A result that was sent cannot be read any more.
        MessageError: A message that was sent cannot be read any more.
        SpoolError: The disk does not take the file.
    """
    with db.reading() as session:
        if not _is_due(session, job_id):
            return ()
        job = session.get_one(Job, job_id)
        known, taking_back = _known(session, job), _taking_back(session, settings, job)
    stored = [spool.put_bytes(document.data) for document, _ in taking_back]
    with db.writing() as session:
        job = session.get_one(Job, job_id, with_for_update=True)
        if not _is_due(session, job_id) or _known(session, job) != known:
            return ()  # another process was faster, or something has arrived since: the next ring looks again
        for (document, destinations), file in zip(taking_back, stored, strict=True):
            _keep(session, job, document, destinations, file)
    return tuple(sorted({name for _, destinations in taking_back for name in destinations}))


def _known(session: Session, job: Job) -> tuple[object, object]:
    """Return what others have of a job: DICOM results, and messages."""
    noted = any(result.kind == REJECTION for result in job.results)
    return ({} if noted else arrived_at(session, job)), to_take_back(session, job)


def _taking_back(session: Session, settings: Settings, job: Job) -> list[tuple[Document, tuple[str, ...]]]:
    """Return what is to be sent, and where to."""
    rejection = next(review for review in reversed(job.reviews) if review.action in REJECTING)
    taking_back = [(ending.document, ending.destinations) for ending in build_endings(session, job, rejection)]
    if any(result.kind == REJECTION for result in job.results):
        return taking_back
    notes = _notes(session, settings, job, rejection)
    return [*((note.document, note.destinations) for note in notes), *taking_back]


def _is_due(session: Session, job_id: str) -> bool:
    return session.scalar(to_retract().where(Job.id == job_id)) is not None


def _notes(session: Session, settings: Settings, job: Job, rejection: Review) -> list[_Note]:
    written = [result for known in (job, *replaced(session, job)) for result in known.results]
    paths = {result.sop_instance_uid: Path(result.path) for result in written}
    title = TITLES[settings.review.rejection_title]
    return [
        _note([_read(paths[uid]) for uid in uids], uids, tuple(destinations), title, rejection)
        for uids, destinations in arrived_at(session, job).items()
    ]


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True)
    except (OSError, ValueError) as error:
        raise RetractionError(f"the result {path} cannot be read, and no note can reject it: {error}") from error


def _note(
    results: list[Dataset], uids: tuple[str, ...], destinations: tuple[str, ...], title: Code, rejection: Review
) -> _Note:
    first = results[0]
    person = Person(rejection.reviewer_name, rejection.reviewer_organization)
    said = (title.value, person.name, rejection.comment, rejection.decided_at.isoformat())
    place = place_of_note(uids, str(first.SeriesInstanceUID), int(first.SeriesNumber), *said)
    ds = build_rejection_note(results, title, person, rejection.comment, place, rejection.decided_at)
    for keyword in ("SeriesDate", "SeriesTime"):  # the series grows with the next rejection
        delattr(ds, keyword)
    data = write_dicom(ds)
    check_rejection_note(data, uids)
    return _Note(str(ds.SOPInstanceUID), str(ds.SOPClassUID), data, uids, destinations)


def _keep(session: Session, job: Job, document: Document, destinations: tuple[str, ...], file: StoredFile) -> None:
    result = session.scalar(select(Result).where(Result.sop_instance_uid == document.sop_instance_uid))
    if result is None:
        result = Result(
            job_id=job.id,
            sop_instance_uid=document.sop_instance_uid,
            sop_class_uid=document.sop_class_uid,
            kind=document.kind,
            digest=file.sha256,
            path=str(file.path),
        )
        session.add(result)
        session.flush()
    reason = f"the results are taken back at {', '.join(destinations)}"
    record_event(session, "job", job.id, study_id=job.study_id, reason=reason)
    for name in destinations:
        queue_result(session, job, result, name)
    log.info("results taken back", action="retract", job_id=job.id, kind=document.kind, destinations=list(destinations))
