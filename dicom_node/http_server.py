"""A web server of others: its address, our credentials, and a connection to it.

Input: a URL. Output: `HttpServer`, which shows its credentials to nobody but the server. On failure `HttpServerError`.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit


class HttpServerError(ValueError):
    """The server's address or its credentials cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class HttpServer:
    """Where to send, and as whom."""

    url: str
    #: Sent as Bearer token (RFC 6750); empty for none.
    token: str = field(default="", repr=False)
    #: Sent by basic authentication (RFC 7617); empty for none.
    username: str = ""
    password: str = field(default="", repr=False)
    #: For https; None trusts the system's authorities.
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        """Refuse what is no address. Raises `HttpServerError`."""
        parts = self.parts
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise HttpServerError(f"{self.url!r} is no address: write http(s)://HOST[:PORT]/PATH")
        if parts.username or parts.password or parts.fragment:
            raise HttpServerError(f"the address of {parts.hostname} holds credentials or a fragment; they go apart")
        if self.token and self.username:
            raise HttpServerError(f"{self}: a token and a user name are given; give one of them")
        if not (self.token + self.username + self.password).isprintable():
            raise HttpServerError(f"{self}: token, user name and password are printable text")

    @property
    def parts(self) -> SplitResult:
        """The address in its parts. Raises `HttpServerError`."""
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            raise HttpServerError("the address cannot be read: write http(s)://HOST[:PORT]/PATH") from None
        return parts

    def __str__(self) -> str:
        """Name the server without what may be secret: a query can hold a key."""
        parts = self.parts
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"

    @property
    def authorization(self) -> dict[str, str]:
        """The header field that says who sends."""
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        if self.username:
            secret = base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")
            return {"Authorization": f"Basic {secret}"}
        return {}

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet; `timeout_s` is the longest silence."""
        parts = self.parts
        host, port = str(parts.hostname), parts.port
        if parts.scheme == "https":
            context = self.tls or ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=timeout_s)


def reason_in_words(error: Exception) -> str:
    """Return why a server could not be spoken to."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return str(error) or type(error).__name__
