"""Thin Celery tasks with id arguments: each calls one step, and rings for what that step committed.

A task whose row has moved on does nothing. Nothing in here is worth losing: the database knows what is left to do.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
from celery import Celery

from dicom_node.spool import Spool
from models.adapter import AdapterDefinition
from models.generation import Engine
from worker import assembly, delivery, pipeline, reporting
from worker.celery_app import ASSEMBLE, DELIVER, FINISH, INFER, Doorbell
from worker.db.sessions import Database
from worker.routing import enabled_adapters
from worker.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True)
class Workplace:
    """What the tasks of one process share; each part is made when it is first needed, in the process that needs it."""

    settings: Settings
    load_engine: Callable[[], Engine]

    @cached_property
    def db(self) -> Database:
        """The database."""
        return Database(self.settings.resolved_database_url)

    @cached_property
    def spool(self) -> Spool:
        """The object store."""
        return Spool(self.settings.data_dir / "spool")

    @cached_property
    def doorbell(self) -> Doorbell:
        """The bell to ring after a commit."""
        return Doorbell(self.settings)

    @cached_property
    def adapters(self) -> dict[str, AdapterDefinition]:
        """The adapters this site has enabled."""
        return enabled_adapters(self.settings.engine.enabled)

    @cached_property
    def engine(self) -> Engine:
        """The resident model."""
        return self.load_engine()

    @property
    def worker_name(self) -> str:
        """Who claims jobs: host and process."""
        return f"{socket.gethostname()}:{os.getpid()}"


def register(app: Celery, workplace: Workplace) -> None:
    """Give the tasks to a Celery application."""

    def assemble(series_id: int) -> None:
        for job_id in assembly.assemble(workplace.db, workplace.settings, workplace.adapters, series_id):
            workplace.doorbell.ring_infer(job_id)

    def infer(job_id: str) -> None:
        # The ring says that there is work; the most urgent job is taken, which is not always the one that rang (ADR 3).
        answered = pipeline.infer(
            workplace.db, workplace.settings, workplace.adapters, workplace.engine, workplace.worker_name
        )
        if answered is None:
            log.debug("nothing to infer", action="infer", job_id=job_id)
        else:
            workplace.doorbell.ring_finish(answered)

    def finish(job_id: str) -> None:
        pipeline.score(workplace.db, workplace.settings, workplace.adapters, job_id)
        for destination in reporting.write_results(workplace.db, workplace.spool, workplace.settings, job_id):
            workplace.doorbell.ring_deliver(destination)

    def deliver(destination: str) -> None:
        if delivery.deliver(workplace.db, workplace.settings, destination):
            workplace.doorbell.ring_deliver(destination)

    steps: dict[str, Callable[..., Any]] = {ASSEMBLE: assemble, INFER: infer, FINISH: finish, DELIVER: deliver}
    for name, step in steps.items():
        app.task(name=name)(step)
