"""What changes in the ledger, told to whoever listens: one look at the database a second, however many listen.

Input: the table of events. Output: `EventData` in the order in which they were seen; numbers and states, no reasons,
which may name a patient's objects. It looks only while somebody listens. Each listener has a bounded queue: one that is
too slow, or was away for too long, is told to load its page anew (`Notice.RESET`) instead of what it missed. A database
that cannot be read is looked at again a second later.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum

import structlog
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from worker.db.records import Event
from worker.db.sessions import Database
from worker.operations.shapes import EventData

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
#: Events that wait for a slow listener, that one look reads, and that are told to who comes back, at most.
WAITING_AT_MOST = READ_AT_MOST = MISSED_AT_MOST = 500
LISTENERS_AT_MOST = 100
#: Of one person or machine, so that nobody takes all places: more than anybody has pages open at once.
OF_ONE_AT_MOST = 20
#: Numbers are given before a transaction commits, so that a lower one may appear after a higher one (PostgreSQL): a gap
#: is looked into again for this long, and so many at once.
GAP_FOR_S = 30.0
GAPS_AT_MOST = 1000
_COLUMNS = (
    *(Event.id, Event.at, Event.study_id, Event.subject, Event.subject_id),
    *(Event.from_state, Event.to_state),
)


class Notice(Enum):
    """What a listener is told beside events."""

    #: Some events are lost to it: whatever is shown must be loaded anew.
    RESET = "reset"
    #: The server ends.
    END = "end"


Told = EventData | Notice


class TooManyListenersError(Exception):
    """There are as many listeners as this process serves, at all or of one person."""


class EventFeed:
    """Reads new events for all listeners of this process. Lives in the event loop; only reading is in a thread."""

    def __init__(self, database: Database) -> None:
        """Look at nothing until somebody listens."""
        self._database = database
        self._listeners: set[asyncio.Queue[Told]] = set()
        #: Who listens, each as often as they do.
        self._places: Counter[str] = Counter()
        self._reader: asyncio.Task[None] | None = None
        self._last = 0
        #: Number that was passed over -> until when it may still appear.
        self._gaps: dict[int, float] = {}
        self._ended = False

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def end(self) -> None:
        """Tell all listeners that it is over; call in the event loop."""
        self._ended = True
        for queue in self._listeners:
            _put(queue, Notice.END)

    async def listen(self, after: int | None, who: str = "") -> AsyncGenerator[tuple[int, Told | None], None]:
        """Yield pairs of the last event's number and what happened; None in its place at the start and every second.

        Args:
            after: the last event that this listener knows; None for what happens from now on.
            who: their login.

        Raises:
            TooManyListenersError: at the first step.
        """
        if self._places.total() >= LISTENERS_AT_MOST or self._places[who] >= OF_ONE_AT_MOST:
            raise TooManyListenersError
        self._places[who] += 1  # before anything is waited for: others come meanwhile
        try:
            async with aclosing(self._listen(after)) as listening:
                async for told in listening:
                    yield told
        finally:
            self._places -= Counter({who: 1})

    async def _listen(self, after: int | None) -> AsyncGenerator[tuple[int, Told | None], None]:
        queue: asyncio.Queue[Told] = asyncio.Queue(WAITING_AT_MOST)
        if not self._listeners:
            self._last, self._gaps = await run_in_threadpool(self._newest), {}
        self._listeners.add(queue)
        if self._ended:
            _put(queue, Notice.END)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_on())
        try:
            known = self._last if after is None else after
            missed = [] if after is None else await run_in_threadpool(self._missed, after)
            told: deque[int] = deque(maxlen=2 * MISSED_AT_MOST)
            yield (known, None)
            if len(missed) > MISSED_AT_MOST:
                known, missed = self._last, []
                yield (known, Notice.RESET)
            for event in missed:
                told.append(event.id)
                known = max(known, event.id)
                yield (known, event)
            while True:
                try:
                    next_one = await asyncio.wait_for(queue.get(), LOOK_EVERY_S)
                except TimeoutError:
                    yield (known, None)
                    continue
                if isinstance(next_one, EventData):
                    if next_one.id in told:
                        continue
                    known = max(known, next_one.id)
                yield (known, next_one)
        finally:
            self._listeners.discard(queue)

    async def _read_on(self) -> None:
        while self._listeners:
            try:
                for event in await run_in_threadpool(self._read):
                    for queue in self._listeners:
                        _put(queue, event)
            except SQLAlchemyError as error:
                log.warning("events cannot be read", action="listen", error=str(error).splitlines()[0])
            await asyncio.sleep(LOOK_EVERY_S)

    def _read(self) -> list[EventData]:
        """Return events that nobody was told of, and remember the numbers that were passed over."""
        now = time.monotonic()
        self._gaps = {number: until for number, until in self._gaps.items() if until > now}
        new: ColumnElement[bool] = Event.id > self._last
        with self._database.reading() as session:
            found = _events(session, or_(new, Event.id.in_(list(self._gaps))) if self._gaps else new)
        for event in found:
            self._gaps.pop(event.id, None)
            passed = range(self._last + 1, event.id)
            for number in passed[: max(GAPS_AT_MOST - len(self._gaps), 0)]:
                self._gaps[number] = now + GAP_FOR_S
            self._last = max(self._last, event.id)
        return found

    def _missed(self, after: int) -> list[EventData]:
        with self._database.reading() as session:
            return _events(session, Event.id > after)

    def _newest(self) -> int:
        with self._database.reading() as session:
            return session.scalar(select(func.max(Event.id))) or 0


def _events(session: Session, meant: ColumnElement[bool]) -> list[EventData]:
    rows = session.execute(select(*_COLUMNS).where(meant).order_by(Event.id).limit(READ_AT_MOST + 1))
    return [EventData(**row._mapping) for row in rows]


def _put(queue: asyncio.Queue[Told], told: Told) -> None:
    """Put something into a queue; one that is full is emptied, and its listener told so."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(Notice.RESET)
    queue.put_nowait(told)
