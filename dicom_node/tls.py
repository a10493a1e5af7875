"""TLS for DICOM (PS3.15 B.9 to B.12, BCP 195): certificate files in, contexts for the node and for its senders out.

Peers show certificates to each other; who may connect is decided by the authority that signed them, not by host names,
which hospital certificates seldom carry. On failure `TlsError`, naming the file and the reason.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

#: Older versions are not spoken (BCP 195).
MINIMUM_VERSION: Final = ssl.TLSVersion.TLSv1_2


class TlsError(Exception):
    """A certificate, key or authority file cannot be used; the message names it."""


def server_context(certificate: Path, key: Path, ca: Path | None = None) -> ssl.SSLContext:
    """Return the context of a node with this certificate chain and key (PEM).

    With `ca`, peers must show a certificate signed by one of these authorities; without, anyone may connect.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _identify(context, certificate, key)
    if ca is not None:
        _trust(context, ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Return the context of a sender: the peer must be signed by `ca`; `certificate` and `key` are shown if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    _trust(context, ca)
    if certificate is not None and key is not None:
        _identify(context, certificate, key)
    return context


def https_context(ca: Path) -> ssl.SSLContext:
    """Return the context of an HTTPS client (RFC 9110 4.3.4): the server is signed by `ca`, in its own host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, ca)
    return context


def _identify(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    context.minimum_version = MINIMUM_VERSION
    for path in (certificate, key):
        if not path.is_file():
            raise TlsError(f"TLS: there is no file {path}")
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"TLS: {certificate} and {key} are not a PEM certificate and its key: {error}") from error


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    context.minimum_version = MINIMUM_VERSION
    if not ca.is_file():
        raise TlsError(f"TLS: there is no file {ca}")
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"TLS: {ca} holds no PEM certificates: {error}") from error
