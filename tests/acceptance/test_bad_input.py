"""What is wrong with an image ends with that image: a reason for a person, and the rest of the study goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, generate_uid

from models.phantoms import draw_vessel_run
from tests.acceptance.daemon import AE_TITLE, Daemon
from tests.services import LOCALHOST, running
from worker.demo.phantom_studies import write_xa_run


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(Daemon(tmp_path_factory.mktemp("daemon"))) as started:
        yield started


def xa_run(folder: Path, accession_number: str, study_uid: str) -> Path:
    run = draw_vessel_run(np.random.default_rng(5), blocked=True, difficulty=0.05)
    return write_xa_run(folder, run.pixels, accession_number=accession_number, study_uid=study_uid)


def without_pixels(ds: Dataset) -> None:
    del ds.PixelData


def truncated(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 3 // 2 * 2]


def absurd_size(ds: Dataset) -> None:
    ds.Rows = ds.Columns = 65535


def wrong_transfer_syntax(ds: Dataset) -> None:
    """Something else that says it is JPEG 2000."""
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = encapsulate([b"notajpeg"])
    ds["PixelData"].is_undefined_length = True


def no_frames_that_fit(ds: Dataset) -> None:
    ds.NumberOfFrames = 1_000_000


SPOILERS = (without_pixels, truncated, absurd_size, wrong_transfer_syntax, no_frames_that_fit)


@pytest.fixture(scope="module")
def decided(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Send a spoilt and a good run for each way to spoil one; return the spoilt one's UID and the jobs, by the way."""
    spoilt, files = {}, []
    for spoil in SPOILERS:
        name, study_uid, folder = spoil.__name__, generate_uid(), tmp_path_factory.mktemp(spoil.__name__)
        good, bad = (xa_run(folder / kind, f"BAD-{name}"[:16], study_uid) for kind in ("good", "bad"))
        ds = dcmread(bad)
        spoil(ds)
        ds.save_as(bad)
        spoilt[name] = str(ds.SOPInstanceUID)
        files += [bad, good]
    done = daemon.command("send", *files, "--to", f"{AE_TITLE}@{LOCALHOST}:{daemon.port}")
    assert done.returncode == 0, done.stdout + done.stderr

    def jobs_of(studies: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
        number = f"BAD-{name}"[:16]
        return [job for study in studies if study["accession_number"] == number for job in study["jobs"]]

    def all_decided(studies: list[dict[str, Any]]) -> bool:
        return all(
            len(jobs) == 2 and all(job["decision"] for job in jobs)
            for jobs in (jobs_of(studies, name) for name in spoilt)
        )

    studies = daemon.wait_until_ledger(all_decided)
    return {name: (uid, jobs_of(studies, name)) for name, uid in spoilt.items()}


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_run_that_cannot_be_shown_waits_for_a_person_and_its_neighbour_is_answered(
    decided: dict[str, tuple[str, list[dict[str, Any]]]], spoil: Callable[[Dataset], None]
) -> None:
    uid, jobs = decided[spoil.__name__]
    spoilt = [job for job in jobs if not job["findings"]]
    assert len(spoilt) == 1
    assert spoilt[0]["decision"] == "review"
    assert "the images cannot be shown to the model" in spoilt[0]["decision_reason"]
    assert uid in spoilt[0]["decision_reason"]
    assert not spoilt[0]["results"]


def test_nothing_is_written_outside_data_dir(daemon: Daemon, tmp_path: Path) -> None:
    """A Study Instance UID with `../` is refused, and the files of this folder stay those the daemon was given."""
    before = {path.name for path in daemon.directory.iterdir()}
    bad = xa_run(tmp_path / "bad", "BAD-UID", generate_uid())
    data = bad.read_bytes()
    uid = str(dcmread(bad).StudyInstanceUID).encode()
    bad.write_bytes(data.replace(uid, (b"../../../../etc/x" + b"9" * len(uid))[: len(uid)]))
    done = daemon.command("send", bad, "--to", f"{AE_TITLE}@{LOCALHOST}:{daemon.port}")
    assert done.returncode == 1
    assert "StudyInstanceUID" in done.stdout + done.stderr
    assert {path.name for path in daemon.directory.iterdir()} == before
    assert not [study for study in daemon.studies() if study["accession_number"] == "BAD-UID"]
