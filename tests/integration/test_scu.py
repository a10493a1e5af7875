"""Sending to real receivers and to broken ones: exactly one outcome for each file, whatever happens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from dicom_node.scu import EchoError, Outcome, Peer, PeerError, StoreOutcome, c_echo, c_store, parse_peer
from dicom_node.tls import TlsError, client_context, server_context
from tests import services
from tests.receiving_node import (
    AE_TITLE,
    PYDICOM_FILES,
    ReceivingNode,
    ct_slice,
    data_set_of,
    receiving_node,
    write_file,
)
from tests.services.process import Service, dcmtk
from tests.tls_files import make_tls_files

HOST = "127.0.0.1"


def _slices(folder: Path, count: int) -> list[Path]:
    return [write_file(ct_slice(f"slice {n}"), folder / f"slice{n}.dcm") for n in range(count)]


def test_files_arrive_at_storescp_byte_for_byte(storescp: services.StoreScp) -> None:
    names = ["CT_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "image_dfl.dcm"]
    paths = [PYDICOM_FILES / name for name in names]
    peer = Peer(storescp.ae_title, HOST, storescp.port)
    outcomes = list(c_store(peer, paths, calling_ae_title="DICOMWORKER"))
    assert [(o.path, o.klass, o.status) for o in outcomes] == [(path, Outcome.DELIVERED, 0) for path in paths]
    storescp.wait_for(len(paths))
    # The deflated file has a data set of odd length, which must be padded to go over the wire (PS3.5 A.5).
    padded = {data + b"\0" * (len(data) % 2) for data in map(data_set_of, paths)}
    assert {data_set_of(path) for path in storescp.files()} == padded


def test_files_arrive_at_orthanc(orthanc: services.Orthanc, tmp_path: Path) -> None:
    peer = Peer(orthanc.ae_title, HOST, orthanc.port)
    c_echo(peer, calling_ae_title="DICOMWORKER")
    outcomes = list(c_store(peer, _slices(tmp_path, 3), calling_ae_title="DICOMWORKER"))
    assert all(outcome.is_delivered for outcome in outcomes)
    assert orthanc.sop_instance_uids() == {outcome.sop_instance_uid for outcome in outcomes}


def test_file_in_a_syntax_that_the_receiver_does_not_take_fails_for_good_and_alone(tmp_path: Path) -> None:
    (tmp_path / "received").mkdir()
    port = services.free_port()
    argv = [dcmtk("storescp"), "+xi", "-od", str(tmp_path / "received"), str(port)]
    paths = [PYDICOM_FILES / "MR_small_implicit.dcm", PYDICOM_FILES / "JPEG2000.dcm"]
    with services.running(Service(argv, tmp_path, port)):
        outcomes = list(c_store(Peer("ANY", HOST, port), paths, calling_ae_title="DICOMWORKER"))
    assert [outcome.klass for outcome in outcomes] == [Outcome.DELIVERED, Outcome.PERMANENT]
    assert "does not accept Secondary Capture Image Storage in JPEG 2000" in outcomes[1].message


def test_what_is_no_sendable_file_is_said_for_each_and_the_others_go_out(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM")
    (tmp_path / "empty.dcm").touch()
    paths = [tmp_path / "text.dcm", *_slices(tmp_path, 2), tmp_path / "empty.dcm", tmp_path / "absent.dcm"]
    with receiving_node(tmp_path / "spool") as node:
        outcomes = list(c_store(Peer(AE_TITLE, HOST, node.port), paths, calling_ae_title="ME"))
    by_name = {outcome.path.name: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_name) == 5
    assert by_name["slice0.dcm"].is_delivered
    assert by_name["slice1.dcm"].is_delivered
    for name in ("text.dcm", "empty.dcm", "absent.dcm"):
        assert by_name[name].klass is Outcome.PERMANENT
        assert name in by_name[name].message


def test_refused_instance_carries_the_receivers_reason(tmp_path: Path) -> None:
    with receiving_node(tmp_path / "spool") as node:
        node.answer = lambda _received: 0xA700
        (outcome,) = c_store(Peer(AE_TITLE, HOST, node.port), _slices(tmp_path, 1), calling_ae_title="ME")
    assert (outcome.klass, outcome.status) == (Outcome.TRANSIENT, 0xA700)
    assert outcome.comment == "out of resources"


def test_more_sop_classes_than_one_association_can_propose(tmp_path: Path) -> None:
    paths = [
        write_file(ct_slice(f"class {n}", SOPClassUID=f"1.3.6.1.4.1.99999.{n + 1}"), tmp_path / f"{n}.dcm")
        for n in range(130)
    ]
    with receiving_node(tmp_path / "spool") as node:
        outcomes = list(c_store(Peer(AE_TITLE, HOST, node.port), paths, calling_ae_title="ME"))
        node.wait_until_idle()
        assert [record.instances for record in node.ended] == [64, 64, 2]
    assert all(outcome.is_delivered for outcome in outcomes)


def test_nobody_there_is_transient_for_every_file(tmp_path: Path) -> None:
    peer = Peer("PACS", HOST, services.free_port())
    outcomes = list(c_store(peer, _slices(tmp_path, 3), calling_ae_title="ME"))
    assert [outcome.klass for outcome in outcomes] == [Outcome.TRANSIENT] * 3
    assert "Connection refused" in outcomes[0].message
    with pytest.raises(EchoError, match="Connection refused"):
        c_echo(peer, calling_ae_title="ME")


def test_rejected_association_is_permanent_with_the_reason(tmp_path: Path) -> None:
    with receiving_node(tmp_path / "spool") as node:
        outcomes = list(c_store(Peer("SOMEONE", HOST, node.port), _slices(tmp_path, 2), calling_ae_title="ME"))
        with pytest.raises(EchoError, match="called AE title not recognized"):
            c_echo(Peer("SOMEONE", HOST, node.port), calling_ae_title="ME")
    assert [outcome.klass for outcome in outcomes] == [Outcome.PERMANENT] * 2
    assert "called AE title not recognized" in outcomes[0].message


def test_full_receiver_is_transient(tmp_path: Path) -> None:
    with receiving_node(tmp_path / "spool", max_associations=1) as node:
        peer = Peer(AE_TITLE, HOST, node.port)
        sending = cast(Generator[StoreOutcome, None, None], c_store(peer, _slices(tmp_path, 2), calling_ae_title="ME"))
        assert next(sending).is_delivered
        (turned_away,) = c_store(peer, _slices(tmp_path, 1), calling_ae_title="ME")
        assert next(sending).is_delivered
        sending.close()
    assert turned_away.klass is Outcome.TRANSIENT
    assert "local limit exceeded" in turned_away.message


@contextmanager
def _between(node: ReceivingNode, limit: Callable[[int], int | None]) -> Iterator[int]:
    """A wire to the node that is cut after `limit(connection number)` bytes; yields its port."""
    listener = socket.create_server((HOST, 0))
    threads: list[threading.Thread] = []

    def copy(source: socket.socket, target: socket.socket, left: int | None) -> None:
        try:
            while (left is None or left > 0) and (data := source.recv(65536)):
                target.sendall(data if left is None else data[:left])
                left = None if left is None else left - len(data)
        except OSError:
            pass
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def serve() -> None:
        number = 0
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, socket.create_connection((HOST, node.port)) as server:
                back = threading.Thread(target=copy, args=(server, client, None))
                back.start()
                copy(client, server, limit(number))
                back.join()
            number += 1

    threads.append(threading.Thread(target=serve))
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        threads[0].join()


def test_connection_cut_within_a_file_costs_that_file_and_the_rest_takes_another(tmp_path: Path) -> None:
    paths = [write_file(ct_slice(f"cut {n}", rows=128), tmp_path / f"{n}.dcm") for n in range(4)]
    with (
        receiving_node(tmp_path / "spool") as node,
        _between(node, lambda number: 50_000 if number == 0 else None) as port,
    ):
        outcomes = list(c_store(Peer(AE_TITLE, HOST, port), paths, calling_ae_title="ME"))
        node.wait_until_idle()
        assert {outcome.path for outcome in outcomes} == set(paths)
        classes = [outcome.klass for outcome in outcomes]
        assert classes == [Outcome.DELIVERED, Outcome.TRANSIENT, Outcome.DELIVERED, Outcome.DELIVERED]
        assert len(node.objects()) == 3


def test_wire_that_always_breaks_still_gives_every_file_one_outcome(tmp_path: Path) -> None:
    paths = _slices(tmp_path, 5)
    with receiving_node(tmp_path / "spool") as node, _between(node, lambda _number: 400) as port:
        outcomes = list(c_store(Peer(AE_TITLE, HOST, port), paths, calling_ae_title="ME", timeout_s=5))
    assert sorted(outcome.path for outcome in outcomes) == paths
    assert {outcome.klass for outcome in outcomes} == {Outcome.TRANSIENT}


def test_silent_receiver_is_given_up_after_the_time_out_for_all_files(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as silent:
        peer = Peer("SILENT", HOST, silent.getsockname()[1])
        outcomes = list(c_store(peer, _slices(tmp_path, 3), calling_ae_title="ME", timeout_s=0.3))
    assert [outcome.klass for outcome in outcomes] == [Outcome.TRANSIENT] * 3


def test_garbage_in_answer_is_transient(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(10_000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        (outcome,) = c_store(
            Peer("WEB", HOST, server.getsockname()[1]), _slices(tmp_path, 1), calling_ae_title="ME", timeout_s=5
        )
        thread.join()
    assert outcome.klass is Outcome.TRANSIENT


def test_tls_between_our_own_ends(tmp_path: Path) -> None:
    files = make_tls_files(tmp_path)
    server = server_context(files.certificate, files.key, files.ca)
    known, unknown = client_context(files.ca, files.certificate, files.key), client_context(files.ca)
    with receiving_node(tmp_path / "spool", tls=server) as node:
        paths = _slices(tmp_path, 2)
        outcomes = list(c_store(Peer(AE_TITLE, HOST, node.port, known), paths, calling_ae_title="ME"))
        assert all(outcome.is_delivered for outcome in outcomes)
        (refused,) = c_store(Peer(AE_TITLE, HOST, node.port, unknown), paths[:1], calling_ae_title="ME")
        assert refused.klass is Outcome.TRANSIENT
        (refused,) = c_store(Peer(AE_TITLE, HOST, node.port), paths[:1], calling_ae_title="ME", timeout_s=5)
        assert refused.klass is Outcome.TRANSIENT


def test_unusable_certificate_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(TlsError, match=r"absent\.pem"):
        server_context(tmp_path / "absent.pem", tmp_path / "text.pem")
    with pytest.raises(TlsError, match=r"text\.pem"):
        client_context(tmp_path / "text.pem")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("PACS@127.0.0.1:104", "127.0.0.1", 104),
        (" MY PACS@pacs.local:11112 ", "pacs.local", 11112),
        ("A@[::1]:1", "::1", 1),
    ],
)
def test_peer_is_read(text: str, host: str, port: int) -> None:
    peer = parse_peer(text)
    assert (peer.host, peer.port) == (host, port)
    assert str(peer) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PACS",
        "PACS@host",
        "@host:104",
        "PACS@:104",
        "PACS@host:0",
        "PACS@host:99999",
        "A" * 17 + "@host:104",
        "A\\B@h:1",
    ],
)
def test_what_is_no_peer_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(PeerError):
        parse_peer(text)


def test_calling_ae_title_of_twenty_characters_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(PeerError, match="1 to 16 printable"):
        c_store(Peer("PACS", HOST, 104), [], calling_ae_title="A2345678901234567890")
