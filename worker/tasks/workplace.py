"""What the tasks of one process share."""

from __future__ import annotations

import os
import socket
import sys
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from celery import Celery
from celery.signals import setup_logging

from dicom_node.spool import Spool
from models.adapter import AdapterDefinition
from worker.celery_app import Doorbell
from worker.db.sessions import Database
from worker.settings import Settings
from worker.site import enabled_adapters


@dataclass(frozen=True)
class Workplace:
    """Each part is made when it is first needed, in the process that needs it: none of them survives a fork."""

    settings: Settings

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
        return enabled_adapters(self.settings)

    @property
    def worker_name(self) -> str:
        """Who claims jobs: host and process."""
        return f"{socket.gethostname()}:{os.getpid()}"


def work_on(app: Celery, queue: str, pool: str, concurrency: int) -> None:
    """Run a Celery worker on one queue in this process until SIGTERM; ends the process."""
    setup_logging.connect(_keep_our_logging, weak=False)
    # Celery's warning is about pickled messages; ours are JSON, and containers and laptops are told nothing by it.
    warnings.filterwarnings("ignore", module="celery.platforms")
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


def _keep_our_logging(**_: Any) -> None:
    """Celery leaves logging alone where this signal has a receiver."""
