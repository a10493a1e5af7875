"""Destinations and sources of the settings as DICOM peers, with the node's certificates where they are asked for."""

from __future__ import annotations

from dicom_node.peer import Peer
from dicom_node.tls import TlsError, client_context
from worker.settings import DicomDestination, Settings, Source


def peer_of(settings: Settings, target: DicomDestination | Source) -> Peer:
    """Return the peer. Raises `TlsError`: what is meant for TLS never goes out in the clear."""
    tls = settings.dicom.tls
    if not target.tls:
        return Peer(target.ae_title, target.host, target.port)
    if tls is None:
        kind = "destination" if isinstance(target, DicomDestination) else "source"
        raise TlsError(f"{kind} {target.name} demands TLS, but dicom.tls names no certificates; nothing is sent")
    return Peer(target.ae_title, target.host, target.port, client_context(tls.ca, tls.certificate, tls.key))


def peer_called(settings: Settings, ae_title: str) -> Peer | None:
    """Return the source, or else the destination, with this AE title, or None. Raises `TlsError`."""
    nodes = [known for known in settings.destinations if isinstance(known, DicomDestination)]
    known: list[Source | DicomDestination] = [*settings.sources, *nodes]
    target = next((target for target in known if target.ae_title == ae_title), None)
    return None if target is None else peer_of(settings, target)
