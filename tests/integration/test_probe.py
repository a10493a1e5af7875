"""`echo --probe` tells what a peer takes, as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ImplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from typer.testing import CliRunner

from dicom_node.probe import STORAGE, probe
from dicom_node.scu import EchoError, Peer
from tests import services
from tests.archive import Archive
from tests.committing_pacs import committing_pacs
from tests.services.process import Service, dcmtk
from worker.cli import app


def ask(tmp_path: Path, peer: str, *options: str) -> Any:
    (tmp_path / "empty.yaml").touch()
    arguments = ["echo", peer, "--probe", "--config", str(tmp_path / "empty.yaml"), *options]
    return CliRunner().invoke(app, arguments)


def test_orthanc_takes_everything_we_write(tmp_path: Path, orthanc: services.Orthanc) -> None:
    orthanc.add_modality("worker", "DICOMWORKER", 1)
    peer = f"{orthanc.ae_title}@{services.LOCALHOST}:{orthanc.port}"
    answer = ask(tmp_path, peer, "--json")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["ok"], found["commitment"], found["find"], found["move"]) == (True, True, True, True)
    assert {entry["sop_class_uid"] for entry in found["storage"] if entry["accepted"]} == set(STORAGE)
    shown = ask(tmp_path, peer)
    assert shown.exit_code == 0
    for words in ("answers", "Comprehensive 3D SR Storage", "Encapsulated PDF", "storage commitment", "C-MOVE"):
        assert words in shown.stdout


def test_what_a_pacs_refuses_is_shown(tmp_path: Path) -> None:
    with committing_pacs() as pacs:
        taken = probe(Peer("PACS", services.LOCALHOST, pacs.port), calling_ae_title="DICOMWORKER")
        shown = ask(tmp_path, f"PACS@{services.LOCALHOST}:{pacs.port}").stdout
    assert [uid for uid in STORAGE if taken.takes(uid)] == [Comprehensive3DSRStorage, SecondaryCaptureImageStorage]
    assert [name for name, offered in taken.services.items() if offered] == ["commitment"]
    refused = next(line for line in shown.splitlines() if "Encapsulated PDF" in line)
    assert " no " in refused


def test_a_pacs_that_does_not_know_us_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    ae = AE("PACS")
    ae.add_supported_context(Verification)
    ae.require_calling_aet = ["SOMEBODY"]
    port = services.free_port()
    server = ae.start_server((services.LOCALHOST, port), block=False)
    assert server is not None
    try:
        with pytest.raises(EchoError, match="calling AE title not recognized"):
            probe(Peer("PACS", services.LOCALHOST, port), calling_ae_title="DICOMWORKER")
    finally:
        server.shutdown()


def test_an_archive_with_one_syntax_and_no_commitment(tmp_path: Path) -> None:
    port = services.free_port()
    (tmp_path / "received").mkdir()
    argv = [dcmtk("storescp"), "+xi", "-od", str(tmp_path / "received"), str(port)]
    with services.running(Service(argv, tmp_path, port)):
        taken = probe(Peer("ANY", services.LOCALHOST, port), calling_ae_title="DICOMWORKER")
    assert taken.takes(SecondaryCaptureImageStorage, ImplicitVRLittleEndian)
    assert not taken.takes(SecondaryCaptureImageStorage)
    assert taken.storage[EncapsulatedPDFStorage] == (ImplicitVRLittleEndian,)
    assert not any(taken.services.values())


def test_dcmqrscp_finds_and_moves_but_commits_to_nothing(service_folder: Any) -> None:
    with service_folder("archive") as folder, services.running(Archive(folder)) as archive:
        taken = probe(Peer(archive.ae_title, services.LOCALHOST, archive.port), calling_ae_title="DICOMWORKER")
    assert taken.services == {"commitment": False, "find": True, "move": True, "get": True}
    assert taken.takes(MultiFrameTrueColorSecondaryCaptureImageStorage)


def test_nobody_there_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    answer = ask(tmp_path, f"PACS@{services.LOCALHOST}:{services.free_port()}", "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["ok"] is False
