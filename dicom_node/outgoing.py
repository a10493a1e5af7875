"""One association, the requesting side: propose contexts, send DIMSE requests, read what comes back (PS3.8, PS3.7).

Input: a peer, the contexts to propose, files or data sets. Output: the DIMSE responses; an N-EVENT-REPORT that the peer
sends in between goes to `on_event`, an object that it stores (C-GET) to `storage`. On failure `RequestError`, which
says whether the same attempt can succeed later. Data sets of files are streamed as they are, never re-encoded.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dicom_node import dimse, status
from dicom_node.association_request import encode_request, read_accept, rejection_in_words
from dicom_node.connecting import MAX_PDU_BYTES, RequestError, connect
from dicom_node.dimse import CommandError, CommandField, CommandSet, Request, Response, Service
from dicom_node.file_format import FileFormatError, read_file_meta
from dicom_node.incoming import Incoming, Message
from dicom_node.peer import Peer, check_ae_title
from dicom_node.upper_layer import (
    A_RELEASE_RP,
    A_RELEASE_RQ,
    AbortReason,
    PduType,
    PeerGoneError,
    PeerSilentError,
    ProtocolError,
    a_abort,
    fragment_size,
    p_data,
    p_data_fragment,
)

__all__ = ["MAX_CONTEXTS", "MAX_PDU_BYTES", "Message", "OutgoingAssociation", "RequestError"]

#: Presentation context ids are the odd numbers up to 255 (PS3.8 9.3.2.2).
MAX_CONTEXTS: Final = 128
_LINGER_S: Final = 1.0
#: Everything that can go wrong between two messages.
_BROKEN: Final = (PeerGoneError, PeerSilentError, ProtocolError, CommandError)


class OutgoingAssociation:
    """An association with a peer; use it in a `with` statement, which releases it, or aborts it on an exception."""

    def __init__(
        self,
        peer: Peer,
        calling_ae_title: str,
        contexts: Sequence[tuple[str, str]],
        *,
        connect_timeout_s: float,
        timeout_s: float,
        as_scp: Sequence[str] = (),
        on_event: Callable[[Message], int] | None = None,
        storage: Service | None = None,
    ) -> None:
        """Associate, proposing one context for each pair of abstract and transfer syntax. Raises `RequestError`.

        For the classes of `as_scp` this side takes the SCP role. `on_event` serves the peer's N-EVENT-REPORTs and
        returns the status to answer; `storage` takes its C-STOREs.
        """
        self.association_id = uuid.uuid4().hex
        self._peer = peer
        self._message_id = 0
        self._peer_max_pdu_bytes = 0
        self._context_ids: dict[tuple[str, str], int] = {}
        self._on_event = on_event
        self._storage = storage
        self._calling_ae_title = calling_ae_title
        self._is_released = False
        self._connection = connect(peer, connect_timeout_s, timeout_s)
        self._incoming = Incoming(self._connection)
        if storage is not None:
            self._incoming.begin_store = self._begin_store
        try:
            self._associate(check_ae_title(calling_ae_title), contexts, as_scp)
        except BaseException:
            self._connection.close()
            raise

    def context_id(self, abstract_syntax: str, transfer_syntax: str) -> int | None:
        """Return the accepted context for this pair, or None."""
        return self._context_ids.get((abstract_syntax, transfer_syntax))

    def first_context(self, pairs: Sequence[tuple[str, str]]) -> tuple[int | None, str]:
        """Return the first accepted context of these pairs and its transfer syntax, or None and ""."""
        return next(((self._context_ids[pair], pair[1]) for pair in pairs if pair in self._context_ids), (None, ""))

    def echo(self, context_id: int, sop_class_uid: str) -> CommandSet:
        """Send a C-ECHO (PS3.7 9.1.5). Raises `RequestError`."""
        elements = {dimse.AFFECTED_SOP_CLASS_UID: dimse.uid(sop_class_uid)}
        return self.request(context_id, CommandField.C_ECHO_RQ, elements).command

    def request(
        self, context_id: int, field: CommandField, elements: Mapping[int, bytes], data_set: bytes | None = None
    ) -> Message:
        """Send a request with its data set, if any, and return the response. Raises `RequestError`."""
        try:
            self._send_request(context_id, field, elements, data_set)
            return self._response()
        except _BROKEN as error:
            raise self._failed(error) from error

    def query(
        self, context_id: int, field: CommandField, elements: Mapping[int, bytes], identifier: bytes
    ) -> Iterator[Message]:
        """Send a C-FIND, C-MOVE or C-GET request; yield the responses, the final one last. Raises `RequestError`."""
        try:
            self._send_request(context_id, field, {**elements, dimse.PRIORITY: b"\0\0"}, identifier)
            while True:
                response = self._response()
                yield response
                kind = status.status_class(response.command.number(dimse.STATUS))
                if kind is not status.StatusClass.PENDING:
                    return
        except _BROKEN as error:
            raise self._failed(error) from error

    def listen(self, seconds: float, *, until: Callable[[], bool]) -> None:
        """Serve the peer's requests for up to `seconds`, until `until()` holds or the peer ends the association."""
        try:
            self._connection.within(seconds)
            while not until():
                message = self._incoming.read()
                if message is None:
                    self._is_released = True
                    return
                self._serve(message)
        except (PeerSilentError, PeerGoneError, ProtocolError, CommandError):
            return  # what was asked is asked; nothing that is known is lost with the line
        finally:
            self._connection.within(None)

    def store(self, context_id: int, path: Path, sop_class_uid: str, sop_instance_uid: str) -> CommandSet:
        """Send the data set of the file at `path` (PS3.7 9.1.1).

        Raises `RequestError`, and `FileFormatError` and `OSError` for the file.
        """
        elements = {
            dimse.AFFECTED_SOP_CLASS_UID: dimse.uid(sop_class_uid),
            dimse.AFFECTED_SOP_INSTANCE_UID: dimse.uid(sop_instance_uid),
            dimse.PRIORITY: b"\0\0",
        }
        with path.open("rb") as fp:
            left = os.fstat(fp.fileno()).st_size - read_file_meta(fp).data_set_offset
            size = fragment_size(min(self._peer_max_pdu_bytes or MAX_PDU_BYTES, MAX_PDU_BYTES))
            try:
                self._send_command(context_id, CommandField.C_STORE_RQ, elements, has_data_set=True)
                while left:
                    chunk = fp.read(min(size, left))
                    if not chunk:
                        raise FileFormatError(f"{path} became shorter while it was sent")
                    left -= len(chunk)
                    if not left:
                        # A deflated data set of odd length must be padded (PS3.5 A.5); some writers of files forget it.
                        chunk += b"\0" * (len(chunk) % 2)
                    self._connection.send(p_data_fragment(context_id, chunk, is_command=False, is_last=not left))
                return self._response().command
            except _BROKEN as error:
                raise self._failed(error) from error

    def release(self) -> None:
        """End the association in order; a peer that does not answer is left."""
        try:
            if self._is_released:  # by the peer
                self._connection.send(A_RELEASE_RP)
                self._connection.close(linger_s=_LINGER_S)
                return
            self._connection.send(A_RELEASE_RQ)
            while self._connection.read_pdu()[0] not in (PduType.A_RELEASE_RP, PduType.A_ABORT):
                pass
        except (PeerGoneError, PeerSilentError, ProtocolError):
            pass
        self._connection.close()

    def abort(self) -> None:
        """End the association at once."""
        try:
            self._connection.send(a_abort(AbortReason.NOT_SPECIFIED))
        except (PeerGoneError, PeerSilentError):
            self._connection.close()
        self._connection.close(linger_s=_LINGER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self._incoming.abandon()
            self.abort()

    def _associate(self, calling_ae_title: str, contexts: Sequence[tuple[str, str]], as_scp: Sequence[str]) -> None:
        proposed = {number * 2 + 1: pair for number, pair in enumerate(contexts)}
        try:
            called = self._peer.ae_title
            self._connection.send(encode_request(called, calling_ae_title, proposed, as_scp, MAX_PDU_BYTES))
            pdu_type, variable_field = self._connection.read_pdu()
            if pdu_type is PduType.A_ASSOCIATE_AC:
                accepted = read_accept(bytes(variable_field), proposed, as_scp)
                self._context_ids = dict(accepted.context_ids)
                self._incoming.syntaxes = {number: pair[1] for pair, number in accepted.context_ids.items()}
                self._peer_max_pdu_bytes = accepted.max_pdu_bytes
            elif pdu_type is PduType.A_ASSOCIATE_RJ and len(variable_field) >= 4:
                result, source, reason = variable_field[1:4]
                words = rejection_in_words(source, reason)
                raise RequestError(f"{self._peer} rejected the association: {words}", is_permanent=result == 1)
            elif pdu_type is PduType.A_ABORT:
                raise RequestError(f"{self._peer} aborted the association request")
            else:
                raise RequestError(f"{self._peer} answered an association request with {pdu_type.name}")
        except (PeerGoneError, PeerSilentError, ProtocolError) as error:
            raise self._failed(error) from error

    def _send_request(
        self, context_id: int, field: CommandField, elements: Mapping[int, bytes], data_set: bytes | None
    ) -> None:
        self._send_command(context_id, field, elements, has_data_set=data_set is not None)
        if data_set is not None:
            limit = self._peer_max_pdu_bytes
            self._connection.send(p_data(context_id, data_set, is_command=False, max_pdu_bytes=limit))

    def _send_command(
        self, context_id: int, field: CommandField, elements: Mapping[int, bytes], *, has_data_set: bool
    ) -> None:
        self._message_id = self._message_id % 0xFFFF + 1
        encoded = dimse.request_command(field, self._message_id, elements, has_data_set=has_data_set)
        self._connection.send(p_data(context_id, encoded, is_command=True, max_pdu_bytes=self._peer_max_pdu_bytes))

    def _response(self) -> Message:
        """Read the response to the last request; serve what the peer asks before it."""
        while True:
            message = self._incoming.read()
            if message is None:
                raise ProtocolError("A_RELEASE_RQ instead of a response", AbortReason.UNEXPECTED_PDU)
            if not message.command.is_request:
                if message.command.number(dimse.MESSAGE_ID_BEING_RESPONDED_TO) != self._message_id:
                    raise CommandError("the response is to another request")
                return message
            self._serve(message)

    def _serve(self, message: Message) -> None:
        """Answer a request of the peer: an N-EVENT-REPORT is taken, where one is expected."""
        if not message.command.is_request:
            return
        if message.operation is not None:
            self._answer(message, message.operation.finish())
            return
        code = status.UNRECOGNIZED_OPERATION
        if message.command.command_field == CommandField.N_EVENT_REPORT_RQ and self._on_event is not None:
            code = self._on_event(message)
        elements = {dimse.EVENT_TYPE_ID: number} if (number := message.command.values.get(dimse.EVENT_TYPE_ID)) else {}
        self._answer(message, Response(code, elements=elements))

    def _answer(self, message: Message, response: Response) -> None:
        encoded, limit = response.encode(message.command), self._peer_max_pdu_bytes
        self._connection.send(p_data(message.context_id, encoded, is_command=True, max_pdu_bytes=limit))

    def _begin_store(self, context_id: int, command: CommandSet) -> dimse.Operation:
        """Begin to take an object; whoever sends it is who was called."""
        if self._storage is None:
            raise ProtocolError("an object that nobody asked for", AbortReason.UNEXPECTED_PDU)
        return self._storage.start(
            Request(
                association_id=self.association_id,
                calling_ae_title=self._peer.ae_title,
                called_ae_title=self._calling_ae_title,
                peer_address=self._peer.host,
                abstract_syntax=command.text(dimse.AFFECTED_SOP_CLASS_UID),
                transfer_syntax=self._incoming.syntaxes.get(context_id, ""),
                command=command,
            )
        )

    def _failed(self, error: Exception) -> RequestError:
        is_silent, is_broken_off = isinstance(error, PeerSilentError), isinstance(error, PeerGoneError)
        return RequestError(f"{self._peer}: {error}", is_silent=is_silent, is_broken_off=is_broken_off)
