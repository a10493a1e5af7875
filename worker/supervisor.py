"""`dicom-worker run`: one child process per role (two for `worker`), restarted when they die, stopped in order.

A child that ends with exit code 2 found something that only a person can mend (a port that is taken, weights that are
missing): everything stops, with its message. SIGTERM and Ctrl-C stop the node first, let the others finish or hand back
what is running, and end with exit code 0 within `grace_s`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from worker.audit import events
from worker.audit.trail import AuditTrail
from worker.db.process_reports import Reporter
from worker.db.schema import upgrade
from worker.db.sessions import Database
from worker.engine_settings import CHILD_PROCESS
from worker.engine_setup import check_engine
from worker.log import configure_logging
from worker.people import accounts
from worker.settings import WRONG_CONFIGURATION, Settings, SettingsError
from worker.site import check_destinations, check_rules, enabled_adapters

if TYPE_CHECKING:
    from worker.audit.forwarding import Forwarder

log = structlog.get_logger()

#: Role on the command line -> the processes it stands for, in the order they are stopped.
PROCESSES_OF_ROLE = {
    "node": ("node",),
    "dispatcher": ("dispatcher",),
    "worker": ("inference", "steps"),
    "web": ("web",),
}
#: Seconds before a child that died is started again; doubles up to the second figure while it keeps dying.
RESTART_AFTER_S, RESTART_AT_MOST_S = 0.2, 30.0
#: A child that lived this long died of something new.
HEALTHY_AFTER_S = 60.0
_LOOK_EVERY_S = 0.1
#: Time in which the last audit messages may still get to the log server; what does not is sent at the next start.
_AUDIT_GRACE_S = 2.0
#: OpenMP's threads otherwise spin while they wait for one another, which on a busy machine takes the CPU from the one
#: they wait for: an answer of the stand-in then took 2.7 CPU seconds instead of 0.06 (two cores, measured).
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass
class _Child:
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
            env={**CHILD_ENVIRONMENT, **os.environ},
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which then stops them in order
        )
        self.started_at = time.monotonic()

    def begin(self, settings: Settings) -> None:
        """Hand the process its settings on standard input, whose end tells it later that we are gone."""
        assert self.process is not None and self.process.stdin is not None  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError):  # it died already: what it said stands in the log, and it is started again
            self.process.stdin.write(settings.model_dump_json(context={"to": CHILD_PROCESS}).encode() + b"\n")
            self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Signal the process and, for SIGKILL, everything it started."""
        if self.process is None or self.process.poll() is not None:
            return
        try:
            if number is signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        except ProcessLookupError:
            pass

    def died(self) -> int | None:
        """Return the exit code of a process that ended, None while it runs."""
        return None if self.process is None else self.process.poll()

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


class Supervisor:
    """Keeps the processes of some roles running until it is told to stop."""

    def __init__(
        self, settings: Settings, roles: Sequence[str], show_password: Callable[[str, str], None] | None = None
    ) -> None:
        """Prepare; nothing is started yet."""
        self._settings, self._show_password = settings, show_password
        chosen = roles or list(PROCESSES_OF_ROLE)
        if unknown := sorted(set(chosen) - set(PROCESSES_OF_ROLE)):
            raise SettingsError(f"no role {', '.join(unknown)}: roles are {', '.join(PROCESSES_OF_ROLE)}")
        self._children = [
            _Child(name) for role in PROCESSES_OF_ROLE if role in chosen for name in PROCESSES_OF_ROLE[role]
        ]
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask `run` to end; may be called from a signal handler or another thread."""
        self._stop.set()

    def run(self) -> int:
        """Start everything, keep it running, stop it; return the exit code."""
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        exit_code = 0
        reporter: Reporter | None = None
        audit = self._begin_audit()
        try:
            for child in self._children:
                child.start()
            # While they import; none of them touches the database before it has its settings.
            database = Database(self._settings.resolved_database_url)
            upgrade(database)
            self._have_an_administrator(database)
            for child in self._children:
                child.begin(self._settings)
            reporter = Reporter(database, "supervisor", self._facts)
            while not self._stop.is_set() and exit_code == 0:
                exit_code = self._look_after_children()
                self._stop.wait(_LOOK_EVERY_S)
        finally:
            self._stop_children()
            if reporter is not None:
                reporter.stop()
                database.close()
            trail, forwarder = audit
            trail.write(events.application(trail.system, starts=False))
            if forwarder is not None:
                forwarder.stop(_AUDIT_GRACE_S)
        return exit_code

    def _begin_audit(self) -> tuple[AuditTrail, Forwarder | None]:
        """Tell of the start, and send the audit files' lines on where a log server is named."""
        trail = AuditTrail(self._settings)
        trail.write(events.application(trail.system, starts=True))
        if self._settings.audit.syslog is None:
            return trail, None
        from worker.audit.forwarding import Forwarder  # only sites with a log server pay for it

        forwarder = Forwarder(trail.folder, self._settings.audit.syslog)
        forwarder.start()
        return trail, forwarder

    def _facts(self) -> dict[str, Any]:
        """Return what is reported of the processes."""
        return {"processes": [child.facts() for child in self._children]}

    def _have_an_administrator(self, database: Database) -> None:
        """Make the first user, where the pages ask for a log-in and there is none yet."""
        if self._settings.web.login == "off" or not any(child.name == "web" for child in self._children):
            return
        if self._show_password is None:
            if not accounts.has_users(database):
                log.warning(
                    "nobody can log in yet: add a user with `dicom-worker users add NAME --role administrator`",
                    action="start",
                )
            return
        if password := accounts.first_administrator(database):
            self._show_password(accounts.FIRST_LOGIN, password)

    def _look_after_children(self) -> int:
        for child in self._children:
            if child.process is None:
                if time.monotonic() >= child.start_at:
                    child.start()
                    child.begin(self._settings)
                continue
            code = child.died()
            if code is None:
                continue
            if code == WRONG_CONFIGURATION:
                log.error("a process cannot run with these settings: stopping", action="supervise", process=child.name)
                return WRONG_CONFIGURATION
            self._plan_restart(child, code)
        return 0

    def _plan_restart(self, child: _Child, code: int) -> None:
        lived_s = time.monotonic() - child.started_at
        child.deaths_in_a_row = 1 if lived_s > HEALTHY_AFTER_S else child.deaths_in_a_row + 1
        pause_s = min(RESTART_AFTER_S * 2 ** (child.deaths_in_a_row - 1), RESTART_AT_MOST_S)
        log.error("a process died and is started again", action="supervise", process=child.name, exit_code=code)
        # What it had started goes with it: an orphaned inference process would hold the GPU.
        if child.process is not None:
            _kill_group(child.process.pid)
        child.restarts, child.exit_code = child.restarts + 1, code
        child.process, child.start_at = None, time.monotonic() + pause_s

    def _stop_children(self) -> None:
        deadline = time.monotonic() + self._settings.grace_s
        for child in self._children:
            child.send(signal.SIGTERM)
        while any(child.process is not None and child.died() is None for child in self._children):
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S / 2)
        for child in self._children:
            if child.process is not None:
                if child.died() is None:
                    log.warning("process did not end in time", action="stop", process=child.name)
                _kill_group(child.process.pid)
                child.process.wait()


def _kill_group(process_group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process_group, signal.SIGKILL)


def run(
    settings: Settings,
    roles: Sequence[str],
    alongside: Callable[[Supervisor], Any] | None = None,
    show_password: Callable[[str, str], None] | None = None,
) -> int:
    """Run the daemon in this process until SIGTERM or SIGINT.

    Args:
        settings: effective settings.
        roles: roles to run; empty means all.
        alongside: called in a thread of its own once the children are being started (the demo).
        show_password: shows the login and the one-time password of the first user to whoever sits at the terminal;
            without it none is made.

    Returns:
        0 after a stop, 2 when a process found that the settings cannot work.

    Raises:
        SettingsError: the settings do not fit together.
        WeightsError: the model's weights are missing.
    """
    configure_logging(settings.log, "supervisor")
    supervisor = Supervisor(settings, roles, show_password)
    check_rules(settings.routes, enabled_adapters(settings))
    check_destinations(settings.destinations)
    if not roles or "worker" in roles:
        check_engine(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    if alongside is not None:
        threading.Thread(target=alongside, args=(supervisor,), name="alongside", daemon=True).start()
    return supervisor.run()
