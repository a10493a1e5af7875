"""What lists look up: the words that studies are found by, and each job's modality."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from worker.db.study_terms import terms_of

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STUDIES_AT_ONCE = 1000
WAITING = ("state", "priority", "waiting_since", "id", "adapter", "probability", "second_reader")


def upgrade() -> None:
    """Make the column and the table, and fill them from what is there."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("modality", sa.String(16), nullable=False, server_default=""))
    op.execute("UPDATE jobs SET modality = (SELECT series.modality FROM series WHERE series.id = jobs.series_id)")
    op.drop_index("ix_jobs_waiting", "jobs")
    op.create_index("ix_jobs_waiting", "jobs", [*WAITING, "modality", "study_id"])
    term = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    terms = op.create_table(
        "study_terms",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("term", term, nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"]),
        sa.PrimaryKeyConstraint("study_id", "term"),
        sqlite_with_rowid=False,
    )
    _fill(terms)
    op.create_index("ix_study_terms_term", "study_terms", ["term", "study_id"])


def _fill(terms: sa.Table) -> None:
    """Write the words of every study that is there."""
    names = ("accession_number", "patient_id", "patient_name", "study_description")
    studies = sa.table("studies", *(sa.column(name) for name in ("id", *names)))
    wanted = sa.select(studies).order_by(studies.c.id).limit(STUDIES_AT_ONCE)
    connection, last = op.get_bind(), 0
    while rows := connection.execute(wanted.where(studies.c.id > last)).all():
        found = [{"study_id": study_id, "term": term} for study_id, *texts in rows for term in terms_of(*texts)]
        if found:
            connection.execute(sa.insert(terms), found)
        last = rows[-1].id


def downgrade() -> None:
    """Forget them."""
    op.drop_table("study_terms")
    op.drop_index("ix_jobs_waiting", "jobs")
    op.create_index("ix_jobs_waiting", "jobs", [*WAITING, "series_id", "study_id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("modality")
