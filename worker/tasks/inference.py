"""The inference process: a Celery worker whose one child keeps the model resident and is killed at the time limit."""

from __future__ import annotations

import multiprocessing
from functools import cached_property
from typing import Any

import structlog
from celery.signals import worker_process_init, worker_shutting_down
from celery.worker import state

from models.engines import load_engine
from models.generation import Engine
from worker import pipeline
from worker.celery_app import INFER, INFERENCE_QUEUE, make_celery
from worker.engine_setup import check_engine, engine_config
from worker.log import configure_logging
from worker.settings import Settings
from worker.tasks.workplace import Workplace, work_on

log = structlog.get_logger()


class InferenceWorkplace(Workplace):
    """A workplace with a model."""

    @cached_property
    def engine(self) -> Engine:
        """The resident model."""
        log.info("loading the model", action="load")
        engine = load_engine(engine_config(self.settings))
        log.info("the model is resident", action="load")
        return engine

    def infer(self, job_id: str) -> None:
        """Answer the most urgent queued job, which is not always the one that rang (decision 2)."""
        answered = pipeline.infer(self.db, self.settings, self.adapters, self.engine, self.worker_name)
        if answered is None:
            log.debug("nothing to infer", action="infer", job_id=job_id)
        else:
            self.doorbell.ring_finish(answered)


def run_inference(settings: Settings) -> None:
    """Work on the inference queue until SIGTERM.

    Raises:
        SettingsError, WeightsError: the engine could not be loaded with these settings.
    """
    check_engine(settings)
    workplace = InferenceWorkplace(settings)
    app = make_celery(settings)
    app.task(name=INFER, typing=False)(workplace.infer)

    resident = multiprocessing.Event()

    @worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def load(**_: Any) -> None:
        resident.clear()
        configure_logging(settings.log, "inference")
        workplace.engine  # noqa: B018 - loads it before the first job comes
        resident.set()

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def do_not_wait_for_the_model(**_: Any) -> None:
        if not resident.is_set():
            # Celery would wait for its child to be up before it ends it; no job can be in it yet.
            state.should_terminate = 0

    work_on(app, INFERENCE_QUEUE, pool="prefork", concurrency=1)
