"""An archive's images -> this node: what of an examination is missing here is asked for (C-FIND, C-MOVE).

Input: an accession number and an archive. Output: the archive sends what the ledger lacks to this node, which receives
it like anything else; a summary for each study. What this software wrote itself is not fetched back. On failure
`QueryError` with the reason; what had been sent before stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.peer import Peer
from dicom_node.query import QueryError, Retrieval, find, move
from worker.db.records import Instance, Result, Series, Study
from worker.db.sessions import Database
from worker.states import InstanceState

#: UIDs in one C-MOVE: a list of more makes an identifier that some archives cannot take.
UIDS_AT_ONCE = 100


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


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who asks whom."""

    peer: Peer
    ae_title: str
    timeout_s: float

    def find(self, level: str, **keys: str) -> list[Dataset]:
        return find(self.peer, level, keys, calling_ae_title=self.ae_title, timeout_s=self.timeout_s)

    def move(self, level: str, **keys: str) -> Retrieval:
        return move(self.peer, level, keys, to_ae_title=self.ae_title, calling_ae_title=self.ae_title)


def fetch(
    db: Database, peer: Peer, accession_number: str, *, ae_title: str, priors: int = 0, timeout_s: float = 30.0
) -> list[FetchedStudy]:
    """Have an archive send what is missing here of the studies with an accession number.

    Args:
        db: The ledger.
        peer: The archive; it must know our AE title and address.
        accession_number: As at the archive.
        ae_title: Ours; a node with it must be running to take the images.
        priors: How many earlier studies of the same patient to fetch too, the newest first.
        timeout_s: Longest silence of the archive, in seconds.

    Raises:
        QueryError: There is no such study, or the archive does not answer.
    """
    if not accession_number.strip() or set(accession_number) & set("*?\\"):
        raise QueryError(f"{accession_number!r} is not an accession number", is_permanent=True)
    caller = _Caller(peer, ae_title, timeout_s)
    asked = {"AccessionNumber": accession_number, "StudyDate": "", "StudyDescription": "", "PatientID": ""}
    studies = [
        study
        for study in caller.find("STUDY", StudyInstanceUID="", **asked)
        # An archive that does not match by accession number answers with everything: that is not what was asked for.
        if str(study.get("AccessionNumber") or "").strip() == accession_number.strip()
    ]
    if not studies:
        raise QueryError(f"{peer} has no study with accession number {accession_number!r}", is_permanent=True)
    fetched = [_fetch_study(db, caller, study, is_prior=False) for study in studies]
    for study in _priors(caller, studies, priors):
        fetched.append(_fetch_study(db, caller, study, is_prior=True))
    return fetched


def _priors(caller: _Caller, studies: Sequence[Dataset], count: int) -> list[Dataset]:
    """Return earlier studies of the same patient, the newest first."""
    patient_id, date = _text(studies[0], "PatientID"), _text(studies[0], "StudyDate")
    if not count:
        return []
    if not patient_id or not date:
        raise QueryError(
            "the study has no Patient ID or no date at the archive: no priors can be told", is_permanent=True
        )
    known = {_text(study, "StudyInstanceUID") for study in studies}
    found = caller.find("STUDY", StudyInstanceUID="", PatientID=patient_id, StudyDate=f"-{date}", StudyDescription="")
    earlier = [
        study
        for study in found
        if _text(study, "PatientID") == patient_id
        and "" < _text(study, "StudyDate") <= date
        and _text(study, "StudyInstanceUID") not in known
    ]
    return sorted(earlier, key=lambda study: _text(study, "StudyDate"), reverse=True)[:count]


def _fetch_study(db: Database, caller: _Caller, study: Dataset, *, is_prior: bool) -> FetchedStudy:
    uid = _text(study, "StudyInstanceUID")
    with db.reading() as session:
        here, ours = _here(session, uid)
    at_archive = found_here = sent = failed = 0
    for series in caller.find("SERIES", StudyInstanceUID=uid, SeriesInstanceUID=""):
        series_uid = _text(series, "SeriesInstanceUID")
        there = [instance for instance in _instances(caller, uid, series_uid) if instance not in ours]
        missing = [instance for instance in there if instance not in here]
        at_archive, found_here = at_archive + len(there), found_here + len(there) - len(missing)
        for moved in _move(caller, uid, series_uid, missing, is_whole=len(missing) == len(there)):
            sent, failed = sent + moved.completed + moved.warning, failed + moved.failed
    return FetchedStudy(
        study_instance_uid=uid,
        study_date=_text(study, "StudyDate"),
        description=_text(study, "StudyDescription"),
        is_prior=is_prior,
        at_archive=at_archive,
        here=found_here,
        sent=sent,
        failed=failed,
    )


def _here(session: Session, study_instance_uid: str) -> tuple[Collection[str], Collection[str]]:
    """Return the SOP Instance UIDs of a study that are stored here, and those that we wrote."""
    of_study = select(Instance.sop_instance_uid).join(Instance.series).join(Series.study)
    stored = of_study.where(Study.study_instance_uid == study_instance_uid, Instance.state != InstanceState.MISSING)
    written = select(Result.sop_instance_uid).join(Result.job)
    written = written.join(Study).where(Study.study_instance_uid == study_instance_uid)
    return set(session.scalars(stored)), set(session.scalars(written))


def _instances(caller: _Caller, study_uid: str, series_uid: str) -> list[str]:
    found = caller.find("IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID="")
    return [_text(instance, "SOPInstanceUID") for instance in found]


def _move(
    caller: _Caller, study_uid: str, series_uid: str, missing: Sequence[str], *, is_whole: bool
) -> list[Retrieval]:
    if not missing:
        return []
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    if is_whole:
        return [caller.move("SERIES", **keys)]
    parts = (missing[start : start + UIDS_AT_ONCE] for start in range(0, len(missing), UIDS_AT_ONCE))
    return [caller.move("IMAGE", **keys, SOPInstanceUID="\\".join(part)) for part in parts]


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "").strip()
