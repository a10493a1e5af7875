"""Who keeps the server waiting loses the connection: half a head, half a body, or an answer that nobody reads.

Input: TCP connections to the pages. Output: uvicorn's requests, of those clients who send and read at a pace. A client
that sends nothing, or too slowly, is hung up on; where all connections are taken, the one that has kept us waiting
longest makes place, of the address that has most of them (slow HTTP attacks; the limits are those of Apache's
mod_reqtimeout, `RequestReadTimeout header=20-40,MinRate=500 body=20,MinRate=500`). Nothing fails here.
"""

from __future__ import annotations

import asyncio
import math
import resource
import time
from collections import Counter
from typing import Any, Final

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

log = structlog.get_logger()

#: Seconds for the whole head of a request, and for a body beyond what `SLOWEST` gives it.
HEAD_S, BODY_S = 20.0, 20.0
#: Bytes a second that a client sends at least, after those seconds.
SLOWEST: Final = 500
#: Seconds in which a client that has stopped reading an answer must go on.
STUCK_S = 60.0
LOOK_EVERY_S = 1.0
SAID_EVERY_S: Final = 60.0
#: Connections at once. Each is a file, of which a process often has 1024; the database and images need some, too.
MOST: Final = min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class _HungUp:
    """Says in the log how many clients were hung up on: not each, or they would fill it."""

    def __init__(self) -> None:
        self._number, self._said_at = 0, -math.inf

    def count(self, waited_for: str) -> None:
        """Count one."""
        self._number += 1
        if time.monotonic() - self._said_at > SAID_EVERY_S:
            message = "clients that keep the server waiting are hung up on"
            log.warning(message, action="serve", clients=self._number, last_waited_for=waited_for)
            self._number, self._said_at = 0, time.monotonic()


_hung_up = _HungUp()


class Connection(H11Protocol):
    """A connection that does not wait for ever."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin to wait for a request."""
        super().__init__(*args, **kwargs)
        self._looks: asyncio.TimerHandle | None = None
        self._stuck_since: float | None = None
        self._begin_to_wait()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve a client; another one makes place where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST:
            self._make_place()
        self._looks = self.loop.call_later(LOOK_EVERY_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._looks is not None:
            self._looks.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; with a new request the time begins anew."""
        is_idle, before = self._is_idle, self.cycle
        if is_idle:
            self._begin_to_wait()
        super().data_received(data)
        if self.cycle is not before:
            self._begin_to_wait()
        self._taken += len(data)

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._stuck_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads on."""
        self._stuck_since = None
        super().resume_writing()

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn: a head or a body is not here yet."""
        if self.cycle is None or self.cycle.response_complete:
            return True
        return self.cycle.more_body and not self.flow.read_paused

    def hang_up(self) -> None:
        """End this connection at once; what a request under way has sent so far ends there."""
        self.transport.abort()

    @property
    def _is_idle(self) -> bool:
        """Whether the last answer is out and nothing of a next request is here, which uvicorn's own timer ends."""
        return self.timeout_keep_alive_task is not None

    def _begin_to_wait(self) -> None:
        self._taken, self._waited_s, self._looked_at = 0, 0.0, time.monotonic()

    def _look(self) -> None:
        now = time.monotonic()
        passed_s, self._looked_at = now - self._looked_at, now
        if self.waits and not self._is_idle:
            self._waited_s += min(passed_s, 2 * LOOK_EVERY_S)  # a loop that was busy is not the client's fault
        has_head = self.cycle is not None and not self.cycle.response_complete
        allowed_s = BODY_S + self._taken / SLOWEST if has_head else HEAD_S
        is_stuck = self._stuck_since is not None and now - self._stuck_since > STUCK_S
        if is_stuck or self._waited_s > allowed_s:
            if self._taken or has_head:  # browsers keep a spare connection open
                _hung_up.count("somebody to read the answer" if is_stuck else "a body" if has_head else "a request")
            self.hang_up()
            return
        self._looks = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _make_place(self) -> None:
        """Hang up on one of those who keep us waiting; on this one where nobody does."""
        waiting = [one for one in self.connections if isinstance(one, Connection) and one is not self and one.waits]
        if not waiting:
            self.hang_up()
            return
        addresses = Counter(_address(one) for one in waiting)
        most = max(addresses.values())
        crowd = [one for one in waiting if addresses[_address(one)] == most]
        max(crowd, key=lambda one: one._waited_s).hang_up()


def _address(connection: Connection) -> str:
    return connection.client[0] if connection.client else ""
