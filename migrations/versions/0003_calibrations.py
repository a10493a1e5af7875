"""Calibrations: what reviewed cases taught about an adapter's probabilities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; nothing is calibrated until somebody fits one."""
    op.create_table(
        "calibrations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter", sa.String(length=64), nullable=False),
        sa.Column("question_key", sa.String(length=64), nullable=False),
        sa.Column("site", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("confidence_method", sa.Text(), nullable=False),
        sa.Column("base_digest", sa.String(length=128), nullable=False),
        sa.Column("adapter_digest", sa.String(length=128), nullable=False),
        sa.Column("dtype", sa.String(length=32), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("right_cases", sa.Integer(), nullable=False),
        sa.Column("fitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("adapter", "question_key", "site", "version", name="uq_calibrations_version"),
    )


def downgrade() -> None:
    """Forget all calibrations."""
    op.drop_table("calibrations")
