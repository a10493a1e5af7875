"""What the pages of operations count and sort by, and what each process last said of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make columns, indexes and the table; answers that are there are measured from what was kept of them."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("answer_s", sa.Double(), nullable=True))
        jobs.add_column(sa.Column("parsed", sa.Boolean(), nullable=True))
    seconds, findings = "json_extract(generation, '$.elapsed_s')", "coalesce(json_type(findings), 'null')"
    answered = "json_type(generation) = 'object'"
    if op.get_bind().dialect.name == "postgresql":
        seconds, findings = "CAST(generation ->> 'elapsed_s' AS double precision)", "json_typeof(findings)"
        findings, answered = f"coalesce({findings}, 'null')", "json_typeof(generation) = 'object'"
    op.execute(f"UPDATE jobs SET answer_s = {seconds} WHERE {answered}")  # noqa: S608 - our own words
    op.execute(f"UPDATE jobs SET parsed = ({findings} <> 'null') WHERE {answered} AND decision IS NOT NULL")  # noqa: S608
    with op.batch_alter_table("jobs") as jobs:
        jobs.create_index("ix_jobs_answered", ["adapter", "answered_at", "answer_s", "parsed"])
        jobs.create_index("ix_jobs_failed", ["state", "parsed", "waiting_since"])
    op.create_index("ix_series_state", "series", ["state", "last_instance_at"])
    op.create_index("ix_deliveries_counted", "deliveries", ["state", "destination", "delivered_at", "id"])
    op.create_index("ix_deliveries_listed", "deliveries", ["state", "id"])
    op.create_index("ix_reviews_decided", "reviews", ["decided_at", "action", "undone_at", "job_id"])
    op.create_index("ix_events_at", "events", ["subject", "to_state", "at"])
    op.create_table(
        "process_reports",
        sa.Column("place", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("place", "subject"),
    )


def downgrade() -> None:
    """Forget how long answers took and whether they could be read."""
    op.drop_table("process_reports")
    op.drop_index("ix_events_at", "events")
    op.drop_index("ix_reviews_decided", "reviews")
    op.drop_index("ix_deliveries_listed", "deliveries")
    op.drop_index("ix_deliveries_counted", "deliveries")
    op.drop_index("ix_series_state", "series")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("ix_jobs_failed")
        jobs.drop_index("ix_jobs_answered")
        jobs.drop_column("parsed")
        jobs.drop_column("answer_s")
