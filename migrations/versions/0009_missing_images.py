"""How often the source of a series was asked for its missing images, and when it may be asked again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the columns; nothing was fetched by itself so far."""
    op.add_column("series", sa.Column("fetch_tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("series", sa.Column("fetch_after", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Forget the tries."""
    with op.batch_alter_table("series") as series:
        series.drop_column("fetch_after")
        series.drop_column("fetch_tries")
