"""Renewing a claim while the work on it goes on, however long that takes: a killed process renews no more.

Input: a statement that moves the end of a lease, made anew each time. Output: it is executed every third of the lease
until the work is over. A database hiccup is logged; the next turn tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import Update

from worker.db.sessions import Database

log = structlog.get_logger()


@contextmanager
def renewing(db: Database, lease_s: float, renewal: Callable[[], Update], *, action: str) -> Iterator[None]:
    """Execute what `renewal` returns every `lease_s / 3` seconds; `action` names the work in the log."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(lease_s / 3):
            try:
                with db.writing() as session:
                    session.execute(renewal(), execution_options={"synchronize_session": False})
            except Exception as error:  # noqa: BLE001 - a database hiccup: the next turn tries again
                log.warning("a claim could not be renewed", action=action, error=str(error))

    thread = threading.Thread(target=renew, name="renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
