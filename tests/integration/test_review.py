"""A person decides about an answer, once; what stands in the way is said in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.report import Person
from tests.integration.hospital import ADA, BLOCKED, BOB, Hospital, at_once
from worker import review
from worker.db import queries
from worker.db.records import Delivery, Event, Job
from worker.db.records import Review as ReviewRecord
from worker.db.transitions import move_delivery, move_job
from worker.reporting import write_results
from worker.review import ReviewError
from worker.settings import DicomDestination
from worker.states import DeliveryState, JobState

PACS = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=4242)


#: For tests in which the database's own ways with transactions, JSON or text matter.
on_both_databases = pytest.mark.parametrize("hospital", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path}/ledger.db" if sqlite else request.getfixturevalue("postgres_url")
    made = Hospital(tmp_path, url, [PACS])
    yield made
    made.db.close()


def in_state(hospital: Hospital, state: JobState, accession: str = "A1", **columns: object) -> str:
    """Return a job in any state; its results are not written."""
    return hospital.decided_run(accession, model_input={"incomplete": []}, state=state, **columns)


def reviews(hospital: Hospital, job_id: str) -> list[ReviewRecord]:
    with hospital.db.reading() as session:
        found = select(ReviewRecord).where(ReviewRecord.job_id == job_id).order_by(ReviewRecord.id)
        return list(session.scalars(found))


@pytest.mark.parametrize("state", [JobState.HELD, JobState.RELEASED])
def test_accepting_signs_the_models_findings(hospital: Hospital, state: JobState) -> None:
    job_id = in_state(hospital, state)
    outcome = review.accept(hospital.db, job_id, ADA, " looks right ")
    assert (outcome.job_id, outcome.state) == (job_id, JobState.ACCEPTED)
    (decided,) = reviews(hospital, job_id)
    assert (decided.action, decided.reviewer_name, decided.reviewer_organization) == (
        "accept",
        "Lovelace^Ada",
        "St Elsewhere",
    )
    assert (decided.findings, decided.comment) == (BLOCKED, "looks right")


def test_accepting_an_answer_without_findings_is_refused_and_says_what_to_do(hospital: Hospital) -> None:
    job_id = in_state(hospital, JobState.HELD, findings=None, decision_reason="the answer is empty")
    with pytest.raises(ReviewError, match=r"no findings to accept \(the answer is empty\); edit it and give the find"):
        review.accept(hospital.db, job_id, ADA)
    assert hospital.job(job_id).state is JobState.HELD
    assert reviews(hospital, job_id) == []


@pytest.mark.parametrize(
    ("findings", "named"),
    [
        ({"patency": "half open"}, r"patency: .*\(got 'half open'\)"),
        ({"patency": "patent", "patensy": 1}, r"unknown field 'patensy'; the findings have patency, probabilities"),
        ({}, r"patency: Field required"),
        ({"patency": "patent", "probabilities": {"patent": math.nan}}, r"probabilities.patent: .*\(got nan\)"),
        ({"patency": "patent", "probabilities": {"patent": 7}}, r"probabilities.patent: .*\(got 7\)"),
    ],
)
def test_edited_findings_are_checked_like_a_form(hospital: Hospital, findings: dict[str, object], named: str) -> None:
    job_id = in_state(hospital, JobState.HELD)
    with pytest.raises(ReviewError, match=named):
        review.edit(hospital.db, job_id, findings, ADA)
    assert hospital.job(job_id).state is JobState.HELD


@on_both_databases
def test_edited_findings_are_what_is_signed_and_the_models_own_are_kept(hospital: Hospital) -> None:
    job_id = in_state(hospital, JobState.HELD)
    review.edit(hospital.db, job_id, {"patency": "patent"}, ADA, "contrast passes")
    assert reviews(hospital, job_id)[0].findings == {"patency": "patent", "probabilities": {}}
    assert hospital.job(job_id).findings == BLOCKED


def test_a_job_whose_images_the_model_never_saw_cannot_be_edited(hospital: Hospital) -> None:
    job_id = hospital.decided_run(
        model_input=None, findings=None, state=JobState.HELD, decision_reason="failed 3 times, last: no decoder"
    )
    with pytest.raises(ReviewError, match=r"never saw its images \(failed 3 times, last: no decoder\); retry"):
        review.edit(hospital.db, job_id, {"patency": "patent"}, ADA)


def test_rejecting_a_held_answer_needs_a_reason_and_ends_it(hospital: Hospital) -> None:
    job_id = in_state(hospital, JobState.HELD)
    with pytest.raises(ReviewError, match="a rejection needs a reason"):
        review.reject(hospital.db, job_id, ADA, "  ")
    review.reject(hospital.db, job_id, ADA, "motion")
    assert hospital.job(job_id).state is JobState.REJECTED
    assert [(r.action, r.comment) for r in reviews(hospital, job_id)] == [("reject", "motion")]


@on_both_databases
def test_rejecting_a_released_answer_stops_what_is_unsent_and_names_what_is_sent(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    sent = hospital.deliveries(job_id)[0]
    with hospital.db.writing() as session:
        row = session.get_one(Delivery, sent.id)
        for state in (DeliveryState.SENDING, DeliveryState.DELIVERED):
            move_delivery(session, row, state, "test", study_id=None)
    outcome = review.reject(hospital.db, job_id, ADA, "wrong vessel")
    uid = hospital.results(job_id)[0].sop_instance_uid
    assert [(entry.sop_instance_uid, entry.destination) for entry in outcome.already_sent] == [(uid, "pacs")]
    assert f"{uid} to pacs" in outcome.message
    assert [d.state for d in hospital.deliveries(job_id)] == [DeliveryState.DELIVERED, DeliveryState.CANCELLED]


@on_both_databases
def test_a_retry_starts_over(hospital: Hospital) -> None:
    job_id = in_state(hospital, JobState.HELD, attempts=3, error="no decoder")
    outcome = review.retry(hospital.db, job_id, ADA)
    job = hospital.job(job_id)
    assert (outcome.state, job.state, job.attempts) == (JobState.QUEUED, JobState.QUEUED, 0)
    assert (job.findings, job.decision, job.error, job.generation, job.confidence) == (None,) * 5
    assert [r.action for r in reviews(hospital, job_id)] == ["retry"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (JobState.QUEUED, "its answer is still being worked on"),
        (JobState.DECIDED, "its answer is still being worked on"),
        (JobState.SUPERSEDED, "late images made a newer revision"),
        (JobState.ACCEPTED, "it is accepted"),
    ],
)
def test_other_states_are_refused_in_words(hospital: Hospital, state: JobState, words: str) -> None:
    job_id = in_state(hospital, state)
    for decide in (
        lambda: review.accept(hospital.db, job_id, ADA),
        lambda: review.edit(hospital.db, job_id, {"patency": "patent"}, ADA),
        lambda: review.reject(hospital.db, job_id, ADA, "no"),
        lambda: review.retry(hospital.db, job_id, ADA),
    ):
        with pytest.raises(ReviewError, match=words):
            decide()
    assert hospital.job(job_id).state is state


def test_a_released_answer_is_not_retried(hospital: Hospital) -> None:
    with pytest.raises(ReviewError, match="it is released, not held; accept, edit or reject it"):
        review.retry(hospital.db, in_state(hospital, JobState.RELEASED), ADA)


@on_both_databases
def test_the_second_of_two_people_is_told_who_was_faster(hospital: Hospital) -> None:
    job_id = in_state(hospital, JobState.HELD)
    refused: list[str] = []

    def decide(person: Person) -> None:
        try:
            review.accept(hospital.db, job_id, person)
        except ReviewError as error:
            refused.append(f"{person.name}: {error}")

    at_once(decide, (ADA, BOB))
    (decided,) = reviews(hospital, job_id)
    assert len(refused) == 1
    assert f"it was accepted by {decided.reviewer_name} at" in refused[0]
    assert not refused[0].startswith(decided.reviewer_name)


@on_both_databases
def test_a_decision_between_our_look_and_our_update_is_noticed(hospital: Hospital) -> None:
    """On PostgreSQL the loser waits for the winner's commit and then changes nothing."""
    if hospital.db.is_sqlite:
        # SQLite lets one writer in at a time; there the other's transaction is over before ours begins.
        job_id = in_state(hospital, JobState.HELD)
        review.reject(hospital.db, job_id, BOB, "no")
        with pytest.raises(ReviewError, match=r"rejected by Broca\^Bob"):
            review.accept(hospital.db, job_id, ADA)
        return
    job_id = in_state(hospital, JobState.HELD)
    with hospital.db.writing() as ours:
        seen = ours.get_one(Job, job_id)
        review.reject(hospital.db, job_id, BOB, "no")
        assert not move_job(ours, seen, JobState.ACCEPTED, "too late")
    assert hospital.job(job_id).state is JobState.REJECTED


@pytest.mark.parametrize(
    ("name", "organization", "words"),
    [
        ("", "Org", "name is missing"),
        (" ^ ", "Org", "name is missing"),
        ("A\\B", "Org", "the reviewer's name .* cannot be written into a DICOM object"),
        ("A=B", "Org", "cannot be written into a DICOM object"),
        ("A" * 65, "Org", "cannot be written into a DICOM object"),
        ("A", "O\n", "the reviewer's organisation .* cannot be written into a DICOM object"),
        ("A", "", "organisation is missing.*set review.organization"),
    ],
)
def test_a_signature_that_dicom_cannot_hold_is_refused(
    hospital: Hospital, name: str, organization: str, words: str
) -> None:
    with pytest.raises(ReviewError, match=words):
        review.accept(hospital.db, "any", Person(name, organization))


@on_both_databases
def test_a_job_is_found_by_id_its_beginning_or_an_accession_number(hospital: Hospital) -> None:
    held = in_state(hospital, JobState.HELD, "A1", id="abcd" + "0" * 28)
    in_state(hospital, JobState.RELEASED, "A1", number=2)
    other = in_state(hospital, JobState.HELD, "B2", id="abcd" + "1" * 28)
    with hospital.db.reading() as session:
        assert queries.find_job(session, held).id == held
        assert queries.find_job(session, "abcd0").id == held
        assert queries.find_job(session, "A1").id == held, "the one that waits is meant"
        assert queries.find_job(session, "B2").id == other
        with pytest.raises(queries.QueryError, match=r"'abcd' means 2 jobs(.|\n)*" + held):
            queries.find_job(session, "abcd")
        for unknown in ("", "abc", "a%cd0", "X9"):
            with pytest.raises(queries.QueryError, match="no job has the id"):
                queries.find_job(session, unknown)
    with pytest.raises(ReviewError, match="no job has the id or accession number 'X9'"):
        review.reject(hospital.db, "X9", ADA, "no")


@on_both_databases
def test_the_queue_shows_what_waits_most_urgent_first(hospital: Hospital) -> None:
    routine = in_state(hospital, JobState.HELD, "A1")
    urgent = in_state(hospital, JobState.HELD, "B2", priority=9)
    in_state(hospital, JobState.RELEASED, "C3")
    cases = review.queue(hospital.db)
    assert [case.id for case in cases] == [urgent, routine]
    assert (cases[1].accession_number, cases[1].patient_id, cases[1].confidence) == ("A1", "P-1", 0.93)


def test_every_decision_is_in_the_history(hospital: Hospital) -> None:
    job_id = in_state(hospital, JobState.HELD)
    review.reject(hospital.db, job_id, ADA, "motion")
    with hospital.db.reading() as session:
        last = session.scalars(select(Event).order_by(Event.id.desc())).first()
        assert last is not None
        assert (last.from_state, last.to_state, last.reason) == ("held", "rejected", "rejected by Lovelace^Ada: motion")
