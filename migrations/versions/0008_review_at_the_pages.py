"""Who has which case open, what a decision was taken on, and what the work list is sorted by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WAITING = (
    "state",
    "priority",
    "waiting_since",
    "id",
    "adapter",
    "probability",
    "second_reader",
    "series_id",
    "study_id",
)


def upgrade() -> None:
    """Add columns and tables; what waits has waited since it was answered."""
    _extend_rows()
    number = "json_extract(confidence, '$.probability')"
    if op.get_bind().dialect.name == "postgresql":
        number = "CAST(confidence ->> 'probability' AS double precision)"
    op.execute("UPDATE jobs SET waiting_since = coalesce(answered_at, created_at)")
    op.execute(f"UPDATE jobs SET probability = {number} WHERE confidence IS NOT NULL")  # noqa: S608 - our own words
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("waiting_since", existing_type=sa.DateTime(timezone=True), nullable=False)
        jobs.create_index("ix_jobs_waiting", list(WAITING))
    op.create_table(
        "case_claims",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("reviewer_name", sa.String(256), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("ix_case_claims_expires_at", "case_claims", ["expires_at"])
    op.create_table(
        "work_list_views",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("filters", sa.JSON(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_work_list_views_account", "work_list_views", ["account"])


def _extend_rows() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True))
        jobs.add_column(sa.Column("probability", sa.Double(), nullable=True))
        jobs.add_column(sa.Column("second_reader", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("reviews") as reviews:
        reviews.add_column(sa.Column("account", sa.String(64), nullable=False, server_default=""))
        reviews.add_column(sa.Column("seen", sa.String(64), nullable=False, server_default=""))
        reviews.add_column(sa.Column("from_state", sa.String(32), nullable=False, server_default=""))
        reviews.add_column(sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("studies") as studies:
        studies.add_column(sa.Column("issuer_of_patient_id", sa.String(64), nullable=False, server_default=""))
        studies.add_column(sa.Column("patient_birth_date", sa.String(16), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget who has what open, saved work lists, and what decisions were taken on."""
    op.drop_table("work_list_views")
    op.drop_table("case_claims")
    with op.batch_alter_table("studies") as studies:
        studies.drop_column("patient_birth_date")
        studies.drop_column("issuer_of_patient_id")
    with op.batch_alter_table("reviews") as reviews:
        for name in ("undone_at", "from_state", "seen", "account"):
            reviews.drop_column(name)
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("ix_jobs_waiting")
        for name in ("second_reader", "probability", "waiting_since"):
            jobs.drop_column(name)
