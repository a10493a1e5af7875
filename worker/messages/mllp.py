"""Sending an HL7 v2 message by MLLP (HL7 Minimal Lower Layer Protocol, release 1) and reading the answer.

Input: a receiver and a message. Output: an `Answer` with what became of it. Nothing is raised for what happens on the
network: the answer says whether trying again can help. One message is on the way at a time, which keeps their order.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

from dicom_node.status import Outcome
from worker.messages.hl7_text import unescape

START: Final = b"\x0b"
END: Final = b"\x1c\r"
_MOST_ANSWER_BYTES: Final = 1 << 20
#: Errors about the receiver at that moment (table 0357): record locked, internal error.
_PASSING: Final = frozenset({"206", "207"})
#: Errors about the kind of message (table 0357): type, event, processing ID, version.
_NEVER_TAKEN: Final = frozenset({"200", "201", "202", "203"})


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send."""

    host: str
    port: int
    #: None for plain TCP.
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message."""

    klass: Outcome
    comment: str = ""
    #: False where the receiver could not be reached: that says nothing about the message.
    is_reached: bool = True
    #: It was sent and no answer to it came: the receiver may have it.
    is_missing: bool = False


class _AnswerError(Exception):
    """There is no answer, or none that can be read; the message says why."""


def send(receiver: Receiver, message: bytes, control_id: str, timeout_s: float) -> Answer:
    """Send a message and wait for its acknowledgement, both together for `timeout_s` at most once connected."""
    try:
        connection = connect(receiver, timeout_s)
    except OSError as error:
        return Answer(Outcome.TRANSIENT, f"{receiver}: {_reason(error)}", is_reached=False)
    with connection:
        try:
            deadline = time.monotonic() + timeout_s
            connection.sendall(START + message + END)
            block = _block(connection, deadline)
        except OSError as error:
            return Answer(Outcome.TRANSIENT, f"{receiver}: {_reason(error)}", is_missing=True)
        except _AnswerError as error:
            return Answer(Outcome.TRANSIENT, f"{receiver}: {error}", is_missing=True)
    return understood(receiver, block, control_id)


def connect(receiver: Receiver, timeout_s: float) -> socket.socket:
    """Return a connection. Raises `OSError`, of which TLS's errors are."""
    connection = socket.create_connection((receiver.host, receiver.port), timeout_s)
    if receiver.tls is None:
        return connection
    try:
        return receiver.tls.wrap_socket(connection, server_hostname=receiver.host)
    except BaseException:
        connection.close()
        raise


def understood(receiver: Receiver, block: bytes, control_id: str) -> Answer:
    """Read an acknowledgement (HL7 v2.5.1, 2.9.2 and 2.14.8): MSA-1 is the verdict, MSA-2 says on which message.

    AE is an error in the message, and stays one; AR is often a receiver that cannot at the moment. An error code
    (ERR-3, table 0357) tells more.
    """
    text = block.decode("utf-8", "replace")
    segments = [line.split("|") for line in text.replace("\n", "\r").split("\r") if line]
    named = {fields[0]: fields for fields in reversed(segments)}
    if "MSH" not in named or len(named.get("MSA", ())) < 3:
        said = f"{receiver} answered what is no acknowledgement: {text[:80]!r}"
        return Answer(Outcome.TRANSIENT, said, is_missing=True)
    verdict, about = named["MSA"][1].strip(), named["MSA"][2].strip()
    if about != control_id:
        said = f"{receiver} answered message {about[:40]!r}, not {control_id}"
        return Answer(Outcome.TRANSIENT, said, is_missing=True)
    error = named.get("ERR", [])
    code = error[3].split("^")[0] if len(error) > 3 else ""
    words = [unescape(part) for part in (*named["MSA"][3:4], *error[3:4], *error[8:9]) if part]
    comment = f"{receiver} answered {': '.join((verdict, *words))}"[:500]
    if verdict in ("AA", "CA"):
        return Answer(Outcome.DELIVERED)
    if verdict in ("AE", "CE"):
        return Answer(Outcome.TRANSIENT if code in _PASSING else Outcome.PERMANENT, comment)
    if verdict in ("AR", "CR"):
        return Answer(Outcome.PERMANENT if code in _NEVER_TAKEN else Outcome.TRANSIENT, comment)
    return Answer(Outcome.TRANSIENT, f"{receiver} answered {verdict[:20]!r}, which is no acknowledgement code")


def _block(connection: socket.socket, deadline: float) -> bytes:
    """Return what stands between the next start and end of a block."""
    received = bytearray()
    while END not in received:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        piece = connection.recv(65536)
        if not piece:
            raise _AnswerError("it closed the connection without a whole answer")
        received += piece
        if len(received) > _MOST_ANSWER_BYTES:
            raise _AnswerError(f"its answer is longer than {_MOST_ANSWER_BYTES} bytes")
    return bytes(received).partition(END)[0].rpartition(START)[2]


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return error.strerror or str(error) or type(error).__name__
