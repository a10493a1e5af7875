"""The receiving node: associations in, durable instances out to the sink.

Input: connections on a TCP port. Output: for every instance a `ReceivedInstance` to the sink, which records it before
Success is answered; for every association an `AssociationRecord` at its start and end. Each association is served by a
blocking loop in a thread of its own, which streams fragments from one reused buffer into the spool. On failure see
`storage_service` (of an instance) and `association` (of an association); `start` raises `ScpError`.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import structlog

from dicom_node.association import AcceptorConfig, Association, AssociationRecord
from dicom_node.commitment import SOP_CLASS as STORAGE_COMMITMENT
from dicom_node.commitment_service import CommitmentService, EventReportService, Keeper
from dicom_node.dimse import CommandField, Service
from dicom_node.negotiation import Policy
from dicom_node.spool import Spool
from dicom_node.storage_service import EchoService, ReceivedInstance, Sink, StoreService

__all__ = ["AssociationRecord", "ReceivedInstance", "ScpConfig", "ScpError", "Sink", "StoreScp"]

log = structlog.get_logger()

#: Served besides storage and verification, where somebody keeps what is asked and reported.
KEEPER_CLASSES: Final = frozenset({STORAGE_COMMITMENT})
_BACKLOG: Final = 128
#: Connections beyond the associations: those that are about to be rejected, or never say anything.
_SPARE_CONNECTIONS: Final = 32
#: How long an aborted association has to notice.
_ABORT_S: Final = 3.0


class ScpError(Exception):
    """The node cannot listen; the message names the address and the reason."""


@dataclass(frozen=True, slots=True)
class ScpConfig:
    """How the node listens."""

    ae_title: str
    bind: str = "127.0.0.1"
    #: 0 takes any free port; `StoreScp.port` tells which.
    port: int = 11112
    #: AE titles that may send; empty: any.
    calling_ae_titles: frozenset[str] = frozenset()
    require_called_ae_title: bool = True
    max_associations: int = 64
    #: Longest P-DATA-TF variable field that is taken, announced to senders (PS3.8 D.1).
    max_pdu_bytes: int = 262_144
    #: From the connection to the complete association request (the ARTIM timer, PS3.8 9.1.5).
    artim_timeout_s: float = 30.0
    #: Silence after which an association is aborted.
    idle_timeout_s: float = 60.0
    tls: ssl.SSLContext | None = None


class StoreScp:
    """An SCP of C-STORE, C-ECHO and, with a keeper, storage commitment. Start it once, stop it once."""

    def __init__(
        self,
        config: ScpConfig,
        spool: Spool,
        sink: Sink,
        on_association_end: Callable[[AssociationRecord], None] = lambda _record: None,
        on_association_start: Callable[[AssociationRecord], None] = lambda _record: None,
        keeper: Keeper | None = None,
    ) -> None:
        """`sink`, the two listeners and `keeper` are called from the associations' threads, several at once."""
        self._config = config
        self._lock = threading.Lock()
        self._threads: dict[Association, threading.Thread] = {}
        self._by_id: dict[str, Association] = {}
        #: Ids of the associations that stand.
        self._admitted: set[str] = set()
        self._is_stopping = False
        services: dict[int, Service] = {
            CommandField.C_ECHO_RQ: EchoService(),
            CommandField.C_STORE_RQ: StoreService(spool, sink, self._count_instance),
        }
        if keeper is not None:
            services[CommandField.N_ACTION_RQ] = CommitmentService(keeper)
            services[CommandField.N_EVENT_REPORT_RQ] = EventReportService(keeper)
        self._acceptor = AcceptorConfig(
            policy=Policy(
                ae_title=config.ae_title,
                calling_ae_titles=frozenset(config.calling_ae_titles),
                require_called_ae_title=config.require_called_ae_title,
                max_pdu_bytes=config.max_pdu_bytes,
                other_sop_classes=frozenset() if keeper is None else KEEPER_CLASSES,
            ),
            services=services,
            artim_timeout_s=config.artim_timeout_s,
            idle_timeout_s=config.idle_timeout_s,
            tls=config.tls,
            admit=self._admit,
            on_start=on_association_start,
            on_end=on_association_end,
        )
        self._port = config.port
        self._listening: threading.Thread | None = None
        #: Ends the listener's wait.
        self._waker: socket.socket | None = None

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._port

    @property
    def associations(self) -> int:
        """How many associations are open."""
        with self._lock:
            return len(self._admitted)

    def start(self) -> None:
        """Listen. Raises `ScpError`."""
        family = socket.AF_INET6 if ":" in self._config.bind else socket.AF_INET
        address = (self._config.bind, self._config.port)
        try:
            listener = socket.create_server(address, family=family, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            where = f"{self._config.bind}:{self._config.port}"
            raise ScpError(f"cannot listen on {where}: {error}; choose another dicom.bind or dicom.port") from error
        listener.setblocking(False)
        self._port = int(listener.getsockname()[1])
        self._waker, wakened = socket.socketpair()
        self._listening = threading.Thread(
            target=self._accept_all, args=(listener, wakened), name="dicom-listener", daemon=True
        )
        self._listening.start()
        log.info("listening", action="scp", ae_title=self._config.ae_title, bind=self._config.bind, port=self.port)

    def stop(self, grace_s: float = 10.0) -> bool:
        """Stop accepting, let associations finish for `grace_s`, abort the rest; return whether none was aborted.

        Calling it again does nothing.
        """
        deadline = time.monotonic() + grace_s
        self._is_stopping = True
        if self._waker is None or self._listening is None:
            return True
        self._waker.close()
        self._waker = None
        self._listening.join()
        for association, thread in self._snapshot():
            if association.is_established:
                thread.join(max(deadline - time.monotonic(), 0))
        rest = self._snapshot()
        for association, _ in rest:
            association.end()
        deadline = time.monotonic() + _ABORT_S
        for _, thread in rest:
            thread.join(max(deadline - time.monotonic(), 0))
        aborted = sum(association.is_established for association, _ in rest)
        log.info("stopped listening", action="scp", aborted=aborted)
        return not aborted

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(0)

    def _snapshot(self) -> list[tuple[Association, threading.Thread]]:
        with self._lock:
            return list(self._threads.items())

    def _accept_all(self, listener: socket.socket, wakened: socket.socket) -> None:
        """The listener's thread: one new thread for every connection."""
        with selectors.DefaultSelector() as selector, listener, wakened:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wakened, selectors.EVENT_READ)
            while not self._is_stopping:
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        self._accept(listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of file descriptors, or the peer left before it was accepted: the next one may fare better.
            log.error("connection not accepted", action="scp", reason=str(error))
            time.sleep(0.05)
            return
        sock.setblocking(True)
        with self._lock:
            has_room = len(self._threads) < self._config.max_associations + _SPARE_CONNECTIONS
        if not has_room:
            log.warning("connection closed at once: too many are open", action="scp", peer_address=address[0])
            sock.close()
            return
        association = Association(sock, str(address[0]), self._acceptor)
        thread = threading.Thread(target=self._run, args=(association,), name="dicom-association", daemon=True)
        with self._lock:
            self._threads[association] = thread
            self._by_id[association.association_id] = association
        thread.start()

    def _run(self, association: Association) -> None:
        try:
            association.run()
        finally:
            with self._lock:
                self._threads.pop(association, None)
                self._by_id.pop(association.association_id, None)
                self._admitted.discard(association.association_id)

    def _admit(self, association_id: str) -> str:
        """Reserve a place for an association; return "", or why there is none just now."""
        if self._is_stopping:
            return "the node is stopping"
        with self._lock:
            if len(self._admitted) >= self._config.max_associations:
                return f"{self._config.max_associations} associations are open, which is the limit"
            self._admitted.add(association_id)
        return ""

    def _count_instance(self, association_id: str) -> None:
        with self._lock:
            association = self._by_id[association_id]
        association.count_instance()
