"""Each destination gets the kinds it asks for, once, and takes back what a person rejects."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from tests import dicom_validators
from tests.integration.hospital import ADA, BOB, Hospital
from tests.services import Orthanc
from worker import review
from worker.db.records import Delivery, Event, Job
from worker.db.retractions import to_retract
from worker.delivery import deliver
from worker.reporting import write_results
from worker.result_kinds import ResultKind
from worker.retraction import RetractionError, write_rejection_notes
from worker.settings import DicomDestination
from worker.states import DeliveryState, JobState

ADDRESS: dict[str, Any] = {"ae_title": "PACS", "host": "127.0.0.1", "port": 4242}
PACS = DicomDestination(name="pacs", **ADDRESS)
ARCHIVE = DicomDestination(name="archive", results=list(ResultKind), **ADDRESS)
RIS = DicomDestination(name="ris", results=[ResultKind.KO], **ADDRESS)

on_both_databases = pytest.mark.parametrize("hospital", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path}/ledger.db" if sqlite else request.getfixturevalue("postgres_url")
    made = Hospital(tmp_path, url, [PACS, RIS])
    yield made
    made.db.close()


@pytest.fixture
def asks_for_all(hospital: Hospital) -> Hospital:
    """A hospital with a destination that asks for every kind."""
    hospital.settings = hospital.settings.model_copy(update={"destinations": [PACS, ARCHIVE, RIS]})
    return hospital


def write(hospital: Hospital, job_id: str) -> tuple[str, ...]:
    return write_results(hospital.db, hospital.spool, hospital.settings, job_id)


def retract(hospital: Hospital, job_id: str) -> tuple[str, ...]:
    return write_rejection_notes(hospital.db, hospital.spool, hospital.settings, job_id)


def kinds_for(hospital: Hospital, job_id: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for result in hospital.results(job_id):
        for delivery in result.deliveries:
            found.setdefault(delivery.destination, []).append(result.kind)
    return found


def arrive(hospital: Hospital, job_id: str, *destinations: str, state: DeliveryState = DeliveryState.DELIVERED) -> None:
    """Let what is queued for these destinations arrive there."""
    ids = [row.id for row in hospital.deliveries(job_id) if row.destination in destinations]
    with hospital.db.writing() as session:
        session.execute(update(Delivery).where(Delivery.id.in_(ids)).values(state=state))


def notes(hospital: Hospital, job_id: str) -> list[tuple[Dataset, list[str]]]:
    """Return the rejection notes with their destinations."""
    rows = [row for row in hospital.results(job_id) if row.kind == "rejection"]
    return [(dcmread(row.path), sorted(delivery.destination for delivery in row.deliveries)) for row in rows]


def rejected_uids(note: Dataset) -> set[str]:
    evidence = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    return {entry.ReferencedSOPInstanceUID for series in evidence for entry in series.ReferencedSOPSequence}


@on_both_databases
def test_each_destination_gets_its_kinds_and_each_is_made_once(asks_for_all: Hospital) -> None:
    hospital = asks_for_all
    job_id = hospital.decided_run()
    assert write(hospital, job_id) == ("pacs", "archive", "ris")
    assert kinds_for(hospital, job_id) == {
        "pacs": ["sr", "sc"],
        "archive": ["sr", "sc", "sc-multi", "ko", "pr", "pdf"],
        "ris": ["ko"],
    }
    assert [result.kind for result in hospital.results(job_id)] == ["sr", "sc", "sc-multi", "ko", "pr", "pdf"]


def test_what_nobody_asks_for_is_not_made(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, f"sqlite:///{tmp_path}/ledger.db", [RIS])
    job_id = hospital.decided_run()
    assert write(hospital, job_id) == ("ris",)
    assert [result.kind for result in hospital.results(job_id)] == ["sr", "sc", "ko"], "the pages show the first two"
    assert kinds_for(hospital, job_id) == {"ris": ["ko"]}
    hospital.db.close()


def test_a_held_answer_has_only_what_the_reviewer_sees(asks_for_all: Hospital) -> None:
    hospital = asks_for_all
    job_id = hospital.decided_run(decision="review")
    assert write(hospital, job_id) == ()
    assert [result.kind for result in hospital.results(job_id)] == ["sr", "sc"]
    review.accept(hospital.db, job_id, ADA)
    write(hospital, job_id)
    signed = [result for result in hospital.results(job_id) if result.verified]
    assert [result.kind for result in signed] == ["sr", "sc", "sc-multi", "ko", "pr", "pdf"]


def test_the_validators_pass_the_whole_study_of_every_kind(asks_for_all: Hospital, tmp_path: Path) -> None:
    hospital = asks_for_all
    job_id = hospital.decided_volume("A7", range(4, 12), 1)
    write(hospital, job_id)
    paths = [Path(result.path) for result in hospital.results(job_id)]
    assert len(paths) == 8, "three key images are three captures and one picture book"
    assert {path.name: dicom_validators.dciodvfy(path).errors for path in paths} == {path.name: () for path in paths}
    with hospital.db.reading() as session:
        sources = [Path(image.path) for image in session.get_one(Job, job_id).series.instances]
    assert dicom_validators.dcentvfy([*sources, *paths]).errors == ()
    series = {(ds.SeriesNumber, ds.SeriesInstanceUID) for ds in map(dcmread, paths)}
    assert len(series) == len({number for number, _ in series}) == 6


def test_a_later_revision_names_what_it_replaces_in_every_kind(asks_for_all: Hospital) -> None:
    hospital = asks_for_all
    first = hospital.decided_volume("A8", range(6, 10), 1)
    write(hospital, first)
    second = hospital.decided_volume("A8", range(10, 14), 2)
    write(hospital, second)
    assert hospital.job(first).state is JobState.SUPERSEDED
    earlier = {result.kind: result.sop_instance_uid for result in hospital.results(first)}
    later = hospital.results(second)
    assert {result.predecessor_sop_instance_uid for result in later} == {earlier["sr"]}
    assert not {result.sop_instance_uid for result in later} & set(earlier.values())
    for result in later:
        ds = dcmread(result.path)
        if result.kind == "sr":
            assert "PredecessorDocumentsSequence" in ds
        elif result.kind in ("sc", "sc-multi"):
            (replaced,) = ds.ReferencedInstanceSequence
            assert replaced.ReferencedSOPInstanceUID == earlier["sr"]
            assert replaced.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Replaced report"
        elif result.kind in ("ko", "pr"):
            assert b"Takes the place of an earlier result" in Path(result.path).read_bytes()


@on_both_databases
def test_a_rejection_takes_back_what_each_destination_has(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    write(hospital, job_id)
    arrive(hospital, job_id, "pacs")
    arrive(hospital, job_id, "ris", state=DeliveryState.CONFIRMED)
    uids = {result.kind: result.sop_instance_uid for result in hospital.results(job_id)}
    outcome = review.reject(hospital.db, job_id, BOB, "the vessel is open")
    assert "a rejection note follows" in outcome.message
    assert retract(hospital, job_id) == ("pacs", "ris")
    found = {tuple(names): rejected_uids(note) for note, names in notes(hospital, job_id)}
    assert found == {("pacs",): {uids["sr"], uids["sc"]}, ("ris",): {uids["ko"]}}
    for note, _ in notes(hospital, job_id):
        assert note.ConceptNameCodeSequence[0].CodeMeaning == "Rejected for Quality Reasons"
        assert "the vessel is open" in note.ContentSequence[3].TextValue
    assert retract(hospital, job_id) == (), "once"
    assert hospital.job(job_id).state is JobState.REJECTED
    with hospital.db.reading() as session:
        said = session.scalars(select(Event.reason).where(Event.subject == "job", Event.subject_id == job_id)).all()
    assert any("taken back at pacs" in reason for reason in said)


def test_rejection_notes_pass_the_validators(asks_for_all: Hospital) -> None:
    hospital = asks_for_all
    job_id = hospital.decided_run()
    write(hospital, job_id)
    arrive(hospital, job_id, "archive")
    review.reject(hospital.db, job_id, BOB, "wrong")
    retract(hospital, job_id)
    paths = [Path(result.path) for result in hospital.results(job_id)]
    assert len(paths) == 7
    assert {path.name: dicom_validators.dciodvfy(path).errors for path in paths} == {path.name: () for path in paths}
    assert dicom_validators.dcentvfy(paths).errors == ()


def test_a_site_can_call_a_wrong_answer_a_risk_to_the_patient(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    write(hospital, job_id)
    arrive(hospital, job_id, "pacs")
    review.reject(hospital.db, job_id, BOB, "wrong side")
    strict = hospital.settings.review.model_copy(update={"rejection_title": "patient_safety"})
    hospital.settings = hospital.settings.model_copy(update={"review": strict})
    retract(hospital, job_id)
    ((note, _),) = notes(hospital, job_id)
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"


def test_nothing_is_taken_back_that_never_arrived_and_what_is_on_its_way_is_waited_for(hospital: Hospital) -> None:
    unsent, underway = hospital.decided_run(), hospital.decided_run(number=2)
    for job_id in (unsent, underway):
        write(hospital, job_id)
    arrive(hospital, underway, "pacs", state=DeliveryState.SENDING)
    for job_id in (unsent, underway):
        review.reject(hospital.db, job_id, BOB, "wrong")
        assert retract(hospital, job_id) == ()
    with hospital.db.reading() as session:
        assert session.scalars(to_retract()).all() == []
    arrive(hospital, underway, "pacs")
    with hospital.db.reading() as session:
        assert session.scalars(to_retract()).all() == [underway], "the dispatcher rings for it"
    assert retract(hospital, underway) == ("pacs",)


def test_a_result_that_is_gone_is_named_and_nothing_half_is_written(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    write(hospital, job_id)
    arrive(hospital, job_id, "pacs")
    review.reject(hospital.db, job_id, BOB, "wrong")
    Path(hospital.results(job_id)[0].path).unlink()
    with pytest.raises(RetractionError, match="no note can reject it"):
        retract(hospital, job_id)
    assert notes(hospital, job_id) == []


def test_all_kinds_and_then_their_rejection_note_arrive_in_orthanc(hospital: Hospital, orthanc: Orthanc) -> None:
    """All else of a rejected job is withdrawn; its note goes out."""
    address = {"ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.port}
    pacs = DicomDestination(name="pacs", results=list(ResultKind), **address)
    hospital.settings = hospital.settings.model_copy(update={"destinations": [pacs]})
    job_id = hospital.decided_run()
    write(hospital, job_id)
    deliver(hospital.db, hospital.settings, "pacs")
    sent = {result.sop_instance_uid for result in hospital.results(job_id)}
    assert len(sent) == 6
    assert orthanc.sop_instance_uids() == sent
    review.reject(hospital.db, job_id, BOB, "wrong")
    assert retract(hospital, job_id) == ("pacs",)
    deliver(hospital.db, hospital.settings, "pacs")
    ((note, _),) = notes(hospital, job_id)
    assert rejected_uids(note) == sent
    assert orthanc.sop_instance_uids() == sent | {note.SOPInstanceUID}
    assert hospital.delivery_states(job_id) == {DeliveryState.DELIVERED}


@on_both_databases
def test_a_rejection_takes_back_the_earlier_revision_that_a_pacs_still_has(hospital: Hospital) -> None:
    """What replaced it never got there: without a note the PACS would go on showing what is out of date."""
    first = hospital.decided_volume("A1", [6, 7, 8], 1)
    write(hospital, first)
    arrive(hospital, first, "pacs")
    second = hospital.decided_volume("A1", [9], 2)
    write(hospital, second)
    review.reject(hospital.db, second, BOB, "motion")
    with hospital.db.reading() as session:
        assert session.scalars(to_retract()).all() == [second]
    assert retract(hospital, second) == ("pacs",)
    ((note, names),) = notes(hospital, second)
    assert names == ["pacs"]
    assert rejected_uids(note) == {row.sop_instance_uid for row in hospital.results(first) if row.kind in ("sr", "sc")}
    third = hospital.decided_volume("A1", [10], 3)
    write(hospital, third)
    arrive(hospital, third, "pacs")
    review.reject(hospital.db, third, BOB, "motion again")
    retract(hospital, third)
    ((note, _),) = notes(hospital, third)
    assert rejected_uids(note) == {row.sop_instance_uid for row in hospital.results(third) if row.kind in ("sr", "sc")}
    with hospital.db.reading() as session:
        assert session.scalars(to_retract()).all() == []


def test_the_same_rejection_is_the_same_object(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    write(hospital, job_id)
    arrive(hospital, job_id, "pacs")
    review.reject(hospital.db, job_id, BOB, "wrong")
    with hospital.db.reading() as session:
        from worker.retraction import _notes

        job = session.get_one(Job, job_id)
        first, second = (_notes(session, hospital.settings, job, job.reviews[-1]) for _ in range(2))
    assert first == second
    assert dcmread(BytesIO(first[0].data)).Modality == "KO"
