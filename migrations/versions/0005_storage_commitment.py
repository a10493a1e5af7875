"""Storage commitment, both ways: what destinations vouch for, and what senders ask this node to keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and columns; of what was delivered before, nobody is asked."""
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("transaction_uid"),
    )
    op.create_table(
        "commitment_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("committed", sa.JSON(), nullable=False),
        sa.Column("failed", sa.JSON(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("transaction_uid", "calling_ae_title", name="uq_commitment_requests"),
    )
    op.create_index("ix_commitment_requests_not_before", "commitment_requests", ["not_before"])
    op.add_column("deliveries", sa.Column("confirm_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("deliveries", sa.Column("asks", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("denials", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("transaction_uid", sa.String(64), nullable=True))
    op.create_index("ix_deliveries_confirm_at", "deliveries", ["confirm_at"])
    op.add_column("instances", sa.Column("commitment_uid", sa.String(64), nullable=True))


def downgrade() -> None:
    """Forget what was asked and vouched for."""
    with op.batch_alter_table("instances") as instances:
        instances.drop_column("commitment_uid")
    op.drop_index("ix_deliveries_confirm_at", "deliveries")
    with op.batch_alter_table("deliveries") as deliveries:
        for name in ("transaction_uid", "denials", "asks", "confirm_at"):
            deliveries.drop_column(name)
    op.drop_table("commitment_requests")
    op.drop_table("commitments")
