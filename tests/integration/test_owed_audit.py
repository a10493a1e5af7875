"""Every decision is in the audit files, whatever dies, fills up or hangs between the ledger and them."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select, update
from typer.testing import CliRunner

from tests import services
from tests.audit_schema import messages, told
from tests.integration.hospital import at_once, killed
from tests.ledger_rows import HELD_JOB, HELD_STUDY, fill_ledger
from tests.logging_state import logging_as_before
from tests.people import PASSWORD, browser_of, csrf_of, log_in, quick_hashes
from tests.web_server import web_settings
from worker import review
from worker.audit import owed, writing
from worker.audit.events import Actor
from worker.audit.owed import LATE_AFTER, LateWriter, Witness, write_late
from worker.audit.trail import AuditTrail, files
from worker.cli import app as cli
from worker.db.columns import utc_now
from worker.db.owed_messages import OwedMessage
from worker.db.records import Job
from worker.db.sessions import Database
from worker.people import accounts
from worker.roles import Role
from worker.settings import Settings
from worker.states import JobState
from worker.web.app import create_app

REJECTED = f"Procedure Record / Review of an automatic answer: reject by linux-user about {HELD_STUDY},P-ACC-2"

#: Where a command can be killed: before its audit line is written, and between the line and the mark that it is.
FAULTS = {"before the line": (AuditTrail, "_append"), "behind the line": (owed, "_forget")}


class House:
    """A ledger with a case that is held, and the audit files."""

    def __init__(self, folder: Path, database_url: str) -> None:
        values = {"data_dir": str(folder / "data"), "database_url": database_url}
        self.settings = Settings.model_validate(values)
        fill_ledger(self.settings)
        self.database = Database(self.settings.resolved_database_url)
        self.trail = AuditTrail(self.settings)
        self.file = folder / "site.yaml"
        self.file.write_text(yaml.safe_dump(values), encoding="utf-8")

    def reject(self, fault: str = "") -> int:
        """Reject the case by a command, in a process of its own; return how that ended."""
        words = ("review", "reject", HELD_JOB, "--reviewer", "Curie^Marie", "--reason", "blurred")
        self.database.engine.dispose()  # a copied connection would be used by two
        process = os.fork()
        if process == 0:
            try:
                os.environ["LOGNAME"] = "linux-user"
                if fault:
                    setattr(*FAULTS[fault], killed)
                cli([*words, "--config", str(self.file)])
            except SystemExit as ended:
                os._exit(int(ended.code or 0))
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    @property
    def is_rejected(self) -> bool:
        """Whether the ledger has the decision."""
        with self.database.reading() as session:
            return session.get_one(Job, HELD_JOB).state is JobState.REJECTED

    @property
    def owed(self) -> int:
        """How many messages are owed."""
        with self.database.reading() as session:
            return len(session.scalars(select(OwedMessage.id)).all())

    @property
    def lines(self) -> list[bytes]:
        """The lines of the audit files."""
        return [line for path in files(self.trail.folder) for line in path.read_bytes().splitlines()]

    @property
    def told(self) -> list[str]:
        """What the audit files tell."""
        return [told(message) for message in messages(self.trail.folder)]


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    """A house on SQLite and on PostgreSQL."""
    made = House(tmp_path, database_url)
    yield made
    made.database.close()


@pytest.fixture
def small_house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    """A house, where the kind of database says nothing."""
    made = House(tmp_path, sqlite_url)
    yield made
    made.database.close()


def test_a_decision_whose_process_is_killed_before_its_line_is_told_late_once(house: House) -> None:
    began = utc_now()
    assert house.reject("before the line") == -signal.SIGKILL
    ended = utc_now()
    assert (house.is_rejected, house.told) == (True, [])
    assert write_late(house.database, house.trail) == 0  # whoever decided may still be about to write it
    later = utc_now() + LATE_AFTER
    at_once(lambda _: write_late(house.database, house.trail, later), range(3))  # several daemons look
    assert (house.told, house.owed) == ([REJECTED], 0)
    (moment,) = re.findall(rb"^<\d+>1 (\S+) ", house.lines[0])
    assert f"{began:%H:%M:%S}" <= moment.decode()[11:19] <= f"{ended:%H:%M:%S}"  # when it was decided


def test_a_line_whose_mark_is_lost_comes_twice_and_is_known_by_its_identifier(house: House) -> None:
    assert house.reject("behind the line") == -signal.SIGKILL
    assert (house.told, house.owed) == ([REJECTED], 1)
    assert write_late(house.database, house.trail, utc_now() + LATE_AFTER) == 1
    first, again = house.lines
    assert (first == again, house.owed) == (True, 0)
    (detail,) = messages(house.trail.folder)[0].xpath("//ParticipantObjectDetail[@type='event']/@value")
    assert re.fullmatch("[0-9a-f]{32}", b64decode(detail).decode())


def test_a_decision_that_the_disk_did_not_take_is_told_after_its_process_has_ended(small_house: House) -> None:
    house = small_house
    house.trail.folder.write_bytes(b"no folder")
    assert house.reject() == 0
    later = utc_now() + LATE_AFTER
    assert (house.is_rejected, house.owed, write_late(house.database, house.trail, later)) == (True, 1, 0)
    house.trail.folder.unlink()
    with house.database.writing() as session:
        session.execute(update(OwedMessage).values(due_at=utc_now()))
    late = LateWriter(house.database, house.trail)  # as every daemon has one
    services.wait_until(lambda: not house.owed, 10, "the decision to be told")
    late.stop()
    assert house.told == [REJECTED]


def test_what_is_decided_is_told_at_once_and_owed_no_more(small_house: House) -> None:
    house = small_house
    person = review.reviewer(
        house.settings, "Curie^Marie", "City", witness=Witness(house.trail, Actor("linux-user", address="localhost"))
    )
    with house.database.reading() as session:
        seen = review.seen_digest(session.get_one(Job, HELD_JOB))
    for _ in range(2):  # a program that lost the answer sends it again: that decides nothing
        review.reject(house.database, HELD_JOB, person, "blurred", seen=seen, undo_s=60)
        assert (house.told, house.owed) == ([REJECTED], 0)
    review.undo(house.database, HELD_JOB, person)
    with pytest.raises(review.ReviewError):
        review.undo(house.database, HELD_JOB, person)
    review.ask_second_reader(house.database, HELD_JOB, person, "look at the spleen")
    decided = [line.split(": ")[1].split(" by ")[0] for line in house.told]
    assert (decided, house.owed) == (["reject", "undo", "second-reader"], 0)


def test_what_is_told_late_is_told_in_its_order_and_to_the_end(
    small_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = small_house
    person = review.reviewer(
        house.settings, "Curie^Marie", "City", witness=Witness(house.trail, Actor("linux-user", address="localhost"))
    )
    house.trail.folder.write_bytes(b"no folder")
    review.reject(house.database, HELD_JOB, person, "blurred", undo_s=60)
    review.undo(house.database, HELD_JOB, person)
    review.ask_second_reader(house.database, HELD_JOB, person, "look at the spleen")
    house.trail.folder.unlink()
    with house.database.writing() as session:
        session.execute(update(OwedMessage).values(due_at=utc_now()))
    # More than one look writes at once: the next ones follow without a pause.
    monkeypatch.setattr(owed, "_AT_ONCE", 1)
    monkeypatch.setattr(owed, "_LOOK_EVERY_S", 60.0)
    late = LateWriter(house.database, house.trail)
    services.wait_until(lambda: not house.owed, 10, "the decisions to be told")
    late.stop()
    decided = [line.split(": ")[1].split(" by ")[0] for line in house.told]
    assert decided == ["reject", "undo", "second-reader"]


def test_a_changed_user_is_told_late_too(small_house: House) -> None:
    house = small_house
    with quick_hashes(), house.database.writing() as session:
        accounts.add(session, "vera", Role.VIEWER, person_name="Rubin^Vera", password=PASSWORD)
    house.trail.folder.write_bytes(b"no folder")
    with logging_as_before():
        CliRunner().invoke(cli, ["users", "set-role", "vera", "reviewer", "--config", str(house.file)])
        CliRunner().invoke(cli, ["users", "disable", "nobody", "--config", str(house.file)])  # changes nothing
    house.trail.folder.unlink()
    write_late(house.database, house.trail, utc_now() + LATE_AFTER)
    (message,) = messages(house.trail.folder)
    assert told(message).startswith("Security Alert / Security Roles Changed by ")
    assert message.xpath("//ParticipantObjectIdentification/@ParticipantObjectID") == ["vera"]


@contextmanager
def hanging(trail: AuditTrail) -> Iterator[None]:
    """A disk that neither takes lines nor refuses them: another process sits in a write to it, with the lock."""
    with (trail.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_disk_that_hangs_holds_nobody_up_and_costs_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writing, "PATIENCE_S", 0.5)
    settings = web_settings(tmp_path, login="required")
    fill_ledger(settings)
    app = create_app(settings)
    trail: AuditTrail = app.state.audit
    with quick_hashes(), app.state.database.writing() as session:
        accounts.add(session, "ada", Role.REVIEWER, person_name="Lovelace^Ada", organization="City", password=PASSWORD)
    with quick_hashes():
        log_in(browser := browser_of(app), "ada")
    said = {"csrf_token": csrf_of(browser), "text": "blurred"}
    with hanging(trail):
        assert browser.get("/studies/1").status_code == 200
        monkeypatch.setattr(writing, "PATIENCE_S", 120)  # nobody waits before the disk has answered
        began = time.monotonic()
        assert browser.get("/studies/2").status_code == 200
        assert browser.post(f"/cases/{HELD_JOB}/comment", data=said, follow_redirects=False).status_code == 303
        assert time.monotonic() - began < 60
        assert "the disk has not answered" in "".join(capfd.readouterr())
    services.wait_until(lambda: trail.flush() == 0, 10, "the looks to be written")
    write_late(app.state.database, trail, utc_now() + LATE_AFTER)
    app.state.database.close()
    first, *looks, last = [told(message).split(" by ")[0] for message in messages(trail.folder)]
    assert (first, looks) == ("User Authentication / Login", ["DICOM Instances Accessed"] * 3)
    assert last == "Procedure Record / Review of an automatic answer: comment"
