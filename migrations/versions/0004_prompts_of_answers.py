"""What was asked is kept with each answer: a calibration holds for the prompt it was fitted on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the digests; of what was answered and fitted before, the prompt is not known."""
    for table in ("jobs", "calibrations"):
        op.add_column(table, sa.Column("prompt_digest", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget the digests."""
    for table in ("jobs", "calibrations"):
        with op.batch_alter_table(table) as changed:
            changed.drop_column("prompt_digest")
