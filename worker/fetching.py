"""An archive that is asked for images: what it has (C-FIND), and to send it to this node (C-MOVE, C-GET).

Input: an archive, and how it is to be asked. Output: matches; images on their way, or already here. C-MOVE needs an
archive that knows this node's address; where it does not offer that, or not to us, the images come by C-GET on our own
association into the same store. On failure `QueryError` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.dimse import Service
from dicom_node.peer import Peer
from dicom_node.query import IMAGES_OF_SERIES, Keys, QueryError, Retrieval, find, get, move, retrieval_contexts
from models.adapter import adapters
from worker.db.records import Instance, Result, Series, Study
from worker.delivery_settings import Way
from worker.states import InstanceState

#: UIDs in one request: a list of more makes an identifier that some archives cannot take.
UIDS_AT_ONCE = 100
#: Opens a place where objects of a C-GET go: the node's own store and ledger.
Receive = Callable[[], AbstractContextManager[Service]]


@dataclass(slots=True)
class ImageArchive:
    """An archive, and how it is asked."""

    peer: Peer
    #: Ours.
    ae_title: str
    #: Longest silence of the archive when it is searched, in seconds.
    timeout_s: float
    receive: Receive
    way: Way = "auto"
    #: SOP class of each image that it told of.
    _classes: dict[str, str] = field(default_factory=dict)

    def find(self, keys: Keys, *values: str) -> list[Dataset]:
        """Return what matches. Raises `QueryError`."""
        return find(
            self.peer,
            keys.level,
            keys.identifier(*values),
            calling_ae_title=self.ae_title,
            connect_timeout_s=self.timeout_s,
            timeout_s=self.timeout_s,
        )

    def images(self, study_uid: str, series_uid: str) -> list[str]:
        """Return the SOP Instance UIDs of a series. Raises `QueryError`."""
        found = self.find(IMAGES_OF_SERIES, study_uid, series_uid)
        self._classes |= {text_of(image, "SOPInstanceUID"): text_of(image, "SOPClassUID") for image in found}
        return list(dict.fromkeys(text_of(image, "SOPInstanceUID") for image in found))

    def send(self, study_uid: str, series_uid: str, wanted: Iterable[str], *, is_whole: bool) -> Retrieval:
        """Have images of a series sent, or the whole series; wait until they are. Raises `QueryError`."""
        uids, done = list(wanted), Retrieval()
        series = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        parts = [uids[start : start + UIDS_AT_ONCE] for start in range(0, len(uids), UIDS_AT_ONCE)]
        questions = [("IMAGE", series | {"SOPInstanceUID": "\\".join(part)}) for part in parts]
        for level, keys in [("SERIES", series)] if uids and is_whole else questions:
            one = self._bring(level, keys, {self._classes.get(uid, "") for uid in uids})
            done = Retrieval(done.completed + one.completed, done.failed + one.failed, done.warning + one.warning)
        return done

    def _bring(self, level: str, keys: dict[str, str], classes: set[str]) -> Retrieval:
        refused: QueryError | None = None
        if self.way != "get":
            try:
                return move(self.peer, level, keys, to_ae_title=self.ae_title, calling_ae_title=self.ae_title)
            except QueryError as error:
                if self.way == "move" or not error.is_not_for_us:
                    raise
                refused = error
        try:
            done = self._get(level, keys, classes)
        except QueryError as error:
            if refused is not None and error.is_not_for_us:
                raise refused from error
            raise
        self.way = "get"
        return done

    def _get(self, level: str, keys: dict[str, str], classes: set[str]) -> Retrieval:
        """An archive need not tell SOP classes (PS3.4 C.6.1.1.5): then those that adapters take are likely."""
        if not all(classes):
            classes |= {uid for adapter in adapters().values() for uid in adapter.acceptance.sop_class_uids}
        contexts = retrieval_contexts(sorted(classes - {""}))
        with self.receive() as storage:
            return get(self.peer, level, keys, contexts=contexts, storage=storage, calling_ae_title=self.ae_title)


def images_here(session: Session, study_instance_uid: str) -> tuple[set[str], set[str]]:
    """Return the SOP Instance UIDs of a study that are stored here, and those that this software wrote."""
    of_study = select(Instance.sop_instance_uid).join(Instance.series).join(Series.study)
    stored = of_study.where(Study.study_instance_uid == study_instance_uid, Instance.state != InstanceState.MISSING)
    written = select(Result.sop_instance_uid).join(Result.job)
    written = written.join(Study).where(Study.study_instance_uid == study_instance_uid)
    return set(session.scalars(stored)), set(session.scalars(written))


def text_of(ds: Dataset, keyword: str) -> str:
    """Return a value of a match, "" where there is none."""
    return str(ds.get(keyword) or "").strip()
