"""`dicom-worker run --profile demo`: what the first minute shows is what really happened."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.acceptance.daemon import deliveries, dicom_worker
from tests.services import LOCALHOST, free_port, wait_until
from worker.demo.studies import demo_studies


def run_demo(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    ports = {"DICOM_WORKER_DICOM__PORT": str(free_port()), "DICOM_WORKER_WEB__PORT": str(free_port())}
    return dicom_worker("run", "--profile", "demo", "--exit-after-demo", cwd=folder, **{**ports, **environment})


def demo_folder(folder: Path) -> Path:
    (found,) = (folder / "data" / "demo").iterdir()
    return found


def ledger(folder: Path) -> list[dict[str, Any]]:
    return _ledger_of(demo_folder(folder))


@cache
def _ledger_of(run: Path) -> list[dict[str, Any]]:
    """What the command says of one run of the demo, which is over."""
    done = dicom_worker("studies", "--json", "--config", run / "dicom-worker.yaml", cwd=run)
    assert done.returncode == 0, done.stderr
    studies: list[dict[str, Any]] = json.loads(done.stdout)
    return studies


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the demo ran until somebody pressed Ctrl-C, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    ports = {"DICOM_WORKER_DICOM__PORT": str(free_port()), "DICOM_WORKER_WEB__PORT": str(free_port())}
    log = folder / "demo.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "run", "--profile", "demo"],
            cwd=folder,
            env={**os.environ, **ports},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Ctrl-C ends it" in log.read_text(), 180, "the table")
        with socket.create_connection((LOCALHOST, int(ports["DICOM_WORKER_WEB__PORT"])), timeout=5):
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    return folder, log.read_text()


def test_it_stays_up_until_ctrl_c_and_every_study_is_in_the_table_and_in_the_ledger(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    folder, printed = demo
    sent = demo_studies(tmp_path)
    flat = re.sub(r"\s+", " ", printed)
    for study in sent:
        assert study.title.split(" (")[0].split()[0] in flat
    assert len(ledger(folder)) == len(sent)
    assert "did not arrive" not in printed


def test_the_cases_go_where_they_should(demo: tuple[Path, str]) -> None:
    studies = {study["accession_number"]: study for study in ledger(demo[0])}
    adapters = {number: [job["adapter"] for job in study["jobs"]] for number, study in studies.items()}
    for number in ("DEMO-XA1", "DEMO-XA2", "DEMO-XA3"):
        assert adapters[number] == ["dsa_patency"]
    for number in ("DEMO-CT1", "DEMO-CT2"):
        assert adapters[number] == ["abdominal_trauma"]
    assert adapters["DEMO-XA4"] == adapters["DEMO-DOSE"] == []
    (child,) = studies["DEMO-XA4"]["series"]
    assert "aged 9" in child["route"]["reason"]
    topogram = min(studies["DEMO-CT1"]["series"], key=lambda series: series["instances"])
    assert "LOCALIZER" in topogram["route"]["reason"]


def test_plain_cases_are_answered_right_and_the_unclear_one_waits_for_a_person(demo: tuple[Path, str]) -> None:
    jobs = {study["accession_number"]: study["jobs"][0] for study in ledger(demo[0]) if study["jobs"]}
    assert "patent" in json.dumps(jobs["DEMO-XA1"]["findings"])
    assert "blocked" in json.dumps(jobs["DEMO-XA2"]["findings"])
    assert jobs["DEMO-XA3"]["decision"] == "review"
    assert jobs["DEMO-CT1"]["findings"]["organs_involved"] == ["liver"]
    assert jobs["DEMO-CT2"]["findings"]["severity_estimate"] == "none"
    assert all(job["decision_reason"] for job in jobs.values())


def test_the_pacs_has_what_was_released_and_nothing_else(demo: tuple[Path, str]) -> None:
    folder = demo[0]
    jobs = [job for study in ledger(folder) for job in study["jobs"]]
    released = {result["sop_instance_uid"] for job in jobs if job["state"] == "released" for result in job["results"]}
    in_pacs = [pydicom.dcmread(path) for path in (demo_folder(folder) / "pacs").glob("*.dcm")]
    assert released
    assert {str(ds.SOPInstanceUID) for ds in in_pacs} == released
    assert {ds.Modality for ds in in_pacs if "VerificationFlag" in ds} == {"SR"}
    assert {ds.VerificationFlag for ds in in_pacs if "VerificationFlag" in ds} == {"UNVERIFIED"}
    assert {delivery["state"] for delivery in deliveries(ledger(folder))} == {"delivered"}


def test_key_images_and_addresses_are_printed(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    pictures = re.findall(r"key image +(\S+\.png)", printed)
    assert pictures
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert re.search(r"dashboard +http://127\.0\.0\.1:\d+/", printed)
    assert "means nothing" in printed
    assert "uncalibrated" in printed


def test_a_second_run_starts_afresh_beside_taken_ports_and_leaves_a_site_alone(demo: tuple[Path, str]) -> None:
    folder = demo[0]
    first = demo_folder(folder)
    never = folder / "never.db"
    with socket.create_server((LOCALHOST, 0)) as listener:
        port = str(listener.getsockname()[1])
        done = run_demo(folder, DICOM_WORKER_DICOM__PORT=port, DICOM_WORKER_DATABASE_URL=f"sqlite:///{never}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"dicom.port {port} is taken" in done.stdout
    assert not first.exists()
    assert not never.exists()
    assert len({study["study_instance_uid"] for study in ledger(folder)}) == len(ledger(folder))
