"""What a destination does not take: SOP classes that it refused, remembered for a while.

Input: what an association or a probe showed. Output: rows, and the classes that are not tried now. Two senders that
learn the same at once leave one row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import String, Text, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from worker.db.columns import Record, utc_now


class Refusal(Record):
    """A SOP class that a destination does not take."""

    __tablename__ = "refusals"
    destination: Mapped[str] = mapped_column(String(64), primary_key=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    learned_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: What it said, or what was asked; empty of what was learned before this was kept.
    said: Mapped[str] = mapped_column(Text, default="", server_default="")


def refused_classes(session: Session, destination: str, kept_s: float) -> frozenset[str]:
    """Return the SOP classes that the destination refused within the last `kept_s` seconds."""
    return frozenset(row.sop_class_uid for row in refused_by(session, destination, kept_s))


def refused_by(session: Session, destination: str, kept_s: float) -> Sequence[Refusal]:
    """Return what the destination refused within the last `kept_s` seconds, the first learned first."""
    since = utc_now() - timedelta(seconds=kept_s)
    known = select(Refusal).where(Refusal.destination == destination, Refusal.learned_at >= since)
    return session.scalars(known.order_by(Refusal.learned_at, Refusal.sop_class_uid)).all()


def learn(session: Session, destination: str, sop_class_uids: Collection[str], said: str = "") -> None:
    """Remember that a destination does not take these classes, from now on, and what it said."""
    for sop_class_uid in sop_class_uids:
        forget(session, destination, sop_class_uid)
        try:
            with session.begin_nested():
                session.add(Refusal(destination=destination, sop_class_uid=sop_class_uid, said=said))
        except IntegrityError:
            continue  # another sender learned it this moment


def forget(session: Session, destination: str, sop_class_uid: str | None = None) -> int:
    """Let a class, or all of them, be tried again; return how many that were."""
    gone = delete(Refusal).where(Refusal.destination == destination)
    if sop_class_uid is not None:
        gone = gone.where(Refusal.sop_class_uid == sop_class_uid)
    forgotten = gone.returning(Refusal.sop_class_uid)
    return len(session.execute(forgotten, execution_options={"synchronize_session": False}).all())
