"""A peer -> a connection to it, and what can go wrong with a request.

Input: a peer. Output: a `Connection`, ready for the association request. On failure `RequestError`, which names the
peer and the reason, and says whether the same attempt can succeed later.
"""

from __future__ import annotations

import socket
from typing import Final

from dicom_node.peer import Peer
from dicom_node.upper_layer import Connection

#: Longest P-DATA-TF variable field that is announced and sent.
MAX_PDU_BYTES: Final = 262_144


class RequestError(Exception):
    """The peer could not be asked, or did not answer; the message names it and the reason."""

    def __init__(
        self, message: str, *, is_permanent: bool = False, is_silent: bool = False, is_broken_off: bool = False
    ) -> None:
        super().__init__(message)
        #: The same attempt will fail again.
        self.is_permanent = is_permanent
        #: The peer was waited for in vain: whatever is tried next will take as long.
        self.is_silent = is_silent
        #: The peer was there, and ended the connection instead of answering.
        self.is_broken_off = is_broken_off


def connect(peer: Peer, connect_timeout_s: float, timeout_s: float) -> Connection:
    """Return a connection, with TLS where the peer has it. Raises `RequestError`."""
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
    return Connection(sock, max_pdu_bytes=MAX_PDU_BYTES, idle_timeout_s=timeout_s)
