"""What a peer sends on an association of ours: fragments -> whole messages (PS3.7 6.3, PS3.8 E).

Input: a connection. Output: `Message`s, or None where the peer releases the association. Objects that the peer stores
here (C-GET) are not collected: their fragments go to an operation as they come. On failure the errors of `upper_layer`,
and `CommandError`. A read that ran out of time can be taken up again: what had come is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dicom_node import dimse
from dicom_node.dimse import CommandError, CommandField, CommandSet
from dicom_node.upper_layer import AbortReason, Connection, PduType, PeerGoneError, ProtocolError, fragments

#: Data sets of queries and reports are small; nothing else is taken here.
DATA_SET_LIMIT_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """A command set with its data set."""

    context_id: int
    transfer_syntax: str
    command: CommandSet
    data_set: bytes = b""
    #: What took an object that the peer stores here; it has all of it, and knows the answer.
    operation: dimse.Operation | None = None


@dataclass(slots=True)
class _Partial:
    """A message of which not all has come."""

    command: bytearray = field(default_factory=bytearray)
    data_set: bytearray = field(default_factory=bytearray)
    decoded: CommandSet | None = None
    operation: dimse.Operation | None = None


class Incoming:
    """Puts the fragments of a connection together."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._partial = _Partial()
        self._whole: deque[Message] = deque()
        #: Context id -> transfer syntax; filled once the association stands.
        self.syntaxes: dict[int, str] = {}
        #: Begins to take an object that the peer stores here; None where nothing is asked for.
        self.begin_store: Callable[[int, CommandSet], dimse.Operation] | None = None

    def read(self) -> Message | None:
        """Return the next message; None: the peer asks to release the association."""
        while not self._whole:
            pdu_type, variable_field = self._connection.read_pdu()
            if pdu_type is PduType.A_RELEASE_RQ:
                return None
            if pdu_type is PduType.A_ABORT:
                raise PeerGoneError("it aborted the association")
            if pdu_type is not PduType.P_DATA_TF:
                raise ProtocolError(f"{pdu_type.name} instead of a response", AbortReason.UNEXPECTED_PDU)
            for fragment in fragments(variable_field):
                self._take(fragment.context_id, fragment.data, fragment.is_command, fragment.is_last)
        return self._whole.popleft()

    def abandon(self) -> None:
        """Drop what was not served; of objects nothing is kept."""
        for operation in (self._partial.operation, *(message.operation for message in self._whole)):
            if operation is not None:
                operation.abandon()
        self._partial = _Partial()
        self._whole.clear()

    def _take(self, context_id: int, data: memoryview, is_command: bool, is_last: bool) -> None:
        partial = self._partial
        if is_command != (partial.decoded is None):
            raise ProtocolError("no command set in the response", AbortReason.UNEXPECTED_PARAMETER)
        if not is_command and partial.operation is not None:
            partial.operation.write(data)
        else:
            _collect(partial, data, is_command=is_command)
        if not is_last:
            return
        if is_command:
            partial.decoded = CommandSet.decode(partial.command)
            if self.begin_store is not None and partial.decoded.command_field == CommandField.C_STORE_RQ:
                partial.operation = self.begin_store(context_id, partial.decoded)
            if partial.decoded.has_data_set:
                return
        if partial.decoded is None:
            raise CommandError("a data set without a command set")
        syntax = self.syntaxes.get(context_id, "")
        self._whole.append(Message(context_id, syntax, partial.decoded, bytes(partial.data_set), partial.operation))
        self._partial = _Partial()


def _collect(partial: _Partial, data: memoryview, *, is_command: bool) -> None:
    collected = partial.command if is_command else partial.data_set
    collected += data
    if len(collected) > (dimse.COMMAND_LIMIT_BYTES if is_command else DATA_SET_LIMIT_BYTES):
        raise ProtocolError(f"a message of more than {len(collected)} bytes", AbortReason.INVALID_PARAMETER_VALUE)
