"""`dicom-worker run`: the child processes of its roles begin, are started again when they die, and stop in order.

A child that ends with exit code 2 found something that only a person can mend (a port that is taken, weights that are
missing): everything stops, with its message. SIGTERM and Ctrl-C stop the node first, let the others finish or hand back
what is running, and end with exit code 0 within `grace_s`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from worker.audit import events
from worker.audit.owed import LateWriter
from worker.audit.trail import AuditTrail
from worker.children import Child
from worker.db.process_reports import Reporter
from worker.db.schema import upgrade
from worker.db.sessions import Database
from worker.engine_setup import check_engine
from worker.log import configure_logging
from worker.people import accounts
from worker.settings import WRONG_CONFIGURATION, Settings
from worker.site import check_destinations, check_rules, enabled_adapters

if TYPE_CHECKING:
    from worker.audit.forwarding import Forwarder

log = structlog.get_logger()

#: Seconds before a child that died is started again; doubles up to the second figure while it keeps dying.
RESTART_AFTER_S, RESTART_AT_MOST_S = 0.2, 30.0
#: A child that lived this long died of something new.
HEALTHY_AFTER_S = 60.0
_LOOK_EVERY_S = 0.1
#: Time in which the last audit messages may still get to the log server; what does not is sent at the next start.
_AUDIT_GRACE_S = 2.0


class Supervisor:
    """Keeps the processes of some roles running until it is told to stop."""

    def __init__(
        self, settings: Settings, children: Sequence[Child], show_password: Callable[[str, str], None] | None = None
    ) -> None:
        """Prepare; the children have been started and wait for their settings."""
        self._settings, self._children, self._show_password = settings, children, show_password
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask `run` to end; may be called from a signal handler or another thread."""
        self._stop.set()

    def run(self) -> int:
        """Let everything begin, keep it running, stop it; return the exit code."""
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        exit_code = 0
        alongside: list[Reporter | LateWriter] = []
        audit = self._begin_audit()
        try:
            # While they import; none of them touches the database before it has its settings.
            database = Database(self._settings.resolved_database_url)
            upgrade(database)
            self._have_an_administrator(database)
            for child in self._children:
                child.begin(self._settings)
            alongside += [Reporter(database, "supervisor", self._facts), LateWriter(database, audit[0])]
            while not self._stop.is_set() and exit_code == 0:
                exit_code = self._look_after_children()
                self._stop.wait(_LOOK_EVERY_S)
        finally:
            self._stop_children()
            for one in alongside:
                one.stop()
            if alongside:
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

    def _plan_restart(self, child: Child, code: int) -> None:
        lived_s = time.monotonic() - child.started_at
        child.deaths_in_a_row = 1 if lived_s > HEALTHY_AFTER_S else child.deaths_in_a_row + 1
        pause_s = min(RESTART_AFTER_S * 2 ** (child.deaths_in_a_row - 1), RESTART_AT_MOST_S)
        log.error("a process died and is started again", action="supervise", process=child.name, exit_code=code)
        child.clear_away()
        child.restarts, child.exit_code = child.restarts + 1, code
        child.start_at = time.monotonic() + pause_s

    def _stop_children(self) -> None:
        deadline = time.monotonic() + self._settings.grace_s
        for child in self._children:
            child.ask_to_stop()
        while any(child.process is not None and child.died() is None for child in self._children):
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S / 2)
        for child in self._children:
            if child.process is not None and child.died() is None:
                log.warning("process did not end in time", action="stop", process=child.name)
            child.clear_away()


def run(
    settings: Settings,
    children: Sequence[Child],
    alongside: Callable[[Supervisor], Any] | None = None,
    show_password: Callable[[str, str], None] | None = None,
) -> int:
    """Run the daemon in this process until SIGTERM or SIGINT.

    Args:
        settings: effective settings.
        children: the processes to look after, which wait for their settings.
        alongside: called in a thread of its own while the children begin (the demo).
        show_password: shows the login and the one-time password of the first user to whoever sits at the terminal;
            without it none is made.

    Returns:
        0 after a stop, 2 when a process found that the settings cannot work.

    Raises:
        SettingsError: the settings do not fit together.
        WeightsError: the model's weights are missing.
    """
    configure_logging(settings.log, "supervisor")
    supervisor = Supervisor(settings, children, show_password)
    check_rules(settings.routes, enabled_adapters(settings))
    check_destinations(settings.destinations)
    if any(child.name == "inference" for child in children):
        check_engine(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    if alongside is not None:
        threading.Thread(target=alongside, args=(supervisor,), name="alongside", daemon=True).start()
    return supervisor.run()
