"""At start, spool and database are brought together: nothing whole is lost, nothing half is taken for whole."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.spool import Spool
from tests.received import Modality
from worker.db.arrivals import commit_arrivals
from worker.db.records import Event, Instance, Result, Series
from worker.db.sessions import Database
from worker.node import reconcile
from worker.states import InstanceState, SeriesState


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def modality(spool: Spool) -> Modality:
    return Modality(spool)


def instances(database: Database) -> list[Instance]:
    with database.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def test_a_whole_file_without_a_row_is_adopted_once(database: Database, spool: Spool, modality: Modality) -> None:
    run = modality.xa_run()
    slices = modality.ct_series(3)
    assert reconcile(database, spool, 10) == (4, 0)
    found = instances(database)
    assert {i.sop_instance_uid for i in found} == {a.header.sop_instance_uid for a in [run, *slices]}
    assert {i.digest for i in found} == {a.stored.sha256 for a in [run, *slices]}
    assert all(Path(i.path).is_file() for i in found)
    with database.reading() as session:
        series = session.scalars(select(Series)).all()
    assert all(s.state is SeriesState.RECEIVING and s.due_at is not None for s in series)  # assembly will look at them
    assert reconcile(database, spool, 10) == (0, 0)


def test_a_half_file_is_removed(database: Database, spool: Spool, modality: Modality) -> None:
    run = modality.xa_run()
    whole = run.stored.path.read_bytes()
    run.stored.path.unlink()
    writer = spool.begin(whole[:1000])  # the node was killed in the midst of it
    assert reconcile(database, spool, 10) == (0, 0)
    assert not writer.path.exists()
    assert instances(database) == []


def test_a_row_whose_file_is_gone_is_flagged_with_the_remedy(
    database: Database, spool: Spool, modality: Modality
) -> None:
    lost, kept = modality.xa_run(), modality.xa_run()
    commit_arrivals(database, [lost, kept], timedelta(seconds=10))
    lost.stored.path.unlink()
    assert reconcile(database, spool, 10) == (0, 1)
    assert [i.state for i in instances(database)] == [InstanceState.MISSING, InstanceState.STORED]
    with database.reading() as session:
        (reason,) = session.scalars(select(Event.reason).where(Event.to_state == InstanceState.MISSING)).all()
    assert lost.header.sop_instance_uid in reason
    assert "send the study again" in reason
    assert reconcile(database, spool, 10) == (0, 0)


def test_a_file_that_was_put_back_is_used_again(database: Database, spool: Spool, modality: Modality) -> None:
    run = modality.xa_run()
    commit_arrivals(database, [run], timedelta(seconds=10))
    content = run.stored.path.read_bytes()
    run.stored.path.unlink()
    reconcile(database, spool, 10)
    run.stored.path.write_bytes(content)  # from the hospital's backup
    assert reconcile(database, spool, 10) == (1, 0)
    assert [i.state for i in instances(database)] == [InstanceState.STORED]


def test_what_is_not_dicom_stays_where_it_is(database: Database, spool: Spool) -> None:
    stored = spool.put_bytes(b"not DICOM at all")
    assert reconcile(database, spool, 10) == (0, 0)
    assert stored.path.exists()
    assert instances(database) == []


def test_a_result_of_ours_is_not_taken_for_a_received_instance(
    database: Database, spool: Spool, modality: Modality
) -> None:
    run = modality.xa_run()
    own = modality.xa_run_again(run, lambda ds: setattr(ds, "Manufacturer", "dicom-worker"))
    run.stored.path.unlink()
    assert own.header.is_own_result
    assert reconcile(database, spool, 10) == (0, 0)
    with database.reading() as session:
        assert session.scalars(select(Result)).all() == []
    assert instances(database) == []
