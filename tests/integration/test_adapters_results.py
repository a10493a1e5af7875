"""Every kind of result of every adapter: the field's validators pass it, other programs and people can read it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.ko import KeyObjectSelectionDocument
from highdicom.sr import Comprehensive3DSR
from pydicom import config, dcmread, dcmwrite
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.headers import InstanceFile, read_header
from dicom_node.key_objects import build_rejection_note
from dicom_node.marking import RESEARCH_STATEMENT
from dicom_node.placement import Placement
from dicom_node.results import check_rejection_note, write_dicom
from dicom_node.sr import build_sr
from models.adapter import AdapterDefinition, adapters
from models.confidence import Confidence
from models.question import Question
from tests import dicom_validators
from tests.integration.hospital import BLOCKED, INJURED, ct_slices, dicom_bytes, provenance, xa_run
from tests.sample_reports import DATA_STORE, REVIEWER, TEST_FILES, as_stored, frames_of, trauma_report
from tests.services.process import dcmtk
from worker.demo.phantom_video import write_video
from worker.documents import Answer, Document, build_documents
from worker.result_kinds import REJECTION, ResultKind

STUDY = "1.2.826.0.1.3680043.10.1.5"
REAL_CR = DATA_STORE / "RG1_UNCR.dcm"


def _drawn(folder: Path, *images: Dataset) -> list[Path]:
    paths = [folder / f"image{number}.dcm" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(dicom_bytes(image))
    return paths


def _video(folder: Path) -> list[Path]:
    """Two seconds of a picture that grows brighter."""
    frames = np.full((50, 64, 96, 3), 90, np.uint8)
    frames[..., 0] = np.arange(50, dtype=np.uint8)[:, None, None] * 5
    return [write_video(folder, frames, patient_name="Müller^Äda")]


#: Adapter -> its images, what it is asked where it can be asked several things, and its answer.
CASES: Mapping[str, tuple[Callable[[Path], list[Path]], Question | None, dict[str, Any]]] = {
    "dsa_patency": (lambda folder: _drawn(folder, xa_run(STUDY, "A1")), None, BLOCKED),
    "abdominal_trauma": (lambda folder: _drawn(folder, *ct_slices(STUDY, "A1", range(4, 12))), None, INJURED),
    "cataract_surgery": (
        _video,
        None,
        {"thinking_process": "Capsulorhexis is under way.", "final_answer": "Keep the tip in view."},
    ),
    "clinical_caption": (
        lambda _: [REAL_CR],
        None,
        {"caption": "Die Lunge ist frei.", "language": "de"},
    ),
    "flare": (
        lambda _: [REAL_CR],
        Question("detection", labels=("nodule", "mass")),
        {"objects": [{"box_2d": [100, 200, 300, 450], "label": "nodule"}]},
    ),
}
#: What headers in the field are like, all at once: no identity but a name in Cyrillic, and days that never were.
AWKWARD: Mapping[str, str | None] = {
    "PatientID": None,
    "PatientSex": "? ",
    "PatientBirthDate": "00000101",
    "PatientAge": "45",
    "StudyDate": "00000000",
    "StudyTime": "noon",
    "AccessionNumber": None,
    "StudyID": None,
}
every_adapter = pytest.mark.parametrize("name", sorted(adapters()))
every_adapter_and_header = pytest.mark.parametrize(
    ("name", "is_awkward"), [(name, odd) for name in sorted(adapters()) for odd in (False, True)]
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[list[Path], dict[Path, Document]]]:
    """Return what makes an adapter's images and results, once; the last result is a note that rejects the others."""

    @cache
    def made(name: str, is_awkward: bool = False) -> tuple[list[Path], dict[Path, Document]]:
        folder = tmp_path_factory.mktemp(name)
        write, question, findings = CASES[name]
        sources = write(folder)
        if is_awkward:
            sources = [_awkward(path, folder / f"awkward-{path.name}") for path in sources]
        answer = _answer(adapters()[name], question, findings, sources)
        documents = build_documents(answer, kinds=list(ResultKind))
        documents.append(_note([dcmread(BytesIO(document.data)) for document in documents]))
        paths = {folder / f"{number}-{document.kind}.dcm": document for number, document in enumerate(documents)}
        for path, document in paths.items():
            path.write_bytes(document.data)
        return sources, paths

    return made


def _awkward(path: Path, target: Path) -> Path:
    """Write an image with a header as it comes from the field."""
    ds = dcmread(path)
    ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 144", "Петрова^Анна"
    for keyword, value in AWKWARD.items():
        ds.pop(keyword, None)
        if value is not None:
            ds[keyword] = as_stored(keyword, value)
    dcmwrite(target, ds)
    return target


def _note(rejected: list[Dataset]) -> Document:
    place = Placement("2.25.800", "2.25.900", 100_009)
    at = datetime(2026, 3, 2, 11, tzinfo=UTC)
    note = build_rejection_note(rejected, codes.REJECTED_FOR_SAFETY, REVIEWER, "wrong side", place, at)
    data = write_dicom(note)
    check_rejection_note(data, [str(ds.SOPInstanceUID) for ds in rejected])
    return Document(REJECTION, place.sop_instance_uid, str(note.SOPClassUID), data)


def _answer(
    adapter: AdapterDefinition, question: Question | None, findings: dict[str, Any], sources: list[Path]
) -> Answer:
    asked = adapter if question is None else adapter.asked(question)
    files = tuple(InstanceFile(read_header(path), path) for path in sources)
    return Answer(
        adapter=asked,
        findings=asked.findings.model_validate(findings),
        input_record=asked.render(files).input_record(),
        provenance=provenance(),
        confidence=Confidence(0.87, calibrated=False, method="likelihood"),
        answered_at=datetime(2026, 3, 2, 10, 30, tzinfo=UTC),
        revision=1,
        files=files,
        digests=tuple(f"{number:064x}" for number in range(len(files))),
        question_key="" if question is None else question.key,
    )


@every_adapter_and_header
def test_the_validators_pass_every_kind(name: str, is_awkward: bool, results: Any) -> None:
    sources, paths = results(name, is_awkward)
    kinds = {document.kind for document in paths.values()}
    grey = set() if name == "cataract_surgery" else {"pr"}
    assert kinds == {"sr", "sc", "sc-multi", "ko", "pdf", "rejection"} | grey
    assert {path.name: dicom_validators.dciodvfy(path).errors for path in paths} == {path.name: () for path in paths}
    # What is mended in the results still stands in an awkward source.
    assert dicom_validators.dcentvfy([*([] if is_awkward else sources), *paths]).errors == ()


@every_adapter_and_header
def test_pydicom_in_strict_mode_and_highdicom_read_every_kind(
    name: str, is_awkward: bool, results: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    _, paths = results(name, is_awkward)
    for document in paths.values():
        ds = dcmread(BytesIO(document.data))
        ds.walk(lambda _, element: element.value)
        if is_awkward:
            found = (ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate, ds.StudyDate, ds.AccessionNumber)
            assert found == ("Петрова^Анна", "", "", "", "", "")
        if document.kind == "sr":
            content = Comprehensive3DSR.from_dataset(ds).content
            assert content.get_image_measurement_groups() or content.get_planar_roi_measurement_groups()
        elif document.kind in ("ko", "rejection"):
            assert KeyObjectSelectionDocument.from_dataset(ds).content.get_references()
        elif document.kind.startswith("sc"):
            assert ds.pixel_array.shape[-1] == 3
        elif document.kind == "pr":
            assert ds.ReferencedSeriesSequence[0].ReferencedImageSequence
        else:
            assert ds.EncapsulatedDocument.startswith(b"%PDF-")


@every_adapter
def test_dsr2html_shows_the_report_to_a_person(name: str, results: Any, tmp_path: Path) -> None:
    _, paths = results(name)
    sr = next(path for path, document in paths.items() if document.kind == "sr")
    page = tmp_path / "report.html"
    subprocess.run([dcmtk("dsr2html"), "+U8", str(sr), str(page)], check=True, capture_output=True, timeout=60)
    shown = page.read_text(encoding="utf-8")
    assert RESEARCH_STATEMENT in shown
    assert "input_digest=" in shown
    assert "preprocessing_digest=" in shown
    assert "dicom_worker=" in shown
    headline = next(
        child.TextValue
        for container in dcmread(sr).ContentSequence
        for child in container.get("ContentSequence", ())
        if child.ConceptNameCodeSequence[0].CodeMeaning == "Summary"
    )
    assert headline.split(",")[0].replace('"', "&quot;") in shown


def test_the_moments_of_a_video_are_seconds_after_its_start(results: Any) -> None:
    _, paths = results("cataract_surgery")
    (sr,) = (dcmread(path) for path, document in paths.items() if document.kind == "sr")
    texts = sr.ContentSequence[-1].ContentSequence
    (moments,) = (entry for entry in texts if entry.ValueType == "TCOORD")
    assert moments.TemporalRangeType == "MULTIPOINT"
    assert [round(float(time), 1) for time in moments.ReferencedTimeOffsets] == [0.2, 0.7, 1.2, 1.7]
    selected = moments.ContentSequence[0].ReferencedSOPSequence[0]
    assert list(selected.ReferencedFrameNumber) == [7, 19, 32, 44]


@every_adapter
def test_the_algorithm_is_contributing_equipment_of_every_object(name: str, results: Any) -> None:
    """Who made it, which version, a device UID that changes with the weights, and when."""
    _, paths = results(name)
    for path in paths:
        (algorithm,) = dcmread(path).ContributingEquipmentSequence
        assert algorithm.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"
        assert algorithm.ManufacturerModelName == name
        assert algorithm.Manufacturer
        assert algorithm.SoftwareVersions
        assert algorithm.DeviceUID == algorithm.DeviceSerialNumber
        assert algorithm.ContributionDateTime == "20260302103000.000000+0000"


@pytest.mark.slow
def test_pixelmed_passes_the_documents_of_every_adapter(results: Any, tmp_path: Path) -> None:
    """Its rules know the templates; one Java process checks all files, at more than a second each."""
    paths = [
        path
        for name in adapters()
        for path, document in results(name)[1].items()
        if document.kind == "sr" or (document.kind in ("ko", "rejection") and name == "cataract_surgery")
    ]
    paths.append(_signed(tmp_path / "signed.dcm"))
    verdicts = dicom_validators.pixelmed(paths)
    assert {str(path): verdict.errors for path, verdict in verdicts.items() if verdict.errors} == {}
    assert len(verdicts) == len(paths) == len(adapters()) + 3


def _signed(path: Path) -> Path:
    """Write a report that a person edited and signed, and that takes the place of an earlier one."""
    report = trauma_report([frames_of(TEST_FILES / "CT_small.dcm")])
    place: dict[str, Any] = {"series_instance_uid": "2.25.500", "series_number": 9001}
    sources = [TEST_FILES / "CT_small.dcm"]
    first = build_sr(report, sources, sop_instance_uid="2.25.601", **place)
    edited: dict[str, Any] = {"predecessor": first, "verifying": REVIEWER, "edited": True}
    path.write_bytes(write_dicom(build_sr(report, sources, sop_instance_uid="2.25.602", **place, **edited)))
    return path
