"""One association, the acceptor's side, from the connection to its end (PS3.8 9.2), in a thread of its own.

Input: a connected socket. Output: requests served by the node's services, responses sent, an `AssociationRecord` when
it is over. On failure the association is aborted with a reason; a peer's garbage never ends more than its own
association.
"""

from __future__ import annotations

import socket
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from dicom_node import dimse, status
from dicom_node.dimse import CommandSet, Request, Response, Service
from dicom_node.incoming_message import IncomingMessage
from dicom_node.negotiation import (
    Accepted,
    AssociationRequest,
    Context,
    Policy,
    Rejected,
    busy,
    negotiate,
    read_request,
)
from dicom_node.notices import Notices
from dicom_node.storage_service import FixedAnswer
from dicom_node.upper_layer import (
    A_RELEASE_RP,
    AbortReason,
    Connection,
    Fragment,
    PduType,
    PeerGoneError,
    PeerSilentError,
    ProtocolError,
    a_abort,
    fragments,
    p_data,
)

log = structlog.get_logger()

#: How long the peer has to close the connection after the last PDU (the ARTIM timer of Sta13, PS3.8 9.2).
_LINGER_S: Final = 2.0
#: A requester that is silent this long after an answer waits for a report; one that releases at once does not.
REPORT_AFTER_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class AssociationRecord:
    """An association, at its start and again when it is over."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    #: Aware, UTC.
    opened_at: datetime
    #: None while it is open.
    closed_at: datetime | None
    #: Whether the peer ended it in order: it has sent what it wanted to send.
    released: bool
    #: Instances acknowledged as stored.
    instances: int


@dataclass(frozen=True, slots=True)
class AcceptorConfig:
    """What every association of a node has in common."""

    policy: Policy
    services: Mapping[int, Service]
    artim_timeout_s: float
    idle_timeout_s: float
    tls: ssl.SSLContext | None
    #: Reserves a place for the association with this id: returns "", or why there is none.
    admit: Callable[[str], str]
    on_start: Callable[[AssociationRecord], None]
    on_end: Callable[[AssociationRecord], None]


class Association:
    """One connection and what happens on it; `run` is the body of its thread."""

    def __init__(self, sock: socket.socket, peer_address: str, config: AcceptorConfig) -> None:
        self.association_id = uuid.uuid4().hex
        self.is_established = False
        self._sock = sock
        self._peer_address = peer_address
        self._config = config
        self._connection: Connection | None = None
        self._contexts: dict[int, Context] = {}
        self._asked: AssociationRequest | None = None
        self._message: IncomingMessage | None = None
        self._is_told_to_end = False
        self._instances = 0
        self._notices = Notices()
        self._log = log.bind(association_id=self.association_id, peer_address=peer_address)

    def count_instance(self) -> None:
        """One more instance was acknowledged as stored."""
        self._instances += 1

    def end(self) -> None:
        """Tell the association, from another thread, to abort instead of reading on."""
        self._is_told_to_end = True
        if self._connection is not None:
            self._connection.wake()

    def run(self) -> None:
        """Serve the connection until it is over. Raises nothing."""
        try:
            self._serve()
        except Exception:  # noqa: BLE001 - the edge of the thread: a defect here must not be silent, nor end more than this
            self._log.exception("association ended by a defect", action="association")
            self._abort(AbortReason.NOT_SPECIFIED)
        finally:
            if self._message is not None and self._message.operation is not None:
                self._message.operation.abandon()
            if self._connection is not None:
                self._connection.close()
            else:
                self._sock.close()

    def _serve(self) -> None:
        opened_at = datetime.now(UTC)
        released = False
        try:
            self._connect()
            if self._negotiate():
                self.is_established = True
                self._tell(self._config.on_start, opened_at, released=False, closed_at=None)
                released = self._serve_requests()
        except ProtocolError as error:
            self._log.warning("association aborted", action="association", reason=str(error))
            self._abort(error.reason)
        except (PeerGoneError, PeerSilentError, ssl.SSLError, OSError) as error:
            reason = "the node is stopping" if self._is_told_to_end else str(error)
            self._log.warning("association broken off", action="association", reason=reason)
            self._abort(AbortReason.NOT_SPECIFIED)
        finally:
            if self.is_established:
                self._tell(self._config.on_end, opened_at, released=released, closed_at=datetime.now(UTC))

    def _connect(self) -> None:
        """Make the transport ready: TLS, if the node has it, within the ARTIM time like the request after it."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.settimeout(self._config.artim_timeout_s)
        if self._config.tls is not None:
            self._sock = self._config.tls.wrap_socket(self._sock, server_side=True)
        self._connection = Connection(
            self._sock,
            max_pdu_bytes=self._config.policy.max_pdu_bytes,
            idle_timeout_s=self._config.idle_timeout_s,
        )

    def _negotiate(self) -> bool:
        """Answer the association request; return whether the association stands."""
        connection = self._open_connection()
        connection.within(self._config.artim_timeout_s)
        pdu_type, variable_field = connection.read_pdu()
        if pdu_type is not PduType.A_ASSOCIATE_RQ:
            raise ProtocolError(f"{pdu_type.name} before an association", AbortReason.UNEXPECTED_PDU)
        connection.within(None)
        asked = read_request(variable_field)
        self._asked = asked
        self._log = self._log.bind(calling_ae_title=asked.calling_ae_title, called_ae_title=asked.called_ae_title)
        decision = negotiate(asked, self._config.policy)
        if isinstance(decision, Accepted) and (obstacle := self._config.admit(self.association_id)):
            decision = busy(obstacle)
        connection.send(decision.pdu)
        if isinstance(decision, Rejected):
            self._log.warning("association rejected", action="association", reason=decision.reason)
            connection.close(linger_s=_LINGER_S)
            return False
        self._contexts = decision.contexts
        self._log.info("association accepted", action="association", contexts=len(decision.contexts))
        return True

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise PeerGoneError("the connection is not open")
        return self._connection

    def _serve_requests(self) -> bool:
        """Serve what comes until the association ends; return whether it was released."""
        connection = self._open_connection()
        while not self._is_told_to_end:
            self._notices.send_after(connection, REPORT_AFTER_S, self._asked.max_pdu_bytes if self._asked else 0)
            pdu_type, variable_field = connection.read_pdu()
            if pdu_type is PduType.P_DATA_TF:
                for fragment in fragments(variable_field):
                    self._take(fragment)
            elif pdu_type is PduType.A_RELEASE_RQ:
                connection.send(A_RELEASE_RP)
                self._log.info("association released", action="association", instances=self._instances)
                connection.close(linger_s=_LINGER_S)
                return True
            elif pdu_type is PduType.A_ABORT:
                self._log.warning("association aborted by the peer", action="association", instances=self._instances)
                return False
            else:
                raise ProtocolError(f"{pdu_type.name} within an association", AbortReason.UNEXPECTED_PDU)
        raise PeerGoneError("the node is stopping")

    def _take(self, fragment: Fragment) -> None:
        """Take one fragment: of a message's command set first, then of its data set."""
        message = self._message or IncomingMessage(fragment.context_id)
        message.check(fragment, self._contexts)
        self._message = message
        if fragment.is_command:
            command = message.take_command(fragment)
            if command is None:
                return
            self._notices.take_answer(command)
            message.operation = self._start(message.context_id, command)
            if not command.has_data_set:
                self._finish(message, message.operation)
        elif message.operation is not None:
            message.operation.write(fragment.data)
            if fragment.is_last:
                self._finish(message, message.operation)

    def _start(self, context_id: int, command: CommandSet) -> dimse.Operation:
        service = self._config.services.get(command.command_field)
        if not command.is_request:
            return FixedAnswer(Response(status.SUCCESS))  # which nobody is sent
        if service is None:
            self._log.warning("request not served", action="dimse", command_field=f"0x{command.command_field:04X}")
            return FixedAnswer(Response(status.UNRECOGNIZED_OPERATION, "this node does not serve that"))
        context = self._contexts[context_id]
        asked = self._asked
        return service.start(
            Request(
                association_id=self.association_id,
                calling_ae_title=asked.calling_ae_title if asked else "",
                called_ae_title=asked.called_ae_title if asked else "",
                peer_address=self._peer_address,
                abstract_syntax=context.abstract_syntax,
                transfer_syntax=context.transfer_syntax,
                command=command,
            )
        )

    def _finish(self, message: IncomingMessage, operation: dimse.Operation) -> None:
        """The message is whole: end its operation and answer, unless it is one that gets no answer."""
        response = operation.finish()
        self._message = None
        if message.request is not None and message.request.is_request:
            encoded = response.encode(message.request)
            limit = self._asked.max_pdu_bytes if self._asked else 0
            self._open_connection().send(p_data(message.context_id, encoded, is_command=True, max_pdu_bytes=limit))
            if response.notice is not None:
                self._notices.add(message.context_id, response.notice)

    def _abort(self, reason: AbortReason) -> None:
        """Send an A-ABORT, if anyone still listens, and close."""
        if self._connection is None:
            return
        try:
            self._connection.send(a_abort(reason))
        except (PeerGoneError, PeerSilentError):
            return
        self._connection.close(linger_s=_LINGER_S)

    def _tell(
        self,
        listener: Callable[[AssociationRecord], None],
        opened_at: datetime,
        *,
        released: bool,
        closed_at: datetime | None,
    ) -> None:
        asked = self._asked
        listener(
            AssociationRecord(
                association_id=self.association_id,
                calling_ae_title=asked.calling_ae_title if asked else "",
                called_ae_title=asked.called_ae_title if asked else "",
                peer_address=self._peer_address,
                opened_at=opened_at,
                closed_at=closed_at,
                released=released,
                instances=self._instances,
            )
        )
