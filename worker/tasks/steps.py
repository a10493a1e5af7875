"""The steps process: a Celery worker whose threads assemble, score, report and deliver. No model, no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from worker import announcing, assembly, confirmation, delivery, pipeline, reporting, retraction
from worker.celery_app import ASSEMBLE, CONFIRM, DELIVER, FINISH, REPORT_COMMITMENT, STEPS_QUEUE, make_celery
from worker.missing_images import fetch_missing
from worker.reception import reception
from worker.settings import Settings
from worker.source_counts import count_at_source
from worker.tasks.workplace import Workplace, work_on

#: Steps worked on at once.
THREADS = 4


class Underway:
    """What this process is working on: a second ring for the same thing finds that out at once."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    @contextmanager
    def alone_with(self, key: str) -> Iterator[bool]:
        """Yield whether nobody else in this process is at it."""
        with self._lock:
            alone = key not in self._keys
            self._keys.add(key)
        try:
            yield alone
        finally:
            if alone:
                with self._lock:
                    self._keys.discard(key)


class StepsWorkplace(Workplace):
    """A workplace with the steps that need no model."""

    @cached_property
    def finishing(self) -> Underway:
        """Jobs whose results are being written."""
        return Underway()

    def assemble(self, series_id: int) -> None:
        """Look whether a series is whole, asking its source first where that is wanted."""
        if count_at_source(self.db, self.settings, series_id) is not None:
            fetch_missing(self.db, self.settings, series_id, lambda: reception(self.db, self.settings))
        for job_id in assembly.assemble(self.db, self.settings, self.adapters, series_id):
            self.doorbell.ring_infer(job_id)

    def finish(self, job_id: str) -> None:
        """Score a saved answer, write what was decided or signed, take back what was rejected, tell of it."""
        with self.finishing.alone_with(job_id) as alone:
            if not alone:
                return  # rung for twice: the results would be built twice, and dropped once
            pipeline.score(self.db, self.settings, self.adapters, job_id)
            names = reporting.write_results(self.db, self.spool, self.settings, job_id, adapters=self.adapters)
            names = names or retraction.write_rejection_notes(self.db, self.spool, self.settings, job_id)
            for destination in {*names, *announcing.announce(self.db, self.spool, self.settings, job_id)}:
                self.doorbell.ring_deliver(destination)

    def deliver(self, destination: str) -> None:
        """Send one batch; ring again where more is due, and for the question whether it is kept."""
        if delivery.deliver(self.db, self.settings, destination):
            self.doorbell.ring_deliver(destination)
        elif any(known.is_asked for known in self.settings.destinations if known.name == destination):
            self.doorbell.ring_confirm(destination)

    def confirm(self, destination: str) -> None:
        """Ask about one batch of what was delivered; ring again where more is to be asked."""
        if confirmation.confirm(self.db, self.settings, destination):
            self.doorbell.ring_confirm(destination)

    def report_commitment(self, request_id: int) -> None:
        """Tell a sender what this node vouches for."""
        confirmation.report_to_sender(self.db, self.settings, request_id)


def run_steps(settings: Settings) -> None:
    """Work on the steps queue until SIGTERM."""
    workplace = StepsWorkplace(settings)
    # Made before the threads start, so that no two of them make one each.
    _ = (workplace.db, workplace.spool, workplace.doorbell, workplace.adapters, workplace.finishing)
    app = make_celery(settings)
    steps: dict[str, Callable[..., None]] = {
        ASSEMBLE: workplace.assemble,
        FINISH: workplace.finish,
        DELIVER: workplace.deliver,
        CONFIRM: workplace.confirm,
        REPORT_COMMITMENT: workplace.report_commitment,
    }
    for name, step in steps.items():
        app.task(name=name, typing=False)(step)  # the bell sends by name; a bound method has no "self" to check
    work_on(app, STEPS_QUEUE, pool="threads", concurrency=THREADS)
