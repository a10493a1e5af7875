"""A PACS that does not take every SOP class gets the answer in the best form that it takes: once, and never nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedSRStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from typer.testing import CliRunner

from tests import services
from tests.dicom_validators import dciodvfy
from tests.integration.hospital import ADA, Hospital, hospital_with, released
from tests.scripted_server import scripted_server
from worker import review
from worker.cli import app
from worker.db.columns import utc_now
from worker.db.queries import study
from worker.db.records import Delivery
from worker.db.refusals import forget, refused_classes
from worker.delivery import deliver, resend
from worker.reporting import write_results
from worker.result_kinds import ResultKind
from worker.retraction import write_rejection_notes
from worker.settings import DicomDestination, StowDestination

VERIFICATION = "1.2.840.10008.1.1"
PICTURES = (SecondaryCaptureImageStorage,)


@pytest.fixture
def limited(service_folder: Any) -> Iterator[Callable[..., Any]]:
    """Return a context manager: storescp that takes these SOP classes only."""

    @contextmanager
    def run(*classes: str, **options: str) -> Iterator[services.StoreScp]:
        with service_folder("limited") as folder:
            server = services.StoreScp(folder, takes=(VERIFICATION, *classes), **options)
            with services.running(server):
                yield server

    return run


def pacs(server: services.StoreScp, name: str = "pacs", **options: Any) -> DicomDestination:
    return DicomDestination(name=name, ae_title=server.ae_title, host=services.LOCALHOST, port=server.port, **options)


def send(hospital: Hospital, name: str = "pacs") -> None:
    with hospital.db.writing() as session:
        for row in session.query(Delivery):
            row.not_before = utc_now() - timedelta(seconds=1)
    while deliver(hospital.db, hospital.settings, name):
        pass


def fate(hospital: Hospital, job_id: str, name: str = "pacs") -> dict[str, list[str]]:
    """Return kind -> states of its deliveries to a destination."""
    found: dict[str, list[str]] = {}
    for result in hospital.results(job_id):
        for row in result.deliveries:
            if row.destination == name:
                found.setdefault(result.kind, []).append(row.state.value)
    return found


def received(server: services.StoreScp, count: int) -> dict[str, list[Dataset]]:
    """Return SOP class -> objects."""
    found: dict[str, list[Dataset]] = {}
    for ds in server.wait_for(count):
        found.setdefault(str(ds.SOPClassUID), []).append(ds)
    assert sum(map(len, found.values())) == count
    return found


def reason(hospital: Hospital, job_id: str, kind: str) -> str:
    (text,) = (r.deliveries[0].last_error for r in hospital.results(job_id) if r.kind == kind)
    return text or ""


def predecessor_of(ds: Dataset) -> tuple[str, str]:
    reference = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    return reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID


def test_a_pacs_without_sr_gets_the_pictures_once_and_is_not_asked_again(
    tmp_path: Path, database_url: str, limited: Callable[..., Any]
) -> None:
    with limited(*PICTURES) as server, hospital_with(tmp_path, database_url, pacs(server)) as hospital:
        job_id = released(hospital)
        send(hospital)
        assert fate(hospital, job_id)["sr"] == ["cancelled"]
        assert fate(hospital, job_id)["sc"] == ["delivered"]
        assert "does not take Comprehensive 3D SR Storage: it is sent as Comprehensive SR" in reason(
            hospital, job_id, "sr"
        )
        assert reason(hospital, job_id, "sr-enhanced").endswith("the pictures stand in its place")
        received(server, 1)
        second = released(hospital, number=2)
        assert deliver(hospital.db, hospital.settings, "pacs") is False
        assert fate(hospital, second) == {"sr": ["cancelled"], "sc": ["delivered"]}, "one association is enough now"
        received(server, 2)
        with hospital.db.reading() as session:
            (view,) = study(session, "A1")
        assert view.state == "done"


@pytest.mark.parametrize(
    ("sop_class", "kind"), [(ComprehensiveSRStorage, "sr-comprehensive"), (EnhancedSRStorage, "sr-enhanced")]
)
def test_a_report_arrives_in_the_class_that_the_pacs_takes_with_the_same_content(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any], sop_class: str, kind: str
) -> None:
    with limited(sop_class, *PICTURES) as server, hospital_with(tmp_path, sqlite_url, pacs(server)) as hospital:
        job_id = hospital.decided_volume("C1", range(10), 1)
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        send(hospital)
        assert fate(hospital, job_id)[kind] == ["delivered"]
        pictures = fate(hospital, job_id)["sc"]
        assert set(pictures) == {"delivered"}
        (arrived,) = received(server, 1 + len(pictures))[sop_class]
        (original,) = (pydicom.dcmread(r.path) for r in hospital.results(job_id) if r.kind == "sr")
        assert arrived.ContentSequence == original.ContentSequence
        assert arrived.SOPInstanceUID != original.SOPInstanceUID
        path = next(r.path for r in hospital.results(job_id) if r.kind == kind)
        assert dciodvfy(Path(path)).errors == ()


def test_signed_report_and_rejection_note_name_what_each_pacs_really_has(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any], storescp: services.StoreScp
) -> None:
    taken = (ComprehensiveSRStorage, KeyObjectSelectionDocumentStorage)
    with (
        limited(*taken) as server,
        hospital_with(
            tmp_path,
            sqlite_url,
            pacs(server, results=[ResultKind.SR]),
            pacs(storescp, "archive", results=[ResultKind.SR]),
        ) as hospital,
    ):
        job_id = released(hospital)
        for name in ("pacs", "archive"):
            send(hospital, name)
        review.accept(hospital.db, job_id, ADA)
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        for name in ("pacs", "archive"):
            send(hospital, name)
        draft, signed = sorted(server.wait_for(2), key=lambda ds: "PredecessorDocumentsSequence" in ds)
        assert (signed.VerificationFlag, draft.VerificationFlag) == ("VERIFIED", "UNVERIFIED")
        assert predecessor_of(signed) == (ComprehensiveSRStorage, draft.SOPInstanceUID)
        there_draft, there = sorted(storescp.wait_for(2), key=lambda ds: "PredecessorDocumentsSequence" in ds)
        assert predecessor_of(there) == (Comprehensive3DSRStorage, there_draft.SOPInstanceUID)

        other = released(hospital, number=2)
        for name in ("pacs", "archive"):
            send(hospital, name)
        review.reject(hospital.db, other, ADA, "wrong side")
        assert write_rejection_notes(hospital.db, hospital.spool, hospital.settings, other) == ("archive", "pacs")
        for name in ("pacs", "archive"):
            send(hospital, name)
        for there_is in (server.wait_for(4), storescp.wait_for(4)):
            (note,) = (ds for ds in there_is if ds.Modality == "KO")
            evidence = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
            named = {item.ReferencedSOPInstanceUID for item in evidence.ReferencedSOPSequence}
            assert named <= {ds.SOPInstanceUID for ds in there_is}
            assert len(named) == 1


def test_a_pacs_that_learns_between_draft_and_signature_gets_a_report_that_names_what_it_has(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any]
) -> None:
    with (
        limited(ComprehensiveSRStorage) as server,
        hospital_with(tmp_path, sqlite_url, pacs(server, results=[ResultKind.SR])) as hospital,
    ):
        job_id = released(hospital)
        send(hospital)
        server.stop()
        server.take_only((ComprehensiveSRStorage, Comprehensive3DSRStorage))
        server.start()
        with hospital.db.writing() as session:
            forget(session, "pacs")
        review.reject(hospital.db, job_id, ADA, "wrong button", undo_s=60)
        review.undo(hospital.db, job_id, ADA)
        send(hospital)
        assert len(server.files()) == 1, "what was sent in the plainer class is not sent in the better one too"
        review.accept(hospital.db, job_id, ADA)
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        send(hospital)
        draft, signed = sorted(server.wait_for(2), key=lambda ds: "PredecessorDocumentsSequence" in ds)
        assert predecessor_of(signed) == (draft.SOPClassUID, draft.SOPInstanceUID)
        assert "the report before it, as Comprehensive SR Storage" in str(
            [r.deliveries[0].last_error for r in hospital.results(job_id) if r.kind == "sr" and r.verified]
        )
        later = released(hospital, number=2)
        send(hospital)
        assert fate(hospital, later) == {"sr": ["delivered"]}, "another answer comes in the better class"


def test_every_kind_comes_down_to_the_pictures_and_additions_are_left_out(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any]
) -> None:
    with (
        limited(*PICTURES) as server,
        hospital_with(tmp_path, sqlite_url, pacs(server, results=[k for k in ResultKind if k != "sc"])) as hospital,
    ):
        job_id = released(hospital)
        send(hospital)
        states = fate(hospital, job_id)
        assert states.pop("sc") == ["delivered"], "once, though three kinds fall back on it"
        assert {state for kind in states.values() for state in kind} == {"cancelled"}
        assert "is left out" in reason(hospital, job_id, "ko")
        received(server, 1)


def test_where_nothing_else_is_taken_it_is_a_dead_letter_until_the_pacs_learns(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any]
) -> None:
    with limited(CTImageStorage) as server:
        wanted = (pacs(server), pacs(server, "marks", results=[ResultKind.KO]))
        with hospital_with(tmp_path, sqlite_url, *wanted) as hospital:
            job_id = released(hospital)
            for name in ("pacs", "marks"):
                send(hospital, name)
            assert fate(hospital, job_id)["sc"] == ["dead"]
            assert fate(hospital, job_id, "marks") == {"ko": ["dead"]}, "it gets nothing else"
            assert "dead" in fate(hospital, job_id)["sr-enhanced"]
            server.stop()
            server.take_only((*PICTURES, EnhancedSRStorage))
            server.start()
            assert resend(hospital.db, destination="pacs") == 2
            send(hospital)
            assert fate(hospital, job_id)["sc"] == fate(hospital, job_id)["sr-enhanced"] == ["delivered"]


def test_a_pacs_with_the_default_syntax_only_gets_everything_in_it(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any]
) -> None:
    taken = (Comprehensive3DSRStorage, *PICTURES)
    with (
        limited(*taken, syntax=str(ImplicitVRLittleEndian)) as server,
        hospital_with(tmp_path, sqlite_url, pacs(server)) as hospital,
    ):
        job_id = released(hospital)
        send(hospital)
        assert fate(hospital, job_id) == {"sr": ["delivered"], "sc": ["delivered"]}
        written = {r.sop_instance_uid: pydicom.dcmread(r.path) for r in hospital.results(job_id)}
        for ds in server.wait_for(2):
            assert ds.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
            ours = written[ds.SOPInstanceUID]
            for each in (ds, ours):
                each.remove_private_tags()
            assert {e.tag: e.value for e in ds} == {e.tag: e.value for e in ours}


def test_what_is_withdrawn_while_its_substitute_waits_is_not_sent(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any]
) -> None:
    with (
        limited(ComprehensiveSRStorage) as server,
        hospital_with(tmp_path, sqlite_url, pacs(server, results=[ResultKind.SR])) as hospital,
    ):
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        assert fate(hospital, job_id) == {"sr": ["cancelled"], "sr-comprehensive": ["pending"]}
        review.accept(hospital.db, job_id, ADA)
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        send(hospital)
        assert fate(hospital, job_id)["sr-comprehensive"] == ["cancelled", "delivered"]
        (arrived,) = server.wait_for(1)
        assert arrived.VerificationFlag == "VERIFIED"


def test_what_was_learned_is_forgotten_after_a_while(
    tmp_path: Path, sqlite_url: str, limited: Callable[..., Any]
) -> None:
    with (
        limited(*PICTURES) as server,
        hospital_with(tmp_path, sqlite_url, pacs(server), refusals_kept_s=3600) as hospital,
    ):
        released(hospital)
        send(hospital)
        with hospital.db.reading() as session:
            assert Comprehensive3DSRStorage in refused_classes(session, "pacs", 3600)
            assert refused_classes(session, "pacs", 0) == frozenset()


def settings_file(folder: Path, url: str, server: services.StoreScp) -> Path:
    file = folder / "worker.yaml"
    entry = f"{{name: pacs, ae_title: {server.ae_title}, host: 127.0.0.1, port: {server.port}}}"
    file.write_text(f"data_dir: {folder}\ndatabase_url: {url}\ndestinations: [{entry}]\n")
    return file


def test_a_probe_of_a_destination_is_remembered(tmp_path: Path, sqlite_url: str, limited: Callable[..., Any]) -> None:
    with limited(*PICTURES) as server, hospital_with(tmp_path, sqlite_url, pacs(server)) as hospital:
        file = settings_file(tmp_path, sqlite_url, server)
        answer = CliRunner().invoke(app, ["echo", "pacs", "--probe", "--json", "--config", str(file)])
        assert answer.exit_code == 0, answer.output
        accepted = {entry["sop_class_uid"] for entry in json.loads(answer.stdout)["storage"] if entry["accepted"]}
        assert accepted == set(PICTURES)
        job_id = released(hospital)
        assert deliver(hospital.db, hospital.settings, "pacs") is False
        assert fate(hospital, job_id) == {"sr": ["cancelled"], "sc": ["delivered"]}, "nothing else was tried"
        server.stop()
        server.take_only((Comprehensive3DSRStorage, *PICTURES, VERIFICATION))
        server.start()
        assert CliRunner().invoke(app, ["echo", "pacs", "--probe", "--config", str(file)]).exit_code == 0
        second = released(hospital, number=2)
        send(hospital)
        assert fate(hospital, second) == {"sr": ["delivered"], "sc": ["delivered"]}


def test_a_server_that_refuses_a_class_by_stow_gets_the_plainer_report(tmp_path: Path, sqlite_url: str) -> None:
    with scripted_server((200, b"")) as server:
        target = StowDestination(kind="stow", name="pacs", url=server.url, results=[ResultKind.SR])
        with hospital_with(tmp_path, sqlite_url, target) as hospital:
            job_id = released(hospital)
            refused = {"vr": "UI", "Value": [hospital.results(job_id)[0].sop_instance_uid]}
            entry = {"00081155": refused, "00081197": {"vr": "US", "Value": [0x0122]}}
            server.answers[:] = [(409, {"00081198": {"vr": "SQ", "Value": [entry]}}), (200, b"")]
            send(hospital)
            assert fate(hospital, job_id) == {"sr": ["cancelled"], "sr-comprehensive": ["delivered"]}


def test_two_destinations_share_one_plainer_report(
    tmp_path: Path, database_url: str, limited: Callable[..., Any]
) -> None:
    with limited(ComprehensiveSRStorage) as server:
        names: Sequence[str] = ("pacs", "archive")
        wanted = [pacs(server, name, results=[ResultKind.SR]) for name in names]
        with hospital_with(tmp_path, database_url, *wanted) as hospital:
            job_id = released(hospital)
            for name in names:
                send(hospital, name)
                assert fate(hospital, job_id, name) == {"sr": ["cancelled"], "sr-comprehensive": ["delivered"]}
            assert len({ds.SOPInstanceUID for ds in server.wait_for(2)}) == 1
