"""Systems that do not speak DICOM are told of results as they come about: once, in order, and of their end too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from typer.testing import CliRunner

from tests.integration.hospital import ADA, BLOCKED, INJURED, Hospital, hospital_with, provenance
from tests.integration.test_dispatch import Doorbell
from tests.message_peers import SECRET, FhirServer, Ris, WebhookReceiver, fhir_server, ris, webhook_receiver
from tests.services import free_port
from tests.services.process import LOCALHOST
from worker import review
from worker.announcing import announce
from worker.cli import app
from worker.db.announcements import to_announce
from worker.db.columns import utc_now
from worker.db.records import Delivery, Job
from worker.db.retractions import to_retract
from worker.db.transitions import move_job
from worker.delivery import deliver, rescue_expired
from worker.dispatch import Dispatcher
from worker.engine_settings import CHILD_PROCESS
from worker.message_destinations import FhirDestination, Hl7Destination, WebhookDestination
from worker.reporting import write_results
from worker.result_kinds import MESSAGES
from worker.retraction import write_rejection_notes
from worker.settings import Destination
from worker.states import JobState
from worker.web.dicomweb.catalogue import objects, studies_with_instance

PATENT = {"patency": "patent", "probabilities": {"patent": 0.97, "blocked": 0.03}}
LIVER_AND_SPLEEN = {**INJURED, "organs_involved": ["liver", "spleen"]}


def to_fhir(server: FhirServer, **values: Any) -> FhirDestination:
    return FhirDestination(kind="fhir", name="fhir", url=server.url, **values)


def to_ris(there: Ris, **values: Any) -> Hl7Destination:
    return Hl7Destination(kind="hl7", name="ris", host=LOCALHOST, port=there.port, **values)


def to_hook(receiver: WebhookReceiver, **values: Any) -> WebhookDestination:
    return WebhookDestination(kind="webhook", name="hook", url=receiver.url, secret=SECRET, **values)


def finish(hospital: Hospital, *job_ids: str) -> None:
    """Do what the steps process does for jobs that wait, then send everything."""
    for job_id in job_ids:
        parts = (hospital.db, hospital.spool, hospital.settings, job_id)
        write_results(*parts)
        write_rejection_notes(*parts)
        announce(*parts)
    send_all(hospital)


def send_all(hospital: Hospital) -> None:
    with hospital.db.writing() as session:
        session.query(Delivery).update({"not_before": utc_now()})
    for destination in hospital.settings.destinations:
        while deliver(hospital.db, hospital.settings, destination.name):
            pass


def report_of(server: FhirServer) -> dict[str, Any]:
    (report,) = server.of("DiagnosticReport")
    return report


def statuses(there: Ris) -> list[str]:
    return [str(message.segment("OBR")[25]) for message in there.messages]


def told(receiver: WebhookReceiver) -> list[str]:
    return [event["type"].removeprefix("org.dicom-worker.result.") for event in receiver.events]


@contextmanager
def everybody(folder: Path, url: str, **hook: Any) -> Iterator[tuple[Hospital, FhirServer, Ris, WebhookReceiver]]:
    with (
        fhir_server() as server,
        ris() as there,
        webhook_receiver() as receiver,
        hospital_with(folder, url, to_fhir(server), to_ris(there), to_hook(receiver, **hook)) as hospital,
    ):
        yield hospital, server, there, receiver


def test_an_answer_is_told_as_preliminary_then_as_what_a_person_made_of_it(tmp_path: Path, database_url: str) -> None:
    with everybody(tmp_path, database_url) as (hospital, server, there, receiver):
        job_id = hospital.decided_run()
        finish(hospital, job_id)
        assert report_of(server)["status"] == "preliminary"
        assert (statuses(there), told(receiver)) == (["P"], ["released"])
        review.edit(hospital.db, job_id, PATENT, ADA)
        finish(hospital, job_id)
        report, (observation,) = report_of(server), server.of("Observation")
        assert (report["status"], observation["status"]) == ("amended", "amended")
        assert observation["valueCodeableConcept"]["text"] == "Absent"
        assert "Lovelace, Ada" in report["resultsInterpreter"][0]["display"]
        assert (statuses(there), told(receiver)) == (["P", "C"], ["released", "amended"])
        assert str(there.messages[1].segment("PID")[5]) == "Müller^Jürgen^^^^^L^A"
        first, second = receiver.events
        assert (first["data"]["confidence"], first["data"]["calibrated"]) == (0.93, False)
        assert first["data"]["notice"] == "No person has reviewed this answer."
        assert (second["data"]["notice"], second["data"]["reviews"][0]["reviewer_name"]) == (None, "Lovelace^Ada")
        assert first["subject"] == second["subject"] == job_id
        assert first["data"]["accession_number"] == "A1"
        assert first["data"]["provenance"]["adapter_digest"] == "a" * 64
        assert "patient_name" not in first["data"]
        assert {row.state.value for row in hospital.deliveries(job_id)} == {"delivered"}


def test_a_rejected_answer_is_taken_back_wherever_it_was_told_and_nowhere_else(tmp_path: Path, sqlite_url: str) -> None:
    with everybody(tmp_path, sqlite_url) as (hospital, server, there, receiver):
        told_of, untold = hospital.decided_run("A1"), hospital.decided_run("A2", decision="review")
        finish(hospital, told_of, untold)
        for job_id in (told_of, untold):
            review.reject(hospital.db, job_id, ADA, "motion")
        finish(hospital, told_of, untold)
        report, (observation,) = report_of(server), server.of("Observation")
        assert (report["status"], observation["status"]) == ("entered-in-error", "entered-in-error")
        assert "Taken back by Lovelace, Ada: motion" in report["conclusion"]
        assert statuses(there) == ["P", "X"]
        assert {str(segment[11]) for segment in there.messages[1].segments("OBX")[1:]} == {"W"}
        assert told(receiver) == ["released", "held", "rejected", "rejected"]
        finish(hospital, told_of, untold)
        assert (len(there.messages), len(receiver.events), server.transactions) == (2, 4, 2)
        kinds = [result.kind for result in hospital.results(told_of)]
        assert kinds == ["sr", "sc", "fhir", "hl7", "event", "fhir-end", "hl7-end", "event-end"], "no rejection note"


def test_late_images_replace_what_was_told_and_take_back_what_is_said_no_longer(
    tmp_path: Path, sqlite_url: str
) -> None:
    with everybody(tmp_path, sqlite_url) as (hospital, server, there, receiver):
        first = hospital.decided_volume("A1", [6, 7, 8], 1, findings=LIVER_AND_SPLEEN)
        finish(hospital, first)
        assert len(server.of("Observation")) == 3
        second = hospital.decided_volume("A1", [9], 2, findings=INJURED)
        finish(hospital, second, first)
        assert report_of(server)["status"] == "preliminary"
        assert sorted(found["status"] for found in server.of("Observation")) == [
            "entered-in-error",
            "preliminary",
            "preliminary",
        ]
        assert len(report_of(server)["result"]) == 2
        gone = [str(segment[3][0][1]) for segment in there.messages[1].segments("OBX") if str(segment[11]) == "D"]
        assert "Traumatic Abnormality" in gone
        assert told(receiver) == ["released", "released", "superseded"]
        assert [event["subject"] for event in receiver.events] == [first, second, first]
        assert receiver.events[2]["data"]["revision"] == 1


def test_who_was_told_is_told_the_rest_whatever_its_rules(tmp_path: Path, sqlite_url: str) -> None:
    with fhir_server() as server, ris() as there:
        unsigned = to_fhir(server, when={"decisions": ["release"]})
        signed = to_ris(there, when={"decisions": ["accept"]})
        with hospital_with(tmp_path, sqlite_url, unsigned, signed) as hospital:
            job_id = hospital.decided_run()
            finish(hospital, job_id)
            assert (report_of(server)["status"], there.messages) == ("preliminary", [])
            review.accept(hospital.db, job_id, ADA)
            finish(hospital, job_id)
            assert (report_of(server)["status"], statuses(there)) == ("final", ["F"])


def test_a_held_case_is_told_without_its_answer_unless_the_site_wants_it(tmp_path: Path, sqlite_url: str) -> None:
    with webhook_receiver() as quiet, webhook_receiver() as loud, fhir_server() as server:
        targets: list[Destination] = [to_hook(quiet), to_fhir(server)]
        targets.append(
            WebhookDestination(
                kind="webhook",
                name="loud",
                url=loud.url,
                secret=SECRET,
                answers="always",
                patient=True,
                events=["held"],
            )
        )
        with hospital_with(tmp_path, sqlite_url, *targets) as hospital:
            job_id = hospital.decided_run(decision="review", decision_reason="0.93 is below 0.95")
            failed = hospital.decided_run("A2", decision="review", findings=None, error="the images cannot be decoded")
            finish(hospital, job_id, failed)
            assert not server.resources, "nothing of a held answer leaves as a report"
            held, lost = quiet.events
            assert (told(quiet), told(loud)) == (["held", "failed"], ["held"])
            for secret in ("0.93", "blocked", "Müller", "0.95", str(tmp_path)):
                assert secret not in json.dumps(held, ensure_ascii=False)
            assert held["data"]["study_instance_uid"]
            assert "cannot be decoded" in lost["data"]["error"]
            (full,) = loud.events
            assert full["data"]["findings"] == BLOCKED
            assert full["data"]["patient_name"] == "Müller^Jürgen"
            assert full["data"]["decision_reason"] == "0.93 is below 0.95"
            assert full["id"] != held["id"]


def test_what_one_system_said_is_not_told_to_another(tmp_path: Path, sqlite_url: str) -> None:
    with fhir_server() as server, webhook_receiver() as receiver:
        strict = to_fhir(server, patient_system="urn:oid:1.2.3")
        with hospital_with(tmp_path, sqlite_url, strict, to_hook(receiver)) as hospital:
            job_id = hospital.decided_run()
            finish(hospital, job_id)
            assert "P-1" in str([row.last_error for row in hospital.deliveries(job_id)]), (
                "the server quotes the patient"
            )
            review.accept(hospital.db, job_id, ADA)
            finish(hospital, job_id)
            assert told(receiver) == ["released", "verified"]
            assert "P-1" not in json.dumps(receiver.events)
            assert all("deliveries" not in result for result in receiver.events[1]["data"]["results"])


def test_a_stand_in_says_everywhere_that_it_means_nothing(tmp_path: Path, sqlite_url: str) -> None:
    with everybody(tmp_path, sqlite_url) as (hospital, server, there, receiver):
        finish(hospital, hospital.decided_run(provenance=provenance(is_standin=True).to_json()))
        assert report_of(server)["conclusion"].startswith("STAND-IN MODEL")
        assert str(there.messages[0].segment("MSH")[11]) == "T"
        assert "means nothing" in receiver.events[0]["data"]["notice"]


def test_receivers_that_were_down_get_everything_once_and_in_order(tmp_path: Path, sqlite_url: str) -> None:
    ports = [free_port() for _ in range(3)]
    targets = [
        FhirDestination(kind="fhir", name="fhir", url=f"http://{LOCALHOST}:{ports[0]}/r4"),
        Hl7Destination(kind="hl7", name="ris", host=LOCALHOST, port=ports[1]),
        WebhookDestination(kind="webhook", name="hook", url=f"http://{LOCALHOST}:{ports[2]}/hooks", secret=SECRET),
    ]
    with hospital_with(tmp_path, sqlite_url, *targets, retry_after_s=60, retry_at_most_s=60) as hospital:
        jobs = [hospital.decided_run("A1", number=number) for number in range(1, 4)]
        finish(hospital, *jobs)
        waiting = [row for job_id in jobs for row in hospital.deliveries(job_id)]
        assert {(row.state.value, row.attempts) for row in waiting} == {("pending", 0)}
        with fhir_server(ports[0]) as server, ris(ports[1]) as there, webhook_receiver(ports[2]) as receiver:
            send_all(hospital)
            assert [event["subject"] for event in receiver.events] == jobs
            assert len(set(there.control_ids)) == len(there.messages) == 3
            assert len(server.of("DiagnosticReport")) == server.transactions == 3
            assert not receiver.repeated


def test_an_answer_that_was_replaced_while_the_receiver_was_down_is_not_told(tmp_path: Path, sqlite_url: str) -> None:
    port = free_port()
    target = Hl7Destination(kind="hl7", name="ris", host=LOCALHOST, port=port)
    with hospital_with(tmp_path, sqlite_url, target) as hospital:
        job_id = hospital.decided_run()
        finish(hospital, job_id)
        review.accept(hospital.db, job_id, ADA)
        finish(hospital, job_id)
        with ris(port) as there:
            send_all(hospital)
            assert statuses(there) == ["F"]


def test_a_rejection_reaches_who_was_told_an_earlier_revision_only(tmp_path: Path, sqlite_url: str) -> None:
    port = free_port()
    target = Hl7Destination(kind="hl7", name="ris", host=LOCALHOST, port=port)
    with hospital_with(tmp_path, sqlite_url, target, retry_after_s=60, retry_at_most_s=60) as hospital:
        first = hospital.decided_volume("A1", [6, 7, 8], 1)
        with ris(port) as there:
            finish(hospital, first)
            assert statuses(there) == ["P"]
        second = hospital.decided_volume("A1", [9], 2)
        finish(hospital, second)
        review.reject(hospital.db, second, ADA, "motion")
        with hospital.db.reading() as session:
            assert session.scalars(to_retract()).all() == [second]
        with ris(port) as there:
            finish(hospital, second)
            assert statuses(there) == ["X"], "what the RIS has is out of date, and what replaced it was rejected"
            finish(hospital, second)
            assert len(there.messages) == 1


SENDER = """
import json, sys, threading
from worker.db.sessions import Database
from worker.delivery import deliver
from worker.settings import load_settings
settings = load_settings(overrides={"data_dir": sys.argv[1], "destinations": json.loads(sys.argv[3])})
for target in settings.destinations:
    threading.Thread(target=deliver, args=(Database(sys.argv[2]), settings, target.name)).start()
"""


def test_a_killed_sender_doubles_nothing(tmp_path: Path, sqlite_url: str) -> None:
    with everybody(tmp_path, sqlite_url) as (hospital, server, there, receiver):
        jobs = [hospital.decided_run("A1", number=number) for number in (1, 2)]
        for job_id in jobs:
            parts = (hospital.db, hospital.spool, hospital.settings, job_id)
            write_results(*parts)
            announce(*parts)
        targets = [
            target.model_dump(mode="json", context={"to": CHILD_PROCESS}) for target in hospital.settings.destinations
        ]
        with _no_answers(server, there, receiver):
            sender = subprocess.Popen([sys.executable, "-c", SENDER, str(tmp_path), sqlite_url, json.dumps(targets)])
            try:
                deadline = time.monotonic() + 60
                while not (server.taken and there.taken and receiver.taken) and time.monotonic() < deadline:
                    time.sleep(0.01)
            finally:
                os.kill(sender.pid, signal.SIGKILL)
                sender.wait(10)
        assert (server.taken, there.taken, receiver.taken) == (1, 1, 1)
        _expire(hospital)
        assert rescue_expired(hospital.db) == 6
        send_all(hospital)
        assert {row.state.value for job_id in jobs for row in hospital.deliveries(job_id)} == {"delivered"}
        assert len(server.of("DiagnosticReport")) == len(server.of("Observation")) == 2
        assert len(server.of("Device")) == 1
        assert (len(there.messages), len(set(there.control_ids))) == (3, 2), "a repeat is known by its control ID"
        assert [event["subject"] for event in receiver.events] == jobs
        assert receiver.repeated == [receiver.events[0]["id"]]


@contextmanager
def _no_answers(server: FhirServer, there: Ris, receiver: WebhookReceiver) -> Iterator[None]:
    """Let messages be taken, and no word of it come back."""
    there.answers = [None]
    for peer in (server, receiver):
        peer.hold_answers.set()
    try:
        yield
    finally:
        for peer in (server, receiver):
            peer.hold_answers.clear()


def _expire(hospital: Hospital) -> None:
    with hospital.db.writing() as session:
        for row in session.query(Delivery).filter(Delivery.claim_expires_at.is_not(None)):
            row.claim_expires_at = utc_now()


def test_a_dead_letter_is_shown_and_can_be_sent_again(tmp_path: Path, sqlite_url: str) -> None:
    with ris() as there:
        there.answers = ["AE|ERR|||101^Required field missing^HL70357|E||||PID-18"]
        with hospital_with(tmp_path, sqlite_url, to_ris(there)) as hospital:
            job_id = hospital.decided_run()
            finish(hospital, job_id)
            (row,) = hospital.deliveries(job_id)
            assert (row.state.value, "PID-18" in (row.last_error or "")) == ("dead", True)
            environment = {
                "DICOM_WORKER_DATA_DIR": str(tmp_path),
                "DICOM_WORKER_DATABASE_URL": sqlite_url,
                "DICOM_WORKER_DESTINATIONS": json.dumps([hospital.settings.destinations[0].model_dump(mode="json")]),
            }
            run = CliRunner(env=environment)
            (listed,) = json.loads(run.invoke(app, ["deliveries", "list", "--json"]).stdout)
            assert (listed["kind"], listed["state"], "PID-18" in listed["last_error"]) == ("hl7", "dead", True)
            assert run.invoke(app, ["deliveries", "resend", "--job", job_id]).exit_code == 0
            send_all(hospital)
            assert hospital.deliveries(job_id)[0].state.value == "delivered"
            (study,) = json.loads(run.invoke(app, ["studies", "--json"]).stdout)
            message = next(result for result in study["jobs"][0]["results"] if result["kind"] == "hl7")
            assert (message["sop_class_uid"], message["deliveries"][0]["state"]) == ("", "delivered")
            checks = json.loads(run.invoke(app, ["doctor", "--json"]).stdout)["checks"]
            assert {"ok"} == {found["state"] for found in checks if found["check"] == "destination ris"}


def test_a_message_is_never_taken_for_a_dicom_object(tmp_path: Path, sqlite_url: str) -> None:
    with everybody(tmp_path, sqlite_url) as (hospital, _, _, _):
        job_id = hospital.decided_run()
        finish(hospital, job_id)
        results = hospital.results(job_id)
        messages = [result for result in results if result.kind in MESSAGES]
        assert [result.kind for result in messages] == ["fhir", "hl7", "event"]
        assert len({result.sop_instance_uid for result in results}) == len(results)
        with hospital.db.reading() as session:
            study_uid = session.get_one(Job, job_id).study.study_instance_uid
            shown = {stored.header.sop_instance_uid for stored in objects(session, study_uid)}
            assert not shown & {result.sop_instance_uid for result in messages}
            assert len(shown) == 3
            uids = [result.sop_instance_uid for result in messages]
            assert not session.query(Job).join(Job.study).filter(studies_with_instance(uids)).all()
            assert not session.scalars(to_retract()).all()
            assert not session.scalars(to_announce()).all()
        Bundle.model_validate_json(Path(messages[0].path).read_bytes())


def test_a_decision_that_was_taken_back_is_not_told(tmp_path: Path, sqlite_url: str) -> None:
    with everybody(tmp_path, sqlite_url) as (hospital, server, there, receiver):
        job_id = hospital.decided_run()
        finish(hospital, job_id)
        review.reject(hospital.db, job_id, ADA, "wrong button", undo_s=60)
        finish(hospital, job_id)
        assert (told(receiver), statuses(there)) == (["released"], ["P"]), "it can still be taken back"
        review.undo(hospital.db, job_id, ADA)
        finish(hospital, job_id)
        assert (told(receiver), statuses(there)) == (["released"], ["P"])
        assert report_of(server)["status"] == "preliminary"


def test_a_change_that_was_made_anywhere_is_rung_for_until_it_is_told(tmp_path: Path, sqlite_url: str) -> None:
    with (
        webhook_receiver() as receiver,
        hospital_with(tmp_path, sqlite_url, to_hook(receiver, events=["rejected", "superseded"])) as hospital,
    ):
        first = hospital.decided_volume("A1", [6, 7, 8], 1, decision="review")
        finish(hospital, first)
        assert not receiver.events
        with hospital.db.writing() as session:
            job = session.get_one(Job, first)
            move_job(session, job, JobState.SUPERSEDED, "late images made revision 2")  # as assembly does
        bell = Doorbell()
        dispatcher = Dispatcher(hospital.db, bell, 0)  # type: ignore[arg-type]
        dispatcher.look()
        assert ("finish", first) in bell.rings
        finish(hospital, first)
        assert told(receiver) == ["superseded"]
        assert "findings" not in receiver.events[0]["data"]
        bell.take_all()
        dispatcher.look()
        assert ("finish", first) not in bell.rings
