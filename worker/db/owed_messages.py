"""Audit messages that are owed to the audit files: written with the change they tell of, gone when their line is there.

Input and output as in `worker.audit.owed`, which writes and removes the rows. A row holds the finished line, so that
whoever writes it late writes what would have been written at once.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.columns import Record


class OwedMessage(Record):
    """One audit message of a change that is committed."""

    __tablename__ = "owed_messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    #: A line of an audit file, without its line break (`worker.audit.trail.syslog_line`).
    line: Mapped[str] = mapped_column(Text)
    #: From then on it is written late: whoever made the change has had time enough to write it.
    due_at: Mapped[datetime] = mapped_column(index=True)
