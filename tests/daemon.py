"""A real daemon for tests: `python -m worker run ...` on free ports, with settings and data in a folder of its own.

It is stopped for certain, with everything it started; its log lies beside its settings.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml
from sqlalchemy.exc import SQLAlchemyError

from tests import services
from worker.db import queries
from worker.db.schema import is_current
from worker.db.sessions import Database
from worker.schemas import StudyView

T = TypeVar("T")
AE_TITLE = "DICOMWORKER"
#: Faults are found out and made good within seconds, not minutes; nothing is held that the model is sure of.
QUICK: Mapping[str, Any] = {
    "jobs": {
        "lease_s": 3,
        "dispatch_every_s": 0.25,
        "ring_again_s": 2,
        "retry_after_s": 0.2,
        "max_attempts": 50,
        "time_limit_s": 120,
    },
    "delivery": {"timeout_s": 2, "retry_after_s": 0.3, "retry_at_most_s": 1},
    "review": {"audit_fraction": 0},
    "log": {"format": "json"},
}
#: Everything the daemon does in the end: nothing of this is waiting or being worked on.
AT_AN_END = frozenset({"held", "done", "unconfirmed", "unrouted", "delivery_failed"})


class Daemon:
    """One daemon, which can be started again on the same data."""

    def __init__(self, folder: Path, *, roles: Sequence[str] = (), pacs: services.StoreScp | None = None, **own: Any):
        """Write the settings: `own` stands over `QUICK`, section by section."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = services.free_port()
        destinations = [] if pacs is None else [destination(pacs.ae_title, pacs.port)]
        values: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "engine": {"kind": "standin"},
            "destinations": destinations,
            **{section: dict(content) for section, content in QUICK.items()},
        }
        for section, content in own.items():
            values[section] = {**values.get(section, {}), **content} if isinstance(content, dict) else content
        values["dicom"] = {"ae_title": AE_TITLE, "port": self.port, "stable_after_s": 2, **values.get("dicom", {})}
        values["web"] = {"login": "off", "port": services.free_port()}
        self.values, self.roles = values, tuple(roles)
        self.settings_file = folder / "dicom-worker.yaml"
        self.settings_file.write_text(yaml.safe_dump(values), encoding="utf-8")
        self.data_dir = folder / "data"
        self.log = folder / f"daemon-{'-'.join(roles) or 'all'}.log"
        self._process: subprocess.Popen[bytes] | None = None
        url = values.get("database_url") or f"sqlite:///{self.data_dir / 'dicom-worker.db'}"
        self.db = Database(url)

    def with_roles(self, *roles: str) -> Daemon:
        """Return another daemon with the same settings and data that runs other roles."""
        other = copy.copy(self)
        other.roles, other._process = roles, None
        other.log = self.log.with_name(f"daemon-{'-'.join(roles)}.log")
        other.db = Database(self.db.url)
        return other

    def start(self, *, wait: bool = True) -> None:
        """Start it; unless told otherwise, wait until the node listens and every process is there."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run", *self.roles, "--config", str(self.settings_file)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            services.wait_until(self._up_or_dead, 90, "the daemon is up")

    def _up_or_dead(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise services.ServiceError(f"the daemon ended with {self._process.returncode}:\n{self.log_tail()}")
        if self.roles and "node" not in self.roles:
            return bool(self.pids())
        return "node" in self.pids() and services.answers_on(self.port)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """Return the processes that run now, by name; `inference child` is the one with the model."""
        found: dict[str, int] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    command = child.cmdline()
                    if "worker.processes" in command and child.status() != psutil.STATUS_ZOMBIE:
                        name = command[command.index("worker.processes") + 1]
                        found[name] = child.pid
                        if name == "inference":
                            for grandchild in child.children():
                                found["inference child"] = grandchild.pid
        return found

    def kill(self, name: str) -> bool:
        """Kill one process at once (SIGKILL); return whether it was there."""
        pid = self.pids().get(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def kill_everything(self) -> None:
        """Kill the supervisor and everything it started, as a power failure does."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert self._process is not None
        self._process.wait()
        psutil.wait_procs(family, timeout=10)  # until then their ports answer

    def kill_supervisor(self) -> None:
        """Kill the supervisor alone; what it started has to notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 30) -> int:
        """Ask it to end; return its exit code."""
        assert self._process is not None
        family = self._family()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout_s)
        left = [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert left == [], f"still running after the daemon ended: {left}"
        return code

    def exit_code(self, timeout_s: float) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def end(self) -> None:
        """Make sure that nothing of it runs any more, and close the database."""
        if self._process is not None and self._process.poll() is None:
            self.kill_everything()
        self.db.close()

    def _family(self) -> list[psutil.Process]:
        try:
            supervisor = psutil.Process(self.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def ledger(self) -> list[StudyView]:
        """Return the studies, oldest first; none while there is no database yet."""
        try:
            if self.db.is_sqlite and not Path(self.db.engine.url.database or "").exists():
                return []
            if not is_current(self.db):
                return []
            with self.db.reading() as session:
                return queries.studies(session)[::-1]
        except SQLAlchemyError:
            return []

    def wait_settled(self, studies: int, timeout_s: float = 60) -> list[StudyView]:
        """Wait until so many studies are there and nothing is left to do; return them."""

        def settled() -> list[StudyView] | None:
            ledger = self.ledger()
            return ledger if len(ledger) >= studies and all(is_settled(study) for study in ledger) else None

        try:
            return self.wait_for(settled, timeout_s, f"{studies} studies at their end")
        except services.ServiceError as error:
            raise services.ServiceError(f"{error}\n{self.describe()}") from None

    def wait_for(self, condition: Callable[[], T | None], timeout_s: float, what: str) -> T:
        """Wait for something, while the daemon runs."""
        deadline = time.monotonic() + timeout_s
        while not (outcome := condition()):
            assert self._process is not None
            if self._process.poll() is not None:
                raise services.ServiceError(f"the daemon ended with {self._process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise services.ServiceError(f"not within {timeout_s:g} s: {what}\n{self.log_tail()}")
            time.sleep(0.1)
        return outcome

    def describe(self) -> str:
        """Say where each study stands, for a failed test."""
        lines = []
        for study in self.ledger():
            jobs = [
                f"{job.state} x{job.attempts} {[d.state for r in job.results for d in r.deliveries]}"
                for job in study.jobs
            ]
            lines.append(f"{study.accession_number}: {study.state}, {[s.state for s in study.series]}, {jobs}")
        return "\n".join(lines)

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def destination(ae_title: str, port: int, name: str = "pacs") -> dict[str, Any]:
    """Return the settings of a destination on this machine."""
    return {"name": name, "ae_title": ae_title, "host": services.LOCALHOST, "port": port}


def is_settled(study: StudyView) -> bool:
    """Whether nothing is left to do for a study, except for a person."""
    underway = {delivery.state for job in study.jobs for result in job.results for delivery in result.deliveries} & {
        "pending",
        "sending",
    }
    return study.state in AT_AN_END and not underway


@contextlib.contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Start a daemon and end it whatever happens."""
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.end()


def send_once(files: Iterable[Path], port: int, timeout_s: float = 20) -> list[Path]:
    """Send files with dcmtk's storescu over one association; return those that were acknowledged."""
    argv = [services.dcmtk("storescu"), "-v", "--timeout", "3", "-ta", "5", "-td", str(int(timeout_s))]
    sent = subprocess.run(
        [*argv, "-aet", "MODALITY", "-aec", AE_TITLE, services.LOCALHOST, str(port), *map(str, files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    acknowledged: list[Path] = []
    under_way: Path | None = None
    for line in sent.stdout.splitlines():
        if line.startswith("I: Sending file: "):
            under_way = Path(line.removeprefix("I: Sending file: "))
        elif line.startswith("I: Received Store Response (Success)") and under_way is not None:
            acknowledged.append(under_way)
            under_way = None
    return acknowledged


def send_until_acknowledged(files: Sequence[Path], port: int, timeout_s: float = 60) -> None:
    """Send files, and again what was not acknowledged, as a modality does."""
    left, deadline = list(files), time.monotonic() + timeout_s
    while left:
        acknowledged = set(send_once(left, port))
        left = [path for path in left if path not in acknowledged]
        if left:
            if time.monotonic() > deadline:
                raise services.ServiceError(f"{len(left)} of {len(files)} files were not acknowledged in {timeout_s} s")
            time.sleep(0.2)
