"""What a decision was taken on, what it began and stopped, and whose name it has, compared as people compare names."""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NAMED = ("reviews", "case_claims")


def upgrade() -> None:
    """Add the columns; of earlier decisions nobody knows what was on the screen."""
    with op.batch_alter_table("reviews") as reviews:
        reviews.add_column(sa.Column("shown", sa.JSON(), nullable=True))
        reviews.add_column(sa.Column("started", sa.JSON(), nullable=True))
        reviews.add_column(sa.Column("name_key", sa.String(256), nullable=False, server_default=""))
    with op.batch_alter_table("case_claims") as claims:
        claims.add_column(sa.Column("name_key", sa.String(256), nullable=False, server_default=""))
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.add_column(sa.Column("stopped_by_decision", sa.Boolean(), nullable=False, server_default=sa.false()))
    connection = op.get_bind()
    for table in NAMED:
        rows = sa.table(table, sa.column("reviewer_name"), sa.column("name_key"))
        for name in connection.scalars(sa.select(rows.c.reviewer_name).distinct()).all():
            op.execute(rows.update().where(rows.c.reviewer_name == name).values(name_key=_key(name)))


def _key(name: str) -> str:
    """Return a person name without its case, its spaces and its empty components, as of this revision."""
    parts = unicodedata.normalize("NFKC", name).casefold().split("^")
    return "^".join(" ".join(part.split()) for part in parts).strip("^")[:256]


def downgrade() -> None:
    """Forget all of it."""
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_column("stopped_by_decision")
    with op.batch_alter_table("case_claims") as claims:
        claims.drop_column("name_key")
    with op.batch_alter_table("reviews") as reviews:
        for name in ("name_key", "started", "shown"):
            reviews.drop_column(name)
