"""What a person has signed is corrected: by a report in its place, told wherever the other one was told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from tests.integration.hospital import ADA, BLOCKED, BOB, Hospital, at_once, hospital_with, killed
from tests.integration.test_messages import PATENT, everybody, finish, report_of, statuses, to_hook, told
from tests.integration.test_review_together import delivered, grace_over, on_both_databases, written
from tests.message_peers import webhook_receiver
from tests.services import free_port
from tests.services.process import LOCALHOST
from worker import reporting, review
from worker.db.records import Delivery, Job, Result
from worker.db.records import Review as ReviewRecord
from worker.db.transitions import move_job
from worker.delivery import deliver
from worker.reporting import write_results
from worker.review import Reviewer, ReviewError, decisions
from worker.settings import DicomDestination
from worker.states import DeliveryState, JobState

PACS = DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=4242)


@pytest.fixture
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path}/ledger.db" if sqlite else request.getfixturevalue("postgres_url")
    with hospital_with(tmp_path, url, PACS) as made:
        yield made


def signed(hospital: Hospital) -> str:
    """Return a job that Ada accepted, and whose report is written."""
    job_id = hospital.decided_run(decision="review")
    assert written(hospital, job_id) is JobState.HELD
    review.accept(hospital.db, job_id, ADA)
    assert written(hospital, job_id) is JobState.VERIFIED
    return job_id


def reports(hospital: Hospital, job_id: str) -> list[Result]:
    """Return the signed reports of a job, in order."""
    return [result for result in hospital.results(job_id) if result.kind == "sr" and result.verified]


@on_both_databases
def test_a_signed_report_is_corrected_by_one_that_names_it_as_its_predecessor(hospital: Hospital) -> None:
    job_id = signed(hospital)
    delivered(hospital, job_id)
    outcome = review.edit(hospital.db, job_id, PATENT, BOB, "contrast passes", undo_s=60)
    assert outcome.state is JobState.ACCEPTED
    assert "is corrected; its corrected report, which stands in the place of the signed one, is written in 60 s" in (
        outcome.message
    )
    assert written(hospital, job_id) is JobState.ACCEPTED, "it can be taken back until then"
    grace_over(hospital, job_id)
    assert written(hospital, job_id) is JobState.VERIFIED
    first, second = reports(hospital, job_id)
    assert second.predecessor_sop_instance_uid == first.sop_instance_uid
    ds = dcmread(second.path)
    referenced = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert referenced.ReferencedSOPInstanceUID == first.sop_instance_uid
    assert (ds.VerificationFlag, ds.VerifyingObserverSequence[0].VerifyingObserverName) == ("VERIFIED", BOB.name)
    assert ds.SeriesInstanceUID == dcmread(first.path).SeriesInstanceUID
    states = {delivery.result_id: delivery.state for delivery in hospital.deliveries(job_id)}
    assert (states[first.id], states[second.id]) == (DeliveryState.DELIVERED, DeliveryState.PENDING)


def test_what_was_signed_stands_until_a_correction_is_final(hospital: Hospital) -> None:
    job_id = signed(hospital)
    review.edit(hospital.db, job_id, PATENT, BOB, undo_s=60)
    with pytest.raises(ReviewError, match=r"only Broca\^Bob can take the decision back"):
        review.undo(hospital.db, job_id, ADA)
    assert hospital.delivery_states(job_id) == {DeliveryState.PENDING}
    assert review.undo(hospital.db, job_id, BOB).state is JobState.VERIFIED
    assert len(reports(hospital, job_id)) == 1
    with pytest.raises(ReviewError, match="these findings are signed already; change what is wrong"):
        review.edit(hospital.db, job_id, BLOCKED, ADA)
    with pytest.raises(ReviewError, match=r"it was accepted by .* UTC; edit what is signed, or reject it"):
        review.accept(hospital.db, job_id, BOB)
    # And back again: each report stands in the place of the one before it.
    for findings in (PATENT, BLOCKED):
        review.edit(hospital.db, job_id, findings, BOB)
        assert written(hospital, job_id) is JobState.VERIFIED
    one, two, three = reports(hospital, job_id)
    assert [one.sop_instance_uid, two.sop_instance_uid] == [
        two.predecessor_sop_instance_uid,
        three.predecessor_sop_instance_uid,
    ]
    states = {delivery.result_id: delivery.state for delivery in hospital.deliveries(job_id)}
    assert [states[row.id] for row in (one, two, three)] == [
        *(DeliveryState.CANCELLED, DeliveryState.CANCELLED),
        DeliveryState.PENDING,
    ]


def test_what_was_on_its_way_when_it_was_corrected_is_not_sent_again(tmp_path: Path, sqlite_url: str) -> None:
    nobody = DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=free_port())
    with hospital_with(tmp_path, sqlite_url, nobody, retry_after_s=0.001, retry_at_most_s=0.001) as hospital:
        job_id = signed(hospital)
        with hospital.db.writing() as session:
            for row in session.scalars(select(Delivery)):
                row.state = DeliveryState.SENDING
        review.edit(hospital.db, job_id, PATENT, BOB)
        written(hospital, job_id)
        first, second = reports(hospital, job_id)
        with hospital.db.writing() as session:
            for row in session.scalars(select(Delivery)):
                row.state = DeliveryState.PENDING
        deliver(hospital.db, hospital.settings, "pacs")
        states = {delivery.result_id: delivery.state for delivery in hospital.deliveries(job_id)}
        assert (states[first.id], states[second.id]) == (DeliveryState.CANCELLED, DeliveryState.PENDING)


def test_a_correction_needs_the_report_that_was_seen(hospital: Hospital) -> None:
    job_id = signed(hospital)
    seen = review.seen_digest(hospital.job(job_id))
    review.edit(hospital.db, job_id, PATENT, ADA, seen=seen)
    written(hospital, job_id)
    with pytest.raises(ReviewError, match="has changed since it was shown; look at it again"):
        review.edit(hospital.db, job_id, {"patency": "blocked"}, BOB, seen=seen)
    review.claim(hospital.db, job_id, ADA, 60)
    with pytest.raises(ReviewError, match="open since"):
        review.edit(hospital.db, job_id, {"patency": "blocked"}, BOB)


def test_a_correction_that_cannot_be_written_comes_back_to_a_person_and_is_not_tried_anew(hospital: Hospital) -> None:
    job_id = signed(hospital)
    review.edit(hospital.db, job_id, PATENT, BOB)
    for image in (hospital.settings.data_dir / "spool").rglob("*"):
        if image.is_file():
            os.chmod(image, 0o600)
            image.write_bytes(b"")
    assert written(hospital, job_id) is JobState.HELD
    assert "cannot be written" in (hospital.job(job_id).error or "")
    with pytest.raises(ReviewError, match="a signed report of it is out; edit it, or reject it"):
        review.retry(hospital.db, job_id, BOB)


def test_what_is_signed_stands_until_a_person_says_more_though_a_correction_failed(hospital: Hospital) -> None:
    first = hospital.decided_volume("A1", [6, 7, 8], 1, decision="review")
    for decide in (lambda: None, lambda: review.accept(hospital.db, first, ADA)):
        decide()
        written(hospital, first)
    with hospital.db.writing() as session:
        for state in (JobState.ACCEPTED, JobState.HELD):
            move_job(session, session.get_one(Job, first), state, "it could not be written")
    second = hospital.decided_volume("A1", [9], 2)
    assert written(hospital, second) is JobState.HELD, "nothing that nobody has seen takes its place"
    review.accept(hospital.db, second, BOB)
    assert written(hospital, second) is JobState.VERIFIED
    assert hospital.job(first).state is JobState.SUPERSEDED
    (before,), (after,) = reports(hospital, first), reports(hospital, second)
    assert after.predecessor_sop_instance_uid == before.sop_instance_uid


@on_both_databases
def test_of_many_who_correct_at_once_exactly_one_does(hospital: Hospital) -> None:
    job_id = signed(hospital)
    seen = review.seen_digest(hospital.job(job_id))
    people = [Reviewer(f"Reader^{number}", "St Elsewhere", str(number)) for number in range(4)]
    corrected = []

    def work(person: Reviewer) -> None:
        try:
            review.edit(hospital.db, job_id, PATENT, person, seen=seen)
            corrected.append(person.name)
        except ReviewError:
            pass

    at_once(work, people)
    assert len(corrected) == 1
    assert written(hospital, job_id) is JobState.VERIFIED
    assert len(reports(hospital, job_id)) == 2
    with hospital.db.reading() as session:
        assert (
            session.scalars(select(ReviewRecord.reviewer_name).where(ReviewRecord.action == "edit")).all() == corrected
        )


def test_everybody_who_was_told_is_told_of_the_correction_and_of_its_end(tmp_path: Path, sqlite_url: str) -> None:
    with everybody(tmp_path, sqlite_url, when={"decisions": ["accept"]}) as (hospital, server, there, receiver):
        job_id = hospital.decided_run(decision="review")
        finish(hospital, job_id)
        review.accept(hospital.db, job_id, ADA)
        finish(hospital, job_id)
        assert (report_of(server)["status"], statuses(there), told(receiver)) == ("final", ["F"], ["held", "verified"])
        review.edit(hospital.db, job_id, PATENT, BOB, undo_s=60)
        review.undo(hospital.db, job_id, BOB)
        finish(hospital, job_id)
        assert (statuses(there), told(receiver)) == (["F"], ["held", "verified"]), (
            "nobody is told of what was taken back"
        )
        review.edit(hospital.db, job_id, PATENT, BOB)
        finish(hospital, job_id)
        report, (observation,) = report_of(server), server.of("Observation")
        assert (report["status"], observation["valueCodeableConcept"]["text"]) == ("amended", "Absent")
        assert "Broca, Bob" in report["resultsInterpreter"][0]["display"]
        assert (statuses(there), told(receiver)) == (["F", "C"], ["held", "verified", "amended"])
        review.reject(hospital.db, job_id, ADA, "wrong patient")
        finish(hospital, job_id)
        assert report_of(server)["status"] == "entered-in-error"
        assert (statuses(there), told(receiver)[-1]) == (["F", "C", "X"], "rejected")


def test_two_signatures_that_are_told_late_are_told_as_what_each_was(tmp_path: Path, sqlite_url: str) -> None:
    with webhook_receiver() as receiver, hospital_with(tmp_path, sqlite_url, to_hook(receiver)) as hospital:
        job_id = hospital.decided_run(decision="review")
        for decide in (
            lambda: None,
            lambda: review.accept(hospital.db, job_id, ADA),
            lambda: review.edit(hospital.db, job_id, PATENT, BOB),
        ):
            decide()
            write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        finish(hospital, job_id)
        assert told(receiver) == ["verified", "amended"], "that it was held is of no use any more"


def test_who_has_the_signed_report_gets_the_correction_whatever_its_rules(tmp_path: Path, sqlite_url: str) -> None:
    rules = {"decisions": ["accept"]}
    only_accepted = DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=4242, when=rules)
    with hospital_with(tmp_path, sqlite_url, only_accepted) as hospital:
        has_it, has_it_not = signed(hospital), hospital.decided_run("A2", decision="review")
        delivered(hospital, has_it)
        written(hospital, has_it_not)
        for job_id in (has_it, has_it_not):
            review.edit(hospital.db, job_id, PATENT, BOB)
            assert written(hospital, job_id) is JobState.VERIFIED
        assert DeliveryState.PENDING in hospital.delivery_states(has_it)
        assert hospital.delivery_states(has_it_not) == set()


def test_a_process_killed_while_it_corrects_or_writes_doubles_nothing(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = signed(hospital)
    with monkeypatch.context() as broken:
        broken.setattr(decisions, "add_review", killed)
        hospital.killed_while(lambda db: review.edit(db, job_id, PATENT, BOB))
    assert hospital.job(job_id).state is JobState.VERIFIED
    review.edit(hospital.db, job_id, PATENT, BOB)
    with monkeypatch.context() as broken:
        broken.setattr(reporting, "_queue", killed)
        hospital.killed_while(lambda db: write_results(db, hospital.spool, hospital.settings, job_id))
    assert hospital.job(job_id).state is JobState.ACCEPTED
    assert len(reports(hospital, job_id)) == 1
    assert written(hospital, job_id) is JobState.VERIFIED
    assert len(reports(hospital, job_id)) == 2
