"""Small studies to send while things break, and what must be true of them afterwards."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from sqlalchemy import select

from models.phantoms import draw_abdomen_volume, draw_vessel_run
from tests import services
from tests.daemon import Daemon
from worker.db.records import Instance
from worker.demo.phantom_studies import write_ct_series, write_xa_run
from worker.schemas import StudyView
from worker.states import InstanceState

FRAMES, SIZE = 4, 64
#: Distinct runs to draw; drawing is slower than writing, so more studies show the same pictures.
DRAWN = 8


@dataclass(frozen=True)
class SentStudy:
    """A study that is sent."""

    study_instance_uid: str
    adapter: str
    #: What one job is made of each: the runs of an XA study, one series of a CT.
    units: int
    files: tuple[Path, ...]


def xa_studies(folder: Path, count: int, *, runs: int = 1) -> list[SentStudy]:
    """Draw XA studies with so many runs each."""
    pictures = [
        # Blocked ones: the stand-in is sure enough of most of them to release its answer.
        draw_vessel_run(np.random.default_rng(seed), blocked=True, frames=FRAMES, size=SIZE, difficulty=0).pixels
        for seed in range(DRAWN)
    ]
    studies = []
    for number in range(count):
        study_uid, series_uid = generate_uid(), generate_uid()
        files = tuple(
            write_xa_run(
                folder,
                pictures[(number + run) % DRAWN],
                study_uid=study_uid,
                series_uid=series_uid,
                accession_number=f"XA-{number}",
            )
            for run in range(runs)
        )
        studies.append(SentStudy(str(study_uid), "dsa_patency", runs, files))
    return studies


def ct_study(folder: Path, accession_number: str = "CT-0") -> SentStudy:
    """Draw a small abdominal CT."""
    drawn = draw_abdomen_volume(np.random.default_rng(1), injuries={"liver": "moderate"}, slices=12, size=64)
    study_uid = generate_uid()
    files = write_ct_series(
        folder, drawn.hounsfield, study_uid=study_uid, accession_number=accession_number, slice_spacing_mm=5
    )
    return SentStudy(str(study_uid), "abdominal_trauma", 1, tuple(files))


def check_nothing_lost(daemon: Daemon, sent: Sequence[SentStudy]) -> None:
    """Every acknowledged instance is in the ledger, once, and its file has the right content."""
    files = {path.stem: path for study in sent for path in study.files}
    with daemon.db.reading() as session:
        rows = {row.sop_instance_uid: row for row in session.scalars(select(Instance))}
        assert len(rows) == len(session.scalars(select(Instance.id)).all()), "an instance is there twice"
    assert rows.keys() == files.keys()
    for uid, row in rows.items():
        content = Path(row.path).read_bytes()
        assert row.state is InstanceState.STORED
        assert hashlib.sha256(content).hexdigest() == row.digest
        assert _pixels(Path(row.path)) == _pixels(files[uid])


def check_one_result_each(ledger: Sequence[StudyView], sent: Sequence[SentStudy], pacs: services.StoreScp) -> None:
    """Every unit of every study has one job with one SR; the PACS has the SR of every released one, and no other."""
    by_uid = {study.study_instance_uid: study for study in ledger}
    assert len(ledger) == len(by_uid)
    assert by_uid.keys() == {study.study_instance_uid for study in sent}
    in_pacs = reports_in(pacs)
    released = 0
    for study in sent:
        jobs = by_uid[study.study_instance_uid].jobs
        assert [job.adapter for job in jobs] == [study.adapter] * study.units
        assert len({job.unit_uid for job in jobs}) == study.units
        expected = set()
        for job in jobs:
            assert job.state in ("released", "held"), f"{job.state}: {job.decision_reason}"
            reports = [result for result in job.results if result.kind == "sr"]
            assert len(reports) == 1
            if job.state == "released":
                assert {d.state for result in job.results for d in result.deliveries} == {"delivered"}
                expected.add(reports[0].sop_instance_uid)
                released += 1
        assert in_pacs[study.study_instance_uid] == expected
    assert released >= sum(study.units for study in sent) / 2, "too few answers were released to prove anything"


def reports_in(pacs: services.StoreScp) -> dict[str, set[str]]:
    """Return the SOP Instance UIDs of the SRs that a PACS received, by study; one UID always has the same content."""
    found: dict[str, set[str]] = defaultdict(set)
    contents: dict[str, set[str]] = defaultdict(set)
    for path in pacs.files():
        ds = pydicom.dcmread(path)
        contents[ds.SOPInstanceUID].add(ds.to_json())
        if ds.Modality == "SR":
            found[ds.StudyInstanceUID].add(ds.SOPInstanceUID)
    differing = [uid for uid, versions in contents.items() if len(versions) > 1]
    assert differing == [], "sent twice with different content"
    return defaultdict(set, found)


def doubles_in(pacs: services.StoreScp) -> int:
    """Return how many objects the PACS received more than once (the same bytes: harmless, but each cost a fault)."""
    uids = Counter(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in pacs.files())
    return sum(count - 1 for count in uids.values())


def _pixels(path: Path) -> bytes:
    return bytes(pydicom.dcmread(path).PixelData)


def new_folder() -> Path:
    """Return an empty folder with a short path."""
    return Path(tempfile.mkdtemp(prefix="dicom-worker-studies-"))
