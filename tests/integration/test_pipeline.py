"""A job on its way: claimed in order of urgency, answered, scored; and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dicom_node.spool import Spool
from models.adapter import adapters
from models.engines import EngineDeviceError
from models.generation import Engine, EngineStatus, Generation, GenerationFailure, GenerationRequest, ModelProvenance
from models.prompting import prompt_digest
from tests import sandboxed, services
from tests.integration.hospital import at_once
from tests.received import Modality
from worker import pipeline
from worker.assembly import assemble
from worker.claims import claim_jobs
from worker.db.arrivals import commit_arrivals
from worker.db.columns import utc_now
from worker.db.records import Event, Instance, Job
from worker.db.sessions import Database
from worker.dispatch import rescue_jobs
from worker.settings import Settings
from worker.states import InstanceState, JobState

ADAPTERS = {"dsa_patency": adapters()["dsa_patency"]}


class ScriptedEngine:
    """An engine that answers "blocked" at once, after doing what the test tells it to."""

    def __init__(self, before_answering: Callable[[], None] = lambda: None, blocked: float = 0.9) -> None:
        self.before_answering, self.blocked = before_answering, blocked

    def provenance(self, adapter: str) -> ModelProvenance:
        return ModelProvenance("base", "1", "00", adapter, "1", "11", "scripted", "float32", "cpu", "none", False)

    def status(self) -> EngineStatus:
        return EngineStatus("scripted", "cpu")

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation | GenerationFailure]:
        self.before_answering()
        scores = {"patent": 1 - self.blocked, "blocked": self.blocked}
        return [Generation("blocked", (), scores, "labels", 10, 0.01) for _ in requests]

    def close(self) -> None:
        """Hold nothing."""


class ChoosyEngine(ScriptedEngine):
    """An engine that fails at the requests of a call that a test names by place."""

    def __init__(self, failures: dict[int, GenerationFailure]) -> None:
        super().__init__()
        self.failures = failures
        self.calls: list[int] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation | GenerationFailure]:
        self.calls.append(len(requests))
        answers = super().generate(requests)
        return [self.failures.get(place, answer) for place, answer in enumerate(answers)]


class Ward:
    """Queued jobs on real runs in one database."""

    def __init__(self, database: Database, folder: Path, **jobs: float) -> None:
        self.db = database
        self.settings = Settings(
            data_dir=folder,
            jobs={"retry_after_s": 20, "lease_s": 30, **jobs},
            review={"audit_fraction": 0},
        )
        self.modality = Modality(Spool(folder / "spool"))

    def queue(self, priority: str = "") -> str:
        (series_id,) = commit_arrivals(self.db, [self.modality.xa_run(priority=priority)], timedelta(seconds=10))
        (job_id,) = assemble(self.db, self.settings, ADAPTERS, series_id)
        return job_id

    def infer(self, engine: Engine | None = None, name: str = "worker-1") -> list[str]:
        return pipeline.infer(self.db, self.settings, ADAPTERS, engine or ScriptedEngine(), name)

    def claim(self, name: str, at_most: int = 1) -> list[str]:
        return [claim.job_id for claim in claim_jobs(self.db, self.settings, name, at_most)]

    def job(self, job_id: str) -> Job:
        with self.db.reading() as session:
            return session.get_one(Job, job_id)

    def last_event_at(self) -> datetime:
        with self.db.reading() as session:
            return session.scalars(select(Event.at).order_by(Event.id.desc()).limit(1)).one()

    def change(self, job_id: str, **columns: object) -> None:
        with self.db.writing() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**columns))


@pytest.fixture
def ward(database: Database, tmp_path: Path) -> Ward:
    return Ward(database, tmp_path)


def test_a_job_is_answered_then_scored(ward: Ward) -> None:
    job_id = ward.queue()
    assert ward.infer() == [job_id]
    answered = ward.job(job_id)
    assert (answered.state, answered.attempts, answered.claim_token) == (JobState.GENERATED, 1, None)
    assert answered.prompt_digest == prompt_digest(ADAPTERS["dsa_patency"])
    assert answered.generation is not None
    assert answered.model_input is not None
    assert answered.provenance == ScriptedEngine().provenance("dsa_patency").to_json()
    assert pipeline.score(ward.db, ward.settings, ADAPTERS, job_id)
    decided = ward.job(job_id)
    assert (decided.state, decided.decision) == (JobState.DECIDED, "release")
    assert decided.findings is not None
    assert decided.findings["patency"] == "blocked"
    assert decided.confidence is not None
    assert decided.confidence["probability"] == pytest.approx(0.9)
    # A second ring for the same job changes nothing.
    assert not pipeline.score(ward.db, ward.settings, ADAPTERS, job_id)
    assert ward.infer() == []


def test_an_unsure_answer_is_held_with_the_reason(ward: Ward) -> None:
    job_id = ward.queue()
    ward.infer(ScriptedEngine(blocked=0.6))
    pipeline.score(ward.db, ward.settings, ADAPTERS, job_id)
    job = ward.job(job_id)
    assert job.decision == "review"
    assert job.decision_reason is not None
    assert "0.60" in job.decision_reason


def test_stat_comes_first_then_the_oldest(ward: Ward) -> None:
    first, second = ward.queue(), ward.queue()
    urgent = ward.queue("STAT")
    not_yet = ward.queue("STAT")
    ward.change(not_yet, not_before=utc_now() + timedelta(seconds=60))
    assert [ward.claim("worker-1") for _ in range(4)] == [[urgent], [first], [second], []]


def test_workers_that_come_together_each_get_another_job(ward: Ward) -> None:
    jobs = {ward.queue() for _ in range(8)}

    def work(number: int) -> list[str]:
        taken = []
        while claimed := ward.claim(f"worker-{number}", 3):
            taken += claimed
        return taken

    taken = [job_id for share in at_once(work, range(4)) for job_id in share]
    assert sorted(taken) == sorted(jobs)
    assert all(ward.job(job_id).attempts == 1 for job_id in jobs)


def test_an_answer_whose_claim_was_lost_is_dropped(ward: Ward) -> None:
    job_id = ward.queue()

    def lose_the_claim() -> None:
        ward.change(job_id, claim_expires_at=utc_now() - timedelta(seconds=1))
        assert rescue_jobs(ward.db) == 1
        assert ward.infer(name="worker-2") == [job_id]

    assert ward.infer(ScriptedEngine(lose_the_claim, blocked=0.1)) == []
    job = ward.job(job_id)
    assert (job.state, job.attempts, job.claimed_by) == (JobState.GENERATED, 2, "worker-2")
    assert job.generation is not None
    assert job.generation["label_scores"]["blocked"] == pytest.approx(0.9)


def test_a_failure_after_the_claim_was_lost_does_not_touch_the_job(ward: Ward) -> None:
    job_id = ward.queue()

    def lose_the_claim_and_fail() -> None:
        ward.change(job_id, claim_expires_at=utc_now() - timedelta(seconds=1))
        rescue_jobs(ward.db)
        ward.infer(name="worker-2")
        raise RuntimeError("too late")

    assert ward.infer(ScriptedEngine(lose_the_claim_and_fail)) == []
    assert ward.job(job_id).state is JobState.GENERATED


def test_images_that_cannot_be_shown_go_to_a_person_at_once(ward: Ward) -> None:
    job_id = ward.queue()
    with ward.db.reading() as session:
        path = Path(session.scalars(select(Instance.path)).one())
    path.write_bytes(path.read_bytes()[:-500])  # the end of the pixels is gone
    assert ward.infer() == [job_id]
    job = ward.job(job_id)
    assert (job.state, job.decision, job.attempts) == (JobState.DECIDED, "review", 1)
    assert job.decision_reason is not None
    assert job.decision_reason.startswith("the images cannot be shown to the model: ")


def test_images_whose_making_was_killed_are_made_again_later(ward: Ward) -> None:
    """As the kernel does where memory runs out: that is no fault of the images."""
    job_id = ward.queue()
    killed = {"dsa_patency": replace(ADAPTERS["dsa_patency"], render=sandboxed.kill_rendering)}
    assert pipeline.infer(ward.db, ward.settings, killed, ScriptedEngine(), "worker-1") == []
    job = ward.job(job_id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 1)
    assert job.error is not None and "killed from outside (SIGKILL)" in job.error
    ward.change(job_id, not_before=utc_now())
    assert ward.infer() == [job_id]
    assert ward.job(job_id).state is JobState.GENERATED


def test_a_job_whose_instance_is_missing_goes_to_a_person(ward: Ward) -> None:
    job_id = ward.queue()
    with ward.db.writing() as session:
        session.scalars(select(Instance)).one().state = InstanceState.MISSING
    assert ward.infer() == [job_id]
    assert ward.job(job_id).decision == "review"


def test_a_failure_is_tried_again_later_and_later_and_then_goes_to_a_person(ward: Ward) -> None:
    job_id = ward.queue()

    def fail() -> None:
        raise RuntimeError("CUDA out of memory")

    engine = ScriptedEngine(fail)
    pauses = []
    for attempt in range(1, ward.settings.jobs.max_attempts):
        assert ward.infer(engine) == []
        job = ward.job(job_id)
        assert (job.state, job.attempts) == (JobState.QUEUED, attempt)
        pauses.append((job.not_before - ward.last_event_at()).total_seconds())
        assert ward.infer(engine) == []  # not yet
        ward.change(job_id, not_before=utc_now())
    assert pauses == [pytest.approx(20, abs=5), pytest.approx(40, abs=5)]
    assert ward.infer(engine) == [job_id]
    job = ward.job(job_id)
    assert (job.state, job.decision) == (JobState.DECIDED, "review")
    assert job.decision_reason == "failed 3 times, last: RuntimeError: CUDA out of memory"


def test_a_job_that_kills_its_workers_goes_to_a_person(ward: Ward) -> None:
    job_id = ward.queue()
    for _ in range(ward.settings.jobs.max_attempts):
        assert ward.claim("worker-that-dies") == [job_id]
        ward.change(job_id, claim_expires_at=utc_now() - timedelta(seconds=1))
        assert rescue_jobs(ward.db) == 1
    after = ward.queue()
    assert ward.infer() == [after]  # the other job is not held up
    job = ward.job(job_id)
    assert (job.state, job.decision) == (JobState.DECIDED, "review")
    assert job.decision_reason is not None
    assert "worker-that-dies stopped renewing its lease" in job.decision_reason


def test_an_adapter_that_is_not_enabled_here_is_named(ward: Ward) -> None:
    job_id = ward.queue()
    assert pipeline.infer(ward.db, ward.settings, {}, ScriptedEngine(), "worker-1") == []
    error = ward.job(job_id).error
    assert error is not None
    assert "'dsa_patency' is not enabled here (engine.enabled)" in error


def test_a_batch_is_answered_in_one_call_and_each_job_ends_by_itself(ward: Ward) -> None:
    damaged, refused, unlucky, answered = (ward.queue() for _ in range(4))
    with ward.db.reading() as session:
        path = Path(session.scalars(select(Instance.path).order_by(Instance.id)).first() or "")
    path.write_bytes(path.read_bytes()[:-500])
    no, later = GenerationFailure("the schema is odd", transient=False), GenerationFailure("no memory", transient=True)
    engine = ChoosyEngine({0: no, 1: later})
    assert ward.infer(engine) == [damaged, refused, answered]
    assert engine.calls == [3]
    states = {job_id: ward.job(job_id).state for job_id in (damaged, refused, unlucky, answered)}
    assert states == {
        damaged: JobState.DECIDED,
        refused: JobState.DECIDED,
        unlucky: JobState.QUEUED,
        answered: JobState.GENERATED,
    }
    assert ward.job(refused).decision_reason == "the model cannot answer: the schema is odd"
    assert ward.job(unlucky).error == "no memory"


def test_a_model_server_that_is_away_costs_no_attempt(ward: Ward) -> None:
    job_id = ward.queue()
    away = GenerationFailure("10.0.0.9 cannot be reached", transient=True, engine_away=True)
    for _ in range(ward.settings.jobs.max_attempts + 2):
        assert ward.infer(ChoosyEngine({0: away})) == []
        job = ward.job(job_id)
        assert (job.state, job.attempts, job.error) == (JobState.QUEUED, 0, away.reason)
        ward.change(job_id, not_before=utc_now())
    assert ward.infer(ScriptedEngine()) == [job_id]
    assert (ward.job(job_id).attempts, ward.job(job_id).error) == (1, None)


def test_a_worker_holds_no_more_jobs_than_a_batch(database: Database, tmp_path: Path) -> None:
    ward = Ward(database, tmp_path)
    ward.settings = ward.settings.model_copy(update={"engine": ward.settings.engine.model_copy(update={"batch": 2})})
    first, second, third = (ward.queue() for _ in range(3))
    urgent: list[str] = []

    def look() -> None:
        with ward.db.reading() as session:
            running = session.scalars(select(Job.id).where(Job.state == JobState.RUNNING)).all()
        assert len(running) <= 2
        if not urgent:
            urgent.append(ward.queue("STAT"))

    assert ward.infer(ScriptedEngine(look)) == [first, second]
    # What came as STAT meanwhile waited for one batch, and is in the next.
    assert ward.infer(ScriptedEngine(look)) == [urgent[0], third]


def test_jobs_of_a_worker_that_died_are_tried_again_one_at_a_time(ward: Ward) -> None:
    """One of them may have killed it; the others must not pay for that with all their attempts."""
    poisoned, *others = [ward.queue() for _ in range(3)]
    assert ward.claim("worker-that-dies", 8) == [poisoned, *others]
    for job_id in (poisoned, *others):
        ward.change(job_id, claim_expires_at=utc_now() - timedelta(seconds=1))
    assert rescue_jobs(ward.db) == 3
    fresh = ward.queue()
    assert ward.claim("worker-1", 8) == [poisoned]
    assert ward.claim("worker-1", 8) == [others[0]]
    assert ward.claim("worker-1", 8) == [others[1]]
    assert ward.claim("worker-1", 8) == [fresh]


def test_every_job_of_a_long_batch_keeps_its_claim(database: Database, tmp_path: Path) -> None:
    ward = Ward(database, tmp_path, lease_s=0.6)
    jobs = [ward.queue() for _ in range(3)]

    def expiries() -> list[datetime]:
        return [job.claim_expires_at for job_id in jobs if (job := ward.job(job_id)).claim_expires_at]

    def take_long() -> None:
        renewed = max(expiries()) + timedelta(seconds=ward.settings.jobs.lease_s)
        services.wait_until(lambda: min(expiries()) > renewed, 30, "every claim renewed for more than a lease")

    assert ward.infer(ScriptedEngine(take_long)) == jobs
    assert [ward.job(job_id).attempts for job_id in jobs] == [1, 1, 1]


def test_a_lost_device_ends_the_worker_and_its_jobs_wait_for_the_next(ward: Ward) -> None:
    jobs = [ward.queue() for _ in range(2)]

    def lose() -> None:
        raise EngineDeviceError("cuda failed and is lost to this process")

    with pytest.raises(EngineDeviceError):
        ward.infer(ScriptedEngine(lose))
    assert {ward.job(job_id).state for job_id in jobs} == {JobState.QUEUED}
    assert ward.job(jobs[0]).error == "cuda failed and is lost to this process"
