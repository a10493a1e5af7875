"""One XA run at a time through a whole daemon: what passes between its last byte and its report in the PACS.

The model's own time is taken off: it is the stand-in's here, and another one's in a hospital.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import select

from models.phantoms import draw_vessel_run
from tests.daemon import Daemon, destination, running, send_until_acknowledged
from worker.db.records import Event, Instance, Job
from worker.demo.phantom_studies import write_xa_run
from worker.demo.receiver import AE_TITLE, Receiver, receiving

FRAMES, SIZE = 12, 512
#: Runs sent before anything is measured; of one whose answer is released, copies are measured.
_WARM_UP = 5
_DAEMON = {"jobs": {"dispatch_every_s": 1, "ring_again_s": 10, "lease_s": 30}, "log": {"level": "warning"}}


@dataclass(frozen=True)
class Passage:
    """One run; all times in seconds."""

    #: From the last byte received to the SR in the receiver.
    total_s: float
    model_s: float
    #: Between two states, in the order of the way.
    stages_s: dict[str, float]

    @property
    def own_s(self) -> float:
        """What the software around the model took."""
        return self.total_s - self.model_s


def measure_runs(folder: Path, broker_url: str, database_url: str, count: int) -> list[Passage]:
    """Send so many runs one by one; return how each fared."""
    with _daemon(folder, broker_url, database_url) as (daemon, receiver):
        pixels = None
        for seed in range(_WARM_UP):
            drawn = draw_vessel_run(np.random.default_rng(seed), blocked=True, frames=FRAMES, size=SIZE, difficulty=0)
            path = write_xa_run(folder / "sent", drawn.pixels)
            job = _send(daemon, path)
            pixels = drawn.pixels if job.state == "released" else pixels
        if pixels is None:
            raise SystemExit("the stand-in released none of the warm-up's answers: there is no delivery to measure")
        passages = []
        for _ in range(count):
            path = write_xa_run(folder / "sent", pixels)
            job = _send(daemon, path)
            passages.append(_passage(daemon, receiver, path.stem, job.id))
        return passages


@contextmanager
def _daemon(folder: Path, broker_url: str, database_url: str) -> Iterator[tuple[Daemon, Receiver]]:
    with receiving(folder / "pacs") as receiver:
        daemon = Daemon(
            folder,
            broker_url=broker_url,
            database_url=database_url,
            destinations=[destination(AE_TITLE, receiver.port)],
            **_DAEMON,
        )
        with running(daemon):
            yield daemon, receiver
            if daemon.stop() != 0:
                raise SystemExit(f"the daemon did not end in order; see {daemon.log}")


def _send(daemon: Daemon, path: Path) -> Job:
    send_until_acknowledged([path], daemon.port)

    def finished() -> Job | None:
        with daemon.db.reading() as session:
            job = session.scalar(select(Job).where(Job.unit_uid == path.stem))
            if job is None or job.state not in ("released", "held"):
                return None
            deliveries = [delivery.state for result in job.results for delivery in result.deliveries]
            return job if all(state == "delivered" for state in deliveries) else None

    return daemon.wait_for(finished, 120, f"the result of {path.stem}")


def _passage(daemon: Daemon, receiver: Receiver, sop_instance_uid: str, job_id: str) -> Passage:
    with daemon.db.reading() as session:
        instance = session.scalars(select(Instance).where(Instance.sop_instance_uid == sop_instance_uid)).one()
        job = session.get_one(Job, job_id)
        (report,) = [result.sop_instance_uid for result in job.results if result.kind == "sr"]
        written_ns = (receiver.folder / f"{report}.dcm").stat().st_mtime_ns
        in_pacs = datetime.fromtimestamp(written_ns / 1e9, UTC)
        events = session.scalars(select(Event).where(Event.study_id == job.study_id).order_by(Event.id)).all()
        at = {event.to_state: event.at for event in reversed(events) if event.subject in ("series", "job")}
        model_s = float((job.generation or {})["elapsed_s"])
    moments = {
        "stored and assembled": at["stable"],
        "routed and claimed": at["running"],
        "rendered (and model)": at["generated"],
        "scored": at["decided"],
        "SR and SC written": at["released"],
        "delivered": in_pacs,
    }
    stages, before = {}, instance.received_at
    for name, moment in moments.items():
        stages[name], before = (moment - before).total_seconds(), moment
    stages["rendered (and model)"] -= model_s
    return Passage((in_pacs - instance.received_at).total_seconds(), model_s, stages)
