"""The node with dcmtk's senders: what is stored is what was sent, for every transfer syntax and for many at once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.headers import read_header
from dicom_node.tls import server_context
from tests import services
from tests.integration.hospital import at_once
from tests.receiving_node import (
    AE_TITLE,
    PYDICOM_FILES,
    ReceivingNode,
    ct_slice,
    data_set_of,
    receiving_node,
    write_file,
)
from tests.services.process import dcmtk
from tests.tls_files import TlsFiles, make_tls_files

#: Implicit, explicit, big endian, deflated, JPEG baseline, JPEG-LS, JPEG 2000, RLE: with what storescu must propose.
ONE_OF_EACH_SYNTAX = {
    "MR_small_implicit.dcm": "-xi",
    "CT_small.dcm": "-xe",
    "MR_small_bigendian.dcm": "-xb",
    "image_dfl.dcm": "-xd",
    "SC_rgb_jpeg_dcmtk.dcm": "-xy",
    "MR_small_jpeg_ls_lossless.dcm": "-xt",
    "JPEG2000.dcm": "-xw",
    "MR_small_RLE.dcm": "-xr",
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ReceivingNode]:
    with receiving_node(tmp_path / "spool") as running:
        yield running


def _run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [dcmtk(tool), *map(str, arguments)],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_echo(node: ReceivingNode) -> None:
    assert _run("echoscu", "-aec", AE_TITLE, "127.0.0.1", str(node.port)).returncode == 0


def test_wrong_called_ae_title_is_rejected_with_the_reason(node: ReceivingNode) -> None:
    refused = _run("echoscu", "-aec", "SOMEONE", "127.0.0.1", str(node.port))
    assert refused.returncode != 0
    assert "Called AE Title Not Recognized" in refused.stderr


def test_only_listed_senders_may_send(tmp_path: Path) -> None:
    with receiving_node(tmp_path, calling_ae_titles=frozenset({"CT1"})) as node:
        known = _run("echoscu", "-aet", "CT1", "-aec", AE_TITLE, "127.0.0.1", str(node.port))
        stranger = _run("echoscu", "-aet", "CT2", "-aec", AE_TITLE, "127.0.0.1", str(node.port))
    assert known.returncode == 0
    assert "Calling AE Title Not Recognized" in stranger.stderr


def test_calling_ae_title_of_twenty_characters_is_cut_to_sixteen_on_the_wire(node: ReceivingNode) -> None:
    _run("echoscu", "-aet", "A234567890B234567890", "-aec", AE_TITLE, "127.0.0.1", str(node.port))
    assert _run("echoscu", "-aec", AE_TITLE, "127.0.0.1", str(node.port)).returncode == 0
    assert all(len(record.calling_ae_title) <= 16 for record in node.ended)


@pytest.mark.parametrize("name", ONE_OF_EACH_SYNTAX)
def test_data_set_is_stored_byte_for_byte(node: ReceivingNode, storescp: services.StoreScp, name: str) -> None:
    source = PYDICOM_FILES / name
    for port, called in ((node.port, AE_TITLE), (storescp.port, storescp.ae_title)):
        sent = _run("storescu", ONE_OF_EACH_SYNTAX[name], "-aec", called, "127.0.0.1", str(port), source)
        assert sent.returncode == 0, sent.stderr
    storescp.wait_for(1)
    stored = node.instances[-1]
    # dcmtk's storescp --bit-preserving is the witness of what was on the wire.
    assert data_set_of(stored.stored.path) == data_set_of(storescp.files()[0])
    assert stored.header.transfer_syntax_uid == read_header(source).transfer_syntax_uid
    assert stored.header.sop_instance_uid == read_header(source).sop_instance_uid


def test_twenty_associations_at_once(node: ReceivingNode, tmp_path: Path) -> None:
    def send(sender: int) -> int:
        folder = tmp_path / f"sender{sender}"
        folder.mkdir()
        for number in range(5):
            write_file(ct_slice(f"{sender}/{number}", rows=64), folder / f"{number}.dcm")
        aet = f"CT{sender}"
        return _run("storescu", "-aet", aet, "-aec", AE_TITLE, "+sd", "127.0.0.1", str(node.port), folder).returncode

    assert at_once(send, range(20)) == [0] * 20
    node.wait_until_idle()
    assert len(node.objects()) == 100
    assert sorted(record.instances for record in node.ended) == [5] * 20
    assert all(record.released for record in node.ended)


def test_image_without_study_is_refused_and_the_others_of_its_association_are_stored(
    node: ReceivingNode, tmp_path: Path
) -> None:
    paths = [
        write_file(ct_slice("one"), tmp_path / "1.dcm"),
        write_file(ct_slice("two", StudyInstanceUID=None), tmp_path / "2.dcm"),
        write_file(ct_slice("three"), tmp_path / "3.dcm"),
    ]
    sent = _run("storescu", "-v", "--no-halt", "-aec", AE_TITLE, "127.0.0.1", str(node.port), *paths)
    assert sent.stderr.count("Received Store Response (Success)") == 2
    assert "CannotUnderstand" in sent.stderr.replace(" ", "")
    node.wait_until_idle()
    assert len(node.objects()) == 2
    assert len(node.ended) == 1


def test_same_study_twice_and_by_two_senders_is_stored_once(node: ReceivingNode, tmp_path: Path) -> None:
    path = write_file(ct_slice("again"), tmp_path / "again.dcm")
    for tool in ("storescu", "dcmsend", "storescu"):
        assert _run(tool, "-aec", AE_TITLE, "127.0.0.1", str(node.port), path).returncode == 0
    assert len(node.objects()) == 1
    assert len(node.instances) == 3


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls_files(tmp_path_factory.mktemp("tls"))


def test_tls_sender_with_a_certificate_is_served_and_one_without_is_not(tmp_path: Path, tls_files: TlsFiles) -> None:
    context = server_context(tls_files.certificate, tls_files.key, tls_files.ca)
    path = write_file(ct_slice("by TLS"), tmp_path / "tls.dcm")
    with receiving_node(tmp_path / "spool", tls=context) as node:
        trusted = ("+tls", tls_files.key, tls_files.certificate, "+cf", tls_files.ca)
        sent = _run("storescu", *trusted, "-aec", AE_TITLE, "127.0.0.1", str(node.port), path)
        assert sent.returncode == 0, sent.stderr
        anonymous = _run("storescu", "+tla", "+cf", tls_files.ca, "-aec", AE_TITLE, "127.0.0.1", str(node.port), path)
        plain = _run("echoscu", "-to", "5", "-ta", "5", "-aec", AE_TITLE, "127.0.0.1", str(node.port))
        assert anonymous.returncode != 0
        assert plain.returncode != 0
        assert len(node.instances) == 1
