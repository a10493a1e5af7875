"""Audit messages that are still owed to the audit files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; what was decided before was told when it was, or not at all."""
    op.create_table(
        "owed_messages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_owed_messages_due_at", "owed_messages", ["due_at"])


def downgrade() -> None:
    """Forget what is still owed."""
    op.drop_index("ix_owed_messages_due_at", "owed_messages")
    op.drop_table("owed_messages")
