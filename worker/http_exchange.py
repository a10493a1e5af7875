"""One HTTP request to a server of another system, and what its answer means to the one who sends.

Input: a server and a request. Output: its answer. On failure `ExchangeError`: the server cannot be reached or does
not answer in time. Redirections are not followed: what is meant for one server is not handed to another.
"""

from __future__ import annotations

import email.utils
import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from dicom_node.http_server import HttpServer, reason_in_words
from dicom_node.status import Outcome

_MOST_ANSWER_BYTES: Final = 4 << 20
#: Answers about the message itself: it will not be taken, however often it is sent.
_ABOUT_THE_MESSAGE: Final = frozenset({400, 410, 412, 413, 415, 422})
#: A server that asks for a longer pause than this is tried earlier.
_LONGEST_PAUSE_S: Final = 86_400.0


class ExchangeError(Exception):
    """There is no answer; the message names the server and says why."""

    def __init__(self, message: str, *, is_reached: bool) -> None:
        super().__init__(message)
        #: Whether the server had the chance to read the request.
        self.is_reached = is_reached


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server answered."""

    code: int
    reason: str
    body: bytes
    #: What Retry-After asks for (RFC 9110 10.2.3), in seconds; None where it is absent or makes no sense.
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether it is one of 2xx."""
        return 200 <= self.code < 300

    @property
    def klass(self) -> Outcome:
        """What it means to the sender. A refusal that a person can mend (401, 404, a redirection) passes with time."""
        if self.is_success:
            return Outcome.DELIVERED
        return Outcome.PERMANENT if self.code in _ABOUT_THE_MESSAGE else Outcome.TRANSIENT

    def __str__(self) -> str:
        return f"HTTP {self.code} {self.reason}".rstrip()


def exchange(
    server: HttpServer,
    method: str,
    *,
    timeout_s: float,
    path: str = "",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpAnswer:
    """Ask once.

    Args:
        server: Whom.
        method: GET or POST.
        timeout_s: The longest silence of the server, and how long a connection may take.
        path: Added to the server's own.
        body: What is sent.
        headers: Beside those that say who sends.

    Raises:
        ExchangeError: There is no answer.
    """
    connection = server.connection(timeout_s)
    parts = server.parts
    target = (parts.path.rstrip("/") + path if path else parts.path) or "/"
    target += f"?{parts.query}" if parts.query and not path else ""
    is_reached = False
    try:
        connection.connect()
        is_reached = True
        connection.request(method, target, body=body, headers={**(headers or {}), **server.authorization})
        response = connection.getresponse()
        answered = response.read(_MOST_ANSWER_BYTES)
        pause_s = _pause_s(response.getheader("Retry-After") or "")
        return HttpAnswer(response.status, response.reason, answered, pause_s)
    except (OSError, http.client.HTTPException) as error:
        raise ExchangeError(f"{server}: {reason_in_words(error)}", is_reached=is_reached) from error
    finally:
        connection.close()


def _pause_s(text: str) -> float | None:
    """Read seconds or a date."""
    if text.strip().isascii() and text.strip().isdigit():
        return min(float(text), _LONGEST_PAUSE_S)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    pause_s = aware.timestamp() - time.time()
    return min(pause_s, _LONGEST_PAUSE_S) if pause_s > 0 else None
