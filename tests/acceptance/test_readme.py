"""The README's own commands, run one after the other as they stand there.

Blocks marked `test` are run line by line; `test=NAME` is written to that file; `daemon` is started and stays up until
the end. Ports are replaced by free ones, the PACS is Orthanc, and the stand-in answers instead of MedGemma.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.phantoms import draw_vessel_run
from tests.acceptance.daemon import dicom_worker, is_settled
from tests.services import Orthanc, answers_on, free_port, wait_until
from worker.db import queries
from worker.db.sessions import Database
from worker.demo.phantom_studies import write_xa_run

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(?:sh|yaml) (test|daemon|test=(?P<file>\S+))\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def daemons() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Daemons that a block started; each must end well when it is told to."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == 0


def test_the_first_hour_works(
    tmp_path: Path, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch, daemons: list[subprocess.Popen[bytes]]
) -> None:
    ports = {"11112": str(free_port()), "8080": str(free_port()), "4242": str(orthanc.port)}
    overrides = {"ENGINE__KIND": "standin", "DICOM__BIND": "127.0.0.1", "WEB__PORT": ports["8080"]}
    for name, value in overrides.items():
        monkeypatch.setenv(f"DICOM_WORKER_{name}", value)
    run = draw_vessel_run(np.random.default_rng(5), blocked=True)
    # Of unknown age: such a case is held, so that there is something to review.
    write_xa_run(tmp_path / "studies", run.pixels, accession_number="ACC-1001", age="")
    blocks = list(BLOCK.finditer(README.read_text(encoding="utf-8")))
    assert len(blocks) >= 6
    for block in blocks:
        text = re.sub(r"\b(11112|8080|4242)\b", lambda match: ports[match[0]], block["text"])
        if block["file"]:
            (tmp_path / block["file"]).write_text(text, encoding="utf-8")
        elif block[1] == "daemon":
            daemons.append(start(text, tmp_path))
            wait_until(lambda: answers_on(int(ports["11112"])), 60, "the node")
        else:
            for line in text.splitlines():
                run_line(line, tmp_path)
    reports = [ds for ds in orthanc.wait_for(2, 60) if ds.Modality == "SR"]
    assert [ds.VerificationFlag for ds in reports] == ["VERIFIED"]


def start(line: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the daemon of a block."""
    program, *words = shlex.split(line)
    assert program == "dicom-worker"
    return subprocess.Popen([sys.executable, "-m", "worker", *words], cwd=folder, env=dict(os.environ))


def run_line(line: str, folder: Path) -> None:
    """Run one line; after images were sent, wait as a reader would until they are worked on."""
    program, *words = shlex.split(line)
    assert program == "dicom-worker"
    done = dicom_worker(*words, cwd=folder)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    assert done.stdout.strip(), line
    if words[0] == "send":
        wait_until(lambda: settled(folder), 180, "the study's end")


def settled(folder: Path) -> bool:
    """Whether everything that was received is worked on."""
    database = Database(f"sqlite:///{folder / 'data' / 'dicom-worker.db'}")
    try:
        with database.reading() as session:
            studies = [study.model_dump() for study in queries.studies(session)]
    finally:
        database.close()
    return bool(studies) and is_settled(studies)
