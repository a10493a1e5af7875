"""What each child process of the daemon runs: `python -m worker.processes NAME`, settings as one JSON line on stdin."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_process_init

from models.engines import EngineError, load_engine
from models.generation import Engine
from models.weights import WeightsError
from worker import delivery
from worker.celery_app import INFERENCE_QUEUE, STEPS_QUEUE, Doorbell, make_celery
from worker.db.sessions import Database
from worker.dispatch import Dispatcher
from worker.engine_setup import check_engine, engine_config
from worker.log import configure_logging
from worker.node import run_node
from worker.settings import Settings, SettingsError
from worker.supervisor import WRONG_CONFIGURATION
from worker.tasks import Workplace, register

log = structlog.get_logger()

#: Steps (assembly, reporting, delivery) worked on at once by one process.
STEPS_AT_ONCE = 4


def run_inference(settings: Settings) -> None:
    """Celery worker of the inference queue: one process with a resident model, killed at the time limit."""
    check_engine(settings)
    workplace = Workplace(settings, load_engine=lambda: load_engine(engine_config(settings)))
    app = make_celery(settings)
    register(app, workplace)

    @worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def load(**_: Any) -> None:
        configure_logging(settings.log, "inference")
        log.info("loading the model", action="load")
        workplace.engine  # noqa: B018 - loads it
        log.info("model is resident", action="load")

    _run_celery(app, INFERENCE_QUEUE, pool="prefork", concurrency=1)


def run_steps(settings: Settings) -> None:
    """Celery worker of the steps queue: threads that assemble, score, report and deliver."""

    def no_engine() -> Engine:
        raise AssertionError("the steps process has no engine")

    workplace = Workplace(settings, load_engine=no_engine)
    # Made before the threads start, so that they do not make them twice.
    _ = (workplace.db, workplace.spool, workplace.doorbell, workplace.adapters)
    app = make_celery(settings)
    register(app, workplace)
    _run_celery(app, STEPS_QUEUE, pool="threads", concurrency=STEPS_AT_ONCE)


def _run_celery(app: Celery, queue: str, pool: str, concurrency: int) -> None:
    setup_logging.connect(lambda **_: None, weak=False)  # ours is set up already
    worker = app.Worker(
        queues=[queue],
        pool=pool,
        concurrency=concurrency,
        hostname=f"{queue}@{os.uname().nodename}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


def run_dispatcher(settings: Settings) -> None:
    """Look for waiting work again and again until SIGTERM."""
    db = Database(settings.resolved_database_url)
    dispatcher = Dispatcher(db, Doorbell(settings), settings.jobs.ring_again_s)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(settings.jobs.dispatch_every_s):
        try:
            delivery.rescue_expired(db)
            dispatcher.look()
        except Exception as error:  # noqa: BLE001 - a database that is down comes back; the dispatcher must still be there
            log.error("the dispatcher could not look", action="dispatch", error=str(error))


def run_web(settings: Settings) -> None:
    """Serve the pages until SIGTERM."""
    from worker.web.app import serve  # imported here: the other processes do not need the web framework

    serve(settings)


PROCESSES: dict[str, Callable[[Settings], None]] = {
    "node": run_node,
    "inference": run_inference,
    "steps": run_steps,
    "dispatcher": run_dispatcher,
    "web": run_web,
}


def _stop_with_parent() -> None:
    """End when the supervisor is gone, however it went: its end of our standard input closes."""

    def watch() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> int:
    """Run the process named on the command line; 2 means that only a person can mend it."""
    name = sys.argv[1]
    settings = Settings(**json.loads(sys.stdin.buffer.readline()))
    configure_logging(settings.log, name)
    _stop_with_parent()
    try:
        PROCESSES[name](settings)
    except (SettingsError, WeightsError, EngineError) as error:
        log.error(str(error), action="start")
        return WRONG_CONFIGURATION
    return 0


if __name__ == "__main__":
    sys.exit(main())
