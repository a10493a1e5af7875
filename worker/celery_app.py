"""Celery as the doorbell: tasks carry an id, the database knows the work. Losing every message loses no work.

`broker_url: embedded` uses files in data_dir (`worker.embedded_broker`), which needs no server.
"""

from __future__ import annotations

import threading
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import ChannelError

from worker import embedded_broker
from worker.settings import Settings, SettingsError

log = structlog.get_logger()

#: Seconds between two looks of the filesystem transport; measured median 12 ms per message.
EMBEDDED_POLLING_S = 0.02
#: Rings waiting to be sent; more are dropped, since the dispatcher rings again.
RINGS_WAITING_AT_MOST = 10_000

INFERENCE_QUEUE = "inference"
STEPS_QUEUE = "steps"

ASSEMBLE, INFER, FINISH, DELIVER = "assemble", "infer", "finish", "deliver"
CONFIRM, REPORT_COMMITMENT = "confirm", "report_commitment"
QUEUE_OF_TASK = {
    INFER: INFERENCE_QUEUE,
    **dict.fromkeys((ASSEMBLE, FINISH, DELIVER, CONFIRM, REPORT_COMMITMENT), STEPS_QUEUE),
}


def make_celery(settings: Settings) -> Celery:
    """Return a Celery application for these settings.

    Raises:
        SettingsError: `broker_url` is neither `embedded` nor a Redis URL.
    """
    app = Celery("dicom-worker", set_as_current=False)
    if settings.broker_url == "embedded":
        broker_url = f"{embedded_broker.SCHEME}://localhost//"
        transport = _embedded_transport(settings.data_dir / "broker")
    elif settings.broker_url.startswith(("redis://", "rediss://", "unix://")):
        # A message handed out twice is harmless (the row guard), so the time-out only has to exceed the longest job.
        broker_url = settings.broker_url
        transport = {"visibility_timeout": int(settings.jobs.time_limit_s * 2) + 60, "socket_connect_timeout": 5}
    else:
        raise SettingsError(f"broker_url {settings.broker_url!r}: it must be `embedded` or redis://host:port/db")
    app.conf.update(
        broker_url=broker_url,
        broker_transport_options=transport,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_ignore_result=True,
        task_default_queue=STEPS_QUEUE,
        task_routes={name: {"queue": queue} for name, queue in QUEUE_OF_TASK.items()},
        task_time_limit=settings.jobs.time_limit_s,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=600,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


def _embedded_transport(folder: Path) -> dict[str, Any]:
    folders = {name: folder / name for name in ("messages", "taken", "control")}
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "processed_folder": str(folders["taken"]),
        "control_folder": str(folders["control"]),
        "polling_interval": EMBEDDED_POLLING_S,
    }


class Doorbell:
    """Rings after a commit, from a thread of its own: a broker that is down delays nobody and fails nothing."""

    def __init__(self, settings: Settings) -> None:
        """Start the ringing thread."""
        self._app = make_celery(settings)
        self._rings: Queue[tuple[str, object] | None] = Queue(RINGS_WAITING_AT_MOST)
        self._thread = threading.Thread(target=self._ring_all, name="doorbell", daemon=True)
        self._thread.start()

    def ring_assemble(self, series_id: int) -> None:
        """Say that a series has something new."""
        self._ring(ASSEMBLE, series_id)

    def ring_infer(self, job_id: str) -> None:
        """Say that a job is queued."""
        self._ring(INFER, job_id)

    def ring_finish(self, job_id: str) -> None:
        """Say that a job's answer waits to be scored or written."""
        self._ring(FINISH, job_id)

    def ring_deliver(self, destination: str) -> None:
        """Say that a destination has something to be sent."""
        self._ring(DELIVER, destination)

    def ring_confirm(self, destination: str) -> None:
        """Say that a destination is to be asked whether it keeps what it was sent."""
        self._ring(CONFIRM, destination)

    def ring_report_commitment(self, request_id: int) -> None:
        """Say that a sender waits to be told what this node vouches for."""
        self._ring(REPORT_COMMITMENT, request_id)

    def rings_waiting(self, queue: str) -> int | None:
        """Return how many rings for a queue nobody has taken yet; None where the broker cannot be reached."""
        try:
            with self._app.connection_for_write() as connection:
                return int(connection.channel().queue_declare(queue, passive=True).message_count)
        except ChannelError:
            return 0  # Redis keeps no empty queues
        except Exception as error:  # noqa: BLE001 - a broker's failure, whatever its kind, must not stop the dispatcher
            log.warning("broker cannot be reached", action="ring", queue=queue, error=str(error))
            return None

    def close(self, timeout_s: float = 5) -> None:
        """Send what still waits, and stop."""
        try:
            self._rings.put(None, timeout=timeout_s)
        except Full:
            return
        self._thread.join(timeout_s)

    def _ring(self, task: str, argument: object) -> None:
        try:
            self._rings.put_nowait((task, argument))
        except Full:
            log.warning("doorbell is full, the dispatcher will ring again", action="ring", task=task)

    def _ring_all(self) -> None:
        while (ring := self._rings.get()) is not None:
            task, argument = ring
            try:
                self._app.send_task(task, (argument,), retry=False)
            except Exception as error:  # noqa: BLE001 - a broker's failure, whatever its kind, must not stop the bell
                log.warning("broker cannot be reached", action="ring", task=task, error=str(error))
                self._drop_waiting()

    def _drop_waiting(self) -> None:
        """Forget what waits while the broker is down: the dispatcher rings again when it is back."""
        kept_stop = False
        try:
            while True:
                kept_stop = self._rings.get_nowait() is None or kept_stop
        except Empty:
            if kept_stop:
                self._rings.put(None)
