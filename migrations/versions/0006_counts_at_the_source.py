"""How many instances a series has where it came from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column; no source has been asked yet."""
    op.add_column("series", sa.Column("at_source", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Forget the counts."""
    with op.batch_alter_table("series") as series:
        series.drop_column("at_source")
