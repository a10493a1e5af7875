"""What a destination does not take: SOP classes that it refused, remembered for a while.

Input: what an association or a probe showed. Output: rows, and the classes that are not tried now. Two senders that
learn the same at once leave one row.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import String, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from worker.db.columns import Record, utc_now


class Refusal(Record):
    """A SOP class that a destination does not take."""

    __tablename__ = "refusals"
    destination: Mapped[str] = mapped_column(String(64), primary_key=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    learned_at: Mapped[datetime] = mapped_column(default=utc_now)


def refused_classes(session: Session, destination: str, kept_s: float) -> frozenset[str]:
    """Return the SOP classes that the destination refused within the last `kept_s` seconds."""
    since = utc_now() - timedelta(seconds=kept_s)
    known = select(Refusal.sop_class_uid).where(Refusal.destination == destination, Refusal.learned_at >= since)
    return frozenset(session.scalars(known))


def learn(session: Session, destination: str, sop_class_uids: Collection[str]) -> None:
    """Remember that a destination does not take these classes, from now on."""
    for sop_class_uid in sop_class_uids:
        forget(session, destination, sop_class_uid)
        try:
            with session.begin_nested():
                session.add(Refusal(destination=destination, sop_class_uid=sop_class_uid))
        except IntegrityError:
            continue  # another sender learned it this moment


def forget(session: Session, destination: str, sop_class_uid: str | None = None) -> None:
    """Let a class, or all of them, be tried again."""
    gone = delete(Refusal).where(Refusal.destination == destination)
    if sop_class_uid is not None:
        gone = gone.where(Refusal.sop_class_uid == sop_class_uid)
    session.execute(gone, execution_options={"synchronize_session": False})
