"""What destinations do not take, and which results belong to one answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make table and column; of results that were written before, nothing is known."""
    op.create_table(
        "refusals",
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("destination", "sop_class_uid"),
    )
    op.add_column("results", sa.Column("report_uid", sa.String(64), nullable=True))
    op.create_index("ix_results_report_uid", "results", ["report_uid"])


def downgrade() -> None:
    """Forget both."""
    op.drop_index("ix_results_report_uid", "results")
    with op.batch_alter_table("results") as results:
        results.drop_column("report_uid")
    op.drop_table("refusals")
