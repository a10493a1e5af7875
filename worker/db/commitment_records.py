"""The tables of storage commitment (PS3.4 J): what we asked of destinations, and what was asked of us."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.columns import Record, utc_now


class Commitment(Record):
    """A request of ours to a destination; written before it is sent, so that no answer finds it unknown."""

    __tablename__ = "commitments"
    transaction_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    destination: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[datetime] = mapped_column(default=utc_now)
    answered_at: Mapped[datetime | None]


class CommitmentRequest(Record):
    """A request of a sender to us, and our answer, until the sender has taken it."""

    __tablename__ = "commitment_requests"
    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64))
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    #: Pairs of SOP Class and SOP Instance UID that we vouch for.
    committed: Mapped[list[Any]]
    #: The same with the Failure Reason (PS3.3 C.14.1.1) of those that we do not.
    failed: Mapped[list[Any]]
    asked_at: Mapped[datetime] = mapped_column(default=utc_now)
    reported_at: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(default=0)
    #: When an association is opened to report; empty once it is reported, or cannot be.
    not_before: Mapped[datetime | None] = mapped_column(index=True)
    last_error: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (UniqueConstraint("transaction_uid", "calling_ae_title", name="uq_commitment_requests"),)
