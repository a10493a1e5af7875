"""Replays that people asked for on the pages or by the API: one runs at a time, in a thread, and shows how far it is.

Input: rules to try. Output: a `Replay` under an id, kept in memory until others take its place: a replay changes
nothing, and it can be asked for again. On failure its state says so, in words. A second one meanwhile is refused.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from models.adapter import AdapterDefinition
from worker.db.columns import utc_now
from worker.db.sessions import Database
from worker.operations.replay import SERIES, ReplayStopped, replay
from worker.operations.rule_shapes import Replay, ReplayReport
from worker.settings import RouteRule

log = structlog.get_logger()

KEPT = 20


class ReplayBusyError(Exception):
    """Another replay runs; the message says whose."""


@dataclass
class _Run:
    """A replay and its thread."""

    by: str
    text: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: str = "running"
    started_at: datetime = field(default_factory=utc_now)
    done: int = 0
    of: int = 0
    error: str | None = None
    report: ReplayReport | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def shown(self) -> Replay:
        return Replay(
            id=self.id,
            state=self.state,
            by=self.by,
            started_at=self.started_at,
            done=self.done,
            of=self.of,
            error=self.error,
            report=self.report,
        )


class Replays:
    """The replays of this process."""

    def __init__(self, database: Database, in_force: Sequence[RouteRule]) -> None:
        """Run none yet."""
        self._database, self._in_force = database, in_force
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def start(
        self,
        tried: Sequence[RouteRule],
        adapters: Mapping[str, AdapterDefinition],
        *,
        by: str,
        days: float,
        series_at_most: int = SERIES,
        text: str = "",
    ) -> Replay:
        """Begin; `text` is the rules as they were typed.

        Raises:
            ReplayBusyError: Another one runs.
        """
        run = _Run(by, text)
        with self._lock:
            busy = next((other for other in self._runs.values() if other.state == "running"), None)
            if busy is not None:
                raise ReplayBusyError(f"a replay of {busy.by} runs; wait until it is done, or stop it")
            self._runs[run.id] = run
            while len(self._runs) > KEPT:
                self._runs.popitem(last=False)

        def work() -> None:
            try:
                run.report = replay(
                    self._database,
                    self._in_force,
                    tried,
                    adapters,
                    days=days,
                    series_at_most=series_at_most,
                    progress=lambda done, of: _progress(run, done, of),
                )
                run.state = "done"
            except ReplayStopped:
                run.state = "stopped"
            except SQLAlchemyError as error:
                run.error, run.state = f"the database cannot be read: {str(error).splitlines()[0]}", "failed"
            except Exception as error:
                log.exception("replay failed", action="replay")
                run.error, run.state = f"{type(error).__name__}: see the log", "failed"

        run.thread = threading.Thread(target=work, name="replay", daemon=True)
        run.thread.start()
        return run.shown()

    def get(self, replay_id: str) -> Replay | None:
        """Return a replay as it stands; None where it is not known, or not any more."""
        run = self._runs.get(replay_id)
        return None if run is None else run.shown()

    def recent(self) -> list[Replay]:
        """Return the replays that are kept, the newest first, without what they found."""
        return [run.shown().model_copy(update={"report": None}) for run in reversed(list(self._runs.values()))]

    def text_of(self, replay_id: str) -> str:
        """Return the rules as they were typed."""
        run = self._runs.get(replay_id)
        return "" if run is None else run.text

    def stop(self, replay_id: str) -> Replay | None:
        """Ask a replay to end; what it found so far is lost."""
        run = self._runs.get(replay_id)
        if run is None:
            return None
        run.stop.set()
        return run.shown()

    def wait(self, replay_id: str, timeout_s: float) -> None:
        """Wait until a replay has ended, for a while."""
        run = self._runs.get(replay_id)
        if run is not None and run.thread is not None:
            run.thread.join(timeout_s)

    def close(self, timeout_s: float = 5) -> None:
        """End whatever runs."""
        for run in list(self._runs.values()):
            run.stop.set()
            if run.thread is not None:
                run.thread.join(timeout_s)


def _progress(run: _Run, done: int, of: int) -> None:
    run.done, run.of = done, of
    if run.stop.wait(0.001):  # which lets the pages be served meanwhile
        raise ReplayStopped
