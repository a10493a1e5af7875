"""The dispatcher finds committed work that nobody works on: nothing hangs on a message."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dicom_node.spool import Spool
from models.adapter import adapters
from tests.received import Modality
from worker.assembly import assemble
from worker.celery_app import INFERENCE_QUEUE, STEPS_QUEUE
from worker.claims import claim_jobs
from worker.db.arrivals import commit_arrivals
from worker.db.columns import utc_now
from worker.db.records import Delivery, Event, Job, Result
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.dispatch import Dispatcher, rescue_jobs
from worker.settings import Settings
from worker.states import DeliveryState, JobState

ADAPTERS = adapters()


class Doorbell:
    """A doorbell that notes what was rung, and, like a broker, keeps it until somebody takes it."""

    def __init__(self) -> None:
        self.rings: list[tuple[str, object]] = []
        self.waiting = {INFERENCE_QUEUE: 0, STEPS_QUEUE: 0}
        self.away = False

    def ring_assemble(self, series_id: int) -> None:
        self._ring(STEPS_QUEUE, "assemble", series_id)

    def ring_infer(self, job_id: str) -> None:
        self._ring(INFERENCE_QUEUE, "infer", job_id)

    def ring_finish(self, job_id: str) -> None:
        self._ring(STEPS_QUEUE, "finish", job_id)

    def ring_deliver(self, destination: str) -> None:
        self._ring(STEPS_QUEUE, "deliver", destination)

    def ring_confirm(self, destination: str) -> None:
        self._ring(STEPS_QUEUE, "confirm", destination)

    def ring_report_commitment(self, request_id: int) -> None:
        self._ring(STEPS_QUEUE, "report", request_id)

    def rings_waiting(self, queue: str) -> int | None:
        return None if self.away else self.waiting[queue]

    def take_all(self) -> None:
        self.rings.clear()
        self.waiting = dict.fromkeys(self.waiting, 0)

    def _ring(self, queue: str, task: str, argument: object) -> None:
        self.rings.append((task, argument))
        self.waiting[queue] += 1


class Ward:
    """A database with work in it, and a dispatcher that looks."""

    def __init__(self, database: Database, folder: Path, ring_again_s: float = 60) -> None:
        self.db, self.settings = database, Settings(data_dir=folder)
        self.modality = Modality(Spool(folder / "spool"))
        self.doorbell = Doorbell()
        self.clock_s = 1000.0
        self.dispatcher = Dispatcher(database, self.doorbell, ring_again_s, lambda: self.clock_s)  # type: ignore[arg-type]

    def receive(self) -> int:
        (series_id,) = commit_arrivals(self.db, [self.modality.xa_run()], timedelta(seconds=10))
        return series_id

    def queue(self) -> str:
        (job_id,) = assemble(self.db, self.settings, ADAPTERS, self.receive())
        return job_id

    def move(self, job_id: str, *states: JobState) -> None:
        with self.db.writing() as session:
            for state in states:
                move_job(session, session.get_one(Job, job_id), state, "for the test")

    def look(self) -> list[tuple[str, object]]:
        """Let a worker take every ring there is, look, and return what is rung."""
        self.doorbell.take_all()
        self.dispatcher.look()
        return list(self.doorbell.rings)


@pytest.fixture
def ward(database: Database, tmp_path: Path) -> Ward:
    return Ward(database, tmp_path)


def test_everything_that_waits_is_rung_for(ward: Ward) -> None:
    generated, decided, accepted, held = (ward.queue() for _ in range(4))
    ward.move(generated, JobState.RUNNING, JobState.GENERATED)
    ward.move(decided, JobState.RUNNING, JobState.DECIDED)
    ward.move(accepted, JobState.RUNNING, JobState.DECIDED, JobState.HELD, JobState.ACCEPTED)
    ward.move(held, JobState.RUNNING, JobState.DECIDED, JobState.HELD)
    queued = ward.queue()
    series_id = ward.receive()
    with ward.db.writing() as session:
        result = Result(job_id=accepted, sop_instance_uid="1.2", sop_class_uid="1.2", kind="sr", digest="0", path="p")
        session.add(result)
        session.flush()
        session.add_all(
            [
                Delivery(result_id=result.id, destination="pacs"),
                Delivery(result_id=result.id, destination="later", not_before=utc_now() + timedelta(seconds=60)),
                Delivery(result_id=result.id, destination="dead", state=DeliveryState.DEAD),
            ]
        )
    assert set(ward.look()) == {
        ("assemble", series_id),
        ("infer", queued),
        *(("finish", job_id) for job_id in (generated, decided, accepted)),
        ("finish", held),  # others are still to be told that it waits for a person
        ("deliver", "pacs"),
    }


def test_a_rejected_answer_that_stands_somewhere_is_rung_for(ward: Ward) -> None:
    sent, unsent = ward.queue(), ward.queue()
    for job_id, state in ((sent, DeliveryState.DELIVERED), (unsent, DeliveryState.CANCELLED)):
        ward.move(job_id, JobState.RUNNING, JobState.DECIDED, JobState.RELEASED, JobState.REJECTED)
        with ward.db.writing() as session:
            result = Result(
                job_id=job_id, sop_instance_uid=f"1.2.{job_id}", sop_class_uid="1.2", kind="sr", digest="0", path="p"
            )
            session.add(result)
            session.flush()
            session.add(Delivery(result_id=result.id, destination="pacs", state=state))
    assert ("finish", sent) in ward.look()
    assert ("finish", unsent) not in ward.look()


def test_what_waits_for_its_time_is_not_rung_for(ward: Ward) -> None:
    job_id = ward.queue()
    with ward.db.writing() as session:
        session.execute(update(Job).values(not_before=utc_now() + timedelta(seconds=60)))
    commit_arrivals(ward.db, ward.modality.ct_series(3), timedelta(seconds=60))
    assert ward.look() == []
    with ward.db.writing() as session:
        session.execute(update(Job).values(not_before=utc_now()))
    assert ward.look() == [("infer", job_id)]


def test_the_same_row_is_rung_for_once_in_a_while(database: Database, tmp_path: Path) -> None:
    ward = Ward(database, tmp_path, ring_again_s=10)
    job_id = ward.queue()
    for _ in range(2):
        assert ward.look() == [("infer", job_id)]
        ward.clock_s += 9.9
        assert ward.look() == []
        ward.clock_s += 0.2


def test_a_row_that_comes_back_is_rung_for_at_once(ward: Ward) -> None:
    job_id = ward.queue()
    assert ward.look() == [("infer", job_id)]
    ward.move(job_id, JobState.RUNNING, JobState.GENERATED)
    assert ward.look() == [("finish", job_id)]
    ward.move(job_id, JobState.DECIDED, JobState.HELD, JobState.QUEUED)  # a person asks for another try
    assert ward.look() == [("infer", job_id)]


def test_a_backlog_does_not_flood_the_broker(database: Database, tmp_path: Path) -> None:
    ward = Ward(database, tmp_path, ring_again_s=0)
    for _ in range(5):
        ward.queue()
    for _ in range(20):
        ward.dispatcher.look()
    assert ward.doorbell.waiting[INFERENCE_QUEUE] == 5
    ward.doorbell.take_all()  # or the broker lost them
    ward.dispatcher.look()
    assert ward.doorbell.waiting[INFERENCE_QUEUE] == 5


def test_a_broker_that_is_away_costs_no_time_once_it_is_back(ward: Ward) -> None:
    job_id = ward.queue()
    ward.doorbell.away = True
    assert ward.look() == []
    ward.doorbell.away = False
    assert ward.look() == [("infer", job_id)]


def test_a_job_whose_lease_ran_out_is_queued_again(ward: Ward) -> None:
    dead, alive = ward.queue(), ward.queue()
    assert claim_jobs(ward.db, ward.settings, "host:1", 1)
    assert claim_jobs(ward.db, ward.settings, "host:2", 1)
    assert rescue_jobs(ward.db) == 0
    with ward.db.writing() as session:
        session.execute(update(Job).where(Job.id == dead).values(claim_expires_at=utc_now() - timedelta(seconds=1)))
    assert ward.look() == [("infer", dead)]
    with ward.db.reading() as session:
        rescued, working = session.get_one(Job, dead), session.get_one(Job, alive)
        reasons = session.scalars(select(Event.reason).where(Event.subject_id == dead).order_by(Event.id)).all()
    assert (rescued.state, rescued.claim_token, rescued.attempts) == (JobState.QUEUED, None, 1)
    assert reasons[-1] == "worker host:1 stopped renewing its lease on attempt 1"
    assert working.state is JobState.RUNNING
