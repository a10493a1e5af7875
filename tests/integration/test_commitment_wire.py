"""Storage commitment on the wire, with a PACS that does what libraries do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dicom_node import commitment, dimse
from dicom_node.commitment import NotOfferedError, Reference, Report, Request, ask
from dicom_node.dimse import CommandField, Response
from dicom_node.incoming import Incoming
from dicom_node.negotiation import Accepted, Policy, negotiate, read_request
from dicom_node.outgoing import RequestError
from dicom_node.peer import Peer
from dicom_node.upper_layer import A_RELEASE_RP, A_RELEASE_RQ, Connection, PeerGoneError, ProtocolError, p_data

HOST = "127.0.0.1"
ASKED = Request("1.2.3", (Reference("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"),))
POLICY = Policy("PACS", frozenset(), False, 16_384, frozenset({commitment.SOP_CLASS}))


@contextmanager
def scripted_pacs(script: str, code: int = 0) -> Iterator[Peer]:
    """Run a PACS for one association.

    After the N-ACTION it follows the words of `script`: answer, event, garbage (an event with it), release, close.
    """
    listener = socket.create_server((HOST, 0))
    thread = threading.Thread(target=_serve, args=(listener, script, code))
    thread.start()
    try:
        yield Peer("PACS", HOST, listener.getsockname()[1])
    finally:
        thread.join()
        listener.close()


def _serve(listener: socket.socket, script: str, code: int) -> None:
    sock, _ = listener.accept()
    connection = Connection(sock, max_pdu_bytes=16_384, idle_timeout_s=5)
    accepted = negotiate(read_request(connection.read_pdu()[1]), POLICY)
    assert isinstance(accepted, Accepted)
    connection.send(accepted.pdu)
    incoming = Incoming(connection)
    incoming.syntaxes = {number: context.transfer_syntax for number, context in accepted.contexts.items()}
    action = incoming.read()
    assert action is not None
    assert action.command.command_field == CommandField.N_ACTION_RQ
    asked = commitment.decode_request(action.data_set, action.transfer_syntax)
    report = Report(asked.transaction_uid, asked.references)
    event = commitment.encode_report(report, action.transfer_syntax)
    command = dimse.request_command(
        CommandField.N_EVENT_REPORT_RQ, 7, commitment.event_elements(report), has_data_set=True
    )
    try:
        for step in script.split():
            number = action.context_id
            if step in ("event", "garbage"):
                data = event if step == "event" else b"\xff" * 30
                connection.send(p_data(number, command, is_command=True, max_pdu_bytes=0))
                connection.send(p_data(number, data, is_command=False, max_pdu_bytes=0))
            elif step == "answer":
                answer = Response(code).encode(action.command)
                connection.send(p_data(number, answer, is_command=True, max_pdu_bytes=0))
            elif step == "release":
                connection.send(A_RELEASE_RQ)
            elif step == "close":
                return
        while incoming.read() is not None:
            pass
        connection.send(A_RELEASE_RP)
    except (PeerGoneError, ProtocolError):
        pass  # the requester has left, or has answered a release
    finally:
        connection.close()


def reports(peer: Peer, wait_s: float = 2) -> list[Report]:
    found: list[Report] = []

    def keep(report: Report) -> int:
        found.append(report)
        return 0

    ask(
        peer,
        ASKED,
        calling_ae_title="DICOMWORKER",
        on_report=keep,
        wait_s=wait_s,
        connect_timeout_s=5,
        timeout_s=5,
    )
    return found


@pytest.mark.parametrize("script", ["answer event", "event answer", "answer event release", "garbage answer event"])
def test_a_report_is_taken_before_and_after_the_answer(script: str) -> None:
    with scripted_pacs(script) as peer:
        assert reports(peer) == [Report("1.2.3", ASKED.references)]


@pytest.mark.parametrize("script", ["answer", "answer release", "answer close", "answer garbage"])
def test_no_report_is_no_failure_of_the_request(script: str) -> None:
    with scripted_pacs(script) as peer:
        assert reports(peer, wait_s=0.2) == []


def test_a_line_that_drops_before_the_answer_is_asked_again() -> None:
    with scripted_pacs("close") as peer, pytest.raises(RequestError) as raised:
        reports(peer)
    assert not raised.value.is_permanent


@pytest.mark.parametrize(("code", "error"), [(0x0110, RequestError), (0x0213, RequestError), (0x0112, NotOfferedError)])
def test_a_refusal_says_whether_asking_again_can_help(code: int, error: type[Exception]) -> None:
    with scripted_pacs("answer", code) as peer, pytest.raises(error, match=f"0x{code:04X}"):
        reports(peer)
