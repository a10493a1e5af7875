"""The dispatcher process: looks again and again for work that waits, and for what died while it worked."""

from __future__ import annotations

import signal
import threading
from typing import Any

import structlog

from worker import delivery
from worker.celery_app import INFERENCE_QUEUE, STEPS_QUEUE, Doorbell
from worker.db.process_reports import Reporter
from worker.db.sessions import Database
from worker.dispatch import Dispatcher
from worker.settings import Settings

log = structlog.get_logger()


def run_dispatcher(settings: Settings) -> None:
    """Look every `jobs.dispatch_every_s` seconds until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    db = Database(settings.resolved_database_url)
    doorbell = Doorbell(settings)
    dispatcher = Dispatcher(db, doorbell, settings.jobs.ring_again_s)
    reporter = Reporter(db, "broker", lambda: _broker(doorbell))
    while not stop.wait(settings.jobs.dispatch_every_s):
        try:
            delivery.rescue_expired(db)
            dispatcher.look()
        except Exception as error:  # noqa: BLE001 - a database that is down comes back, and then we must be there
            log.error("the dispatcher could not look", action="dispatch", error=str(error))
    reporter.stop()
    doorbell.close()
    db.close()


def _broker(doorbell: Doorbell) -> dict[str, Any]:
    """Return what is reported of the broker: whether it is there, and rings that nobody has heard yet."""
    rings = {queue: doorbell.rings_waiting(queue) for queue in (INFERENCE_QUEUE, STEPS_QUEUE)}
    return {"reachable": None not in rings.values(), "rings": rings}
