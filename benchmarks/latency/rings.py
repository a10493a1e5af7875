"""One ring of the doorbell: from the call to the task that hears it, in milliseconds, over one broker.

`python -m benchmarks.latency.rings` is the worker's side: settings as JSON on standard input, one figure a line on
standard output.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

from worker.celery_app import FINISH, STEPS_QUEUE, Doorbell, make_celery
from worker.settings import Settings
from worker.tasks.workplace import work_on

_WARM_UP = 20


def measure_rings(settings: Settings, count: int) -> list[float]:
    """Ring so many times, at random moments; return the milliseconds that each took."""
    listener = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert listener.stdin is not None
    assert listener.stdout is not None
    bell = Doorbell(settings)
    try:
        listener.stdin.write(settings.model_dump_json() + "\n")
        listener.stdin.flush()
        took_ms = []
        for _ in range(_WARM_UP + count):
            time.sleep(random.uniform(0.01, 0.06))  # at any moment between two looks of a consumer that polls
            bell.ring_finish(str(time.monotonic_ns()))
            took_ms.append(float(listener.stdout.readline()))
        return took_ms[_WARM_UP:]
    finally:
        bell.close()
        listener.terminate()
        listener.communicate()


def main() -> None:
    """Hear rings until SIGTERM, and write down how old each is."""
    app = make_celery(Settings.model_validate_json(sys.stdin.readline()))

    def hear(rung_at_ns: str) -> None:
        # CLOCK_MONOTONIC is one clock for all processes of a machine.
        os.write(1, f"{(time.monotonic_ns() - int(rung_at_ns)) / 1e6}\n".encode())

    app.task(name=FINISH, shared=False)(hear)
    work_on(app, STEPS_QUEUE, pool="threads", concurrency=4)


if __name__ == "__main__":
    main()
