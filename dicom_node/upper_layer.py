"""The upper layer protocol (PS3.8 9.3) on one connection: bytes from a socket -> PDUs and fragments, and back.

Input: a connected socket. Output: whole PDUs, as views of one buffer that is used again and again; the PDUs to answer
with. On failure `ProtocolError` (the peer broke the protocol: abort with its reason), `PeerGoneError` (the connection
is closed or broken) or `PeerSilentError` (nothing came in time). A stated length is checked before memory is taken.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple


class PduType(IntEnum):
    """The PDUs of PS3.8 9.3.1."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


class AbortReason(IntEnum):
    """Reason/Diag. of an A-ABORT by the service provider (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER_VALUE = 6


class ProtocolError(Exception):
    """The peer broke the upper layer or DIMSE protocol: the association must be aborted."""

    def __init__(self, message: str, reason: AbortReason) -> None:
        super().__init__(message)
        self.reason = reason


class PeerGoneError(Exception):
    """The peer closed the connection, or it broke."""


class PeerSilentError(Exception):
    """The peer sent nothing, or took nothing, for too long."""


class Fragment(NamedTuple):
    """A presentation data value (PS3.8 9.3.5.1, annex E). `data` is valid until the next PDU is read."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


#: A request with 128 presentation contexts of 60 transfer syntaxes each still fits.
ASSOCIATE_LIMIT_BYTES: Final = 262_144
_RELEASE_LIMIT_BYTES: Final = 1_024
_HEADER: Final = struct.Struct(">BxL")
_FRAGMENT_HEADER: Final = struct.Struct(">LBB")

A_RELEASE_RQ: Final = _HEADER.pack(PduType.A_RELEASE_RQ, 4) + b"\0\0\0\0"
A_RELEASE_RP: Final = _HEADER.pack(PduType.A_RELEASE_RP, 4) + b"\0\0\0\0"


def a_abort(reason: AbortReason) -> bytes:
    """Return an A-ABORT by the service provider (PS3.8 9.3.8)."""
    return _HEADER.pack(PduType.A_ABORT, 4) + bytes((0, 0, 2, reason))


def a_associate_rj(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return _HEADER.pack(PduType.A_ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def p_data(context_id: int, message: bytes, *, is_command: bool, max_pdu_bytes: int) -> bytes:
    """Return `message` as P-DATA-TF PDUs of at most `max_pdu_bytes`, as the peer demands (0: no limit)."""
    size = fragment_size(max_pdu_bytes) if max_pdu_bytes else len(message)
    pdus = bytearray()
    for start in range(0, len(message), size):
        chunk = message[start : start + size]
        pdus += p_data_fragment(context_id, chunk, is_command=is_command, is_last=start + size >= len(message))
    return bytes(pdus)


def fragment_size(max_pdu_bytes: int) -> int:
    """Return the longest fragment that fits into a PDU; fragments have an even length (PS3.8 9.3.5.1)."""
    return max((max_pdu_bytes - _FRAGMENT_HEADER.size) // 2 * 2, 2)


def p_data_fragment(context_id: int, chunk: bytes, *, is_command: bool, is_last: bool) -> bytes:
    """Return a P-DATA-TF with one fragment (PS3.8 9.3.5, annex E)."""
    control = is_command | is_last << 1
    header = _HEADER.pack(PduType.P_DATA_TF, len(chunk) + _FRAGMENT_HEADER.size)
    return header + _FRAGMENT_HEADER.pack(len(chunk) + 2, context_id, control) + chunk


def fragments(variable_field: memoryview) -> Iterator[Fragment]:
    """Yield the fragments of a P-DATA-TF. Raises `ProtocolError` where their lengths do not add up."""
    at, end = 0, len(variable_field)
    while at < end:
        if end - at < _FRAGMENT_HEADER.size:
            raise ProtocolError("a P-DATA-TF ends inside a fragment header", AbortReason.INVALID_PARAMETER_VALUE)
        length, context_id, control = _FRAGMENT_HEADER.unpack_from(variable_field, at)
        if length < 2 or at + 4 + length > end:
            message = f"a fragment of a P-DATA-TF states {length} bytes, {end - at - 4} are there"
            raise ProtocolError(message, AbortReason.INVALID_PARAMETER_VALUE)
        data = variable_field[at + _FRAGMENT_HEADER.size : at + 4 + length]
        # Only the two low bits of the control header have a meaning (PS3.8 E.2).
        yield Fragment(context_id, bool(control & 1), bool(control & 2), data)
        at += 4 + length


class Connection:
    """A socket that PDUs are read from and written to, by one thread."""

    def __init__(self, sock: socket.socket, *, max_pdu_bytes: int, idle_timeout_s: float) -> None:
        """Take over `sock`. `max_pdu_bytes` is the longest P-DATA-TF variable field that is taken."""
        self._sock = sock
        self._max_pdu_bytes = max_pdu_bytes
        self._idle_timeout_s = idle_timeout_s
        self._deadline: float | None = None
        self._buffer = bytearray(max(max_pdu_bytes, ASSOCIATE_LIMIT_BYTES) + _HEADER.size)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        sock.settimeout(idle_timeout_s)

    def within(self, seconds: float | None) -> None:
        """Demand that all that is read from now on comes within `seconds` (the ARTIM timer); None: idle time only."""
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._sock.settimeout(self._idle_timeout_s)

    def read_pdu(self) -> tuple[PduType, memoryview]:
        """Return the next PDU: type and variable field, which is valid until the next call.

        Raises `ProtocolError`, `PeerGoneError` and `PeerSilentError`.
        """
        self._fill(_HEADER.size)
        number, length = _HEADER.unpack_from(self._buffer, self._start)
        try:
            pdu_type = PduType(number)
        except ValueError:
            raise ProtocolError(f"0x{number:02X} is not a PDU type", AbortReason.UNRECOGNIZED_PDU) from None
        limit = self._limit(pdu_type)
        if length > limit:
            message = f"{pdu_type.name} states {length} bytes, at most {limit} are taken"
            raise ProtocolError(message, AbortReason.INVALID_PARAMETER_VALUE)
        self._fill(_HEADER.size + length)
        first = self._start + _HEADER.size
        self._start = first + length
        return pdu_type, self._view[first : self._start]

    def _limit(self, pdu_type: PduType) -> int:
        if pdu_type is PduType.P_DATA_TF:
            return self._max_pdu_bytes
        if pdu_type in (PduType.A_ASSOCIATE_RQ, PduType.A_ASSOCIATE_AC):
            return ASSOCIATE_LIMIT_BYTES
        return _RELEASE_LIMIT_BYTES

    def _fill(self, count: int) -> None:
        """Have `count` unread bytes in one piece in the buffer."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + count > len(self._buffer):
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        while self._end - self._start < count:
            self._end += self._receive(self._view[self._end :])

    def _receive(self, free: memoryview) -> int:
        try:
            if self._deadline is not None:
                # A time-out of zero would mean "do not wait at all", with another exception.
                left = max(self._deadline - time.monotonic(), 0.001)
                self._sock.settimeout(min(left, self._idle_timeout_s))
            received = self._sock.recv_into(free)
        except TimeoutError:
            raise PeerSilentError("the peer sent nothing in time") from None
        except OSError as error:
            raise PeerGoneError(f"the connection broke: {error.strerror or error}") from error
        if not received:
            raise PeerGoneError("the peer closed the connection")
        return received

    def has_more_within(self, seconds: float) -> bool:
        """Whether something unread is there, or comes within `seconds`; also True where the peer has gone."""
        if self._start != self._end or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return True
        poll = select.poll()
        try:
            poll.register(self._sock, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        except (OSError, ValueError) as error:
            raise PeerGoneError(f"the connection broke: {error}") from error

    def send(self, pdus: bytes) -> None:
        """Send encoded PDUs. Raises `PeerGoneError` and `PeerSilentError`."""
        try:
            self._sock.sendall(pdus)
        except TimeoutError:
            raise PeerSilentError("the peer took nothing in time") from None
        except OSError as error:
            raise PeerGoneError(f"the connection broke: {error.strerror or error}") from error

    def wake(self) -> None:
        """Make a read that waits in another thread end with `PeerGoneError`; what was received before is still read."""
        with contextlib.suppress(OSError):
            # The method of the plain socket: TLS sockets would drop their session under the reading thread.
            socket.socket.shutdown(self._sock, socket.SHUT_RD)

    def close(self, *, linger_s: float = 0.0) -> None:
        """Close the connection, reading and dropping what still comes for up to `linger_s`.

        Closing a socket with unread bytes resets the connection, and a reset can overtake the last PDU sent.
        """
        with contextlib.suppress(OSError):
            if linger_s > 0:
                socket.socket.shutdown(self._sock, socket.SHUT_WR)
                deadline = time.monotonic() + linger_s
                while (left := deadline - time.monotonic()) > 0:
                    self._sock.settimeout(left)
                    if not self._sock.recv_into(self._view):
                        break
        with contextlib.suppress(OSError):
            self._sock.close()
