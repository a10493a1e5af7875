"""The main job from outside: a study in by C-STORE from dcmtk, results back in Orthanc, a person's decision, an end."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest

from models.phantoms import draw_abdomen_volume, draw_vessel_run
from tests.acceptance.daemon import AE_TITLE, Daemon, deliveries, dicom_worker
from tests.services import LOCALHOST, Orthanc, free_port, running
from worker.demo.phantom_studies import write_ct_series, write_xa_run

REVIEWER = ("--reviewer", "Curie^Marie")


@pytest.fixture(scope="module")
def pacs(orthanc_server: Orthanc) -> dict[str, Any]:
    """Settings that send results to Orthanc."""
    address = {"ae_title": orthanc_server.ae_title, "host": LOCALHOST, "port": orthanc_server.port}
    return {"destinations": [{"name": "pacs", **address}]}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, pacs: dict[str, Any]) -> Iterator[Daemon]:
    """A running daemon with Orthanc as its PACS; its tests use studies of their own."""
    with running(Daemon(tmp_path_factory.mktemp("daemon"), pacs)) as started:
        yield started


def xa_run(folder: Path, number: int, **identity: Any) -> Path:
    run = draw_vessel_run(np.random.default_rng(number), blocked=True, difficulty=0.05)
    return write_xa_run(folder, run.pixels, accession_number=f"ACC-{number}", patient_id=f"P{number}", **identity)


def accept_if_held(daemon: Daemon, study: dict[str, Any]) -> dict[str, Any]:
    """Let a person sign what is held, and return the study when its results are delivered."""
    for job in study["jobs"]:
        if job["state"] == "held":
            done = daemon.command("review", "accept", job["id"], *REVIEWER)
            assert done.returncode == 0, done.stderr
    number = study["accession_number"]
    daemon.wait_until_ledger(
        lambda found: any(s["accession_number"] == number and s["state"] == "done" and deliveries([s]) for s in found)
    )
    return daemon.study(number)


def test_from_association_to_report_in_the_pacs(daemon: Daemon, orthanc: Orthanc, tmp_path: Path) -> None:
    run = xa_run(tmp_path / "sent", 1)
    volume = draw_abdomen_volume(np.random.default_rng(2), injuries={"spleen": "severe"}, subtle=False)
    slices = write_ct_series(tmp_path / "sent", volume.hounsfield, accession_number="ACC-2", patient_id="P2")
    daemon.store(run, *slices)
    for number, adapter, images in (("ACC-1", "dsa_patency", 1), ("ACC-2", "abdominal_trauma", len(slices))):
        study = daemon.study(number)
        assert study["instances"] == images
        (job,) = study["jobs"]
        assert job["adapter"] == adapter
        assert job["decision"] in ("release", "review")
        assert job["decision_reason"]
        assert {result["kind"] for result in job["results"]} == {"sr", "sc"}
        assert job["is_standin"]
        (job,) = accept_if_held(daemon, study)["jobs"]
        sent = {result["sop_instance_uid"] for result in job["results"] if result["deliveries"]}
        in_pacs = [ds for ds in orthanc.datasets() if ds.AccessionNumber == number]
        assert {str(ds.SOPInstanceUID) for ds in in_pacs} == sent
        assert {ds.Modality == "SR" for ds in in_pacs} == {True, False}
        assert {str(ds.StudyInstanceUID) for ds in in_pacs} == {study["study_instance_uid"]}


def test_a_held_answer_is_sent_only_after_a_person_signed_it(daemon: Daemon, orthanc: Orthanc, tmp_path: Path) -> None:
    # An unknown age is at the edge of the intended use: held whatever the model says.
    daemon.store(xa_run(tmp_path / "sent", 3, age=""))
    study = daemon.study("ACC-3")
    assert study["state"] == "held"
    assert "age is unknown" in study["jobs"][0]["decision_reason"]
    assert deliveries([study]) == []
    assert orthanc.instance_ids() == []
    page = httpx.get(daemon.url(f"studies/{study['id']}"), trust_env=False).text
    assert f"/cases/{study['jobs'][0]['id']}" in page, "the page leads to where it is decided"
    accept_if_held(daemon, study)
    (report,) = [ds for ds in orthanc.datasets() if ds.Modality == "SR"]
    assert report.VerificationFlag == "VERIFIED"
    (observer,) = report.VerifyingObserverSequence
    assert str(observer.VerifyingObserverName) == "Curie^Marie"
    assert observer.VerifyingOrganization == "General Hospital"


def test_results_that_the_pacs_sends_back_are_not_processed(daemon: Daemon, orthanc: Orthanc, tmp_path: Path) -> None:
    daemon.store(xa_run(tmp_path / "sent", 4))
    accept_if_held(daemon, daemon.study("ACC-4"))
    before = len(orthanc.wait_for(2))
    orthanc.add_modality("ours", AE_TITLE, daemon.port)
    orthanc.send("ours")
    daemon.wait_until_ledger(
        lambda found: any(s["accession_number"] == "ACC-4" and len(s["series"]) > 1 for s in found)
    )
    study = daemon.study("ACC-4")
    assert len(study["jobs"]) == 1
    routes = [series["route"] for series in study["series"] if series["route"]["adapter"] is None]
    assert routes
    assert all("own results" in route["reason"] for route in routes)
    assert len(orthanc.instance_ids()) == before


def test_commands_over_the_network(daemon: Daemon, tmp_path: Path) -> None:
    here = f"{AE_TITLE}@{LOCALHOST}:{daemon.port}"
    assert daemon.command("echo", here).returncode == 0
    refused = daemon.command("echo", f"NOBODY@{LOCALHOST}:{daemon.port}")
    assert refused.returncode == 1
    assert "called AE title" in refused.stderr
    absent = daemon.command("send", xa_run(tmp_path / "sent", 5), "--to", f"PACS@{LOCALHOST}:{free_port()}")
    assert absent.returncode == 1
    assert daemon.command("echo", "no-peer").returncode == 2
    (tmp_path / "sent" / "note.txt").write_text("not an image")
    sent = daemon.json("send", tmp_path / "sent", "--to", here)
    assert [entry["delivered"] for entry in sent["sent"]] == [True]
    assert "note.txt" in sent["left_out"][0]
    daemon.study("ACC-5")


def test_doctor_finds_everything_in_place_and_then_says_what_is_not(daemon: Daemon, orthanc: Orthanc) -> None:
    healthy = daemon.json("doctor")
    states = {check["check"]: check["state"] for check in healthy["checks"]}
    assert healthy["ok"]
    assert states["dicom port"] == states["web port"] == states["destination pacs"] == states["database"] == "ok"
    orthanc.stop()
    ill = daemon.command("doctor")
    assert ill.returncode == 1
    assert "destination pacs" in ill.stdout
    assert "does not answer" in ill.stdout


def test_one_shot_inference_writes_what_the_daemon_would_send(tmp_path: Path) -> None:
    run, out = xa_run(tmp_path / "sent", 7), tmp_path / "out"
    standin = {"DICOM_WORKER_ENGINE__KIND": "standin"}
    arguments = ["--out", out, "--results", "all", "--json"]
    done = dicom_worker("infer", "dsa_patency", run, *arguments, cwd=tmp_path, **standin)
    assert done.returncode == 0, done.stderr
    (unit,) = json.loads(done.stdout)["units"]
    assert unit["findings"]
    assert unit["notice"]
    written = [pydicom.dcmread(path) for path in unit["files"]]
    assert [ds.Modality for ds in written] == ["SR", "OT", "OT", "KO", "PR", "DOC"]
    assert not (tmp_path / "data" / "dicom-worker.db").exists()


def test_a_daemon_without_weights_does_not_start_and_says_what_to_download(tmp_path: Path) -> None:
    done = dicom_worker("run", cwd=tmp_path, HF_HOME=str(tmp_path / "no-hub-cache"))
    assert done.returncode == 2
    for words in ("google/medgemma-1.5-4b-it", "hf download", "--profile demo"):
        assert words in done.stderr


def test_roles_run_apart_on_the_same_folder(tmp_path: Path, pacs: dict[str, Any], orthanc: Orthanc) -> None:
    node = Daemon(tmp_path, pacs, "node", "web")
    argv = [*node.argv[:4], "worker", "dispatcher", "--config", str(node.config)]
    with running(node):
        node.store(xa_run(tmp_path / "sent", 8))
        worker = subprocess.Popen(argv, cwd=node.directory)
        try:
            (job,) = node.study("ACC-8")["jobs"]
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(timeout=40) == 0
    assert set(orthanc.sop_instance_uids()) == {r["sop_instance_uid"] for r in job["results"] if r["deliveries"]}
