"""DIMSE messages (PS3.7): encoded command set -> values, response -> command set, and what a service must offer.

Input: the bytes of a command set, always implicit VR little endian (PS3.7 6.3.1). Output: `CommandSet`, `Response`. On
failure `CommandError`. Services (C-ECHO, C-STORE, N-ACTION, N-EVENT-REPORT) plug in by `Service` and `Operation`; the
association knows nothing of what they do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Protocol

AFFECTED_SOP_CLASS_UID: Final = 0x0002
REQUESTED_SOP_CLASS_UID: Final = 0x0003
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
PRIORITY: Final = 0x0700
COMMAND_DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
ERROR_COMMENT: Final = 0x0902
MOVE_DESTINATION: Final = 0x0600
AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
REQUESTED_SOP_INSTANCE_UID: Final = 0x1001
EVENT_TYPE_ID: Final = 0x1002
ACTION_TYPE_ID: Final = 0x1008
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023

NO_DATA_SET: Final = 0x0101
#: No command set of any service comes near this.
COMMAND_LIMIT_BYTES: Final = 1 << 16
_RESPONSE_BIT: Final = 0x8000
#: Error Comment is an LO (PS3.7 E.1).
_ERROR_COMMENT_LENGTH: Final = 64
_ELEMENT: Final = struct.Struct("<HHL")


class CommandField(IntEnum):
    """The requests that are told apart here (PS3.7 E.1)."""

    C_STORE_RQ = 0x0001
    C_GET_RQ = 0x0010
    C_FIND_RQ = 0x0020
    C_MOVE_RQ = 0x0021
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130
    C_CANCEL_RQ = 0x0FFF


class CommandError(ValueError):
    """The command set cannot be understood."""


@dataclass(frozen=True, slots=True)
class CommandSet:
    """A decoded command set: raw values by element number (the group is always 0000)."""

    values: Mapping[int, bytes]

    @classmethod
    def decode(cls, encoded: bytes | bytearray) -> CommandSet:
        """Decode a command set. Raises `CommandError`."""
        values: dict[int, bytes] = {}
        at, end = 0, len(encoded)
        while at < end:
            if end - at < _ELEMENT.size:
                raise CommandError("the command set ends inside the header of an element")
            group, number, length = _ELEMENT.unpack_from(encoded, at)
            at += _ELEMENT.size
            if group != 0x0000 or length > end - at:
                raise CommandError(f"the command set is damaged at ({group:04X},{number:04X})")
            values[number] = bytes(encoded[at : at + length])
            at += length
        command = cls(values)
        for required in (COMMAND_FIELD, COMMAND_DATA_SET_TYPE):
            command.number(required)
        return command

    def number(self, element: int) -> int:
        """Return a US value. Raises `CommandError` where it is absent or not two bytes long."""
        value = self.values.get(element, b"")
        if len(value) != 2:
            raise CommandError(f"the command set has no usable (0000,{element:04X})")
        return int.from_bytes(value, "little")

    def text(self, element: int) -> str:
        """Return a UI, AE or LO value without padding, "" where it is absent."""
        return self.values.get(element, b"").decode("ascii", "replace").strip("\0 ")

    @property
    def command_field(self) -> int:
        """Which operation this is."""
        return self.number(COMMAND_FIELD)

    @property
    def is_request(self) -> bool:
        """Whether an answer is due: responses and C-CANCEL get none."""
        return not self.command_field & _RESPONSE_BIT and self.command_field != CommandField.C_CANCEL_RQ

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows (PS3.7 E.1: any value but 0101H)."""
        return self.number(COMMAND_DATA_SET_TYPE) != NO_DATA_SET


@dataclass(frozen=True, slots=True)
class Notice:
    """An N-EVENT-REPORT that is due on the association of the request it follows (PS3.7 10.1.1)."""

    #: Of the N-EVENT-REPORT request: class, instance, event type.
    elements: Mapping[int, bytes]
    data_set: bytes
    #: Called with the status of the requester's answer.
    answered: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Response:
    """How an operation ended."""

    status: int
    #: For the operator of the sending system: what is wrong, in at most 64 characters of ASCII.
    error_comment: str = ""
    #: Further elements of the response, encoded, by element number (such as Action Type ID).
    elements: Mapping[int, bytes] = field(default_factory=dict)
    #: What is to be reported to the requester afterwards, if it stays.
    notice: Notice | None = None

    def encode(self, request: CommandSet) -> bytes:
        """Return the command set of the response to `request`, without a data set."""
        given = request.values
        values: dict[int, bytes] = {
            COMMAND_FIELD: _us(request.command_field | _RESPONSE_BIT),
            MESSAGE_ID_BEING_RESPONDED_TO: _us(request.number(MESSAGE_ID)),
            COMMAND_DATA_SET_TYPE: _us(NO_DATA_SET),
            STATUS: _us(self.status),
            **self.elements,
        }
        # Normalized requests name their object as "requested", every response as "affected" (PS3.7 10.3).
        for affected, requested in (
            (AFFECTED_SOP_CLASS_UID, REQUESTED_SOP_CLASS_UID),
            (AFFECTED_SOP_INSTANCE_UID, REQUESTED_SOP_INSTANCE_UID),
        ):
            if value := given.get(affected) or given.get(requested):
                values[affected] = value
        if self.error_comment:
            comment = self.error_comment.encode("ascii", "replace")[:_ERROR_COMMENT_LENGTH]
            values[ERROR_COMMENT] = comment + b" " * (len(comment) % 2)
        return encode_command(values)


def encode_command(values: Mapping[int, bytes]) -> bytes:
    """Encode a command set, group length first (PS3.7 6.3.1). Values are already of even length."""
    body = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in sorted(values.items()))
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


def request_command(
    field: CommandField, message_id: int, elements: Mapping[int, bytes], *, has_data_set: bool
) -> bytes:
    """Return the encoded command set of a request with these elements."""
    return encode_command(
        {
            COMMAND_FIELD: _us(field),
            MESSAGE_ID: _us(message_id),
            COMMAND_DATA_SET_TYPE: _us(1 if has_data_set else NO_DATA_SET),
            **elements,
        }
    )


def uid(text: str) -> bytes:
    """Encode a UID as the value of an element."""
    value = text.encode("ascii")
    return value + b"\0" * (len(value) % 2)


def _us(number: int) -> bytes:
    return int(number).to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a service gets it."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    #: Of the presentation context that the request came in.
    abstract_syntax: str
    transfer_syntax: str
    command: CommandSet


class Operation(Protocol):
    """One request being served. Whatever happens, exactly one of `finish` and `abandon` is the last call."""

    def write(self, fragment: memoryview) -> None:
        """Take a piece of the data set; must not raise for what is wrong with it: `finish` says so."""

    def finish(self) -> Response:
        """The data set is whole, or there is none: do the work and say how it ended."""

    def abandon(self) -> None:
        """The rest will never come."""


class Service(Protocol):
    """Serves one kind of request."""

    def start(self, request: Request) -> Operation:
        """Begin to serve a request; what is wrong with it is said by the operation's `finish`."""
