"""One association, the requesting side: propose contexts, send C-ECHO and C-STORE requests, release (PS3.8, PS3.7 9).

Input: a peer, the contexts to propose, files. Output: the DIMSE responses. On failure `RequestError`, which says
whether the same attempt can succeed later. Data sets are streamed from their files as they are, never re-encoded.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydicom.uid import UID
from pynetdicom.pdu_items import PresentationContextItemAC, PresentationContextItemRQ
from pynetdicom.presentation import PresentationContext

from dicom_node import dimse
from dicom_node.associate_items import (
    CONTEXT_AC_ITEM,
    USER_INFORMATION_ITEM,
    application_context,
    items,
    maximum_length,
    user_information,
)
from dicom_node.dimse import CommandError, CommandField, CommandSet, encode_command
from dicom_node.file_format import FileFormatError, read_file_meta
from dicom_node.peer import Peer, check_ae_title
from dicom_node.upper_layer import (
    A_RELEASE_RQ,
    AbortReason,
    Connection,
    PduType,
    PeerGoneError,
    PeerSilentError,
    ProtocolError,
    a_abort,
    fragment_size,
    fragments,
    p_data,
    p_data_fragment,
)

#: Presentation context ids are the odd numbers up to 255 (PS3.8 9.3.2.2).
MAX_CONTEXTS: Final = 128
_MAX_PDU_BYTES: Final = 262_144
_LINGER_S: Final = 1.0
#: PS3.8 table 9-21, by source and reason.
_REJECTIONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


class RequestError(Exception):
    """The peer could not be asked, or did not answer; the message names it and the reason."""

    def __init__(self, message: str, *, is_permanent: bool = False, is_silent: bool = False) -> None:
        super().__init__(message)
        #: The same attempt will fail again.
        self.is_permanent = is_permanent
        #: The peer was waited for in vain: whatever is tried next will take as long.
        self.is_silent = is_silent


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
    ) -> None:
        """Associate, proposing one context for each pair of abstract and transfer syntax. Raises `RequestError`."""
        self._peer = peer
        self._message_id = 0
        self._peer_max_pdu_bytes = 0
        self._context_ids: dict[tuple[str, str], int] = {}
        self._connection = _connect(peer, connect_timeout_s, timeout_s)
        try:
            self._associate(check_ae_title(calling_ae_title), contexts)
        except BaseException:
            self._connection.close()
            raise

    def context_id(self, abstract_syntax: str, transfer_syntax: str) -> int | None:
        """Return the accepted context for this pair, or None."""
        return self._context_ids.get((abstract_syntax, transfer_syntax))

    def echo(self, context_id: int, sop_class_uid: str) -> CommandSet:
        """Send a C-ECHO (PS3.7 9.1.5). Raises `RequestError`."""
        values = self._request(CommandField.C_ECHO_RQ, sop_class_uid, has_data_set=False)
        try:
            self._send_command(context_id, values)
            return self._response()
        except (PeerGoneError, PeerSilentError, ProtocolError, CommandError) as error:
            raise self._failed(error) from error

    def store(self, context_id: int, path: Path, sop_class_uid: str, sop_instance_uid: str) -> CommandSet:
        """Send the data set of the file at `path` (PS3.7 9.1.1).

        Raises `RequestError`, and `FileFormatError` and `OSError` for the file.
        """
        values = self._request(CommandField.C_STORE_RQ, sop_class_uid, has_data_set=True)
        values[dimse.AFFECTED_SOP_INSTANCE_UID] = _uid(sop_instance_uid)
        values[dimse.PRIORITY] = b"\0\0"
        with path.open("rb") as fp:
            left = os.fstat(fp.fileno()).st_size - read_file_meta(fp).data_set_offset
            size = fragment_size(min(self._peer_max_pdu_bytes or _MAX_PDU_BYTES, _MAX_PDU_BYTES))
            try:
                self._send_command(context_id, values)
                while left:
                    chunk = fp.read(min(size, left))
                    if not chunk:
                        raise FileFormatError(f"{path} became shorter while it was sent")
                    left -= len(chunk)
                    if not left:
                        # A deflated data set of odd length must be padded (PS3.5 A.5); some writers of files forget it.
                        chunk += b"\0" * (len(chunk) % 2)
                    self._connection.send(p_data_fragment(context_id, chunk, is_command=False, is_last=not left))
                return self._response()
            except (PeerGoneError, PeerSilentError, ProtocolError, CommandError) as error:
                raise self._failed(error) from error

    def release(self) -> None:
        """End the association in order; a peer that does not answer is left."""
        try:
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
            self.abort()

    def _associate(self, calling_ae_title: str, contexts: Sequence[tuple[str, str]]) -> None:
        proposed = {number * 2 + 1: pair for number, pair in enumerate(contexts)}
        try:
            self._connection.send(_a_associate_rq(self._peer.ae_title, calling_ae_title, proposed))
            pdu_type, variable_field = self._connection.read_pdu()
            if pdu_type is PduType.A_ASSOCIATE_AC:
                self._read_accept(bytes(variable_field), proposed)
            elif pdu_type is PduType.A_ASSOCIATE_RJ and len(variable_field) >= 4:
                result, source, reason = variable_field[1:4]
                words = _REJECTIONS.get((source, reason), f"source {source}, reason {reason}")
                raise RequestError(f"{self._peer} rejected the association: {words}", is_permanent=result == 1)
            elif pdu_type is PduType.A_ABORT:
                raise RequestError(f"{self._peer} aborted the association request")
            else:
                raise RequestError(f"{self._peer} answered an association request with {pdu_type.name}")
        except (PeerGoneError, PeerSilentError, ProtocolError) as error:
            raise self._failed(error) from error

    def _read_accept(self, body: bytes, proposed: dict[int, tuple[str, str]]) -> None:
        try:
            for item_type, item in items(body[68:]):
                if item_type == CONTEXT_AC_ITEM:
                    answer = PresentationContextItemAC()
                    answer.decode(item)
                    if answer.result == 0 and answer.context_id in proposed:
                        self._context_ids[proposed[answer.context_id]] = answer.context_id
                elif item_type == USER_INFORMATION_ITEM:
                    self._peer_max_pdu_bytes = maximum_length(item)
        except ProtocolError:
            raise
        except Exception as error:  # what a decoder makes of a stranger's bytes is not for us to list
            what = f"the A-ASSOCIATE-AC cannot be decoded: {error!r}"
            raise ProtocolError(what, AbortReason.INVALID_PARAMETER_VALUE) from error

    def _request(self, field: CommandField, sop_class_uid: str, *, has_data_set: bool) -> dict[int, bytes]:
        self._message_id = self._message_id % 0xFFFF + 1
        return {
            dimse.AFFECTED_SOP_CLASS_UID: _uid(sop_class_uid),
            dimse.COMMAND_FIELD: int(field).to_bytes(2, "little"),
            dimse.MESSAGE_ID: self._message_id.to_bytes(2, "little"),
            dimse.COMMAND_DATA_SET_TYPE: (1 if has_data_set else dimse.NO_DATA_SET).to_bytes(2, "little"),
        }

    def _send_command(self, context_id: int, values: dict[int, bytes]) -> None:
        encoded = encode_command(values)
        self._connection.send(p_data(context_id, encoded, is_command=True, max_pdu_bytes=self._peer_max_pdu_bytes))

    def _response(self) -> CommandSet:
        """Read the response to the last request."""
        encoded = bytearray()
        while True:
            pdu_type, variable_field = self._connection.read_pdu()
            if pdu_type is PduType.A_ABORT:
                raise PeerGoneError("it aborted the association")
            if pdu_type is not PduType.P_DATA_TF:
                raise ProtocolError(f"{pdu_type.name} instead of a response", AbortReason.UNEXPECTED_PDU)
            for fragment in fragments(variable_field):
                if not fragment.is_command or len(encoded) > dimse.COMMAND_LIMIT_BYTES:
                    raise ProtocolError("no command set in the response", AbortReason.UNEXPECTED_PARAMETER)
                encoded += fragment.data
                if fragment.is_last:
                    response = CommandSet.decode(encoded)
                    if response.number(dimse.MESSAGE_ID_BEING_RESPONDED_TO) != self._message_id:
                        raise CommandError("the response is to another request")
                    return response

    def _failed(self, error: Exception) -> RequestError:
        return RequestError(f"{self._peer}: {error}", is_silent=isinstance(error, PeerSilentError))


def _connect(peer: Peer, connect_timeout_s: float, timeout_s: float) -> Connection:
    try:
        sock = socket.create_connection((peer.host, peer.port), timeout=connect_timeout_s)
    except TimeoutError as error:
        raise RequestError(f"{peer} does not answer within {connect_timeout_s:g} s", is_silent=True) from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{peer} cannot be reached: {reason}") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if peer.tls is not None:
            sock = peer.tls.wrap_socket(sock, server_hostname=peer.host)
    except OSError as error:
        sock.close()
        raise RequestError(f"{peer}: no TLS connection: {error}") from error
    return Connection(sock, max_pdu_bytes=_MAX_PDU_BYTES, idle_timeout_s=timeout_s)


def _uid(text: str) -> bytes:
    value = text.encode("ascii")
    return value + b"\0" * (len(value) % 2)


def _a_associate_rq(called: str, calling: str, contexts: dict[int, tuple[str, str]]) -> bytes:
    proposals = []
    for context_id, (abstract_syntax, transfer_syntax) in contexts.items():
        context = PresentationContext()
        context.context_id = context_id
        context.abstract_syntax = UID(abstract_syntax)
        context.add_transfer_syntax(UID(transfer_syntax))
        item = PresentationContextItemRQ()
        item.from_primitive(context)
        proposals.append(item.encode())
    titles = called.ljust(16).encode("ascii") + calling.ljust(16).encode("ascii")
    encoded = (application_context(), *proposals, user_information(_MAX_PDU_BYTES))
    body = b"\0\1\0\0" + titles + bytes(32) + b"".join(encoded)
    return struct.pack(">BxL", PduType.A_ASSOCIATE_RQ, len(body)) + body
