"""What each process of the daemon last said of itself: that it runs, what it holds in memory, whom it can reach.

Input: facts, as a JSON-ready dictionary, from the process that knows them. Output: a row for each process and machine,
overwritten each time: nothing is kept of what was. Nothing depends on these rows; they are there to be shown. A report
that cannot be written is dropped, since the next one follows soon.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import String, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from worker.db.columns import Record, utc_now
from worker.db.sessions import Database

log = structlog.get_logger()

#: Seconds between two reports.
REPORT_EVERY_S = 5.0
#: A process that was silent this long is believed to be gone.
SILENT_AFTER_S = 20.0
#: Longest wait for a report that is being written when its process ends.
STOPPED_WITHIN_S = 1.0
#: Machines that left are forgotten after this time.
FORGOTTEN_AFTER = timedelta(days=7)


class ProcessReport(Record):
    """The last word of one process on one machine."""

    __tablename__ = "process_reports"
    #: Host name.
    place: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: "supervisor", "engine" or "broker": what the facts are about.
    subject: Mapped[str] = mapped_column(String(32), primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    pid: Mapped[int]
    facts: Mapped[dict[str, Any]]

    @property
    def is_fresh(self) -> bool:
        """Whether the process is believed to be there still."""
        return (utc_now() - self.at).total_seconds() < SILENT_AFTER_S


def report(db: Database, subject: str, facts: dict[str, Any]) -> bool:
    """Write down what a process says of itself; return whether that could be done."""
    row = {"place": socket.gethostname(), "subject": subject}
    try:
        with db.writing() as session:
            session.merge(ProcessReport(**row, at=utc_now(), pid=os.getpid(), facts=facts))
            session.execute(delete(ProcessReport).where(ProcessReport.at < utc_now() - FORGOTTEN_AFTER))
    except (SQLAlchemyError, OSError) as error:
        log.debug("report could not be written", action="report", subject=subject, error=str(error).splitlines()[0])
        return False
    return True


def reports(session: Session) -> list[ProcessReport]:
    """Return the last word of every process, by place and subject."""
    return list(session.scalars(select(ProcessReport).order_by(ProcessReport.place, ProcessReport.subject)))


class Reporter:
    """Reports again and again from a thread of its own, so that a long answer or a full disk silences nobody."""

    def __init__(self, db: Database, subject: str, facts: Callable[[], dict[str, Any]]) -> None:
        """Begin; `facts` is called in the thread."""
        self._db, self._subject, self._facts = db, subject, facts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"report {subject}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; a report that is being written is not waited for long."""
        self._stop.set()
        self._thread.join(STOPPED_WITHIN_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                report(self._db, self._subject, self._facts())
            except Exception as error:  # noqa: BLE001 - what is only shown must not end the process that it is about
                log.debug("nothing to report", action="report", subject=self._subject, error=str(error))
            self._stop.wait(REPORT_EVERY_S)
