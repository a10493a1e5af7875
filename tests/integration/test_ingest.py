"""What arrives is in the database before success is answered, once, whoever sends it how often."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from dicom_node import status
from dicom_node.scp import AssociationRecord, ReceivedInstance
from dicom_node.spool import Spool
from models.adapter import adapters
from tests.integration.hospital import at_once
from tests.received import Modality, association, stored_again
from worker.assembly import assemble
from worker.db.arrivals import Arrival, commit_arrivals
from worker.db.columns import utc_now
from worker.db.records import Event, Instance, Series, Study
from worker.db.sessions import Database
from worker.ingest import IngestWriter
from worker.settings import Settings
from worker.states import InstanceState, SeriesState

STABLE_AFTER = timedelta(seconds=10)
ADAPTERS = adapters()


@pytest.fixture
def modality(tmp_path: Path) -> Modality:
    return Modality(Spool(tmp_path / "spool"))


def commit(database: Database, arrivals: Iterable[Arrival | AssociationRecord]) -> list[int]:
    return commit_arrivals(database, arrivals, STABLE_AFTER)


def received(arrival: Arrival) -> ReceivedInstance:
    return ReceivedInstance(
        stored=arrival.stored,
        header=arrival.header,
        received_at=arrival.received_at,
        association_id=arrival.association_id or "",
        calling_ae_title=arrival.calling_ae_title,
        called_ae_title=arrival.called_ae_title,
        peer_address="127.0.0.1",
    )


def instances(database: Database) -> list[Instance]:
    with database.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def the_series(database: Database) -> Series:
    with database.reading() as session:
        return session.scalars(select(Series)).one()


def count(database: Database, table: type[Study | Series | Instance]) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_same_instance_again_is_one_instance(database: Database, modality: Modality) -> None:
    run = modality.xa_run()
    again = replace(run, stored=stored_again(run, modality.spool), association_id="a2")
    assert commit(database, [run]) == [1]
    assert commit(database, [again, again]) == []
    assert [(i.state, i.association_id) for i in instances(database)] == [(InstanceState.STORED, "a1")]
    assert len(list(modality.spool.objects())) == 1


def test_the_same_uid_with_other_content_is_kept_and_flagged(database: Database, modality: Modality) -> None:
    run = modality.xa_run()
    other = modality.xa_run_again(run, lambda ds: setattr(ds, "StudyDescription", "changed on the console"))
    commit(database, [run])
    commit(database, [other])
    first, second = instances(database)
    assert (first.state, second.state) == (InstanceState.STORED, InstanceState.CONFLICT)
    assert Path(first.path).read_bytes() != Path(second.path).read_bytes()
    with database.reading() as session:
        reasons = session.scalars(select(Event.reason).where(Event.subject == "instance")).all()
    assert len(reasons) == 1
    assert run.header.sop_instance_uid in reasons[0]
    assert "other content" in reasons[0]


def test_a_study_of_nothing_but_conflicts_does_not_wait_for_ever(
    database: Database, modality: Modality, tmp_path: Path
) -> None:
    run = modality.xa_run()
    stolen = modality.xa_run_again(run, lambda ds: setattr(ds, "StudyInstanceUID", "1.2.3.4"))
    commit(database, [run])
    (series_id,) = commit(database, [stolen])
    assert assemble(database, Settings(data_dir=tmp_path), ADAPTERS, series_id) == []
    with database.reading() as session:
        series = session.get_one(Series, series_id)
    assert series.state is SeriesState.UNROUTED
    assert series.route_reason is not None
    assert "other content" in series.route_reason


def test_a_late_instance_takes_its_series_back_to_receiving(
    database: Database, modality: Modality, tmp_path: Path
) -> None:
    slices = modality.ct_series(12)
    commit(database, [*slices[:11], association(instances=11)])
    assemble(database, Settings(data_dir=tmp_path), ADAPTERS, 1)
    assert the_series(database).state is SeriesState.ROUTED
    commit(database, [slices[11]])
    series = the_series(database)
    assert series.state is SeriesState.RECEIVING
    assert series.due_at is not None
    assert utc_now() < series.due_at <= utc_now() + STABLE_AFTER


def test_an_instance_whose_file_had_gone_comes_back(database: Database, modality: Modality) -> None:
    run = modality.xa_run()
    commit(database, [run])
    with database.writing() as session:
        session.scalars(select(Instance)).one().state = InstanceState.MISSING
    assert commit(database, [replace(run, stored=stored_again(run, modality.spool))]) == [1]
    (instance,) = instances(database)
    assert instance.state is InstanceState.STORED
    assert instance.revision is None  # assembly looks at it again


def test_every_sender_of_a_failed_commit_gets_a_failure_status(tmp_path: Path, modality: Modality) -> None:
    unusable = Database(f"sqlite:///{tmp_path / 'empty.db'}")  # it has no tables
    writer = IngestWriter(unusable, 10, lambda _series_id: None)
    runs = [modality.xa_run() for _ in range(8)]
    answers = at_once(lambda run: writer.record(received(run)), runs)
    assert answers == [status.OUT_OF_RESOURCES] * 8
    writer.close()
    unusable.close()


def test_one_instance_that_the_database_refuses_does_not_cost_the_others(
    database: Database, modality: Modality
) -> None:
    good = [modality.xa_run() for _ in range(3)]
    odd = modality.xa_run()
    # SOP class UIDs end at 64 characters on PostgreSQL; a lone surrogate cannot be encoded by either.
    odd = replace(odd, header=replace(odd.header, patient_name="\ud800", sop_class_uid="1" * 200))
    writer = IngestWriter(database, 10, lambda _series_id: None)
    try:
        with ThreadPoolExecutor(4) as senders, database.writing() as session:
            # While we hold the database, all four come together in one batch.
            session.execute(text("UPDATE studies SET patient_id = patient_id"))
            answers = [senders.submit(writer.record, received(run)) for run in [good[0], odd, *good[1:]]]
        assert [answer.result(30) for answer in answers] == [
            status.SUCCESS,
            status.CANNOT_UNDERSTAND,
            status.SUCCESS,
            status.SUCCESS,
        ]
    finally:
        writer.close()
    assert {i.sop_instance_uid for i in instances(database)} == {run.header.sop_instance_uid for run in good}


def test_many_senders_at_once_lose_nothing(database: Database, modality: Modality) -> None:
    study = {"study_uid": "1.2.3", "series_uid": "1.2.3.1"}
    runs = [modality.xa_run(**study) for _ in range(30)] + [modality.xa_run() for _ in range(10)]
    rung: list[int] = []
    writer = IngestWriter(database, 10, rung.append)

    def send(share: list[Arrival]) -> list[int]:
        return [writer.record(received(run)) for run in share]

    # Each instance is sent by two senders.
    shares = [(runs * 2)[i::16] for i in range(16)]
    answers = [answer for share in at_once(send, shares) for answer in share]
    writer.close()
    assert answers == [status.SUCCESS] * 80
    assert count(database, Instance) == 40
    assert count(database, Series) == count(database, Study) == 11
    assert set(rung) == set(range(1, 12))


def test_two_nodes_that_receive_the_same_study_make_it_once(database: Database, modality: Modality) -> None:
    slices = modality.ct_series(24)
    nodes = [Database(database.url), Database(database.url)]

    def receive(node: Database, share: list[Arrival]) -> None:
        for arrival in share:
            commit(node, [arrival])

    # The second half of each share is what the other node receives too.
    at_once(lambda each: receive(*each), zip(nodes, [slices[:18], slices[6:][::-1]], strict=True))
    for node in nodes:
        node.close()
    assert count(database, Study) == count(database, Series) == 1
    assert count(database, Instance) == 24


def test_an_association_without_instances_leaves_no_row(database: Database) -> None:
    writer = IngestWriter(database, 10, lambda _series_id: None)
    writer.association_ended(association(instances=0))
    writer.close()
    with database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM associations")).scalar() == 0
