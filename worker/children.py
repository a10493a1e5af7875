"""The child processes of the daemon: started before anything else, so that all of them import at the same time.

Input: roles. Output: processes that import what they run, then wait for their settings on standard input. On failure:
the supervisor notices a process that ends before it has them; all end when whoever started them is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from worker.engine_settings import CHILD_PROCESS
from worker.settings import ENV_PREFIX, Settings, SettingsError

#: Role on the command line -> the processes it stands for, in the order they are stopped.
PROCESSES_OF_ROLE = {
    "node": ("node",),
    "dispatcher": ("dispatcher",),
    "worker": ("inference", "steps"),
    "web": ("web",),
}
#: OpenMP's threads otherwise spin while they wait for one another, which on a busy machine takes the CPU from the one
#: they wait for: an answer of the stand-in then took 2.7 CPU seconds instead of 0.06 (two cores, measured).
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass
class Child:
    """One process of the daemon."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0
    deaths_in_a_row: int = 0
    #: Times it was started again, and how it ended last.
    restarts: int = 0
    exit_code: int | None = None
    start_at: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Start the process; it imports what it runs and waits for its settings."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker.processes", self.name],
            stdin=subprocess.PIPE,
            env={**CHILD_ENVIRONMENT, **_without_settings()},
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which then stops them in order
        )
        self.started_at = time.monotonic()

    def begin(self, settings: Settings) -> None:
        """Hand the process its settings on standard input, whose end tells it later that we are gone."""
        assert self.process is not None and self.process.stdin is not None  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError):  # it died already: what it said stands in the log, and it is started again
            self.process.stdin.write(settings.model_dump_json(context={"to": CHILD_PROCESS}).encode() + b"\n")
            self.process.stdin.flush()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if it still runs."""
        if self.process is not None and self.died() is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def died(self) -> int | None:
        """Return the exit code of a process that ended, None while it runs."""
        return None if self.process is None else self.process.poll()

    def clear_away(self) -> None:
        """Kill what is left of the process and of everything it started: an orphaned child would hold the GPU."""
        if self.process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        self.process = None

    def facts(self) -> dict[str, Any]:
        """Return what is reported of it."""
        process = self.process
        return {
            "name": self.name,
            "pid": None if process is None else process.pid,
            "alive": process is not None and process.returncode is None,
            "up_s": round(time.monotonic() - self.started_at) if process is not None else 0,
            "restarts": self.restarts,
            "exit_code": self.exit_code,
        }


def _without_settings() -> dict[str, str]:
    """Return our environment without what stands for settings: it would override those that a child is handed."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(ENV_PREFIX)}


@contextmanager
def children_of(roles: Sequence[str]) -> Iterator[list[Child]]:
    """Start the processes of some roles, all of them if none is named; leaving the block ends what is left of them.

    Raises:
        SettingsError: there is no such role.
    """
    chosen = roles or list(PROCESSES_OF_ROLE)
    if unknown := sorted(set(chosen) - set(PROCESSES_OF_ROLE)):
        raise SettingsError(f"no role {', '.join(unknown)}: roles are {', '.join(PROCESSES_OF_ROLE)}")
    children = [Child(name) for role in PROCESSES_OF_ROLE if role in chosen for name in PROCESSES_OF_ROLE[role]]
    try:
        # The one that takes longest to import first.
        for child in sorted(children, key=lambda child: child.name != "inference"):
            child.start()
        yield children
    finally:
        for child in children:
            child.clear_away()
