"""Objects that are fetched by C-GET -> the node's store and ledger, as if they had been sent to it.

Input: C-STOREs on an association of our own. Output: durable files and rows; when the association is over its record,
from which assembly tells whether series are whole. On failure the archive is answered what the node would answer, and
`SpoolError` is raised where the store cannot be opened.
"""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from dicom_node.dimse import Operation, Request, Service
from dicom_node.scp import AssociationRecord
from dicom_node.spool import Spool
from dicom_node.storage_service import StoreService
from worker.audit.movements import of_associations
from worker.audit.trail import AuditTrail
from worker.db.sessions import Database
from worker.ingest import IngestWriter
from worker.settings import Settings

_FOLDER: Final = "incoming-get"


class _Fetched:
    """A storage service that remembers the associations it served."""

    def __init__(self, spool: Spool, writer: IngestWriter) -> None:
        self._stored: Counter[str] = Counter()
        self._service = StoreService(spool, writer.record, lambda association_id: self._stored.update([association_id]))
        self._opened = datetime.now(UTC)
        self._requests: dict[str, Request] = {}

    def start(self, request: Request) -> Operation:
        self._requests[request.association_id] = request
        return self._service.start(request)

    def records(self, *, released: bool) -> Iterator[AssociationRecord]:
        for association_id, request in self._requests.items():
            yield AssociationRecord(
                association_id=association_id,
                calling_ae_title=request.calling_ae_title,
                called_ae_title=request.called_ae_title,
                peer_address=request.peer_address,
                opened_at=self._opened,
                closed_at=datetime.now(UTC),
                released=released,
                instances=self._stored[association_id],
            )


@contextmanager
def reception(db: Database, settings: Settings) -> Iterator[Service]:
    """Yield what takes the objects. Raises `SpoolError`.

    The dispatcher sees by the clocks of the series that something has come.
    """
    spool = Spool(settings.data_dir / "spool", _FOLDER, keep_free_bytes=settings.disk.keep_free_bytes)
    released = False
    with (spool.root / "get.lock").open("w") as lock:
        try:
            # Alone, whatever lies in the folder is what a killed process left.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spool.sweep()
        except BlockingIOError:
            pass  # another process is fetching too
        fcntl.flock(lock, fcntl.LOCK_SH)
        audit = of_associations(AuditTrail(settings), db)
        writer = IngestWriter(db, settings.dicom.stable_after_s, lambda _series_id: None, audit)
        fetched = _Fetched(spool, writer)
        try:
            yield fetched
            released = True
        finally:
            for record in fetched.records(released=released):
                writer.association_ended(record)
            writer.close()
