"""The steps process: a Celery worker whose threads assemble, score, report and deliver. No model, no torch."""

from __future__ import annotations

from worker import assembly, delivery, pipeline, reporting
from worker.celery_app import ASSEMBLE, DELIVER, FINISH, STEPS_QUEUE, make_celery
from worker.settings import Settings
from worker.tasks.workplace import Workplace, work_on

#: Steps worked on at once.
THREADS = 4


class StepsWorkplace(Workplace):
    """A workplace with the steps that need no model."""

    def assemble(self, series_id: int) -> None:
        """Look whether a series is whole."""
        for job_id in assembly.assemble(self.db, self.settings, self.adapters, series_id):
            self.doorbell.ring_infer(job_id)

    def finish(self, job_id: str) -> None:
        """Score a saved answer, and write what was decided or signed."""
        pipeline.score(self.db, self.settings, self.adapters, job_id)
        for destination in reporting.write_results(self.db, self.spool, self.settings, job_id, adapters=self.adapters):
            self.doorbell.ring_deliver(destination)

    def deliver(self, destination: str) -> None:
        """Send one batch; ring again where more is due."""
        if delivery.deliver(self.db, self.settings, destination):
            self.doorbell.ring_deliver(destination)


def run_steps(settings: Settings) -> None:
    """Work on the steps queue until SIGTERM."""
    workplace = StepsWorkplace(settings)
    # Made before the threads start, so that no two of them make one each.
    _ = (workplace.db, workplace.spool, workplace.doorbell, workplace.adapters)
    app = make_celery(settings)
    for name, step in ((ASSEMBLE, workplace.assemble), (FINISH, workplace.finish), (DELIVER, workplace.deliver)):
        app.task(name=name, typing=False)(step)  # the bell sends by name; a bound method has no "self" to check
    work_on(app, STEPS_QUEUE, pool="threads", concurrency=THREADS)
