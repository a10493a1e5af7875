"""An upgrade keeps what a hospital has, and ends at the schema that the code expects."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from models.generation import ModelProvenance
from worker.db.calibrations import active_calibration, calibrations, why_void
from worker.db.columns import Record
from worker.db.identity import name_key
from worker.db.records import Delivery, Job, Result, Review, Series, Study
from worker.db.schema import alembic_config, is_current, upgrade
from worker.db.sessions import Database

FIRST_SCHEMA = """
INSERT INTO studies (id, study_instance_uid, accession_number, patient_id, patient_name, study_date,
  study_description, first_received_at) VALUES (1, '1.2', 'A1', 'P', 'N', '', '', '2026-11-01 10:00:00');
INSERT INTO series (id, study_id, series_instance_uid, modality, state, revision, last_instance_at, route_adapter)
  VALUES (1, 1, '1.2.3', 'XA', 'routed', 1, '2026-11-01 10:00:00', 'dsa_patency');
INSERT INTO jobs (id, study_id, series_id, adapter, unit_uid, revision, state, priority, created_at, attempts,
  not_before, doubts) VALUES ('j1', 1, 1, 'dsa_patency', '1.2.3.4', 1, 'released', 0, '2026-11-01 10:00:00', 1,
  '2026-11-01 10:00:00', '[]');
INSERT INTO results (id, job_id, sop_instance_uid, sop_class_uid, kind, verified, digest, path, created_at)
  VALUES (1, 'j1', '1.2.9', '1.2.840', 'sr', FALSE, 'd', 'p', '2026-11-01 10:00:00');
INSERT INTO reviews (id, job_id, action, reviewer_name, reviewer_organization, comment, decided_at)
  VALUES (1, 'j1', 'opinion', 'MÜLLER ^ Ada', 'City', '', '2026-11-01 10:00:00');
INSERT INTO deliveries (id, result_id, destination, state, attempts, tries, not_before)
  VALUES (1, 1, 'pacs', 'delivered', 0, 1, '2026-11-01 10:00:00');
"""

FITTED = """
INSERT INTO calibrations (id, adapter, question_key, site, version, method, parameters, confidence_method, base_digest,
  adapter_digest, dtype, cases, right_cases, fitted_at, active) VALUES (1, 'dsa_patency', '', '', 1, 'temperature',
  '{"temperature": 2.0}', 'label likelihood', 'base', 'lora', 'bfloat16', 50, 40, '2026-11-01 10:00:00', TRUE);
"""


@pytest.fixture
def hospital(database_url: str) -> Database:
    """A database as the first release left it, with a study that was reported."""
    database = Database(database_url)
    command.upgrade(alembic_config(database), "0001")
    with database.engine.begin() as connection:
        for statement in filter(None, map(str.strip, FIRST_SCHEMA.split(";"))):
            connection.execute(text(statement))
    assert not is_current(database)
    return database


def test_an_upgrade_keeps_every_row(hospital: Database) -> None:
    upgrade(hospital)
    assert is_current(hospital)
    with hospital.reading() as session:
        assert session.scalars(select(Study.accession_number)).all() == ["A1"]
        assert session.scalars(select(Series.route_adapter)).all() == ["dsa_patency"]
        (job,) = session.scalars(select(Job)).all()
        assert (job.id, job.question, job.question_key) == ("j1", None, "")
        (result,) = session.scalars(select(Result)).all()
        assert (result.job_id, result.deliveries[0].destination) == ("j1", "pacs")
        assert session.scalars(select(Delivery.state)).one().value == "delivered"
        (review,) = session.scalars(select(Review)).all()
        assert (review.name_key, review.shown, review.started) == ("müller^ada", None, None)
        assert review.name_key == name_key(review.reviewer_name)
    hospital.close()


def test_the_migrations_end_at_the_records(hospital: Database) -> None:
    upgrade(hospital)
    with hospital.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Record.metadata) == []
    hospital.close()


def test_one_unit_can_be_asked_two_questions_but_none_twice(hospital: Database) -> None:
    upgrade(hospital)
    with hospital.writing() as session:
        session.add(_another_job("classification"))
    with pytest.raises(IntegrityError), hospital.writing() as session:
        session.add(_another_job("classification"))
    indexes = {index["name"] for index in inspect(hospital.engine).get_indexes("jobs")}
    assert {"ix_jobs_next", "ix_jobs_study_id", "ix_jobs_series_id"} <= indexes
    hospital.close()


def test_a_calibration_of_an_unknown_prompt_is_kept_and_void(hospital: Database) -> None:
    command.upgrade(alembic_config(hospital), "0003")
    with hospital.engine.begin() as connection:
        connection.execute(text(FITTED))
    upgrade(hospital)
    provenance = ModelProvenance("b", "1", "base", "a", "1", "lora", "transformers", "bfloat16", "cpu", "x", False)
    with hospital.reading() as session:
        (row,) = calibrations(session)
        assert (row.adapter, row.version, row.active, row.prompt_digest) == ("dsa_patency", 1, True, "")
        assert why_void(session, row) == "fitted before prompts were kept with the answers"
        for asked in ("", "the words of today"):
            assert active_calibration(session, "dsa_patency", "", "", provenance, asked) is None
    hospital.close()


def _another_job(key: str) -> Job:
    return Job(study_id=1, series_id=1, adapter="dsa_patency", unit_uid="1.2.3.4", revision=1, question_key=key)
