"""Every kind of result passes the field's validators, on sources of every kind, and shows in other people's viewers.

PixelMed is in test_adapters_results: its rules take long to load, and are loaded once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.capture import build_capture
from dicom_node.encapsulated_pdf import encapsulate
from dicom_node.evidence import evidence_header
from dicom_node.key_objects import build_key_objects, build_rejection_note
from dicom_node.multiframe_capture import KeyImage, build_multiframe_capture
from dicom_node.pdf_report import Subject, render_pdf
from dicom_node.picture import RgbArray
from dicom_node.placement import Placement
from dicom_node.presentation import build_presentations
from dicom_node.report import Region, Report, SourceFrames
from dicom_node.results import check_rejection_note, check_result, write_dicom
from dicom_node.sr import build_sr
from models.phantoms import draw_vessel_run
from tests import dicom_validators
from tests.sample_reports import (
    CHARSET_FILES,
    DATA_STORE,
    REVIEWER,
    TEST_FILES,
    awkward_headers,
    frames_of,
    grey_image,
    trauma_report,
    vessel_report,
)
from tests.services import Orthanc
from tests.services.process import dcmtk
from worker.demo.phantom_studies import write_xa_run

#: Real files by kind of source; a run of XA is drawn, because there is no free one.
SOURCES: Mapping[str, Path] = {
    "CT": TEST_FILES / "CT_small.dcm",
    "CT without names": DATA_STORE / "693_UNCI.dcm",
    "enhanced CT": DATA_STORE / "eCT_Supplemental.dcm",
    "MR": TEST_FILES / "MR_small.dcm",
    "enhanced MR": DATA_STORE / "emri_small.dcm",
    "CR": DATA_STORE / "RG1_UNCR.dcm",
    "CR with a Japanese name": CHARSET_FILES / "chrJapMulti.dcm",
    "US multi-frame": TEST_FILES / "examples_ybr_color.dcm",
    "US of a retired class": DATA_STORE / "US1_UNCR.dcm",
    "SC with a Korean name": CHARSET_FILES / "chrI2.dcm",
    "SC with a Chinese name": CHARSET_FILES / "chrX2.dcm",
}


@dataclass(frozen=True, slots=True)
class Results:
    """The files of one source: its AI result, what may take its place, and the other kinds."""

    unverified: Path
    verified: Path
    edited: Path
    superseding: Path
    capture: Path
    #: Multi-frame capture, key objects, presentation states, report on paper, rejection note.
    others: Sequence[Path]

    def documents(self) -> list[Path]:
        """The SR documents."""
        return [self.unverified, self.verified, self.edited, self.superseding]

    def all(self) -> list[Path]:
        """All files."""
        return [*self.documents(), self.capture, *self.others]


def _results(folder: Path, source: Path | Dataset, report: Report) -> Results:
    folder.mkdir(parents=True)
    series: dict[str, Any] = {"series_instance_uid": "2.25.500", "series_number": 9001}

    def write(name: str, number: int, **options: Any) -> Path:
        uid = f"2.25.{600 + number}"
        document = build_sr(report, [source], sop_instance_uid=uid, instance_number=number, **series, **options)
        return _written(folder / f"{name}.dcm", document, report, verified="verifying" in options)

    unverified = write("unverified", 1)
    predecessor = dcmread(unverified)
    image = grey_image(512, 512)
    capture = build_capture(
        image,
        report,
        source,
        sop_instance_uid="2.25.700",
        series_instance_uid="2.25.501",
        series_number=9002,
        instance_number=1,
    )
    return Results(
        unverified=unverified,
        verified=write("verified", 2, predecessor=predecessor, verifying=REVIEWER),
        edited=write("edited", 3, predecessor=predecessor, verifying=REVIEWER, edited=True),
        superseding=write("superseding", 4, predecessor=predecessor),
        capture=_written(folder / "capture.dcm", capture, report),
        others=_others(folder, source, report, image, [predecessor, capture]),
    )


def _others(
    folder: Path, source: Path | Dataset, report: Report, image: RgbArray, rejected: Sequence[Dataset]
) -> list[Path]:
    """Write the kinds beside reports and captures."""
    places = (Placement(f"2.25.{800 + number}", f"2.25.{900 + number}", 9003 + number) for number in count())
    shown = report.sources[0]
    made = [
        build_multiframe_capture([KeyImage(image, shown)] * 2, report, source, next(places)),
        build_key_objects(report, source, [shown], next(places), reviewer=REVIEWER),
        *build_presentations(report, [source], [shown], lambda _number: next(places)),
        encapsulate(_pages(), report, evidence_header(source), report.sources, next(places)),
    ]
    paths = [_written(folder / f"other{number}.dcm", ds, report) for number, ds in enumerate(made)]
    note = build_rejection_note(
        rejected, codes.REJECTED_FOR_QUALITY, REVIEWER, "wrong side", next(places), report.answered_at
    )
    data = write_dicom(note)
    check_rejection_note(data, [str(ds.SOPInstanceUID) for ds in rejected])
    paths.append(folder / "rejection.dcm")
    paths[-1].write_bytes(data)
    return paths


@cache
def _pages() -> bytes:
    """A report on paper; drawing it takes a second, and what validators look at is around it."""
    report = vessel_report([frames_of(SOURCES["CT"])])
    return render_pdf(report, Subject("", "", "", "", ""), [grey_image(64, 64)], reviewer=REVIEWER, edited=False)


def _written(path: Path, ds: Dataset, report: Report, *, verified: bool = False) -> Path:
    data = write_dicom(ds)
    check_result(data, report, verified=verified)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def xa_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn XA run with a true header and a name in kanji."""
    frames = draw_vessel_run(np.random.default_rng(7), blocked=True, size=64).pixels
    return write_xa_run(tmp_path_factory.mktemp("xa"), frames, patient_name="Yamada^Tarou=山田^太郎", body_part="LEG")


@pytest.fixture(scope="module")
def vessel_results(tmp_path_factory: pytest.TempPathFactory, xa_run: Path) -> Results:
    """What the DSA adapter makes of the run."""
    report = vessel_report([frames_of(xa_run, 2, 5)])
    return _results(tmp_path_factory.mktemp("vessel") / "results", xa_run, report)


@pytest.fixture(scope="module")
def trauma_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the trauma adapter makes of a CT, the stand-in answering."""
    source = SOURCES["CT"]
    return _results(tmp_path_factory.mktemp("trauma") / "results", source, trauma_report([frames_of(source)]))


def boxes_report(source: SourceFrames, rows: int, columns: int) -> Report:
    """What a detection says: two boxes on one image, with no code for what is in them."""
    plain = vessel_report([source])
    outline = ((0.0, 0.0), (columns / 2, 0.0), (columns / 2, rows / 3), (0.0, rows / 3))
    boxes = tuple(
        replace(
            plain.findings[0],
            tracking_id=f"detection: {number}: nodule",
            finding_type=codes.NAMED_IN_TEXT,
            sites=(),
            region=Region(source, outline, rows, columns, "nodule"),
        )
        for number in (1, 2)
    )
    return replace(plain, findings=boxes)


@pytest.fixture(scope="module")
def boxes_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What a detection makes of a frame of an ultrasound run."""
    source = SOURCES["US multi-frame"]
    report = boxes_report(frames_of(source, 3), 240, 320)
    return _results(tmp_path_factory.mktemp("boxes") / "results", source, report)


def test_dciodvfy_passes_boxes(boxes_results: Results) -> None:
    _assert_dciodvfy_passes(boxes_results)
    shown = dicom_validators.dsrdump(boxes_results.unverified)
    assert 'SCOORD:(111030,DCM,"Image Region")=(POLYLINE,0/0,160/0,160/80,0/80,0/0)' in shown


def _assert_dciodvfy_passes(results: Results) -> None:
    errors = {path.name: dicom_validators.dciodvfy(path).errors for path in results.all()}
    assert errors == dict.fromkeys(errors, ())


def test_dciodvfy_passes_the_results_of_a_run(vessel_results: Results) -> None:
    _assert_dciodvfy_passes(vessel_results)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_the_validators_pass_results_on_sources_of_every_kind(kind: str, tmp_path: Path) -> None:
    source = SOURCES[kind]
    results = _results(tmp_path / "results", source, trauma_report([frames_of(source)]))
    _assert_dciodvfy_passes(results)
    # Sources in other character sets are left out: dcentvfy compares bytes, and the results are in UTF-8.
    sources = [] if "name" in kind else [source]
    assert dicom_validators.dcentvfy([*sources, *results.all()]).errors == ()


@pytest.mark.parametrize("name", sorted(awkward_headers().keys() - {"accession number of 20 characters"}))
def test_the_validators_pass_results_on_odd_headers(name: str, tmp_path: Path) -> None:
    source = awkward_headers()[name]
    results = _results(tmp_path / "results", source, vessel_report([frames_of(source)]))
    _assert_dciodvfy_passes(results)
    assert dicom_validators.dcentvfy(results.all()).errors == ()


def test_identifier_too_long_for_the_standard_is_the_only_error_it_brings(tmp_path: Path) -> None:
    """It is kept, or the result would belong to another order; the source has the same error."""
    source = awkward_headers()["accession number of 20 characters"]
    results = _results(tmp_path / "results", source, vessel_report([frames_of(source)]))
    errors = dicom_validators.dciodvfy(results.unverified).errors
    assert len(errors) == 1
    assert "AccessionNumber" in errors[0]


def test_dcentvfy_finds_source_and_results_consistent(xa_run: Path, vessel_results: Results) -> None:
    paths = [xa_run, *vessel_results.all()]
    assert dicom_validators.dcentvfy(paths).errors == ()


def test_dsrdump_prints_finding_answer_and_warning(vessel_results: Results, trauma_results: Results) -> None:
    vessel, trauma = (dicom_validators.dsrdump(path) for path in (vessel_results.unverified, trauma_results.unverified))
    assert '(26036001,SCT,"Occlusion")' in vessel
    assert '(121052,DCM,"Presence of property")=(52101004,SCT,"Present")' in vessel
    assert '(122157,DCM,"Probability")="0.93"' in vessel
    assert '"Source of Measurement")=(XA image,,2,5)' in vessel
    assert '(LACERATION,99DCMWORKER,"Laceration")' in trauma
    assert "STAND-IN MODEL: MEANS NOTHING" in trauma
    assert "Moderate injury of liver, probability 0.71 (uncalibrated)" in trauma


def test_dcmtk_shows_the_capture(vessel_results: Results, tmp_path: Path) -> None:
    target = tmp_path / "capture.png"
    subprocess.run([dcmtk("dcm2pnm"), "+on", str(vessel_results.capture), str(target)], check=True, timeout=60)
    shown = np.asarray(Image.open(target).convert("RGB"))
    assert np.array_equal(shown, dcmread(vessel_results.capture).pixel_array)


def test_orthanc_stores_the_results_with_the_source_and_shows_the_capture(
    orthanc: Orthanc, xa_run: Path, vessel_results: Results
) -> None:
    for path in (xa_run, *vessel_results.documents(), vessel_results.capture):
        orthanc.upload(path.read_bytes())
    (study,) = orthanc.rest("GET", "/studies").json()
    assert len(orthanc.rest("GET", f"/studies/{study}/instances").json()) == 6
    looked_up = orthanc.rest("POST", "/tools/lookup", content="2.25.700").json()
    preview = orthanc.rest("GET", f"/instances/{looked_up[0]['ID']}/preview", headers={"Accept": "image/png"})
    shown = np.asarray(Image.open(BytesIO(preview.content)).convert("RGB"))
    assert np.array_equal(shown, dcmread(vessel_results.capture).pixel_array)
