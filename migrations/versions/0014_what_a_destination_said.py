"""What a destination said when it refused a kind of object."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what was learned before, nothing is known."""
    op.add_column("refusals", sa.Column("said", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("refusals") as refusals:
        refusals.drop_column("said")
