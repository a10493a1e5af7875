"""What the model saw is shown to people exactly, on the page and in files, and by nothing that only looks like it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.headers import InstanceFile, read_header
from models.adapter import adapters
from models.rendering import InputRecord, images_digest
from tests.integration.hospital import Hospital
from tests.sample_reports import TEST_FILES
from worker.cli import app
from worker.db.records import Instance
from worker.web.app import create_app

COMMAND = str(Path(sys.executable).parent / "dicom-worker")


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    place = Hospital(tmp_path / "data", f"sqlite:///{tmp_path / 'data' / 'dicom-worker.db'}", [])
    yield place
    place.db.close()


@pytest.fixture
def browser(hospital: Hospital) -> Iterator[TestClient]:
    with TestClient(create_app(hospital.settings), base_url="http://localhost:8080") as client:
        yield client


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


def test_the_page_shows_every_image_that_the_model_saw(hospital: Hospital, browser: TestClient) -> None:
    job = hospital.job(hospital.decided_volume("CT-1", range(16), 1))
    record = InputRecord.from_json(job.model_input or {})
    (study,) = browser.get("/api/studies", params={"search": "CT-1"}).json()
    page = browser.get(f"/studies/{study['id']}").text
    assert f"What the model saw: {len(record.image_sources)} images" in page
    shown = []
    for number in range(1, len(record.image_sources) + 1):
        assert f'src="/jobs/{job.id}/inputs/{number}.png"' in page
        answer = browser.get(f"/jobs/{job.id}/inputs/{number}.png")
        assert answer.headers["content-type"] == "image/png"
        shown.append(picture(answer.content))
    assert images_digest(shown) == record.digest
    assert record.digest in page
    for nowhere in (f"/jobs/{job.id}/inputs/0.png", f"/jobs/{job.id}/inputs/99.png", "/jobs/none/inputs/1.png"):
        assert browser.get(nowhere).status_code == 404


def test_images_that_changed_since_are_not_shown_as_what_the_model_saw(hospital: Hospital, browser: TestClient) -> None:
    job_id = hospital.decided_run("XA-1")
    with hospital.db.reading() as session:
        (stored,) = session.query(Instance).all()
    ds = dcmread(stored.path)
    ds.PixelData = bytes(len(ds.PixelData))
    Path(stored.path).chmod(0o600)
    ds.save_as(stored.path)
    answer = browser.get(f"/jobs/{job_id}/inputs/1.png")
    assert answer.status_code == 404
    assert "differ from those the model saw" in answer.text


def test_review_show_writes_the_images_and_their_record(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = hospital.decided_run("XA-1")
    (tmp_path / "dicom-worker.yaml").write_text(f"data_dir: {hospital.settings.data_dir}\n")
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["review", "show", job_id, "--save-inputs", "seen"])
    assert shown.exit_code == 0, shown.output
    record = InputRecord.from_json(json.loads(Path("seen", f"{job_id}.json").read_text()))
    files = [Path("seen", f"{job_id}-{number}.png") for number in range(1, len(record.recipe) + 1)]
    assert images_digest([picture(file.read_bytes()) for file in files]) == record.digest
    Path("taken").write_text("a file")
    refused = CliRunner().invoke(app, ["review", "show", job_id, "--save-inputs", "taken"])
    assert refused.exit_code == 1
    assert "--save-inputs taken: cannot be written" in refused.output


def test_infer_writes_the_images_that_the_model_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dicom-worker.yaml").write_text("engine: {kind: standin}\n")
    mr = TEST_FILES / "MR_small.dcm"
    asked = ["infer", "flare", str(mr), "--task", "report", "--save-inputs", "seen", "--json"]
    # In a process of its own: the command sets up logging for itself.
    done = subprocess.run([COMMAND, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (unit,) = json.loads(done.stdout)["units"]
    *pictures, record = [Path(file) for file in unit["inputs"]]
    images = [picture(file.read_bytes()) for file in pictures]
    assert images_digest(images) == unit["input_digest"] == json.loads(record.read_text())["digest"]
    expected = adapters()["flare"].render([InstanceFile(read_header(mr), mr)]).images
    assert all(np.array_equal(one, other) for one, other in zip(images, expected, strict=True))
