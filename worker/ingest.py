"""Received instance -> rows, one transaction; C-STORE answers success only after it.

Input: `ReceivedInstance`s whose files are durable. Output: study, series and instance rows, and a doorbell ring.
One writer thread takes what all associations have waiting and commits it together, so that many senders share one disk
flush. When a commit fails, every sender in it gets a failure status and keeps its images; their files, if any, are
adopted at the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from queue import Empty, SimpleQueue

import structlog
from sqlalchemy.exc import OperationalError

from dicom_node import status
from dicom_node.scp import AssociationRecord, ReceivedInstance
from worker.db.arrivals import Arrival, commit_arrivals
from worker.db.sessions import Database

log = structlog.get_logger()

#: Instances in one transaction.
BATCH = 256


@dataclass(slots=True)
class _Waiting:
    """What an association thread waits for: an arrival, or the end of its association."""

    work: Arrival | AssociationRecord
    done: Future[int] = field(default_factory=Future)


class IngestWriter:
    """The one thread that writes received instances to the database."""

    def __init__(
        self,
        db: Database,
        stable_after_s: float,
        ring_assemble: Callable[[int], None],
        audit: Callable[[AssociationRecord], None] | None = None,
    ) -> None:
        """Start the writer thread.

        `ring_assemble(series_id)` is called after each commit that assembly should see, `audit(association)` when an
        association that brought something has ended.
        """
        self._audit = audit
        self._db = db
        self._stable_after = timedelta(seconds=stable_after_s)
        self._ring_assemble = ring_assemble
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ingest", daemon=True)
        self._thread.start()

    def record(self, received: ReceivedInstance) -> int:
        """Block until the instance's row is committed; return the DIMSE status to answer."""
        return self._wait(
            Arrival(
                stored=received.stored,
                header=received.header,
                received_at=received.received_at,
                association_id=received.association_id,
                calling_ae_title=received.calling_ae_title,
                called_ae_title=received.called_ae_title,
            )
        )

    def association_ended(self, ended: AssociationRecord) -> None:
        """Record how an association ended: a release is a sign that its series are whole."""
        if ended.instances:
            self._wait(ended)
            if self._audit is not None:
                self._audit(ended)

    def close(self) -> None:
        """Write what waits, and stop."""
        self._queue.put(None)
        self._thread.join()

    def _wait(self, work: Arrival | AssociationRecord) -> int:
        waiting = _Waiting(work)
        self._queue.put(waiting)
        return waiting.done.result()

    def _write_all(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._take_batch()
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Waiting]) -> None:
        """Write a batch in one transaction and answer all who wait for it."""
        try:
            to_assemble = commit_arrivals(self._db, [w.work for w in batch], self._stable_after)
        except Exception as error:  # noqa: BLE001 - whatever the database's reason, senders must get a failure status
            if len(batch) > 1 and not isinstance(error, OperationalError):
                # The database is there but refuses a value: one bad instance must not fail those beside it.
                for waiting in batch:
                    self._commit([waiting])
                return
            log.error("received instances cannot be recorded", action="ingest", count=len(batch), error=str(error))
            answer = status.OUT_OF_RESOURCES if isinstance(error, OperationalError) else status.CANNOT_UNDERSTAND
            for waiting in batch:
                waiting.done.set_result(answer)
            return
        for waiting in batch:
            waiting.done.set_result(status.SUCCESS)
        for series_id in to_assemble:
            self._ring_assemble(series_id)

    def _take_batch(self) -> tuple[list[_Waiting], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < BATCH:
            try:
                following = self._queue.get_nowait()
            except Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False
