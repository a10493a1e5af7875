"""A change and the audit message of it are one transaction: none is ever in the ledger without the other.

Input: a transaction that changes something, and the event. Output: the finished line as a row of the same transaction;
once that is committed the line is written to the audit file, before anybody is answered, and the row removed. A line
that could not be written (the process died, the disk is full or hangs) is written late, from its row, by a thread of
every daemon (`LateWriter`). One that was written and whose row could not be removed is written twice, the same byte for
byte, with the same identifier in it. Nothing but the database can make a change fail
here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from worker.audit import events
from worker.audit.events import Actor, StudySeen
from worker.audit.message import AuditEvent
from worker.audit.trail import AuditTrail
from worker.db.columns import utc_now
from worker.db.owed_messages import OwedMessage
from worker.db.records import Job
from worker.db.sessions import Database

log = structlog.get_logger()

#: Time in which whoever made a change writes its line; then it is late.
LATE_AFTER: Final = timedelta(seconds=10)
_LOOK_EVERY_S: Final = 5.0
#: Lines that one look writes at once.
_AT_ONCE: Final = 100
#: Longest wait for a line that is being written when its process ends.
_STOPPED_WITHIN_S: Final = 1.0
#: Where a session keeps what is owed for its transaction.
_OWED: Final = "owed audit messages"


@dataclass(frozen=True, slots=True)
class Witness:
    """Tells of one person's decisions."""

    trail: AuditTrail
    who: Actor

    def decided(self, session: Session, job: Job, decision: str, shown: Mapping[str, str]) -> None:
        """Tell, with the transaction, that the person decided about an answer (`events.decided`)."""
        seen = StudySeen(job.study.study_instance_uid, job.study.patient_id, job.study.accession_number)
        owe(session, self.trail, events.decided(self.trail.system, self.who, seen, job.id, decision, shown))


def owe(session: Session, trail: AuditTrail, event: AuditEvent) -> None:
    """Keep the message of a change with it, in a transaction of `telling`."""
    row = OwedMessage(line=trail.line_of(event), due_at=utc_now() + LATE_AFTER)
    session.add(row)
    session.info.setdefault(_OWED, []).append((trail, row))


@contextmanager
def telling(db: Database) -> Iterator[Session]:
    """Yield a session as `Database.writing` does; what is owed is written as soon as it is committed."""
    with db.writing() as session:
        yield session
    for trail, row in session.info.pop(_OWED, ()):
        if trail.write_owed([row.line]):
            _forget(db, [row.id])


def write_late(db: Database, trail: AuditTrail, now: datetime | None = None) -> int:
    """Write what is owed for too long, of whatever process or machine.

    Args:
        db: The ledger.
        trail: The audit files of this machine.
        now: The time; None for the present.

    Returns:
        How many lines were written.

    Raises:
        SQLAlchemyError: The database cannot be reached.
    """
    now = now or utc_now()
    late = select(OwedMessage).where(OwedMessage.due_at <= now).order_by(OwedMessage.id).limit(_AT_ONCE)
    with db.reading() as session:
        if session.scalar(late.with_only_columns(OwedMessage.id).limit(1)) is None:
            return 0
    with db.writing() as session:
        # Another daemon leaves alone what this one has put off, unless this one dies.
        rows = session.scalars(late.with_for_update(skip_locked=True)).all()
        for row in rows:
            row.due_at = now + LATE_AFTER
    if not rows or not trail.write_owed([row.line for row in rows]):
        return 0
    _forget(db, [row.id for row in rows])
    log.warning("audit messages are written late", action="audit", messages=len(rows))
    return len(rows)


def owed_since(session: Session) -> datetime | None:
    """Return when the oldest of the changes was made whose message is still owed; None where none is."""
    line = session.scalar(select(OwedMessage.line).order_by(OwedMessage.id).limit(1))
    return None if line is None else datetime.fromisoformat(line.split(" ")[1])  # RFC 5424 6.2.3


def _forget(db: Database, ids: Sequence[int]) -> None:
    try:
        with db.writing() as session:
            session.execute(delete(OwedMessage).where(OwedMessage.id.in_(ids)))
    except SQLAlchemyError as error:
        log.warning(
            "audit messages are written, and will be once more: the database does not take that they are",
            action="audit",
            messages=len(ids),
            reason=str(error).splitlines()[0],
        )


class LateWriter:
    """Writes what is owed for too long, again and again, in a thread of its own: a disk that hangs stops only this."""

    def __init__(self, db: Database, trail: AuditTrail) -> None:
        """Begin."""
        self._db, self._trail = db, trail
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="late audit messages", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; a line that is being written is not waited for long."""
        self._stop.set()
        self._thread.join(_STOPPED_WITHIN_S)

    def _run(self) -> None:
        is_away = False
        while not self._stop.is_set():
            try:
                while write_late(self._db, self._trail) == _AT_ONCE and not self._stop.is_set():
                    pass
                is_away = False
            except (SQLAlchemyError, OSError) as error:
                if not is_away:
                    log.error(
                        "it cannot be seen which audit messages are owed",
                        action="audit",
                        reason=str(error).splitlines()[0],
                    )
                is_away = True
            self._stop.wait(_LOOK_EVERY_S)
