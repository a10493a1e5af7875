"""Who is sent to: an AE title with its address, valid once constructed.

Input: text from settings or a command line. Output: `Peer`. On failure `PeerError`, which says how to write it.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Final

_AE_TITLE: Final = re.compile(r"[\x20-\x5B\x5D-\x7E]{1,16}")
_PEER: Final = re.compile(r"(?P<title>[^@]*)@(?P<host>\[[^\]]+\]|[^:]+):(?P<port>\d{1,5})", re.ASCII)


class PeerError(ValueError):
    """The peer or an AE title is not written as it must be; the message says how."""


def check_ae_title(text: str) -> str:
    """Return the AE title without outer spaces, which do not count (PS3.5 6.2, VR AE). Raises `PeerError`."""
    title = text.strip(" ")
    if not _AE_TITLE.fullmatch(title):
        raise PeerError(f"{text!r} is not an AE title: 1 to 16 printable ASCII characters, no backslash")
    return title


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM application that is sent to."""

    ae_title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        """Raise `PeerError` where a part is not valid."""
        object.__setattr__(self, "ae_title", check_ae_title(self.ae_title))
        if not self.host:
            raise PeerError(f"{self.ae_title}: the host name is missing")
        if not 1 <= self.port <= 65535:
            raise PeerError(f"{self.ae_title}: {self.port} is not a TCP port (1 to 65535)")

    def __str__(self) -> str:
        """Return ``AET@HOST:PORT``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


def parse_peer(text: str) -> Peer:
    """Read ``AET@HOST:PORT`` (an IPv6 address in brackets). Raises `PeerError`."""
    match = _PEER.fullmatch(text.strip())
    if match is None:
        raise PeerError(f"{text!r} is not a peer: write AET@HOST:PORT, for example PACS@192.0.2.10:104")
    return Peer(match["title"], match["host"].strip("[]"), int(match["port"]))
