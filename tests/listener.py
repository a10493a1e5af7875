"""A Celery worker that writes down what it hears: `python -m tests.listener QUEUE`, settings as JSON on standard input.

Each ring is one line on standard output: task name, space, argument. It runs as the steps process does, with threads.
"""

from __future__ import annotations

import os
import sys

from worker.celery_app import ASSEMBLE, DELIVER, FINISH, INFER, make_celery
from worker.settings import Settings
from worker.tasks.workplace import work_on


def main() -> None:
    """Listen until SIGTERM."""
    app = make_celery(Settings.model_validate_json(sys.stdin.readline()))

    def listen(name: str) -> None:
        def hear(argument: object) -> None:
            os.write(1, f"{name} {argument}\n".encode())  # in one piece, from whichever thread

        app.task(name=name, shared=False)(hear)

    for name in (ASSEMBLE, INFER, FINISH, DELIVER):
        listen(name)
    work_on(app, sys.argv[1], pool="threads", concurrency=2)


if __name__ == "__main__":
    main()
