"""What a PACS vouches for is confirmed, what it denies is sent again, and silence is never taken for a yes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.scp import ScpConfig, StoreScp
from tests import services
from tests.archive import Archive
from tests.committing_pacs import committing_pacs
from tests.integration.hospital import Hospital
from tests.services.process import wait_until
from worker.confirmation import confirm
from worker.db.columns import utc_now
from worker.db.records import Delivery, Event
from worker.delivery import deliver, resend
from worker.node import LedgerKeeper
from worker.reporting import write_results
from worker.settings import DicomDestination


@contextmanager
def delivered(folder: Path, url: str, port: int, ae_title: str = "PACS", **options: Any) -> Iterator[Hospital]:
    """A hospital with two results that its PACS took."""
    asked = {"commitment": True, **options.pop("asked", {})}
    target = DicomDestination(name="pacs", ae_title=ae_title, host=services.LOCALHOST, port=port, **asked)
    timing = {"confirm_wait_s": 2, "confirm_after_s": 60, "confirm_asks": 2, "confirm_resends": 1, **options}
    hospital = Hospital(folder, url, [target], **timing)
    try:
        job_id = hospital.decided_run()
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        deliver(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"delivered"}
        yield hospital
    finally:
        hospital.db.close()


@contextmanager
def node_of(hospital: Hospital) -> Iterator[StoreScp]:
    """The hospital's node, as far as reports need it."""
    keeper = LedgerKeeper(hospital.db, hospital.settings.delivery)
    scp = StoreScp(ScpConfig("DICOMWORKER", port=0), hospital.spool, lambda _received: 0, keeper=keeper)
    with scp:
        yield scp
        wait_until(lambda: not scp.associations, 5, "the end of the associations")


def rows(hospital: Hospital) -> list[Delivery]:
    with hospital.db.reading() as session:
        return session.query(Delivery).order_by(Delivery.id).all()


def states(hospital: Hospital) -> set[str]:
    return {row.state.value for row in rows(hospital)}


def ask_again(hospital: Hospital) -> None:
    """Let the time pass, and ask."""
    with hospital.db.writing() as session:
        for row in session.query(Delivery):
            row.not_before = utc_now() - timedelta(seconds=1)
            if row.confirm_at is not None:
                row.confirm_at = utc_now() - timedelta(seconds=1)
    confirm(hospital.db, hospital.settings, "pacs")


def history(hospital: Hospital) -> str:
    with hospital.db.reading() as session:
        return "\n".join(event.reason for event in session.query(Event))


def test_a_report_on_the_same_association_confirms(tmp_path: Path, database_url: str) -> None:
    with committing_pacs() as pacs, delivered(tmp_path, database_url, pacs.port) as hospital:
        assert confirm(hospital.db, hospital.settings, "pacs") is False
        assert states(hospital) == {"confirmed"}
        (asked,) = pacs.asked
        referenced = {item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence}
        assert referenced == set(pacs.stored)
        assert len(pacs.stored) == 2
        assert pacs.answers == [0]
        assert all(row.confirmed_at for row in rows(hospital))
        assert "pacs vouches for it (storage commitment)" in history(hospital)


def test_a_report_on_an_association_of_the_pacs_confirms(tmp_path: Path, sqlite_url: str) -> None:
    with (
        committing_pacs(reports="other") as pacs,
        delivered(tmp_path, sqlite_url, pacs.port, confirm_wait_s=0) as hospital,
        node_of(hospital) as scp,
    ):
        pacs.report_to_port = scp.port
        confirm(hospital.db, hospital.settings, "pacs")
        wait_until(lambda: states(hospital) == {"confirmed"}, 10, "the report")
        wait_until(lambda: pacs.answers == [0], 5, "the answer to the report")


def test_orthanc_vouches_for_what_it_has(tmp_path: Path, sqlite_url: str, orthanc: services.Orthanc) -> None:
    with (
        delivered(tmp_path, sqlite_url, orthanc.port, orthanc.ae_title, confirm_wait_s=0) as hospital,
        node_of(hospital) as scp,
    ):
        orthanc.add_modality("worker", "DICOMWORKER", scp.port)
        confirm(hospital.db, hospital.settings, "pacs")
        wait_until(lambda: states(hospital) == {"confirmed"}, 20, "Orthanc's report")


def test_what_orthanc_has_lost_is_sent_again(tmp_path: Path, sqlite_url: str, orthanc: services.Orthanc) -> None:
    with (
        delivered(tmp_path, sqlite_url, orthanc.port, orthanc.ae_title, confirm_wait_s=0) as hospital,
        node_of(hospital) as scp,
    ):
        orthanc.clear()
        orthanc.add_modality("worker", "DICOMWORKER", scp.port)
        confirm(hospital.db, hospital.settings, "pacs")
        wait_until(lambda: states(hospital) == {"pending"}, 20, "Orthanc's report")
        assert "does not vouch for it: 0x0112 no such object instance; it is sent again" in history(hospital)
        ask_again(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        confirm(hospital.db, hospital.settings, "pacs")
        wait_until(lambda: states(hospital) == {"confirmed"}, 20, "Orthanc's second report")
        assert len(orthanc.instance_ids()) == 2


def test_what_is_denied_again_and_again_is_a_dead_letter_that_can_be_sent_again(
    tmp_path: Path, database_url: str
) -> None:
    with committing_pacs(failure=0x0112) as pacs, delivered(tmp_path, database_url, pacs.port) as hospital:
        confirm(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"pending"}
        ask_again(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        confirm(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"dead"}
        assert "0x0112 no such object instance" in (rows(hospital)[0].last_error or "")
        assert len(pacs.stored) == 4
        pacs.failure = None
        assert resend(hospital.db, destination="pacs") == 2
        deliver(hospital.db, hospital.settings, "pacs")
        confirm(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"confirmed"}


def test_what_can_never_be_kept_is_a_dead_letter_at_once(tmp_path: Path, sqlite_url: str) -> None:
    with committing_pacs(failure=0x0119) as pacs, delivered(tmp_path, sqlite_url, pacs.port) as hospital:
        confirm(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"dead"}
        assert "0x0119 class/instance conflict" in (rows(hospital)[0].last_error or "")
        assert len(pacs.stored) == 2


def test_silence_is_asked_about_again_and_ends_as_a_warning_that_a_late_report_mends(
    tmp_path: Path, database_url: str
) -> None:
    silent = committing_pacs(reports="silent")
    with silent as pacs, delivered(tmp_path, database_url, pacs.port, confirm_wait_s=0.1) as hospital:
        confirm(hospital.db, hospital.settings, "pacs")
        assert 50 < (rows(hospital)[0].confirm_at or utc_now()).timestamp() - utc_now().timestamp() < 70
        confirm(hospital.db, hospital.settings, "pacs")
        assert len(pacs.asked) == 1, "it is not asked again before its time"
        ask_again(hospital)
        assert (rows(hospital)[0].confirm_at or utc_now()).timestamp() - utc_now().timestamp() > 110, "later each time"
        assert states(hospital) == {"delivered"}
        ask_again(hospital)
        assert states(hospital) == {"unconfirmed"}
        assert len(pacs.asked) == 2
        assert "did not say whether it keeps it, asked 2 times" in (rows(hospital)[0].last_error or "")
        with node_of(hospital) as scp:
            pacs.report_to_port = scp.port
            pacs.report(pacs.asked[0])
        assert states(hospital) == {"confirmed"}
        assert rows(hospital)[0].last_error is None


def test_a_late_denial_says_nothing_about_what_was_sent_again(tmp_path: Path, sqlite_url: str) -> None:
    silent = committing_pacs(reports="silent")
    with silent as pacs, delivered(tmp_path, sqlite_url, pacs.port, confirm_wait_s=0.1) as hospital:
        confirm(hospital.db, hospital.settings, "pacs")
        ask_again(hospital)
        with node_of(hospital) as scp:
            pacs.report_to_port = scp.port
            pacs.report(pacs.asked[0], failure=0x0112)
            assert states(hospital) == {"delivered"}
            pacs.report(pacs.asked[1], failure=0x0112)
            assert states(hospital) == {"pending"}


def test_a_report_nobody_asked_for_is_refused(tmp_path: Path, sqlite_url: str) -> None:
    with committing_pacs() as pacs, delivered(tmp_path, sqlite_url, pacs.port) as hospital:
        confirm(hospital.db, hospital.settings, "pacs")
        with node_of(hospital) as scp:
            pacs.report_to_port = scp.port
            pacs.asked[0].TransactionUID = "1.2.3"
            pacs.report(pacs.asked[0])
        assert pacs.answers == [0, 0x0115]


@pytest.mark.parametrize("refusal", ["no context", "refused"])
def test_a_pacs_without_commitment_is_a_warning_that_says_so(tmp_path: Path, sqlite_url: str, refusal: str) -> None:
    behaviour: dict[str, Any] = {"offers_commitment": False} if refusal == "no context" else {"action_status": 0x0122}
    with committing_pacs(**behaviour) as pacs, delivered(tmp_path, sqlite_url, pacs.port) as hospital:
        confirm(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"unconfirmed"}
        reason = rows(hospital)[0].last_error or ""
        assert ("does not accept Storage Commitment" if refusal == "no context" else "0x0122") in reason
        assert "`confirm: find`" in reason
        assert resend(hospital.db, destination="pacs") == 2


def test_a_pacs_that_is_down_when_it_is_asked_costs_no_ask(tmp_path: Path, sqlite_url: str) -> None:
    with committing_pacs() as pacs:
        port = pacs.port
        made = delivered(tmp_path, sqlite_url, port)
        hospital = made.__enter__()
    try:
        for _ in range(4):
            ask_again(hospital)
        assert states(hospital) == {"delivered"}
        assert rows(hospital)[0].asks == 0
        assert "cannot be confirmed yet" in (rows(hospital)[0].last_error or "")
    finally:
        made.__exit__(None, None, None)


def test_what_is_not_asked_about_stays_delivered(tmp_path: Path, sqlite_url: str) -> None:
    with committing_pacs() as pacs, delivered(tmp_path, sqlite_url, pacs.port, asked={"commitment": False}) as hospital:
        assert confirm(hospital.db, hospital.settings, "pacs") is False
        assert states(hospital) == {"delivered"}
        assert pacs.asked == []


def test_orthanc_is_asked_by_find(tmp_path: Path, sqlite_url: str, orthanc: services.Orthanc) -> None:
    asked = {"commitment": False, "confirm": "find"}
    with delivered(tmp_path, sqlite_url, orthanc.port, orthanc.ae_title, asked=asked) as hospital:
        orthanc.add_modality("worker", "DICOMWORKER", 1)
        confirm(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"confirmed"}
        assert "vouches for it (C-FIND)" in history(hospital)


def test_an_archive_without_commitment_is_asked_by_find_where_the_settings_say_so(
    tmp_path: Path, sqlite_url: str, service_folder: Any
) -> None:
    with service_folder("archive") as folder, services.running(Archive(folder)) as archive:
        asked = {"commitment": True, "confirm": "find"}
        with delivered(tmp_path, sqlite_url, archive.port, archive.ae_title, asked=asked) as hospital:
            confirm(hospital.db, hospital.settings, "pacs")
            assert states(hospital) == {"confirmed"}
            assert "vouches for it (C-FIND)" in history(hospital)


def test_what_find_does_not_find_is_sent_again(tmp_path: Path, sqlite_url: str, orthanc: services.Orthanc) -> None:
    asked = {"commitment": False, "confirm": "find"}
    with delivered(tmp_path, sqlite_url, orthanc.port, orthanc.ae_title, asked=asked) as hospital:
        orthanc.clear()
        orthanc.add_modality("worker", "DICOMWORKER", 1)
        confirm(hospital.db, hospital.settings, "pacs")
        assert states(hospital) == {"delivered"}, "it may be being filed"
        ask_again(hospital)
        assert states(hospital) == {"pending"}
        assert "does not find it by C-FIND, asked 2 times" in history(hospital)


CRASHING = """
import os, sys
from dicom_node.outgoing import OutgoingAssociation
from worker import confirmation
from worker.db.sessions import Database
from worker.settings import Settings
OutgoingAssociation.listen = lambda *_, **__: os.kill(os.getpid(), 9)
settings = Settings.model_validate_json(sys.stdin.read())
confirmation.confirm(Database(sys.argv[1]), settings, "pacs")
"""


def test_a_process_killed_between_request_and_report_loses_nothing(tmp_path: Path, sqlite_url: str) -> None:
    silent = committing_pacs(reports="silent")
    with silent as pacs, delivered(tmp_path, sqlite_url, pacs.port) as hospital:
        killed = subprocess.run(
            [sys.executable, "-c", CRASHING, sqlite_url],
            input=hospital.settings.model_dump_json(),
            text=True,
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -9, killed.stderr
        assert len(pacs.asked) == 1
        with node_of(hospital) as scp:
            pacs.report_to_port = scp.port
            pacs.report(pacs.asked[0])
        assert states(hospital) == {"confirmed"}
        assert len(pacs.stored) == 2, "nothing is sent twice"
