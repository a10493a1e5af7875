"""Several reconstructions of one examination: the best is asked, the others say why not, and none is ever lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.spool import Spool
from models.adapter import adapters
from models.confidence import Outcome
from tests.integration.hospital import at_once
from tests.phantoms.ct import write_ct
from tests.phantoms.volume import PhantomPlane, axial_planes
from tests.received import association
from worker.assembly import assemble
from worker.claims import claim_jobs, end_in_review
from worker.db.arrivals import Arrival, commit_arrivals
from worker.db.columns import utc_now
from worker.db.records import Job, Series
from worker.db.sessions import Database
from worker.settings import RouteRule, Settings
from worker.states import JobState, SeriesState

ADAPTERS = adapters()
STABLE_AFTER = timedelta(seconds=10)
PLANES = axial_planes(20)


class Department:
    """Sends series of one study and lets assembly look at each when it is there."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.db, self.folder = database, folder
        self.settings = Settings(data_dir=folder, dicom={"stable_after_s": 10})
        self.spool = Spool(folder / "spool")
        self._ids: dict[int, int] = {}

    def receive(self, number: int, planes: Sequence[PhantomPlane] = PLANES, *, whole: bool = True, **said: Any) -> None:
        """Send one series; without `whole` its association stays open."""
        folder = self.folder / f"{number}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        name = f"a{folder.name}"
        arrivals = [
            Arrival(self.spool.put_bytes(file.path.read_bytes()), file.header, datetime.now(UTC), name, "CT", "W")
            for file in write_ct(folder, planes, series=str(number), **said)
        ]
        commit_arrivals(
            self.db, [*arrivals, *([association(name, instances=len(planes))] if whole else [])], STABLE_AFTER
        )
        with self.db.reading() as session:
            uid = arrivals[0].header.series_instance_uid
            self._ids[number] = session.scalars(select(Series.id).where(Series.series_instance_uid == uid)).one()

    def assemble(self, number: int) -> list[str]:
        return assemble(self.db, self.settings, ADAPTERS, self._ids[number])

    def send(self, number: int, planes: Sequence[PhantomPlane] = PLANES, **said: Any) -> list[str]:
        self.receive(number, planes, **said)
        return self.assemble(number)

    def series(self, number: int) -> Series:
        with self.db.reading() as session:
            return session.get_one(Series, self._ids[number])

    def job(self, job_id: str) -> Job:
        with self.db.reading() as session:
            return session.get_one(Job, job_id)

    def answer(self, job_id: str) -> None:
        """Have the job answered and saved."""
        with self.db.writing() as session:
            job = session.get_one(Job, job_id)
            job.generation, job.state = {"text": "{}"}, JobState.HELD

    def fail(self, job_id: str) -> None:
        """Have the job end as one whose images cannot be shown to the model."""
        (claim,) = claim_jobs(self.db, self.settings, "a worker", 1)
        assert claim.job_id == job_id
        assert end_in_review(self.db, claim, "the images cannot be shown to the model")


@pytest.fixture
def department(database: Database, tmp_path: Path) -> Department:
    return Department(database, tmp_path)


def test_a_worse_series_that_comes_later_is_not_asked_and_says_why(department: Department) -> None:
    (job_id,) = department.send(4)
    assert department.send(5, ConvolutionKernel="B70f") == []
    set_aside = department.series(5)
    assert (set_aside.state, set_aside.route_rule, set_aside.route_adapter) == (
        SeriesState.UNROUTED,
        "preferred series",
        None,
    )
    assert set_aside.route_reason == (
        "not asked: series 4 (5.0 mm, B30f) is preferred because of "
        "kernel B30f (soft tissue) against kernel B70f (sharp)"
    )
    assert department.job(job_id).state is JobState.QUEUED


def test_a_better_series_takes_the_place_of_one_that_waits(department: Department) -> None:
    (first,) = department.send(5, ConvolutionKernel="B70f")
    (second,) = department.send(4)
    assert (department.job(first).state, department.job(second).state) == (JobState.SUPERSEDED, JobState.QUEUED)
    assert "not asked: series 4 (5.0 mm, B30f) is preferred" in (department.series(5).route_reason or "")


def test_a_better_series_after_the_answer_makes_a_new_answer(department: Department) -> None:
    (first,) = department.send(5, ConvolutionKernel="B70f")
    department.answer(first)
    (second,) = department.send(4)
    assert (department.job(first).state, department.job(second).state) == (JobState.HELD, JobState.QUEUED)


def test_when_the_preferred_one_gives_no_answer_the_other_is_asked(department: Department) -> None:
    (preferred,) = department.send(4)
    assert department.send(5, ConvolutionKernel="B70f") == []
    department.fail(preferred)
    assert department.job(preferred).decision == Outcome.REVIEW.value
    waiting = department.series(5)
    assert (waiting.state, waiting.route_rule) == (SeriesState.RECEIVING, None)
    assert waiting.due_at is not None
    assert waiting.due_at <= utc_now()
    (job_id,) = department.assemble(5)
    assert department.job(job_id).state is JobState.QUEUED
    assert department.series(5).route_adapter == "abdominal_trauma"


def test_one_that_was_taken_back_is_asked_again_when_the_better_one_fails(department: Department) -> None:
    (first,) = department.send(5, ConvolutionKernel="B70f")
    (second,) = department.send(4)
    department.fail(second)
    (again,) = department.assemble(5)
    assert (department.job(again).revision, department.job(first).state) == (2, JobState.SUPERSEDED)


def test_a_study_in_which_everything_fails_is_asked_about_all_of_it_and_ends(department: Department) -> None:
    (first,) = department.send(4)
    assert department.send(5, ConvolutionKernel="B70f") == []
    department.fail(first)
    (second,) = department.assemble(5)
    department.fail(second)
    assert department.assemble(4) == department.assemble(5) == []
    assert {department.series(number).state for number in (4, 5)} == {SeriesState.ROUTED}


@pytest.mark.parametrize(
    ("planes", "said"),
    [
        # Another part of the body.
        ([PhantomPlane((x, y, z + 300.0)) for x, y, z in (plane.position for plane in PLANES)], {}),
        # Another examination: the patient was laid down anew.
        (PLANES, {"FrameOfReferenceUID": "1.2.3"}),
    ],
)
def test_what_the_other_does_not_show_is_asked(
    department: Department, planes: list[PhantomPlane], said: dict[str, str]
) -> None:
    assert len(department.send(4)) == len(department.send(5, planes, ConvolutionKernel="B70f", **said)) == 1


def test_a_site_rule_that_names_the_adapter_still_asks(department: Department) -> None:
    rule = RouteRule(name="all of it", when={"series_description": "*lung*"}, adapter="abdominal_trauma")
    department.settings = department.settings.model_copy(update={"routes": [rule]})
    (first,) = department.send(4)
    (second,) = department.send(5, ConvolutionKernel="B70f", SeriesDescription="lung")
    assert {department.job(job_id).state for job_id in (first, second)} == {JobState.QUEUED}
    # What a site rule asks for takes no other series' place, and nothing takes its place.
    assert department.send(6, ConvolutionKernel="B60f") == []
    assert "series 4" in (department.series(6).route_reason or "")


def test_a_series_waits_for_others_that_are_being_received(department: Department) -> None:
    department.receive(4, PLANES[:10], whole=False)
    (early,) = department.send(5, ConvolutionKernel="B70f")
    wait = department.job(early).not_before - utc_now()
    assert timedelta(seconds=5) < wait <= STABLE_AFTER
    department.receive(4, PLANES[10:], first_number=50)
    with department.db.writing() as session:
        session.get_one(Series, department.series(4).id).last_instance_at -= STABLE_AFTER
    (preferred,) = department.assemble(4)
    assert department.job(early).state is JobState.SUPERSEDED
    assert department.job(preferred).not_before <= utc_now()


def test_late_images_of_an_answered_series_are_asked_about(department: Department) -> None:
    (first,) = department.send(5, PLANES[:12], ConvolutionKernel="B70f")
    department.answer(first)
    department.send(4)
    (late,) = department.send(5, PLANES[12:], first_number=50, ConvolutionKernel="B70f")
    assert department.job(late).revision == 2


def test_two_series_that_become_whole_at_once_see_each_other(department: Department) -> None:
    kernels = {4: "B30f", 5: "B70f", 6: "B60f", 7: "B80f"}
    for number, kernel in kernels.items():
        department.receive(number, ConvolutionKernel=kernel)
    at_once(department.assemble, kernels)
    with department.db.reading() as session:
        left = session.scalars(select(Job.series_id).where(Job.state != JobState.SUPERSEDED)).all()
    assert left == [department.series(4).id]
    # Each names the one that took its place; that may have lost its own to series 4 since.
    assert all((department.series(number).route_reason or "").startswith("not asked: series ") for number in (5, 6, 7))
