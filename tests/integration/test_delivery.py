"""What is in the outbox arrives at real destinations, once in effect, whatever breaks on the way."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from tests import services
from tests.integration.hospital import ADA, Hospital, at_once, hospital_with, released
from worker import channels, review
from worker.db import outbox
from worker.db.columns import utc_now
from worker.db.records import Delivery, Event
from worker.db.transitions import move_delivery
from worker.delivery import deliver, rescue_expired, resend
from worker.reporting import write_results
from worker.settings import DicomDestination
from worker.states import DeliveryState, JobState

MakeHospital = Callable[..., Hospital]


def pacs(port: int, ae_title: str = "PACS") -> DicomDestination:
    return DicomDestination(name="pacs", ae_title=ae_title, host=services.LOCALHOST, port=port)


def make_due(hospital: Hospital) -> None:
    with hospital.db.writing() as session:
        for row in session.query(Delivery):
            row.not_before = utc_now() - timedelta(seconds=1)


def states(hospital: Hospital, job_id: str) -> list[str]:
    return [row.state.value for row in hospital.deliveries(job_id)]


@contextmanager
def scripted_pacs(*answers: int | str, classes: tuple[str, ...] = ()) -> Iterator[tuple[int, list[str]]]:
    """A PACS that answers each C-STORE in turn: a status, "abort", or "drop" (the line goes dead). Then success."""
    script, seen = list(answers), []

    def on_store(event: Any) -> int:
        seen.append(str(event.request.AffectedSOPInstanceUID))
        answer = script.pop(0) if script else 0
        if answer == "abort":
            event.assoc.abort()
            return 0
        if answer == "drop":
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
            return 0
        assert isinstance(answer, int)
        return answer

    with answering_pacs(on_store, classes) as port:
        yield port, seen


@contextmanager
def answering_pacs(on_store: Callable[[Any], int], classes: tuple[str, ...] = ()) -> Iterator[int]:
    """A PACS that takes these SOP classes; the port."""
    ae = AE("PACS")
    for sop_class in classes or (Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
        ae.add_supported_context(sop_class)
    port = services.free_port()
    server = ae.start_server((services.LOCALHOST, port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    assert server is not None
    try:
        yield port
    finally:
        server.shutdown()


def test_results_arrive_in_orthanc_as_they_were_written(
    tmp_path: Path, database_url: str, orthanc: services.Orthanc
) -> None:
    with hospital_with(tmp_path, database_url, pacs(orthanc.port, orthanc.ae_title)) as hospital:
        job_id = released(hospital)
        assert deliver(hospital.db, hospital.settings, "pacs") is False
        assert states(hospital, job_id) == ["delivered"] * 2
        assert all(row.delivered_at for row in hospital.deliveries(job_id))
        written = {result.sop_instance_uid: result.path for result in hospital.results(job_id)}
        arrived = {ds.SOPInstanceUID: ds for ds in orthanc.datasets()}
        assert arrived.keys() == written.keys()
        for uid, path in written.items():
            ours, theirs = pydicom.dcmread(path), arrived[uid]
            ours.remove_private_tags()
            assert {e.tag: e.value for e in theirs} == {e.tag: e.value for e in ours}


def test_a_verified_report_arrives_with_its_flag_and_predecessor_and_the_held_one_never(
    tmp_path: Path, sqlite_url: str, orthanc: services.Orthanc
) -> None:
    with hospital_with(tmp_path, sqlite_url, pacs(orthanc.port, orthanc.ae_title)) as hospital:
        job_id = hospital.decided_run(decision="review")
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        assert deliver(hospital.db, hospital.settings, "pacs") is False
        assert orthanc.instance_ids() == []
        review.accept(hospital.db, job_id, ADA)
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        deliver(hospital.db, hospital.settings, "pacs")
        draft = hospital.results(job_id)[0].sop_instance_uid
        (sr,) = [ds for ds in orthanc.datasets() if ds.Modality == "SR"]
        assert sr.VerificationFlag == "VERIFIED"
        reference = sr.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == draft
        assert draft not in orthanc.sop_instance_uids()
        assert len(orthanc.instance_ids()) == 2


def test_a_new_revision_arrives_in_orthanc_as_the_successor_of_the_old_one(
    tmp_path: Path, sqlite_url: str, orthanc: services.Orthanc
) -> None:
    with hospital_with(tmp_path, sqlite_url, pacs(orthanc.port, orthanc.ae_title)) as hospital:
        uids = []
        for revision, slices in ((1, range(10)), (2, [10, 11])):
            job_id = hospital.decided_volume("C1", slices, revision)
            write_results(hospital.db, hospital.spool, hospital.settings, job_id)
            deliver(hospital.db, hospital.settings, "pacs")
            uids.append(hospital.results(job_id)[0].sop_instance_uid)
        reports = {ds.SOPInstanceUID: ds for ds in orthanc.datasets() if ds.Modality == "SR"}
        assert reports.keys() == set(uids)
        item = reports[uids[1]].PredecessorDocumentsSequence[0]
        assert item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uids[0]


def test_storescp_of_dcmtk_takes_each_object_once(
    tmp_path: Path, database_url: str, storescp: services.StoreScp
) -> None:
    with hospital_with(tmp_path, database_url, pacs(storescp.port, storescp.ae_title), batch=3) as hospital:
        job_ids = [released(hospital, number=number) for number in range(1, 4)]
        assert deliver(hospital.db, hospital.settings, "pacs") is True, "more is due than one batch takes"
        assert deliver(hospital.db, hospital.settings, "pacs") is False
        uids = sorted(ds.SOPInstanceUID for ds in storescp.wait_for(6))
        assert uids == sorted(r.sop_instance_uid for job_id in job_ids for r in hospital.results(job_id))


def test_a_destination_that_is_down_costs_no_attempt_and_is_asked_less_and_less(
    tmp_path: Path, database_url: str
) -> None:
    nobody = pacs(services.free_port())
    with hospital_with(tmp_path, database_url, nobody, retry_after_s=10, retry_at_most_s=15, batch=1) as hospital:
        job_id = released(hospital)
        assert deliver(hospital.db, hospital.settings, "pacs") is False, "what is left must wait too"
        first, second = hospital.deliveries(job_id)
        assert (first.state, first.attempts, first.tries) == (DeliveryState.PENDING, 0, 1)
        assert "cannot be reached" in (first.last_error or "")
        assert 9 < (first.not_before - utc_now()).total_seconds() < 13
        assert (second.state, second.tries) == (DeliveryState.PENDING, 0)
        assert second.not_before > utc_now() + timedelta(seconds=5)
        for _ in range(4):
            make_due(hospital)
            deliver(hospital.db, hospital.settings, "pacs")
        tried = max(hospital.deliveries(job_id), key=lambda row: row.tries)
        assert (tried.state, tried.attempts) == (DeliveryState.PENDING, 0)
        assert 14 < (tried.not_before - utc_now()).total_seconds() < 19, "the longest pause"


def test_what_waited_for_a_destination_arrives_when_it_is_back(
    tmp_path: Path, sqlite_url: str, service_folder: Any
) -> None:
    with service_folder("storescp") as folder:
        server = services.StoreScp(folder)
        with hospital_with(tmp_path, sqlite_url, pacs(server.port)) as hospital:
            job_id = released(hospital)
            deliver(hospital.db, hospital.settings, "pacs")
            assert states(hospital, job_id) == ["pending"] * 2
            with services.running(server):
                make_due(hospital)
                deliver(hospital.db, hospital.settings, "pacs")
                server.wait_for(2)
            assert states(hospital, job_id) == ["delivered"] * 2


def test_pictures_that_are_refused_are_dead_letters_and_the_others_arrive(tmp_path: Path, database_url: str) -> None:
    with (
        scripted_pacs(classes=(Comprehensive3DSRStorage,)) as (port, seen),
        hospital_with(tmp_path, database_url, pacs(port)) as hospital,
    ):
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        sr, capture = hospital.deliveries(job_id)
        assert (capture.state, capture.attempts) == (DeliveryState.DEAD, 1)
        assert "does not accept Secondary Capture" in (capture.last_error or "")
        assert sr.state is DeliveryState.DELIVERED
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("answer", "state", "attempts", "words"),
    [
        (0xA700, DeliveryState.PENDING, 0, "0xA700"),
        (0xA900, DeliveryState.DEAD, 1, "0xA900"),
        (0xC000, DeliveryState.DEAD, 1, "0xC000"),
        (0xB000, DeliveryState.DELIVERED, 0, "0xB000 coercion of data elements"),
        (0xB006, DeliveryState.DELIVERED, 0, "0xB006 elements discarded"),
        (0xB007, DeliveryState.DELIVERED, 0, "0xB007 data set does not match SOP class (warning)"),
        ("abort", DeliveryState.PENDING, 0, "abort"),
        ("drop", DeliveryState.PENDING, 0, "PACS@"),
    ],
)
def test_each_answer_has_its_consequence_for_that_object_alone(
    tmp_path: Path, sqlite_url: str, answer: int | str, state: DeliveryState, attempts: int, words: str
) -> None:
    with scripted_pacs(answer) as (port, _), hospital_with(tmp_path, sqlite_url, pacs(port)) as hospital:
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        first, second = hospital.deliveries(job_id)
        assert (first.state, first.attempts) == (state, attempts)
        assert words in (first.last_error or "")
        assert second.state is DeliveryState.DELIVERED


def test_an_object_that_breaks_every_association_keeps_no_other_waiting(tmp_path: Path, sqlite_url: str) -> None:
    with (
        scripted_pacs("abort", "abort") as (port, seen),
        hospital_with(tmp_path, sqlite_url, pacs(port), batch=1) as hospital,
    ):
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        released(hospital, number=2)
        make_due(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        assert len(set(seen)) == 2, "the one that was tried already comes after those that were not"
        assert "dead" not in states(hospital, job_id)


def test_a_destination_that_does_not_know_us_is_tried_some_more_before_the_letter_is_dead(
    tmp_path: Path, sqlite_url: str
) -> None:
    ae = AE("PACS")
    ae.add_supported_context(Comprehensive3DSRStorage)
    ae.require_calling_aet = ["SOMEBODY"]
    port = services.free_port()
    server = ae.start_server((services.LOCALHOST, port), block=False)
    assert server is not None
    try:
        with hospital_with(tmp_path, sqlite_url, pacs(port), max_attempts=2) as hospital:
            job_id = released(hospital)
            deliver(hospital.db, hospital.settings, "pacs")
            assert states(hospital, job_id) == ["pending"] * 2
            make_due(hospital)
            deliver(hospital.db, hospital.settings, "pacs")
            assert states(hospital, job_id) == ["dead"] * 2
            assert "not recognized" in (hospital.deliveries(job_id)[0].last_error or "")
    finally:
        server.shutdown()


def test_a_destination_that_is_gone_from_the_settings_makes_dead_letters_that_can_be_sent_again(
    tmp_path: Path, database_url: str, storescp: services.StoreScp
) -> None:
    known = pacs(storescp.port)
    with hospital_with(tmp_path, database_url, known) as hospital:
        job_id = released(hospital)
        without = hospital.settings.model_copy(update={"destinations": []})
        assert deliver(hospital.db, without, "pacs") is False
        assert states(hospital, job_id) == ["dead"] * 2
        assert "no destination is named 'pacs'" in (hospital.deliveries(job_id)[0].last_error or "")
        assert resend(hospital.db, delivery_ids=[hospital.deliveries(job_id)[0].id]) == 1
        assert resend(hospital.db, job_id=job_id, destination="archive") == 0
        assert resend(hospital.db, job_id=job_id) == 1
        assert resend(hospital.db, destination="pacs") == 0
        deliver(hospital.db, hospital.settings, "pacs")
        assert states(hospital, job_id) == ["delivered"] * 2


def test_what_is_meant_for_tls_never_goes_out_in_the_clear(
    tmp_path: Path, sqlite_url: str, storescp: services.StoreScp
) -> None:
    plain = pacs(storescp.port)
    # Settings refuse this when they are loaded; delivery does not rely on it.
    encrypted = {"destinations": [plain.model_copy(update={"tls": True})]}
    with hospital_with(tmp_path, sqlite_url, plain) as hospital:
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings.model_copy(update=encrypted), "pacs")
        first = hospital.deliveries(job_id)[0]
        assert (first.state, first.attempts) == (DeliveryState.PENDING, 0)
        assert "demands TLS, but dicom.tls names no certificates" in (first.last_error or "")
        assert storescp.files() == []


def test_sending_again_needs_to_be_told_what(tmp_path: Path, sqlite_url: str) -> None:
    with hospital_with(tmp_path, sqlite_url) as hospital, pytest.raises(ValueError, match="name deliveries, a job or"):
        resend(hospital.db)


def test_a_result_file_that_is_gone_is_a_dead_letter(
    tmp_path: Path, sqlite_url: str, storescp: services.StoreScp
) -> None:
    with hospital_with(tmp_path, sqlite_url, pacs(storescp.port)) as hospital:
        job_id = released(hospital)
        Path(hospital.results(job_id)[0].path).unlink()
        deliver(hospital.db, hospital.settings, "pacs")
        assert states(hospital, job_id) == ["dead", "delivered"]


def test_two_deliverers_at_once_send_each_object_once(
    tmp_path: Path, database_url: str, storescp: services.StoreScp
) -> None:
    with hospital_with(tmp_path, database_url, pacs(storescp.port), batch=2) as hospital:
        for number in range(1, 5):
            released(hospital, number=number)

        def work(_: int) -> None:
            while deliver(hospital.db, hospital.settings, "pacs"):
                pass

        at_once(work, range(2))
        while deliver(hospital.db, hospital.settings, "pacs"):
            pass
        storescp.wait_for(8)
        uids = [ds.SOPInstanceUID for ds in storescp.datasets()]
        assert len(uids) == len(set(uids)) == 8


CRASHING = """
import os, sys
from worker import delivery
from worker.db.sessions import Database
from worker.settings import Settings
delivery._settle = lambda *_: os._exit(9)
settings = Settings.model_validate_json(sys.stdin.read())
delivery.deliver(Database(sys.argv[1]), settings, "pacs")
"""


def test_a_crash_after_the_pacs_stored_sends_the_same_bytes_again(
    tmp_path: Path, database_url: str, storescp: services.StoreScp
) -> None:
    with hospital_with(tmp_path, database_url, pacs(storescp.port)) as hospital:
        job_id = released(hospital)
        crashed = subprocess.run(
            [sys.executable, "-c", CRASHING, database_url],
            input=hospital.settings.model_dump_json(),
            text=True,
            capture_output=True,
            check=False,
        )
        assert crashed.returncode == 9, crashed.stderr
        storescp.wait_for(1)
        assert states(hospital, job_id) == ["sending"] * 2
        assert rescue_expired(hospital.db) == 0, "its lease still holds"
        assert deliver(hospital.db, hospital.settings, "pacs") is False
        with hospital.db.writing() as session:
            for row in session.query(Delivery):
                row.claim_expires_at = utc_now() - timedelta(seconds=1)
        assert rescue_expired(hospital.db) == 2
        deliver(hospital.db, hospital.settings, "pacs")
        assert states(hospital, job_id) == ["delivered"] * 2
        storescp.wait_for(3)
        by_uid: dict[str, set[bytes]] = {}
        for path in storescp.files():
            ds = pydicom.dcmread(path)
            by_uid.setdefault(ds.SOPInstanceUID, set()).add(ds.to_json().encode())
        assert [len(contents) for contents in by_uid.values()] == [1, 1]


HANGING = """
import sys, time
from worker import channels, delivery
from worker.db.sessions import Database
from worker.settings import Settings
def hang(*_):
    print("sending", flush=True)
    time.sleep(60)
channels.CHANNELS = {"dicom": channels.Channel(hang, hang)}
settings = Settings.model_validate_json(sys.stdin.readline())
delivery.deliver(Database(sys.argv[1]), settings, "pacs")
"""


def test_a_killed_sender_frees_its_destination_long_before_the_peer_would_time_out(
    tmp_path: Path, sqlite_url: str, storescp: services.StoreScp
) -> None:
    with hospital_with(tmp_path, sqlite_url, pacs(storescp.port), timeout_s=600) as hospital:
        job_id = released(hospital)
        argv = [sys.executable, "-c", HANGING, sqlite_url]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdin is not None
            assert sender.stdout is not None
            sender.stdin.write(hospital.settings.model_dump_json() + "\n")
            sender.stdin.flush()
            assert sender.stdout.readline() == "sending\n"
            sender.kill()
        left = [row.claim_expires_at - utc_now() for row in hospital.deliveries(job_id) if row.claim_expires_at]
        assert len(left) == 2
        assert max(left) < timedelta(seconds=16)


def test_a_slow_sender_keeps_its_claim_and_nothing_is_sent_twice(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LEASE_S", 0.6)
    seen: list[str] = []
    go_on = threading.Event()

    def on_store(event: Any) -> int:
        seen.append(str(event.request.AffectedSOPInstanceUID))
        go_on.wait(30)
        return 0

    with answering_pacs(on_store) as port, hospital_with(tmp_path, database_url, pacs(port), timeout_s=60) as hospital:
        job_id = released(hospital)

        def expiries() -> list[datetime]:
            return [row.claim_expires_at for row in hospital.deliveries(job_id) if row.claim_expires_at]

        sender = threading.Thread(target=deliver, args=(hospital.db, hospital.settings, "pacs"))
        sender.start()
        services.wait_until(lambda: seen, 30, "the first object")
        renewed = max(expiries()) + timedelta(seconds=outbox.LEASE_S)
        services.wait_until(lambda: min(expiries()) > renewed, 30, "claims renewed for more than a lease")
        go_on.set()
        sender.join(30)
        assert states(hospital, job_id) == ["delivered"] * 2
        assert len(seen) == len(set(seen)) == 2


def test_an_interrupted_sender_hands_back_what_it_did_not_get_to(
    tmp_path: Path, sqlite_url: str, storescp: services.StoreScp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hospital_with(tmp_path, sqlite_url, pacs(storescp.port)) as hospital:
        job_id = released(hospital)

        def interrupted(*_: Any, **__: Any) -> Any:
            raise SystemExit("SIGTERM")

        with monkeypatch.context() as patched, pytest.raises(SystemExit):
            patched.setattr(channels, "c_store", interrupted)
            deliver(hospital.db, hospital.settings, "pacs")
        assert states(hospital, job_id) == ["pending"] * 2


def test_a_late_sender_cannot_change_what_another_took_over(
    tmp_path: Path, sqlite_url: str, storescp: services.StoreScp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hospital_with(tmp_path, sqlite_url, pacs(storescp.port)) as hospital:
        job_id = released(hospital)
        original, taken = channels.c_store, {"claim_token": "another"}

        def overtaken(*arguments: Any, **keywords: Any) -> Any:
            outcomes = list(original(*arguments, **keywords))
            with hospital.db.writing() as session:
                for row in session.query(Delivery):
                    move_delivery(session, row, DeliveryState.PENDING, "rescued", study_id=None, claim_token=None)
                    move_delivery(session, row, DeliveryState.SENDING, "again", study_id=None, **taken)
            return iter(outcomes)

        with monkeypatch.context() as patched:
            patched.setattr(channels, "c_store", overtaken)
            deliver(hospital.db, hospital.settings, "pacs")
        assert states(hospital, job_id) == ["sending"] * 2


@pytest.mark.parametrize("fate", [JobState.REJECTED, JobState.SUPERSEDED])
def test_what_was_withdrawn_while_it_was_on_its_way_is_not_sent_again(
    tmp_path: Path, sqlite_url: str, storescp: services.StoreScp, fate: JobState
) -> None:
    with hospital_with(tmp_path, sqlite_url, pacs(storescp.port)) as hospital:
        job_id = released(hospital)
        with hospital.db.writing() as session:  # a sender died while it was sending, then the job was withdrawn
            for row in session.query(Delivery):
                row.state, row.claim_expires_at = DeliveryState.SENDING, utc_now() - timedelta(seconds=1)
                row.result.job.state = fate
        assert rescue_expired(hospital.db) == 2
        assert deliver(hospital.db, hospital.settings, "pacs") is False
        assert states(hospital, job_id) == ["cancelled"] * 2
        assert storescp.files() == []


def test_the_history_of_a_delivery_gives_every_reason(tmp_path: Path, sqlite_url: str) -> None:
    with scripted_pacs(0xA700) as (port, _), hospital_with(tmp_path, sqlite_url, pacs(port)) as hospital:
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        make_due(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        first = hospital.deliveries(job_id)[0]
        with hospital.db.reading() as session:
            of_first = session.query(Event).filter_by(subject="delivery", subject_id=str(first.id))
            events = of_first.order_by(Event.id).all()
            told = [(event.to_state, event.reason) for event in events]
        assert [state for state, _ in told] == ["pending", "sending", "pending", "sending", "delivered"]
        assert "out of resources" in told[2][1]
        assert all(event.study_id for event in events)
