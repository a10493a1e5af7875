"""What was decided or signed becomes DICOM objects in the outbox: once, checked, and only what may leave."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.spool import Spool, SpoolError
from models.rendering import RenderInterrupted
from tests.integration.hospital import ADA, BLOCKED, INJURED, Hospital, provenance
from tests.services import program
from worker import reporting, review
from worker.audit.events import Actor
from worker.audit.owed import Witness
from worker.audit.trail import AuditTrail
from worker.db.records import Instance, Job
from worker.reporting import write_results
from worker.settings import DicomDestination
from worker.states import DeliveryState, JobState

PACS = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=4242)
ARCHIVE = DicomDestination(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=4243)


#: For tests in which the database's own ways with transactions, JSON or text matter.
on_both_databases = pytest.mark.parametrize("hospital", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path}/ledger.db" if sqlite else request.getfixturevalue("postgres_url")
    made = Hospital(tmp_path, url, [PACS, ARCHIVE])
    yield made
    made.db.close()


def write(hospital: Hospital, job_id: str) -> tuple[str, ...]:
    return write_results(hospital.db, hospital.spool, hospital.settings, job_id)


def written(hospital: Hospital, job_id: str) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(result.path) for result in hospital.results(job_id)]


@on_both_databases
def test_a_released_answer_is_an_unverified_sr_and_a_capture_for_every_destination(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    assert write(hospital, job_id) == ("pacs", "archive")
    assert hospital.job(job_id).state is JobState.RELEASED
    sr, capture = written(hospital, job_id)
    assert (sr.Modality, sr.VerificationFlag, sr.CompletionFlag) == ("SR", "UNVERIFIED", "COMPLETE")
    assert (sr.PatientID, sr.AccessionNumber) == ("P-1", "A1")
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == hospital.job(job_id).unit_uid
    assert sorted((d.destination, d.state) for d in hospital.deliveries(job_id)) == [
        *[("archive", DeliveryState.PENDING)] * 2,
        *[("pacs", DeliveryState.PENDING)] * 2,
    ]


def test_writing_again_writes_nothing_twice(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    write(hospital, job_id)
    before = [(r.id, r.sop_instance_uid, r.digest) for r in hospital.results(job_id)]
    assert write(hospital, job_id) == ()
    assert [(r.id, r.sop_instance_uid, r.digest) for r in hospital.results(job_id)] == before
    assert len(hospital.deliveries(job_id)) == 4


def test_a_crash_before_the_commit_leaves_a_job_that_is_written_as_the_same_objects(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = hospital.decided_run()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("worker.reporting._commit", _interrupted)
        write(hospital, job_id)
    assert hospital.job(job_id).state is JobState.DECIDED
    orphans = {path.stem for path in hospital.spool.objects()}
    write(hospital, job_id)
    assert {result.digest for result in hospital.results(job_id)} <= orphans


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@on_both_databases
def test_two_workers_at_once_write_one_set_of_results(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = hospital.decided_run()
    build, others = reporting._build, [write]

    def overtaken(*assignment: Any) -> Any:
        built = build(*assignment)
        if others:
            assert others.pop()(hospital, job_id) == ("pacs", "archive")
        return built

    monkeypatch.setattr(reporting, "_build", overtaken)
    assert write(hospital, job_id) == ()
    assert len(hospital.results(job_id)) == 2
    assert len(hospital.deliveries(job_id)) == 4


@on_both_databases
def test_a_held_answer_is_kept_but_not_queued(hospital: Hospital) -> None:
    job_id = hospital.decided_run(decision="review", decision_reason="0.61 is below 0.95")
    assert write(hospital, job_id) == ()
    job = hospital.job(job_id)
    assert (job.state, job.decision_reason) == (JobState.HELD, "0.61 is below 0.95")
    assert len(hospital.results(job_id)) == 2
    assert hospital.deliveries(job_id) == []


def test_a_job_without_findings_is_held_with_the_reason_and_writes_nothing(hospital: Hospital) -> None:
    job_id = hospital.decided_run(findings=None, decision="review", decision_reason="the answer is empty")
    assert write(hospital, job_id) == ()
    assert hospital.job(job_id).state is JobState.HELD
    assert hospital.job(job_id).decision_reason == "the answer is empty"
    assert hospital.results(job_id) == []


def test_pixels_that_differ_from_what_the_model_saw_hold_the_job(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    with hospital.db.writing() as session:
        job = session.get_one(Job, job_id)
        job.model_input = {**(job.model_input or {}), "digest": "0" * 64}
    assert write(hospital, job_id) == ()
    job = hospital.job(job_id)
    assert job.state is JobState.HELD
    assert "differ from those the model saw" in (job.error or "")
    assert hospital.results(job_id) == []


def test_a_source_image_that_is_gone_holds_the_job_before_and_after_a_person_signed(hospital: Hospital) -> None:
    job_id = hospital.decided_run(decision="review")
    write(hospital, job_id)
    review.accept(hospital.db, job_id, ADA)
    with hospital.db.reading() as session:
        Path(session.query(Instance).one().path).unlink()
    assert write(hospital, job_id) == ()
    assert hospital.job(job_id).state is JobState.HELD
    assert "the results cannot be written" in (hospital.job(job_id).error or "")


def test_a_full_disk_leaves_the_job_for_the_next_ring(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = hospital.decided_run()
    with monkeypatch.context() as patched, pytest.raises(SpoolError):
        patched.setattr(Spool, "put_bytes", _no_space)
        write(hospital, job_id)
    assert hospital.job(job_id).state is JobState.DECIDED
    assert write(hospital, job_id) == ("pacs", "archive")


def _no_space(*_: Any) -> None:
    raise SpoolError("no space left on device")


@on_both_databases
def test_an_accepted_answer_becomes_the_verified_successor_of_the_held_one(hospital: Hospital) -> None:
    job_id = hospital.decided_run(decision="review")
    write(hospital, job_id)
    review.accept(hospital.db, job_id, ADA, "clear")
    assert write(hospital, job_id) == ("pacs", "archive")
    assert hospital.job(job_id).state is JobState.VERIFIED
    draft, _, signed, capture = written(hospital, job_id)
    assert (signed.VerificationFlag, signed.PreliminaryFlag) == ("VERIFIED", "FINAL")
    observer = signed.VerifyingObserverSequence[0]
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("Lovelace^Ada", "St Elsewhere")
    assert _predecessors(signed) == [draft.SOPInstanceUID]
    assert "Lovelace" in capture.ImageComments
    assert signed.SeriesInstanceUID != draft.SeriesInstanceUID
    sent = {result.verified for result in hospital.results(job_id) if result.deliveries}
    assert sent == {True}, "the held draft must not leave"


@on_both_databases
def test_an_edited_answer_says_who_edited_it_and_what_they_found(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    write(hospital, job_id)
    review.edit(hospital.db, job_id, {"patency": "patent"}, ADA, "contrast passes")
    assert write(hospital, job_id) == ("pacs", "archive")
    _, _, signed, capture = written(hospital, job_id)
    assert "Vessel patent" in signed.to_json()
    assert "EDITED" in capture.ImageComments.upper()
    unsigned = [d.state for r in hospital.results(job_id) if not r.verified for d in r.deliveries]
    assert set(unsigned) == {DeliveryState.CANCELLED}, "what was replaced before it was sent is not sent any more"


def test_an_answer_that_did_not_parse_can_be_given_by_a_person(hospital: Hospital) -> None:
    job_id = hospital.decided_run(findings=None, confidence=None, decision="review", decision_reason="no label")
    write(hospital, job_id)
    review.edit(hospital.db, job_id, {"patency": "patent"}, ADA)
    assert write(hospital, job_id) == ("pacs", "archive")
    signed, _ = written(hospital, job_id)
    assert signed.VerificationFlag == "VERIFIED"
    assert "PredecessorDocumentsSequence" not in signed


def test_an_organisation_that_the_review_lacks_comes_from_the_settings(hospital: Hospital) -> None:
    witness = Witness(AuditTrail(hospital.settings), Actor("ada"))
    reviewer = review.reviewer(hospital.settings, "Lovelace^Ada", witness=witness)
    assert (reviewer.name, reviewer.organization) == ("Lovelace^Ada", "City Hospital")


def test_a_retried_job_signs_its_own_draft_and_not_an_older_one(hospital: Hospital) -> None:
    job_id = hospital.decided_run(decision="review")
    write(hospital, job_id)
    answers = [{"patency": "patent"}, BLOCKED]
    for findings in answers:
        _answer_again(hospital, job_id, findings)
        write(hospital, job_id)
    review.accept(hospital.db, job_id, ADA)
    write(hospital, job_id)
    results = hospital.results(job_id)
    drafts = [r for r in results if r.kind == "sr" and not r.verified]
    signed = next(r for r in results if r.kind == "sr" and r.verified)
    assert len(drafts) == 2, "the same answer again is the same object"
    assert signed.predecessor_sop_instance_uid == drafts[0].sop_instance_uid


def _answer_again(hospital: Hospital, job_id: str, findings: dict[str, Any]) -> None:
    with hospital.db.writing() as session:
        job = session.get_one(Job, job_id)
        job.state, job.findings = JobState.DECIDED, findings


@on_both_databases
def test_a_later_revision_supersedes_what_was_sent(hospital: Hospital) -> None:
    first = hospital.decided_volume("C1", range(10), 1)
    write(hospital, first)
    second = hospital.decided_volume("C1", [10, 11], 2)
    assert write(hospital, second) == ("pacs", "archive")
    assert hospital.job(first).state is JobState.SUPERSEDED
    assert hospital.delivery_states(first) == {DeliveryState.CANCELLED}
    assert hospital.delivery_states(second) == {DeliveryState.PENDING}
    older, newer = written(hospital, first)[0], written(hospital, second)[0]
    assert _predecessors(newer) == [older.SOPInstanceUID]
    assert newer.SeriesInstanceUID == older.SeriesInstanceUID


@on_both_databases
def test_a_held_revision_takes_the_place_of_the_sent_one_only_when_it_is_accepted(hospital: Hospital) -> None:
    first = hospital.decided_volume("C1", range(10), 1)
    write(hospital, first)
    second = hospital.decided_volume("C1", [10, 11], 2, decision="review")
    write(hospital, second)
    assert hospital.job(first).state is JobState.RELEASED
    review.accept(hospital.db, second, ADA)
    write(hospital, second)
    assert hospital.job(first).state is JobState.SUPERSEDED
    sent = written(hospital, first)[0]
    signed = next(ds for ds in written(hospital, second) if ds.get("VerificationFlag") == "VERIFIED")
    assert _predecessors(signed) == [sent.SOPInstanceUID], "the destinations must learn what it stands in the place of"


def test_a_rejected_revision_leaves_the_sent_one_in_place(hospital: Hospital) -> None:
    first = hospital.decided_volume("C1", range(10), 1)
    write(hospital, first)
    second = hospital.decided_volume("C1", [10, 11], 2, decision="review")
    write(hospital, second)
    review.reject(hospital.db, second, ADA, "motion")
    assert hospital.job(first).state is JobState.RELEASED
    assert hospital.delivery_states(first) == {DeliveryState.PENDING}


@on_both_databases
def test_what_a_person_signed_is_not_replaced_without_a_person(hospital: Hospital) -> None:
    first = hospital.decided_volume("C1", range(10), 1, decision="review")
    write(hospital, first)
    second = hospital.decided_volume("C1", [10, 11], 2)
    review.accept(hospital.db, first, ADA)  # after assembly looked, before the second answer is written
    assert write(hospital, second) == ()
    assert hospital.job(second).state is JobState.HELD
    assert "signed" in (hospital.job(second).decision_reason or "")
    write(hospital, first)
    assert hospital.job(first).state is JobState.VERIFIED


def test_a_standins_results_say_so(hospital: Hospital) -> None:
    job_id = hospital.decided_volume("C1", range(10), 1, provenance=provenance(is_standin=True).to_json())
    write(hospital, job_id)
    objects = written(hospital, job_id)
    assert len(objects) > 1
    assert all("STAND-IN" in ds.SeriesDescription for ds in objects)


def test_the_validators_find_no_error_in_what_is_written(hospital: Hospital) -> None:
    for number in (1, 2):
        job_id = hospital.decided_run(number=number)
        write(hospital, job_id)
        review.accept(hospital.db, job_id, ADA)
        write(hospital, job_id)
    files = [r.path for n in hospital_jobs(hospital) for r in hospital.results(n)]
    assert len(files) == 8
    for file in files:
        checked = subprocess.run([program("dciodvfy", "dicom3tools"), "-new", file], capture_output=True, text=True)
        assert not [line for line in checked.stderr.splitlines() if line.startswith("Error")], checked.stderr
    checked = subprocess.run([program("dcentvfy", "dicom3tools"), *files], capture_output=True, text=True)
    assert not [line for line in checked.stderr.splitlines() if line.startswith("Error")], checked.stderr


def hospital_jobs(hospital: Hospital) -> list[str]:
    with hospital.db.reading() as session:
        return [job.id for job in session.query(Job).order_by(Job.created_at)]


def test_nothing_about_the_patient_is_logged(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = hospital.decided_run(findings={**BLOCKED, "patency": "nonsense"})
    write(hospital, job_id)
    write(hospital, hospital.decided_run(number=2))
    said = "".join(capsys.readouterr())
    assert "results written" in said
    assert "Müller" not in said
    assert "19600101" not in said


def _predecessors(ds: pydicom.Dataset) -> list[str]:
    return [
        instance.ReferencedSOPInstanceUID
        for study in ds.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def test_the_findings_of_the_ct_adapter_are_written_too(hospital: Hospital) -> None:
    job_id = hospital.decided_volume("C1", range(12), 1, findings=INJURED)
    write(hospital, job_id)
    kinds = [result.kind for result in hospital.results(job_id)]
    assert kinds[0] == "sr"
    assert set(kinds[1:]) == {"sc"}


def test_a_job_whose_drawing_was_killed_is_not_held(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = hospital.decided_run()

    class Killed:
        def replay(self, *_: object) -> None:
            raise RenderInterrupted("the process that worked on it was ended by SIGKILL")

    with monkeypatch.context() as patched:
        patched.setattr("worker.reporting.renderer", lambda _: Killed())
        with pytest.raises(RenderInterrupted):
            write(hospital, job_id)
    assert hospital.job(job_id).state is JobState.DECIDED
    write(hospital, job_id)
    assert hospital.job(job_id).state is JobState.RELEASED
