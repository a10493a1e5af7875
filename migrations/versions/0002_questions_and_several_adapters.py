"""Several questions and adapters about one series."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a job's question, and room for several adapters' names in a series' route."""
    with op.batch_alter_table("series") as series:
        series.alter_column("route_adapter", type_=sa.String(256), existing_type=sa.String(64), existing_nullable=True)
    # SQLite keeps no name of a unique constraint: the convention gives it one by which it can be dropped.
    with op.batch_alter_table("jobs", naming_convention={"uq": "%(table_name)s_%(column_0_N_name)s_key"}) as jobs:
        jobs.add_column(sa.Column("question", sa.JSON(), nullable=True))
        jobs.add_column(sa.Column("question_key", sa.String(64), nullable=False, server_default=""))
        jobs.drop_constraint("jobs_adapter_unit_uid_revision_key", type_="unique")
        jobs.create_unique_constraint("uq_jobs_unit", ["adapter", "question_key", "unit_uid", "revision"])


def downgrade() -> None:
    """Forget the questions; impossible where one unit was asked several."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_constraint("uq_jobs_unit", type_="unique")
        jobs.create_unique_constraint("jobs_adapter_unit_uid_revision_key", ["adapter", "unit_uid", "revision"])
        jobs.drop_column("question_key")
        jobs.drop_column("question")
    with op.batch_alter_table("series") as series:
        series.alter_column("route_adapter", type_=sa.String(64), existing_type=sa.String(256), existing_nullable=True)
