"""A child process of the daemon: `python -m worker.processes NAME`, settings as one JSON line on standard input.

Each process imports only what it runs: the node knows neither Celery tasks nor highdicom, only inference loads torch.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable

import structlog

from models.engines import EngineError
from models.weights import WeightsError
from worker.log import configure_logging
from worker.settings import WRONG_CONFIGURATION, Settings, SettingsError

log = structlog.get_logger()

#: Process -> module and function that runs it until SIGTERM.
PROCESSES = {
    "node": ("worker.node", "run_node"),
    "inference": ("worker.tasks.inference", "run_inference"),
    "steps": ("worker.tasks.steps", "run_steps"),
    "dispatcher": ("worker.dispatcher", "run_dispatcher"),
    "web": ("worker.web.app", "serve"),
}


def _stop_with_parent() -> None:
    """End when the supervisor is gone, however it went: its end of our standard input closes."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _read_line() -> bytes:
    """Read the settings and not a byte more, unbuffered: `_stop_with_parent` reads on."""
    line = b""
    while not line.endswith(b"\n") and (chunk := os.read(0, 65536)):
        line += chunk
    return line


def main() -> int:
    """Run the process named on the command line; 2 means that only a person can mend it."""
    name = sys.argv[1]
    module, function = PROCESSES[name]
    # Before the settings are read: they come when the database is ready, and importing takes as long as that.
    run: Callable[[Settings], None] = getattr(importlib.import_module(module), function)
    line = _read_line()
    if not line:
        return 0  # the supervisor ended before the daemon began
    settings = Settings(**json.loads(line))
    configure_logging(settings.log, name)
    _stop_with_parent()
    try:
        run(settings)
    except (SettingsError, WeightsError, EngineError) as error:
        log.error(str(error), action="start")
        return WRONG_CONFIGURATION
    return 0


if __name__ == "__main__":
    sys.exit(main())
