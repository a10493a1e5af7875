"""What is taken back stays taken back, and what stands stays told: the orders in which things can happen."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from sqlalchemy import select
from typer.testing import CliRunner

from tests.integration.hospital import ADA, Hospital, hospital_with, released
from tests.integration.test_delivery import scripted_pacs
from tests.integration.test_messages import (
    everybody,
    finish,
    report_of,
    statuses,
    to_fhir,
    to_hook,
    to_ris,
    told,
)
from tests.message_peers import fhir_server, ris, webhook_receiver
from tests.services import free_port
from tests.services.process import LOCALHOST
from worker import review
from worker.announcing import announce
from worker.cli import app
from worker.db.columns import utc_now
from worker.db.commitment_records import Commitment
from worker.db.records import Delivery, Job
from worker.db.refusals import learn, refused_classes
from worker.db.renaming import Renamed, rename_destination
from worker.db.retractions import to_retract
from worker.delivery import deliver, rescue_expired, resend
from worker.message_destinations import FhirDestination
from worker.reporting import write_results
from worker.result_kinds import ResultKind
from worker.retraction import write_rejection_notes
from worker.settings import DicomDestination
from worker.states import DeliveryState, JobState


def grace_over(hospital: Hospital, job_id: str) -> None:
    with hospital.db.writing() as session:
        session.get_one(Job, job_id).not_before = utc_now()


def finish_without_sending(hospital: Hospital, job_id: str) -> None:
    write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    announce(hospital.db, hospital.spool, hospital.settings, job_id)


def move_all(hospital: Hospital, state: DeliveryState, *, delivered: bool) -> None:
    with hospital.db.writing() as session:
        for row in session.scalars(select(Delivery)):
            row.state, row.delivered_at = state, utc_now() if delivered else None


def test_a_rejection_that_comes_late_leaves_the_newer_revision_standing(tmp_path: Path, database_url: str) -> None:
    with everybody(tmp_path, database_url) as (hospital, server, there, _):
        first = hospital.decided_volume("A1", [6, 7, 8], 1)
        finish(hospital, first)
        review.reject(hospital.db, first, ADA, "half of the liver is missing", undo_s=60)
        second = hospital.decided_volume("A1", [9], 2)
        grace_over(hospital, first)
        finish(hospital, second)
        with hospital.db.reading() as session:
            assert session.scalars(to_retract()).all() == [], "nothing rings for ever"
        finish(hospital, first)
        assert report_of(server)["status"] == "preliminary"
        assert statuses(there) == ["P", "P"]
        review.reject(hospital.db, second, ADA, "motion")
        finish(hospital, second)
        assert (report_of(server)["status"], statuses(there)) == ("entered-in-error", ["P", "P", "X"])


def test_who_asked_for_signed_answers_is_not_told_an_unsigned_one_after_a_rejection(
    tmp_path: Path, sqlite_url: str
) -> None:
    with ris() as there, hospital_with(tmp_path, sqlite_url, to_ris(there, when={"decisions": ["accept"]})) as hospital:
        first = hospital.decided_volume("A1", [6, 7, 8], 1, decision="review")
        finish(hospital, first)
        review.accept(hospital.db, first, ADA)
        finish(hospital, first)
        review.reject(hospital.db, first, ADA, "wrong patient")
        finish(hospital, first)
        assert statuses(there) == ["F", "X"]
        finish(hospital, hospital.decided_volume("A1", [9], 2))
        assert statuses(there) == ["F", "X"]


def test_a_rejection_that_was_taken_back_and_repeated_is_told_once(tmp_path: Path, sqlite_url: str) -> None:
    with webhook_receiver() as receiver, hospital_with(tmp_path, sqlite_url, to_hook(receiver)) as hospital:
        job_id = hospital.decided_run()
        finish(hospital, job_id)
        review.reject(hospital.db, job_id, ADA, "motion", undo_s=60)
        review.undo(hospital.db, job_id, ADA)
        review.reject(hospital.db, job_id, ADA, "motion after all")
        finish(hospital, job_id)
        assert told(receiver) == ["released", "rejected"]


def test_what_a_pacs_was_to_be_sent_again_is_taken_back_too(tmp_path: Path, sqlite_url: str) -> None:
    pacs = DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=free_port(), commitment=True)
    with hospital_with(tmp_path, sqlite_url, pacs) as hospital:
        job_id = released(hospital)
        move_all(hospital, DeliveryState.UNCONFIRMED, delivered=True)
        assert resend(hospital.db, destination="pacs") == 2
        review.reject(hospital.db, job_id, ADA, "wrong side")
        with hospital.db.reading() as session:
            assert session.scalars(to_retract()).all() == [job_id]
        assert write_rejection_notes(hospital.db, hospital.spool, hospital.settings, job_id) == ("pacs",)
        with hospital.db.reading() as session:
            assert session.scalars(to_retract()).all() == []


def test_a_rejection_follows_a_destination_to_its_new_name(tmp_path: Path, sqlite_url: str) -> None:
    taken = (Comprehensive3DSRStorage, SecondaryCaptureImageStorage, KeyObjectSelectionDocumentStorage)
    with scripted_pacs(classes=taken) as (port, stored):
        old = DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=port)
        new = old.model_copy(update={"name": "archive"})
        with hospital_with(tmp_path, sqlite_url, old, timeout_s=30) as hospital:
            job_id = released(hospital)
            deliver(hospital.db, hospital.settings, "pacs")
            assert hospital.delivery_states(job_id) == {DeliveryState.DELIVERED}
            unsent = released(hospital, "A2")
            hospital.settings = hospital.settings.model_copy(update={"destinations": [new]})
            review.reject(hospital.db, job_id, ADA, "wrong side")
            finish(hospital, job_id)
            deliver(hospital.db, hospital.settings, "pacs")
            note = hospital.results(job_id)[-1]
            assert (note.kind, note.deliveries[0].state) == ("rejection", DeliveryState.DEAD)
            remedy = "if it has another name now, `dicom-worker deliveries rename pacs NEWNAME`; then send again"
            assert remedy in (note.deliveries[0].last_error or "")
            environment = {"DICOM_WORKER_DATA_DIR": str(tmp_path), "DICOM_WORKER_DATABASE_URL": sqlite_url}
            environment["DICOM_WORKER_DESTINATIONS"] = json.dumps([new.model_dump(mode="json")])
            run = CliRunner(env=environment)
            for wrong in (("pacs", "pax"), ("archive", "archive"), ("pax", "archive")):
                assert run.invoke(app, ["deliveries", "rename", *wrong]).exit_code != 0
            renamed = run.invoke(app, ["deliveries", "rename", "pacs", "archive"])
            assert renamed.exit_code == 0, renamed.output
            assert "5 deliveries are archive's now" in renamed.stdout
            assert "3 are dead letters: `dicom-worker deliveries resend --destination archive`" in renamed.stdout
            assert resend(hospital.db, destination="archive") == 3
            deliver(hospital.db, hospital.settings, "archive")
            assert note.sop_instance_uid in stored
            assert hospital.delivery_states(job_id) | hospital.delivery_states(unsent) == {DeliveryState.DELIVERED}


def test_a_new_name_takes_along_what_was_asked_and_sends_nothing_twice(tmp_path: Path, sqlite_url: str) -> None:
    old = DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=free_port())
    with hospital_with(tmp_path, sqlite_url, old) as hospital:
        job_id = released(hospital)
        first, *others = hospital.deliveries(job_id)
        with hospital.db.writing() as session:
            session.add(Delivery(result_id=first.result_id, destination="archive", state=DeliveryState.PENDING))
            session.add(Commitment(transaction_uid="1.2.3", destination="pacs"))
            learn(session, "pacs", [Comprehensive3DSRStorage])
        assert rename_destination(hospital.db, "pacs", "archive") == Renamed(len(others), dead=0, left=1)
        found = {row.id: (row.destination, row.state) for row in hospital.deliveries(job_id)}
        assert found.pop(first.id) == ("pacs", DeliveryState.CANCELLED)
        assert list(found.values()) == [("archive", DeliveryState.PENDING)] * (len(others) + 1)
        with hospital.db.reading() as session:
            assert session.scalars(select(Commitment.destination)).all() == ["archive"], (
                "its answer is not a stranger's"
            )
            for name in ("pacs", "archive"):
                assert refused_classes(session, name, 3600) == frozenset(), "another system may have the name"


def test_what_waits_for_a_name_that_means_another_system_now_is_a_dead_letter_and_no_more(
    tmp_path: Path, sqlite_url: str
) -> None:
    old = DicomDestination(name="fhir", ae_title="PACS", host=LOCALHOST, port=free_port())
    with fhir_server() as server, hospital_with(tmp_path, sqlite_url, old) as hospital:
        before = released(hospital)
        new = to_fhir(server, patient_system="urn:oid:1.2.3")
        server.patients.add("urn:oid:1.2.3|P-1")
        hospital.settings = hospital.settings.model_copy(update={"destinations": [new]})
        finish(hospital, hospital.decided_run("A2"))
        assert hospital.delivery_states(before) == {DeliveryState.DEAD}
        assert "fhir is of kind fhir now" in (hospital.deliveries(before)[0].last_error or "")
        assert report_of(server)["status"] == "preliminary"
        assert server.transactions == 1


def test_a_message_that_is_damaged_on_disk_is_a_dead_letter_and_keeps_no_other_waiting(
    tmp_path: Path, sqlite_url: str
) -> None:
    with fhir_server() as server, webhook_receiver() as receiver:
        fhir = FhirDestination(kind="fhir", name="fhir", url=server.url, patient_system="urn:oid:1.2.3")
        server.patients.add("urn:oid:1.2.3|P-1")
        with hospital_with(tmp_path, sqlite_url, fhir, to_hook(receiver)) as hospital:
            first = hospital.decided_run()
            finish_without_sending(hospital, first)
            for result in hospital.results(first):
                if result.kind in ("fhir", "event"):
                    os.chmod(result.path, 0o600)
                    Path(result.path).write_bytes(b"\xff{")
            finish(hospital, hospital.decided_run("A2"))
            assert hospital.delivery_states(first) == {DeliveryState.DEAD}
            assert (server.transactions, told(receiver)) == (1, ["released"])


def test_what_was_taken_without_an_answer_is_taken_back_too(tmp_path: Path, database_url: str) -> None:
    with (
        ris() as there,
        scripted_pacs("drop") as (port, stored),
        hospital_with(
            tmp_path,
            database_url,
            to_ris(there),
            DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=port, results=[ResultKind.SR]),
            timeout_s=0.5,
            retry_after_s=60,
            retry_at_most_s=60,
        ) as hospital,
    ):
        job_id = hospital.decided_run()
        there.answers = [None]
        finish_without_sending(hospital, job_id)
        for name in ("ris", "pacs"):
            deliver(hospital.db, hospital.settings, name)
        assert (len(there.messages), len(stored)) == (1, 1)
        assert hospital.delivery_states(job_id) == {DeliveryState.PENDING}
        review.reject(hospital.db, job_id, ADA, "wrong side")
        finish(hospital, job_id)
        assert statuses(there) == ["P", "X"], "the RIS has it, whatever it failed to say"
        assert [result.kind for result in hospital.results(job_id)] == ["sr", "sc", "hl7", "rejection", "hl7-end"]


def test_a_sender_that_died_may_have_sent_it(tmp_path: Path, sqlite_url: str) -> None:
    pacs = DicomDestination(name="pacs", ae_title="PACS", host=LOCALHOST, port=free_port())
    with hospital_with(tmp_path, sqlite_url, pacs) as hospital:
        job_id = released(hospital)
        with hospital.db.writing() as session:
            for row in session.scalars(select(Delivery)):
                row.state, row.claim_token, row.claim_expires_at = DeliveryState.SENDING, "gone", utc_now()
        assert rescue_expired(hospital.db) == 2
        review.reject(hospital.db, job_id, ADA, "wrong side")
        assert write_rejection_notes(hospital.db, hospital.spool, hospital.settings, job_id) == ("pacs",)


def test_a_newer_revision_waits_while_a_rejection_can_be_taken_back(tmp_path: Path, sqlite_url: str) -> None:
    with ris() as there, hospital_with(tmp_path, sqlite_url, to_ris(there)) as hospital:
        first = hospital.decided_volume("A1", [6, 7, 8], 1, decision="review")
        finish(hospital, first)
        review.accept(hospital.db, first, ADA)
        finish(hospital, first)
        review.reject(hospital.db, first, ADA, "wrong button", undo_s=60)
        second = hospital.decided_volume("A1", [9], 2)
        finish(hospital, second)
        assert hospital.job(second).state is JobState.DECIDED
        review.undo(hospital.db, first, ADA)
        finish(hospital, second)
        assert hospital.job(second).state is JobState.HELD, "a person has signed the earlier one"
        assert statuses(there) == ["F"], "what was signed is not followed by what nobody has seen"
