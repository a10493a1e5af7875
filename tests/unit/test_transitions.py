"""A state changes only as the tables allow, only once, and leaves its trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.schema import upgraded
from worker.db.records import Event, Job, Series, Study
from worker.db.schema import is_current, upgrade
from worker.db.sessions import Database
from worker.db.transitions import IllegalTransitionError, move_job
from worker.states import DELIVERY_TRANSITIONS, JOB_TRANSITIONS, SERIES_TRANSITIONS, JobState


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    sqlite = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path}/t.db" if sqlite else request.getfixturevalue("postgres_url"))
    upgraded(database)
    yield database
    database.close()


@pytest.fixture
def job_id(db: Database) -> str:
    with db.writing() as session:
        study = Study(study_instance_uid="1.2.1")
        session.add(study)
        session.flush()
        series = Series(study_id=study.id, series_instance_uid="1.2.2")
        session.add(series)
        session.flush()
        job = Job(study_id=study.id, series_id=series.id, adapter="a", unit_uid="1.2.3", revision=1)
        session.add(job)
        session.flush()
        return job.id


def test_the_database_is_current_after_an_upgrade_and_an_upgrade_may_be_repeated(db: Database) -> None:
    assert is_current(db)
    upgrade(db)
    assert is_current(db)


def test_a_move_changes_state_and_columns_and_leaves_an_event(db: Database, job_id: str) -> None:
    with db.writing() as session:
        assert move_job(session, session.get_one(Job, job_id), JobState.RUNNING, "claimed", claim_token="t", attempts=1)
    with db.reading() as session:
        job = session.get_one(Job, job_id)
        event = session.scalars(select(Event)).one()
        assert (job.state, job.attempts) == (JobState.RUNNING, 1)
        assert (event.from_state, event.to_state, event.reason) == ("queued", "running", "claimed")


def test_a_move_that_the_table_does_not_have_is_refused(db: Database, job_id: str) -> None:
    with pytest.raises(IllegalTransitionError, match=r"queued -> verified"), db.writing() as session:
        move_job(session, session.get_one(Job, job_id), JobState.VERIFIED, "no")
    with db.reading() as session:
        assert session.get_one(Job, job_id).state is JobState.QUEUED


def test_of_two_who_believe_the_same_state_only_the_first_moves_the_row(db: Database, job_id: str) -> None:
    with db.reading() as session:
        stale = session.get_one(Job, job_id)
    with db.writing() as session:
        assert move_job(session, session.get_one(Job, job_id), JobState.RUNNING, "first")
    with db.writing() as session:
        assert not move_job(session, stale, JobState.RUNNING, "second")
    with db.reading() as session:
        assert [event.reason for event in session.scalars(select(Event))] == ["first"]


def test_a_lost_claim_moves_nothing(db: Database, job_id: str) -> None:
    with db.writing() as session:
        move_job(session, session.get_one(Job, job_id), JobState.RUNNING, "claimed", claim_token="mine")
    with db.writing() as session:
        assert not move_job(session, session.get_one(Job, job_id), JobState.GENERATED, "late", token="another's")
        assert move_job(session, session.get_one(Job, job_id), JobState.GENERATED, "in time", token="mine")


@pytest.mark.parametrize("table", [SERIES_TRANSITIONS, JOB_TRANSITIONS, DELIVERY_TRANSITIONS])
def test_every_state_is_in_its_table_and_can_be_reached(table: dict) -> None:  # type: ignore[type-arg]
    states = type(next(iter(table)))
    assert set(table) == set(states)
    reached = set().union(*table.values())
    first = next(iter(states))
    assert set(states) - reached <= {first}
