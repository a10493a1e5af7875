"""An archive's images -> this node: what of an examination is missing here is asked for (C-FIND, C-MOVE or C-GET).

Input: an accession number and an archive. Output: the archive sends what the ledger lacks to this node, which receives
it like anything else; a summary for each study. What this software wrote itself is not fetched back. On failure
`QueryError` with the reason; what had been sent before stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.query import PRIOR_STUDIES, SERIES_OF_STUDY, STUDIES_OF_ORDER, QueryError
from worker.db.sessions import Database
from worker.fetching import ImageArchive, images_here, text_of


@dataclass(frozen=True, slots=True)
class FetchedStudy:
    """What became of one study."""

    study_instance_uid: str
    study_date: str
    description: str
    is_prior: bool
    #: Instances at the archive (without our own results), and how many of them were here already.
    at_archive: int
    here: int
    #: What the archive says about those that it sent.
    sent: int
    failed: int


def fetch(db: Database, archive: ImageArchive, accession_number: str, *, priors: int = 0) -> list[FetchedStudy]:
    """Have an archive send what is missing here of the studies with an accession number.

    Args:
        db: The ledger.
        archive: Who is asked. For C-MOVE it must know our AE title and address, and the node must be running.
        accession_number: As at the archive.
        priors: How many earlier studies of the same patient to fetch too, the newest first.

    Raises:
        QueryError: There is no such study, or the archive does not answer.
    """
    if not accession_number.strip() or set(accession_number) & set("*?\\"):
        raise QueryError(f"{accession_number!r} is not an accession number", is_permanent=True)
    studies = [
        study
        for study in archive.find(STUDIES_OF_ORDER, accession_number)
        # An archive that does not match by accession number answers with everything: that is not what was asked for.
        if text_of(study, "AccessionNumber") == accession_number.strip()
    ]
    if not studies:
        words = f"{archive.peer} has no study with accession number {accession_number!r}"
        raise QueryError(words, is_permanent=True)
    fetched = [_fetch_study(db, archive, study, is_prior=False) for study in studies]
    for study in _priors(archive, studies, priors):
        fetched.append(_fetch_study(db, archive, study, is_prior=True))
    return fetched


def _priors(archive: ImageArchive, studies: Sequence[Dataset], count: int) -> list[Dataset]:
    """Return earlier studies of the same patient, the newest first."""
    patient_id, date = text_of(studies[0], "PatientID"), text_of(studies[0], "StudyDate")
    if not count:
        return []
    if not patient_id or not date:
        raise QueryError(
            "the study has no Patient ID or no date at the archive: no priors can be told", is_permanent=True
        )
    known = {text_of(study, "StudyInstanceUID") for study in studies}
    earlier = [
        study
        for study in archive.find(PRIOR_STUDIES, patient_id, f"-{date}")
        if text_of(study, "PatientID") == patient_id
        and "" < text_of(study, "StudyDate") <= date
        and text_of(study, "StudyInstanceUID") not in known
    ]
    return sorted(earlier, key=lambda study: text_of(study, "StudyDate"), reverse=True)[:count]


def _fetch_study(db: Database, archive: ImageArchive, study: Dataset, *, is_prior: bool) -> FetchedStudy:
    uid = text_of(study, "StudyInstanceUID")
    with db.reading() as session:
        here, ours = images_here(session, uid)
    at_archive = found_here = sent = failed = 0
    for series in archive.find(SERIES_OF_STUDY, uid):
        series_uid = text_of(series, "SeriesInstanceUID")
        there = [instance for instance in archive.images(uid, series_uid) if instance not in ours]
        missing = [instance for instance in there if instance not in here]
        at_archive, found_here = at_archive + len(there), found_here + len(there) - len(missing)
        moved = archive.send(uid, series_uid, missing, is_whole=len(missing) == len(there))
        sent, failed = sent + moved.completed + moved.warning, failed + moved.failed
    return FetchedStudy(
        study_instance_uid=uid,
        study_date=text_of(study, "StudyDate"),
        description=text_of(study, "StudyDescription"),
        is_prior=is_prior,
        at_archive=at_archive,
        here=found_here,
        sent=sent,
        failed=failed,
    )
