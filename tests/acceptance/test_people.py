"""Who gets in, from outside: the first start on a terminal, the first log-in, and what the audit trail has of it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.phantoms import draw_vessel_run
from tests.acceptance.daemon import Daemon
from tests.audit_schema import messages, told
from tests.services import wait_until
from worker.demo.phantom_studies import Identity, write_xa_run

PASSWORD = "seven green lamps in a row"  # noqa: S105 - of nobody


@dataclass
class Terminal:
    """A daemon that was started by hand, what it says there, and its log."""

    daemon: Daemon
    process: subprocess.Popen[bytes]
    shown: int
    log: Path

    def reads(self, pattern: str) -> re.Match[str]:
        """Return what the person at the terminal reads."""
        text = ""
        while not (found := re.search(pattern, text)):
            text += os.read(self.shown, 4096).decode()
        return found


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A daemon on a terminal, whose log goes to a file."""
    daemon = Daemon(tmp_path, {"web": {"login": "required"}, "log": {"level": "debug"}})
    ours, its = pty.openpty()
    log = tmp_path / "daemon.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            daemon.argv, cwd=tmp_path, stdin=its, stdout=its, stderr=errors, start_new_session=True
        )
    os.close(its)
    try:
        yield Terminal(daemon, process, ours, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)


def test_the_first_person_gets_in_and_everything_is_told(terminal: Terminal, tmp_path: Path) -> None:
    daemon = terminal.daemon
    found = terminal.reads(r"as (\w+) with the password (\S+)")
    login, password = found[1], found[2]
    wait_until(daemon.ready, 60, "the daemon")
    assert httpx.get(daemon.url("api/studies"), trust_env=False).status_code == 401
    with httpx.Client(base_url=daemon.url(), trust_env=False, follow_redirects=True) as browser:
        page = browser.post("/login", data={"login": login, "password": password})
        assert page.url.path == "/account/password"
        token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        fields = {"csrf_token": token, "current": password, "password": PASSWORD, "again": PASSWORD}
        assert browser.post("/account/password", data=fields).url.path == "/"
        run = draw_vessel_run(np.random.default_rng(1), blocked=True, difficulty=0.05)
        patient: Identity = {"patient_id": "PAT-4711", "patient_name": "Zuckerkandl^Emil"}
        daemon.store(write_xa_run(tmp_path / "sent", run.pixels, accession_number="ACC-1", **patient))
        wait_until(lambda: browser.get("/api/studies").json(), 60, "the study")
        (study,) = browser.get("/api/studies").json()
        assert "PAT-4711" in browser.get(f"/studies/{study['id']}").text
        token = browser.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0]
        found = browser.post("/search", data={"csrf_token": token, "q": "Zuckerkandl"})
        assert ("ACC-1" in found.text, found.url.path, found.url.query) == (True, "/search", b"")
        assert browser.get("/api/studies", params={"search": "Zuckerkandl"}).json() != []
    made = daemon.command("users", "token", "add", "monitor")
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert httpx.get(daemon.url("api/review"), headers=headers, trust_env=False).status_code == 200
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(40) == 0
    said = terminal.log.read_text(encoding="utf-8")
    assert "pages are served" in said
    assert [secret for secret in (password, "Zuckerkandl", "PAT-4711") if secret in said] == []
    trail = [told(message) for message in messages(tmp_path / "data" / "audit")]
    about = f"about {study['study_instance_uid']},PAT-4711"
    for line in (
        f"User Authentication / Login by {login} about ",
        f"Security Alert / User Security Attributes Changed by {login} about {login}",
        f"DICOM Instances Transferred by STORESCU {about}",
        f"DICOM Instances Accessed by {login} {about}",
        "Query by token:monitor about /api/review",
    ):
        assert line in trail, trail
    assert trail[0].startswith("Application Activity / Application Start")
    assert trail[-1].startswith("Application Activity / Application Stop")
