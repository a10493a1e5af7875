"""Key objects, presentation states, picture books and paper reports: what other programs find in them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from highdicom.ko import KeyObjectSelectionDocument
from PIL import Image
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.encapsulated_pdf import EncapsulationError, build_encapsulated_pdf, encapsulate
from dicom_node.evidence import evidence_header
from dicom_node.headers import read_header
from dicom_node.key_objects import KeyObjectError, build_key_objects, build_rejection_note
from dicom_node.marking import RESEARCH_STATEMENT, STANDIN_WARNING
from dicom_node.multiframe_capture import KeyImage, build_multiframe_capture
from dicom_node.picture import PictureError, RgbArray, render_picture
from dicom_node.placement import Placement
from dicom_node.presentation import build_presentations
from dicom_node.report import Region, Report, SourceFrames
from dicom_node.results import ResultError, check_rejection_note, check_result, write_dicom
from dicom_node.sr import build_sr
from models.phantoms import draw_vessel_run
from tests import dicom_validators
from tests.sample_reports import (
    ANSWERED_AT,
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
from tests.services.process import program
from worker.demo.phantom_studies import write_xa_run

CT = TEST_FILES / "CT_small.dcm"
MULTI_FRAME = TEST_FILES / "examples_ybr_color.dcm"
#: Real sources by kind, and whether a grey-scale state can show them.
SOURCES: Mapping[str, tuple[Path, bool]] = {
    "CT": (CT, True),
    "MR": (TEST_FILES / "MR_small.dcm", True),
    "CR": (DATA_STORE / "RG1_UNCR.dcm", True),
    "enhanced CT": (DATA_STORE / "eCT_Supplemental.dcm", False),
    "US multi-frame": (MULTI_FRAME, False),
    "CR with a Japanese name": (CHARSET_FILES / "chrJapMulti.dcm", True),
}


def place(number: int) -> Placement:
    return Placement(f"2.25.90{number}", f"2.25.91{number}", 100_000 + number)


def made(report: Report, source: Path | Dataset) -> dict[str, Dataset]:
    """Return one object of every kind beside the SR and the single capture."""
    images = [KeyImage(grey_image(120, 200), report.sources[0]), KeyImage(grey_image(160, 200), report.sources[0])]
    found = {
        "ko": build_key_objects(report, source, report.sources, place(1)),
        "sc-multi": build_multiframe_capture(images, report, source, place(2)),
        "pdf": build_encapsulated_pdf(report, source, [grey_image(200, 320)], place(3)),
    }
    states = build_presentations(report, [source], report.sources, lambda number: place(4 + number))
    return found | {f"pr{number}": state for number, state in enumerate(states)}


def strictly(ds: Dataset, report: Report) -> Dataset:
    """Return the object as another program reads it that takes no odd value."""
    data = write_dicom(ds)
    check_result(data, report)
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.RAISE
    try:
        read = dcmread(BytesIO(data))
        read.walk(lambda _, element: element.value)
    finally:
        config.settings.reading_validation_mode = before
    return read


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_validators_pass_every_object_on_sources_of_every_kind(kind: str, tmp_path: Path) -> None:
    source, is_grey = SOURCES[kind]
    report = trauma_report([frames_of(source)])
    paths = []
    for name, ds in made(report, source).items():
        strictly(ds, report)
        paths.append(tmp_path / f"{name}.dcm")
        paths[-1].write_bytes(write_dicom(ds))
        assert dicom_validators.dciodvfy(paths[-1]).errors == (), name
    assert [path.stem for path in paths] == ["ko", "sc-multi", "pdf", *(["pr0"] if is_grey else [])]
    if "name" not in kind:  # dcentvfy compares bytes, and the results are in UTF-8
        assert dicom_validators.dcentvfy([source, *paths]).errors == ()
    assert all(read_header(path).is_own_result for path in paths)


@pytest.mark.parametrize("name", ["missing patient id", "birth date in year 0", "sex question mark"])
def test_dciodvfy_passes_objects_on_odd_headers(name: str, tmp_path: Path) -> None:
    source = awkward_headers()[name]
    report = vessel_report([frames_of(source)])
    for kind, ds in made(report, source).items():
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(write_dicom(ds))
        assert dicom_validators.dciodvfy(path).errors == (), kind


def test_key_objects_select_the_frames_and_say_what_was_found() -> None:
    report = vessel_report([frames_of(MULTI_FRAME, 3, 7)], is_standin=True)
    read = strictly(build_key_objects(report, MULTI_FRAME, report.sources, place(1)), report)
    document = KeyObjectSelectionDocument.from_dataset(read)
    (selected,) = document.content.get_references()
    assert selected.ReferencedSOPSequence[0].ReferencedFrameNumber == [3, 7]
    assert document.resolve_reference(report.sources[0].sop_instance_uid)[0] == read.StudyInstanceUID
    assert read.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
    (observer,) = document.content.get_observer_contexts()
    assert observer.observer_type.meaning == "Device"
    said = next(entry.TextValue for entry in read.ContentSequence if "TextValue" in entry and "\n" in entry.TextValue)
    assert {report.headline, STANDIN_WARNING, RESEARCH_STATEMENT} <= set(said.split("\n"))


def test_a_frame_named_twice_is_selected_once() -> None:
    report = vessel_report([frames_of(MULTI_FRAME, 3)])
    twice = [frames_of(MULTI_FRAME, 7), frames_of(MULTI_FRAME, 3), frames_of(MULTI_FRAME, 7)]
    read = strictly(build_key_objects(report, MULTI_FRAME, twice, place(1)), report)
    (selected,) = (entry for entry in read.ContentSequence if entry.ValueType == "IMAGE")
    assert selected.ReferencedSOPSequence[0].ReferencedFrameNumber == [3, 7]
    with pytest.raises(KeyObjectError, match="no frame to select"):
        build_key_objects(report, MULTI_FRAME, [], place(1))


def test_a_rejection_note_names_what_was_sent_and_who_rejects_it(tmp_path: Path) -> None:
    report = vessel_report([frames_of(CT)])
    sr = build_sr(report, [CT], sop_instance_uid="2.25.1", series_instance_uid="2.25.2", series_number=1)
    rejected = [sr, *made(report, CT).values()]
    title = codes.REJECTED_FOR_SAFETY
    note = build_rejection_note(rejected, title, REVIEWER, "the vessel is open", place(9), ANSWERED_AT)
    data = write_dicom(note)
    uids = {str(ds.SOPInstanceUID) for ds in rejected}
    check_rejection_note(data, uids)
    with pytest.raises(ResultError, match="other objects"):
        check_rejection_note(data, uids - {"2.25.1"})
    read = KeyObjectSelectionDocument.from_dataset(dcmread(BytesIO(data)))
    references = [(entry.ReferencedSOPSequence[0], entry.ValueType) for entry in read.content.get_references()]
    assert {str(reference.ReferencedSOPInstanceUID) for reference, _ in references} == uids
    types = {reference.ReferencedSOPClassUID.name: value_type for reference, value_type in references}
    assert types["Comprehensive 3D SR Storage"] == types["Encapsulated PDF Storage"] == "COMPOSITE"
    assert types["Multi-frame True Color Secondary Capture Image Storage"] == "IMAGE"
    assert read.ConceptNameCodeSequence[0].CodeValue == "113037"
    assert read.ContributingEquipmentSequence == sr.ContributingEquipmentSequence
    assert "the vessel is open" in [entry.get("TextValue", "") for entry in read.ContentSequence][-len(uids) - 1]
    (observer,) = read.content.get_observer_contexts()
    assert observer.observer_identifying_attributes.name == REVIEWER.name
    path = tmp_path / "note.dcm"
    path.write_bytes(data)
    assert dicom_validators.dciodvfy(path).errors == ()


def test_results_of_two_studies_are_not_rejected_in_one_note() -> None:
    first, second = Dataset(), Dataset()
    first.StudyInstanceUID, second.StudyInstanceUID = "2.25.1", "2.25.2"
    with pytest.raises(KeyObjectError, match="not of 2"):
        build_rejection_note([first, second], codes.REJECTED_FOR_QUALITY, REVIEWER, "wrong", place(9), ANSWERED_AT)


def with_region(source: SourceFrames, rows: int, columns: int) -> Report:
    plain = vessel_report([source])
    outline = ((1.5, 2.0), (30.0, 2.0), (30.0, 40.0), (1.5, 40.0))
    region = Region(source, outline, rows, columns, "nodule")
    return replace(plain, findings=(replace(plain.findings[0], region=region),))


def test_a_presentation_state_outlines_the_region_and_keeps_the_window() -> None:
    source = dcmread(CT, stop_before_pixels=True)
    source.WindowCenter, source.WindowWidth = ["40", "300"], ["400", "1500"]
    report = with_region(frames_of(source), 128, 128)
    (state,) = build_presentations(report, [source], report.sources, place)
    read = strictly(state, report)
    warnings, outline = read.GraphicAnnotationSequence
    assert "ReferencedImageSequence" not in warnings, "the warnings are for every image"
    assert RESEARCH_STATEMENT in warnings.TextObjectSequence[0].UnformattedTextValue
    assert report.headline in warnings.TextObjectSequence[0].UnformattedTextValue
    (graphic,) = outline.GraphicObjectSequence
    assert list(graphic.GraphicData) == [1.5, 2, 30, 2, 30, 40, 1.5, 40, 1.5, 2]
    assert outline.TextObjectSequence[0].UnformattedTextValue == "nodule"
    (window,) = read.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (40, 400)
    assert (read.RescaleIntercept, read.RescaleSlope, read.RescaleType) == (-1024, 1, "HU")
    area = read.DisplayedAreaSelectionSequence[0]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [128, 128]
    assert list(area.PresentationPixelSpacing) == list(source.PixelSpacing)


def test_inverted_sources_stay_inverted_and_colour_has_no_grey_state() -> None:
    source = dcmread(CT, stop_before_pixels=True)
    source.PhotometricInterpretation = "MONOCHROME1"
    report = vessel_report([frames_of(source)])
    (state,) = build_presentations(report, [source], report.sources, place)
    assert state.PresentationLUTShape == "INVERSE"
    source.PhotometricInterpretation = "RGB"
    assert build_presentations(report, [source], report.sources, place) == []


def test_images_that_one_state_cannot_describe_get_one_each() -> None:
    first, second = (dcmread(CT, stop_before_pixels=True) for _ in range(2))
    second.SOPInstanceUID, second.RescaleSlope = "2.25.77", "2"
    report = vessel_report([frames_of(first), frames_of(second)])
    states = build_presentations(report, [first, second], report.sources, place)
    assert [state.RescaleSlope for state in states] == [1, 2]
    assert len({state.SOPInstanceUID for state in states}) == 2


@pytest.mark.parametrize("operation", ["AVG_SUB", "TID", "NONE"])
def test_a_run_that_is_to_be_subtracted_is_subtracted_by_its_state(operation: str, tmp_path: Path) -> None:
    frames = draw_vessel_run(np.random.default_rng(7), blocked=True, size=64).pixels
    source = dcmread(write_xa_run(tmp_path, frames, patient_name="Yamada^Tarou", body_part="LEG"))
    mask = Dataset()
    mask.MaskOperation = operation
    if operation == "AVG_SUB":
        mask.MaskFrameNumbers = [1, 2]
    if operation == "TID":
        mask.TIDOffset = 1
    source.MaskSubtractionSequence, source.RecommendedViewingMode = [mask], "SUB"
    report = vessel_report([frames_of(source, 4)])
    (state,) = build_presentations(report, [source], report.sources, place)
    path = tmp_path / "pr.dcm"
    path.write_bytes(write_dicom(state))
    assert dicom_validators.dciodvfy(path).errors == ()
    if operation == "NONE":
        assert "MaskSubtractionSequence" not in state
    else:
        mask.ContrastFrameAveraging = 1
        assert state.MaskSubtractionSequence[0] == mask
        assert state.RecommendedViewingMode == "SUB"


def test_dcmtk_shows_the_image_through_the_presentation_state(tmp_path: Path) -> None:
    """It applies the window of the state: what lies below is black, what lies above is white."""
    source = dcmread(CT)
    source.WindowCenter, source.WindowWidth = "40", "400"
    image, path, target = tmp_path / "ct.dcm", tmp_path / "pr.dcm", tmp_path / "shown.pgm"
    source.save_as(image)
    report = with_region(frames_of(source), 128, 128)
    (state,) = build_presentations(report, [source], report.sources, place)
    path.write_bytes(write_dicom(state))
    arguments = [program("dcmp2pgm", "dcmtk"), "--pstate", str(path), str(image), str(target)]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown = np.asarray(Image.open(target)).astype(int)
    hounsfield = source.pixel_array.astype(int) * int(source.RescaleSlope) + int(source.RescaleIntercept)
    assert (shown[hounsfield <= -161] == 0).all()
    assert (shown[hounsfield >= 241] == 255).all()
    assert len(np.unique(shown)) > 50


def test_the_picture_book_has_a_page_for_each_key_image() -> None:
    report = vessel_report([frames_of(MULTI_FRAME, 3, 7)])
    sources = [frames_of(MULTI_FRAME, 3), frames_of(MULTI_FRAME, 7)]
    images = [KeyImage(grey_image(512, 512), sources[0]), KeyImage(grey_image(400, 640), sources[1])]
    read = strictly(build_multiframe_capture(images, report, MULTI_FRAME, place(2)), report)
    pages = read.pixel_array
    assert (read.NumberOfFrames, read.FrameIncrementPointer, float(read.FrameTime)) == (2, 0x00181063, 2000)
    for page, image, number in zip(pages, images, (3, 7), strict=True):
        expected = render_picture(image.image, report, caption=f"frame {number}")
        assert np.array_equal(page[: expected.shape[0], : expected.shape[1]], expected)
    assert list(read.SourceImageSequence[0].ReferencedFrameNumber) == [3, 7]
    with pytest.raises(PictureError, match="no key image"):
        build_multiframe_capture([], report, MULTI_FRAME, place(2))


def pdf_text(ds: Dataset, folder: Path) -> str:
    """Return the text that Ghostscript finds in an Encapsulated PDF, spaces made one."""
    path = folder / "report.pdf"
    path.write_bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    arguments = [program("gs", "ghostscript"), "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=txtwrite", "-sOutputFile=-"]
    found = subprocess.run([*arguments, str(path)], check=True, capture_output=True, text=True, timeout=60)
    return " ".join(found.stdout.split())


def test_the_paper_report_says_all_and_on_every_page_what_it_is_not_for(tmp_path: Path) -> None:
    report = replace(trauma_report([frames_of(CT)]), headline="Costs $5 and $6, first of all")
    read = strictly(build_encapsulated_pdf(report, CT, [grey_image(300, 400)] * 2, place(3), reviewer=REVIEWER), report)
    text = pdf_text(read, tmp_path)
    assert "Costs $5 and $6, first of all" in text, "no formula, no ligature"
    for said in ("Laceration (Liver)", "Probability: 0.71", "Subtle bowel injury is a known weakness.", "page 3 of 3"):
        assert said in text
    for said in ("base_revision=main", report.algorithm.device_uid, report.sources[0].sop_instance_uid, "1CT1"):
        assert said in text
    assert "Reviewed by" in text
    assert "Study of 2004-01-19" in text
    assert text.count(RESEARCH_STATEMENT) >= 4
    assert text.count(STANDIN_WARNING) >= 4
    assert read.DocumentTitle.startswith(STANDIN_WARNING)
    assert read.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_a_long_report_flows_over_pages_and_loses_nothing(tmp_path: Path) -> None:
    report = trauma_report([frames_of(CT)])
    words = [f"word{number}" for number in range(700)]
    narrative = replace(report.narratives[0], text=" ".join(words) + " " + "x" * 400)
    ds = build_encapsulated_pdf(replace(report, narratives=(narrative,)), CT, [], place(3))
    text = pdf_text(ds, tmp_path)
    assert all(word in text for word in words)
    assert "page 3 of 3" in text


def test_bytes_that_are_no_pdf_are_not_encapsulated() -> None:
    report = vessel_report([frames_of(CT)])
    with pytest.raises(EncapsulationError, match="no PDF"):
        encapsulate(b"<html>", report, evidence_header(CT), report.sources, place(3))


def test_the_same_answer_makes_the_same_bytes_in_another_process() -> None:
    """Also where Python hashes text otherwise: a PDF must not depend on it."""
    code = (
        "import hashlib; from tests.unit.test_result_objects import *;"
        "report = trauma_report([frames_of(CT)]);"
        "print([hashlib.sha256(write_dicom(ds)).hexdigest() for ds in made(report, CT).values()])"
    )
    here = [hashlib.sha256(write_dicom(ds)).hexdigest() for ds in made(trauma_report([frames_of(CT)]), CT).values()]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": os.environ.get("TZ", "UTC")}
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert other.stdout.strip() == str(here)


def test_an_object_that_lost_its_warning_does_not_pass_the_check() -> None:
    report = vessel_report([frames_of(CT)], is_standin=True)
    objects = made(report, CT)
    objects["ko"].ContentSequence[5].TextValue = "Vessel blocked"
    objects["pr0"].GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue = "Vessel blocked"
    objects["pdf"].DocumentTitle = "Vessel blocked"
    objects["sc-multi"].ImageComments = "Vessel blocked"
    for ds in objects.values():
        with pytest.raises(ResultError, match=r"does not say|STAND-IN"):
            check_result(write_dicom(ds), report)


def glyph_rows(picture: RgbArray, top: int) -> list[int]:
    """Return the heights of the rows of text below `top`, in pixels: of each run of lines that hold bright pixels."""
    bright = (picture[top:].max(axis=2) > 120).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], bright.astype(int), [0]))))
    return [int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize("side", [512, 2048])
def test_text_is_legible_at_the_size_a_viewer_shows_it(side: int) -> None:
    """The smallest row is 1/75 of the width or more: 10 pixels on a picture of 640, 27 on one of 2048."""
    report = vessel_report([frames_of(CT)])
    picture = render_picture(grey_image(side, side), report)
    heights = [height for height in glyph_rows(picture, side + 10) if height > 4]
    assert len(heights) >= 5
    assert min(heights) >= max(9, picture.shape[1] / 76)
