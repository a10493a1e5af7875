"""What the demo does alongside the daemon: send studies to it, wait, and show what came back.

Input: a daemon that starts, a PACS to look into. Output: a table on standard output. On failure (a study did not get to
its end in time) the table shows how far it came, and `Demo.failed` is set.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dicom_node.scu import EchoError, Peer, c_echo, c_store
from worker import supervisor
from worker.db import queries
from worker.db.sessions import Database
from worker.demo.profile import settings_file
from worker.demo.receiver import Receiver, StoredObject
from worker.demo.studies import DemoStudy, demo_studies
from worker.demo.table import demo_tables, write_key_images
from worker.people import accounts
from worker.schemas import STANDIN_NOTICE, StudyView
from worker.settings import Settings
from worker.states import DeliveryState, StudyState

CALLING_AE_TITLE = "DEMOMODALITY"
START_TIMEOUT_S = 90.0
RESULTS_TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.2
AT_AN_END = frozenset(
    {StudyState.HELD, StudyState.DONE, StudyState.UNCONFIRMED, StudyState.UNROUTED, StudyState.DELIVERY_FAILED}
)
UNDERWAY = frozenset({DeliveryState.PENDING, DeliveryState.SENDING})


class DemoError(Exception):
    """The demo did not get to its end; the message says how far it came."""


@dataclass
class Demo:
    """One run of the demo, alongside the daemon."""

    settings: Settings
    folder: Path
    receiver: Receiver
    console: Console
    exit_afterwards: bool
    started_at: float
    failed: bool = field(default=False, init=False)
    #: Login and one-time password of the first user.
    login: tuple[str, str] = field(default=("", ""), init=False)
    _database: Database = field(init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        """Connect to the daemon's database, lazily."""
        self._database = Database(self.settings.resolved_database_url)

    def play(self, daemon: supervisor.Supervisor) -> None:
        """Send, wait and show; runs in a thread beside the supervisor."""
        try:
            self._wait(self._answers, START_TIMEOUT_S, "the node did not start")
            # Only now: drawing would take the processor from the daemon that starts.
            sent = demo_studies(self.folder / "sent")
            self._send(sent)
            try:
                self._wait(lambda: self._is_finished(sent), RESULTS_TIMEOUT_S, "not every study got to its end")
            finally:
                self._show(sent)
        except DemoError as error:
            self.failed = True
            self.console.print(Text(f"the demo failed: {error}", style="bold red"))
        finally:
            if self.exit_afterwards or self.failed:
                daemon.stop()

    def keep_login(self, login: str, password: str) -> None:
        """Keep the first user's login for the table, and let them sign: the demo's users are new each time."""
        with self._database.writing() as session:
            accounts.name(accounts.get(session, login), "Demo^Reviewer", "Demo")
        self.login = login, password

    def end(self) -> None:
        """Stop waiting: the daemon has ended."""
        self._stopping.set()
        self._database.close()

    def _wait(self, condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self._stopping.wait(LOOK_EVERY_S):
                raise DemoError("the daemon ended")
            if time.monotonic() > deadline:
                raise DemoError(f"{otherwise} within {timeout_s:g} s; see the log above")

    @property
    def _node(self) -> Peer:
        return Peer(self.settings.dicom.ae_title, "127.0.0.1", self.settings.dicom.port)

    def _answers(self) -> bool:
        try:
            c_echo(self._node, calling_ae_title=CALLING_AE_TITLE)
        except EchoError:
            return False
        return True

    def _send(self, sent: list[DemoStudy]) -> None:
        for study in sent:
            for outcome in c_store(self._node, study.files, calling_ae_title=CALLING_AE_TITLE):
                if not outcome.is_delivered:
                    raise DemoError(f"{study.title}: {outcome.path.name} was not taken: {outcome.message}")

    def _ledger(self) -> dict[str, StudyView]:
        with self._database.reading() as session:
            return {study.study_instance_uid: study for study in queries.studies(session)}

    def _is_finished(self, sent: list[DemoStudy]) -> bool:
        ledger = self._ledger()
        if any(study.study_instance_uid not in ledger for study in sent):
            return False
        deliveries = (
            delivery.state
            for study in ledger.values()
            for job in study.jobs
            for result in job.results
            for delivery in result.deliveries
        )
        return all(study.state in AT_AN_END for study in ledger.values()) and not UNDERWAY.intersection(deliveries)

    def _show(self, sent: list[DemoStudy]) -> None:
        in_pacs: dict[str, list[StoredObject]] = defaultdict(list)
        for stored in self.receiver.objects():
            in_pacs[stored.study_instance_uid].append(stored)
        ledger = self._ledger()
        for made in demo_tables(sent, ledger, in_pacs):
            self.console.print(made)
        self.console.print(Text(STANDIN_NOTICE, style="bold yellow"))
        for title, path in write_key_images(sent, ledger, self.folder / "key-images"):
            self._say("key image", str(path), title)
        config = settings_file(self.folder)
        self._say("PACS", str(self.receiver.folder))
        self._say("dashboard", self.settings.web.address)
        if all(self.login):
            login, password = self.login
            self._say("log in", f"{login} {password}", "this password is for the first log-in")
        self._say("ledger", f"dicom-worker studies --config {config}")
        self._say("review", f"dicom-worker review list --config {config}")
        self.console.print(f"{time.monotonic() - self.started_at:.1f} s from start to here.", markup=False)
        if not self.exit_afterwards:
            self.console.print("The daemon stays up; Ctrl-C ends it.")

    def _say(self, what: str, value: str, more: str = "") -> None:
        """Print one line that can be copied: never wrapped, no markup."""
        line = Text.assemble((f"{what:<11}", "dim"), (value, "cyan"), f"  {more}" if more else "")
        self.console.print(line, soft_wrap=True)
