"""The inference process: a Celery worker whose one child keeps the model resident and is killed at the time limit.

Input: rings. Output: answers, and rings for their next step. On failure: where the model cannot be loaded, the whole
process ends, with exit code 2 if only a person can mend it (weights, settings), else 1, upon which the supervisor
starts it again after a while. A child whose device is lost ends itself; the next one loads the model anew.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from functools import cached_property
from typing import Any

import structlog
from celery.signals import worker_process_init, worker_shutting_down
from celery.worker import state

from models.engines import EngineDeviceError, load_engine
from models.generation import Engine
from models.weights import WeightsError
from worker import pipeline
from worker.celery_app import INFER, INFERENCE_QUEUE, make_celery
from worker.db.process_reports import Reporter
from worker.engine_setup import check_engine, engine_config
from worker.log import configure_logging
from worker.rendering import renderer
from worker.settings import WRONG_CONFIGURATION, Settings, SettingsError
from worker.tasks.workplace import Workplace, work_on

log = structlog.get_logger()

#: Exit codes of the child that lost its device, and of the process that could not load the model.
DEVICE_LOST, NOT_LOADED = 70, 1


class InferenceWorkplace(Workplace):
    """A workplace with a model."""

    @cached_property
    def engine(self) -> Engine:
        """The resident model."""
        log.info("loading the model", action="load")
        # What is imported and loaded here stays: looking through it for garbage took a seventh of the time.
        gc.disable()
        try:
            engine = load_engine(engine_config(self.settings))
        finally:
            gc.freeze()
            gc.enable()
        log.info("the model is resident", action="load")
        return engine

    def infer(self, job_id: str) -> None:
        """Answer the most urgent queued jobs, the one that rang not always among them (decision 2)."""
        try:
            answered = pipeline.infer(self.db, self.settings, self.adapters, self.engine, self.worker_name)
        except EngineDeviceError as error:
            log.error("this process ends, another takes its place", action="infer", error=str(error))
            os._exit(DEVICE_LOST)
        for ready in answered:
            self.doorbell.ring_finish(ready)
        if not answered:
            log.debug("nothing to infer", action="infer", job_id=job_id)


def run_inference(settings: Settings) -> None:
    """Work on the inference queue until SIGTERM.

    Raises:
        SettingsError, WeightsError: the engine could not be loaded with these settings.
    """
    check_engine(settings)
    if settings.engine.quantization == "none":
        # PEFT imports it wherever it is installed, a fifth of the time this process takes to start. None is Python's
        # own word for "not to be had" (import system, sys.modules); nothing in this process will ever ask for it.
        sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]
    workplace = InferenceWorkplace(settings)
    app = make_celery(settings)
    app.task(name=INFER, typing=False)(workplace.infer)

    resident = multiprocessing.Event()
    exit_code = multiprocessing.Value("i", 0)

    @worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def load(**_: Any) -> None:
        resident.clear()
        configure_logging(settings.log, "inference")
        # The process that draws needs a second to start: it does so while the model is loaded.
        renderer(settings.rendering).prepare(workplace.adapters.values())
        try:
            workplace.engine  # noqa: B018 - loads it before the first job comes
        except Exception as error:  # noqa: BLE001 - Celery would log it and go on without a model
            log.error("the model cannot be loaded: this process ends", action="load", error=str(error))
            exit_code.value = WRONG_CONFIGURATION if isinstance(error, WeightsError | SettingsError) else NOT_LOADED
            os.kill(os.getppid(), signal.SIGTERM)
            return
        resident.set()
        Reporter(workplace.db, "engine", lambda: workplace.engine.status().to_json())

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def do_not_wait_for_the_model(**_: Any) -> None:
        if not resident.is_set():
            # Celery would wait for its child to be up before it ends it; no job can be in it yet.
            state.should_terminate = exit_code.value

    try:
        work_on(app, INFERENCE_QUEUE, pool="prefork", concurrency=1)
    except SystemExit as ended:
        raise SystemExit(exit_code.value or ended.code) from None
