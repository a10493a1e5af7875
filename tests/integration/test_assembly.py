"""When a series counts as whole, what is made of it, and what late images do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.spool import Spool
from models.adapter import adapters
from tests.received import Modality, association
from worker.assembly import assemble
from worker.db.arrivals import commit_arrivals
from worker.db.columns import utc_now
from worker.db.records import Event, Instance, Job, Result, Series
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.dispatch import Dispatcher
from worker.settings import RouteRule, Settings
from worker.states import InstanceState, JobState, Priority, SeriesState

STABLE_AFTER_S = 10.0
ADAPTERS = adapters()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, dicom={"stable_after_s": STABLE_AFTER_S})


@pytest.fixture
def modality(tmp_path: Path) -> Modality:
    return Modality(Spool(tmp_path / "spool"))


class Step:
    """Ingest and assembly on one database, with a clock that can be turned."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.db, self.settings = database, settings

    def receive(self, *arrivals: object) -> list[int]:
        return commit_arrivals(self.db, arrivals, timedelta(seconds=STABLE_AFTER_S))  # type: ignore[arg-type]

    def assemble(self, series_id: int = 1) -> list[str]:
        return assemble(self.db, self.settings, ADAPTERS, series_id)

    def series(self, series_id: int = 1) -> Series:
        with self.db.reading() as session:
            return session.get_one(Series, series_id)

    def jobs(self) -> list[Job]:
        with self.db.reading() as session:
            return list(session.scalars(select(Job).order_by(Job.created_at, Job.revision)))

    def stable_because(self) -> str:
        with self.db.reading() as session:
            reasons = session.scalars(select(Event.reason).where(Event.to_state == "stable").order_by(Event.id))
            return list(reasons)[-1]

    def move(self, job_id: str, *states: JobState) -> None:
        with self.db.writing() as session:
            for state in states:
                move_job(session, session.get_one(Job, job_id), state, "for the test")

    def let_time_pass(self, seconds: float) -> None:
        with self.db.writing() as session:
            for series in session.scalars(select(Series)):
                series.last_instance_at -= timedelta(seconds=seconds)
                if series.due_at is not None:
                    series.due_at -= timedelta(seconds=seconds)


@pytest.fixture
def step(database: Database, settings: Settings) -> Step:
    return Step(database, settings)


def test_an_xa_run_moves_on_at_once(step: Step, modality: Modality) -> None:
    assert step.receive(modality.xa_run(priority="STAT")) == [1]  # assembly is to look now
    (job_id,) = step.assemble()
    (job,) = step.jobs()
    assert (job.id, job.adapter, job.state, job.revision) == (job_id, "dsa_patency", JobState.QUEUED, 1)
    assert job.priority == Priority.STAT.rank
    assert step.series().state is SeriesState.ROUTED
    assert step.stable_because() == "each instance is complete by itself"


def test_slices_are_whole_when_their_association_is_released_and_nothing_is_missing(
    step: Step, modality: Modality
) -> None:
    assert step.receive(*modality.ct_series(12)) == []
    assert step.receive(association(instances=12)) == [1]
    assert len(step.assemble()) == 1
    assert step.stable_because() == "the association was released and the geometry is complete (12 slices)"
    assert step.jobs()[0].unit_uid == step.series().series_instance_uid


def test_a_gap_between_slices_waits_for_what_may_still_come(step: Step, modality: Modality) -> None:
    slices = modality.ct_series(14)
    step.receive(*slices[:3], *slices[5:], association(instances=12))
    assert step.assemble() == []
    series = step.series()
    assert series.state is SeriesState.RECEIVING
    assert series.due_at == series.last_instance_at + timedelta(seconds=STABLE_AFTER_S)
    step.let_time_pass(STABLE_AFTER_S)
    assert len(step.assemble()) == 1
    assert step.stable_because() == "no new image for 10 s"


def test_an_open_association_waits_until_no_image_comes_any_more(step: Step, modality: Modality) -> None:
    slices = modality.ct_series(12)
    step.receive(*slices[:11])
    step.let_time_pass(STABLE_AFTER_S - 1)
    assert step.assemble() == []
    step.receive(slices[11])  # the clock starts anew
    step.let_time_pass(STABLE_AFTER_S - 1)
    assert step.assemble() == []
    step.let_time_pass(1)
    assert len(step.assemble()) == 1


def test_an_aborted_association_is_no_sign(step: Step, modality: Modality) -> None:
    assert step.receive(*modality.ct_series(12), association(released=False, instances=12)) == []
    assert step.assemble() == []
    step.let_time_pass(STABLE_AFTER_S)
    assert len(step.assemble()) == 1


def test_slices_that_two_associations_bring_wait_for_quiet(step: Step, modality: Modality) -> None:
    slices = modality.ct_series(12, association_id="a1")
    for arrival in slices[4:]:
        arrival.association_id = "a2"
    step.receive(*slices[:4])
    step.receive(*slices[4:], association("a2", instances=4))
    assert step.assemble() == []
    step.let_time_pass(STABLE_AFTER_S)
    assert len(step.assemble()) == 1


class Rings:
    """A doorbell that only notes who rang."""

    def __init__(self) -> None:
        self.series: list[int] = []

    def ring_assemble(self, series_id: int) -> None:
        self.series.append(series_id)

    def rings_waiting(self, _queue: str) -> int:
        return 0


def test_a_restart_forgets_no_clock(step: Step, modality: Modality, database: Database) -> None:
    step.receive(*modality.ct_series(12))
    after_restart = Database(database.url)
    rings = Rings()
    dispatcher = Dispatcher(after_restart, rings, ring_again_s=10)  # type: ignore[arg-type]
    dispatcher.look()
    assert rings.series == []  # not due yet
    step.let_time_pass(STABLE_AFTER_S)
    dispatcher.look()
    assert rings.series == [1]
    assert len(assemble(after_restart, step.settings, ADAPTERS, 1)) == 1
    after_restart.close()


@pytest.mark.parametrize("reached", [[], [JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.HELD]])
def test_late_images_make_a_revision_that_supersedes(step: Step, modality: Modality, reached: list[JobState]) -> None:
    slices = modality.ct_series(14)
    step.receive(*slices[:11], association(instances=11))
    (early,) = step.assemble()
    step.move(early, *reached)
    for arrival in slices[11:]:
        arrival.association_id = "a2"
    step.receive(*slices[11:], association("a2", instances=3))
    (late,) = step.assemble()
    states = {job.id: (job.revision, job.state) for job in step.jobs()}
    assert states == {early: (1, JobState.SUPERSEDED), late: (2, JobState.QUEUED)}
    assert step.series().revision == 2
    with step.db.reading() as session:
        revisions = [i.revision for i in session.scalars(select(Instance).order_by(Instance.id))]
    assert revisions == [1] * 11 + [2] * 3


def test_each_question_of_a_rule_is_a_job_of_its_own_and_stays_so_when_late_images_come(
    step: Step, modality: Modality
) -> None:
    classes = {"task": "classification", "labels": ["normal", "injured"]}
    site = {"name": "both", "when": {"modality": "CT"}, "adapter": "flare", "ask": [classes, {"task": "report"}]}
    step.settings = step.settings.model_copy(update={"routes": [RouteRule.model_validate(site)]})
    slices = modality.ct_series(14)
    step.receive(*slices[:11], association(instances=11))
    assert len(step.assemble()) == 2
    for arrival in slices[11:]:
        arrival.association_id = "a2"
    step.receive(*slices[11:], association("a2", instances=3))
    assert len(step.assemble()) == 2
    jobs = [(job.revision, job.question["task"], job.state) for job in step.jobs() if job.question]
    assert sorted(jobs) == [
        (1, "classification", JobState.SUPERSEDED),
        (1, "report", JobState.SUPERSEDED),
        (2, "classification", JobState.QUEUED),
        (2, "report", JobState.QUEUED),
    ]
    assert len({job.question_key for job in step.jobs()}) == 2


def test_a_released_result_stands_until_the_new_one_is_written(step: Step, modality: Modality) -> None:
    slices = modality.ct_series(12)
    step.receive(*slices[:11], association(instances=11))
    (early,) = step.assemble()
    step.move(early, JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.RELEASED)
    slices[11].association_id = "a2"
    step.receive(slices[11], association("a2"))
    step.assemble()
    assert [job.state for job in step.jobs()] == [JobState.RELEASED, JobState.QUEUED]


@pytest.mark.parametrize("then", [(), (JobState.ACCEPTED, JobState.HELD)], ids=["signed", "correction not written"])
def test_late_images_on_a_signed_result_go_to_a_person(
    step: Step, modality: Modality, then: tuple[JobState, ...]
) -> None:
    slices = modality.ct_series(12)
    step.receive(*slices[:11], association(instances=11))
    (early,) = step.assemble()
    step.move(
        early,
        *(JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.HELD, JobState.ACCEPTED, JobState.VERIFIED),
    )
    with step.db.writing() as session:
        report = {"sop_instance_uid": "1.2", "sop_class_uid": "1.3", "kind": "sr", "digest": "d", "path": "p"}
        session.add(Result(job_id=early, verified=True, **report))
    step.move(early, *then)
    slices[11].association_id = "a2"
    step.receive(slices[11], association("a2"))
    step.assemble()
    signed, late = step.jobs()
    assert signed.state is (then[-1] if then else JobState.VERIFIED)
    assert late.doubts == ["a person has signed the result of an earlier revision of this series"]


def test_a_second_run_of_a_series_is_a_job_of_its_own(step: Step, modality: Modality) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.1"}
    first, second = modality.xa_run(**uids), modality.xa_run(**uids)
    step.receive(first)
    (first_job,) = step.assemble()
    step.move(first_job, JobState.RUNNING, JobState.GENERATED)
    step.receive(second)
    (second_job,) = step.assemble()
    assert {job.id: (job.unit_uid, job.state, job.revision) for job in step.jobs()} == {
        first_job: (first.header.sop_instance_uid, JobState.GENERATED, 1),
        second_job: (second.header.sop_instance_uid, JobState.QUEUED, 1),
    }


def test_two_runs_of_one_uid_are_answered_with_a_doubt(step: Step, modality: Modality) -> None:
    run = modality.xa_run()
    other = modality.xa_run_again(run, lambda ds: setattr(ds, "StudyDescription", "other"))
    step.receive(run, other)
    (job_id,) = step.assemble()
    (job,) = step.jobs()
    assert job.id == job_id
    assert "other content" in job.doubts[0]


def test_a_run_that_was_lost_and_sent_again_is_done_anew(step: Step, modality: Modality) -> None:
    run = modality.xa_run()
    step.receive(run)
    (before,) = step.assemble()
    with step.db.writing() as session:
        session.scalars(select(Instance)).one().state = InstanceState.MISSING
    step.receive(run)
    (after,) = step.assemble()
    assert {job.id: job.revision for job in step.jobs()} == {before: 1, after: 2}


def test_looking_twice_makes_no_second_job(step: Step, modality: Modality) -> None:
    step.receive(modality.xa_run())
    assert len(step.assemble()) == 1
    assert step.assemble() == []
    assert step.assemble(series_id=99) == []
    assert len(step.jobs()) == 1


def test_what_no_adapter_takes_is_left_alone_with_the_reason(step: Step, modality: Modality) -> None:
    step.receive(*modality.ct_series(12, body_part="HEAD", series_description="Head"), association(instances=12))
    assert step.assemble() == []
    series = step.series()
    assert series.state is SeriesState.UNROUTED
    assert series.route_adapter is None
    assert series.route_reason is not None
    assert "head" in series.route_reason
    assert series.due_at is None
    assert series.last_instance_at <= utc_now()
