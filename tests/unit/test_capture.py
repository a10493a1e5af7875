"""A key image with its banner: what a person sees on it, and what a PACS stores."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.capture import build_capture
from dicom_node.headers import read_header
from dicom_node.marking import STANDIN_WARNING
from dicom_node.picture import MAX_SIDE, MIN_WIDTH, PictureError, probability_line, render_picture, verification_line
from dicom_node.report import Measurement, Person, Region, Report
from dicom_node.results import ResultError, check_result, write_dicom
from tests.sample_reports import REVIEWER, TEST_FILES, awkward_headers, frames_of, grey_image
from tests.sample_reports import vessel_report as vessel

CT = TEST_FILES / "CT_small.dcm"
MULTI_FRAME = TEST_FILES / "examples_ybr_color.dcm"
UIDS: dict[str, Any] = {
    "sop_instance_uid": "2.25.201",
    "series_instance_uid": "2.25.202",
    "series_number": 9002,
    "instance_number": 1,
}
LOUD = (214, 0, 86)
AMBER = (255, 193, 64)
GREEN = (110, 214, 154)
AWKWARD = awkward_headers()


def built(report: Report, source: Path | Dataset = CT, **options: Any) -> Dataset:
    """Return the capture as another program reads it."""
    data = write_dicom(build_capture(grey_image(512, 512), report, source, **{**UIDS, **options}))
    check_result(data, report)
    return dcmread(BytesIO(data))


def has_color(picture: np.ndarray[Any, Any], color: tuple[int, int, int]) -> bool:
    """Whether a pixel of exactly this colour is there."""
    return bool((picture == color).all(axis=2).any())


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (1024, 768), (2048, 2048)])
def test_image_stands_unchanged_above_the_banner(rows: int, columns: int) -> None:
    image = grey_image(rows, columns)
    picture = render_picture(image, vessel([frames_of(CT)]))
    left = (picture.shape[1] - columns) // 2
    assert np.array_equal(picture[:rows, left : left + columns], image)
    assert picture.shape[0] > rows
    assert picture.shape[1] == max(MIN_WIDTH, columns)


def test_what_a_small_model_sees_is_enlarged_and_a_huge_image_is_reduced() -> None:
    small = render_picture(grey_image(112, 112), vessel([frames_of(CT)]))
    assert small.shape[1] == MIN_WIDTH
    assert small.shape[0] > 500
    huge = render_picture(grey_image(3000, 1500), vessel([frames_of(CT)]))
    assert huge.shape[1] == MAX_SIDE // 2


@pytest.mark.parametrize("columns", [112, 512, 2048])
def test_nothing_on_the_banner_is_cut(columns: int) -> None:
    """However long the texts are, a margin to the right and below stays free, and more text makes more rows."""
    report = vessel([frames_of(CT)], is_standin=True)
    long = replace(report, headline=f"{report.headline} {'and a long finding ' * 20}{'x' * 300}")
    short_picture, picture = (render_picture(grey_image(columns, columns), r) for r in (report, long))
    assert picture.shape[0] > short_picture.shape[0]
    margin = picture[-picture.shape[1] // 4 :, -10:]
    assert len(np.unique(margin.reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(picture[-6:].reshape(-1, 3), axis=0)) == 1


def test_stand_in_is_loud_and_others_are_not() -> None:
    for is_standin in (True, False):
        picture = render_picture(grey_image(512, 512), vessel([frames_of(CT)], is_standin=is_standin))
        assert has_color(picture, LOUD) == is_standin


def test_review_changes_the_color_and_the_words() -> None:
    report = vessel([frames_of(CT)])
    unverified = render_picture(grey_image(512, 512), report)
    reviewed = render_picture(grey_image(512, 512), report, reviewer=REVIEWER)
    assert has_color(unverified, AMBER)
    assert not has_color(unverified, GREEN)
    assert has_color(reviewed, GREEN)
    assert not has_color(reviewed, AMBER)
    assert verification_line(None, edited=False) == "NOT FOR DIAGNOSIS - UNVERIFIED AI RESULT"
    assert "Reviewed by Hanako Ōta, St. Anna Hospital" in verification_line(REVIEWER, edited=False)
    assert "Reviewed and edited by Hanako Ōta" in verification_line(REVIEWER, edited=True)


def test_probability_is_never_shown_as_surer_than_it_is() -> None:
    report = vessel([frames_of(CT)])
    assert probability_line(report) == ""  # the headline says it all
    assert probability_line(replace(report, headline="Vessel blocked")) == "Probability 0.93 (uncalibrated)"
    assert probability_line(replace(report, headline="Blocked, probability 0.93")) == "Probability 0.93 (uncalibrated)"
    assert probability_line(replace(report, headline="Vessel blocked", calibrated=True)) == "Probability 0.93"
    finding = replace(report.findings[0], measurements=())
    assert probability_line(replace(report, findings=(finding,))) == ""


def test_name_in_a_script_the_font_lacks_is_still_drawn() -> None:
    render_picture(grey_image(512, 512), vessel([frames_of(CT)]), reviewer=Person("Müller^Jörg", "聖路加 病院"))


@pytest.mark.parametrize("shape", [(512, 512), (512, 512, 4), (0, 512, 3)])
def test_array_of_another_form_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match="uint8, rows x columns x 3"):
        render_picture(np.zeros(shape, np.uint8), vessel([frames_of(CT)]))


def test_capture_holds_the_very_picture_and_its_source_frames() -> None:
    report = vessel([frames_of(MULTI_FRAME, 3, 7)], is_standin=True)
    ds = built(report, MULTI_FRAME)
    expected = render_picture(grey_image(512, 512), report, caption="frames 3, 7")
    assert np.array_equal(ds.pixel_array, expected)
    (reference,) = ds.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == frames_of(MULTI_FRAME).sop_instance_uid
    assert list(reference.ReferencedFrameNumber) == [3, 7]
    assert (ds.ConversionType, ds.BurnedInAnnotation, ds.Modality) == ("WSD", "YES", "OT")  # codespell:ignore ot
    assert ds.SeriesDescription.startswith(STANDIN_WARNING)
    assert STANDIN_WARNING in ds.ImageComments
    assert report.headline in ds.ImageComments


def test_lossy_source_and_side_are_passed_on() -> None:
    source = dcmread(CT, stop_before_pixels=True)
    source.ImageLaterality = "L"
    source.LossyImageCompression, source.LossyImageCompressionRatio = "01", ["10", "2"]
    ds = built(vessel([frames_of(source)]), source)
    assert (ds.ImageLaterality, ds.LossyImageCompression) == ("L", "01")
    assert [float(ratio) for ratio in ds.LossyImageCompressionRatio] == [10, 2]


@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_odd_header_still_gives_a_capture_of_the_same_study(name: str) -> None:
    source = AWKWARD[name]
    assert built(vessel([frames_of(source)]), source).StudyInstanceUID == source.StudyInstanceUID


def test_same_capture_twice_is_the_same_bytes_and_our_own(tmp_path: Path) -> None:
    report = vessel([frames_of(CT)])
    first, second = (write_dicom(build_capture(grey_image(301, 303), report, CT, **UIDS)) for _ in range(2))
    assert first == second
    (tmp_path / "sc.dcm").write_bytes(first)
    assert read_header(tmp_path / "sc.dcm").is_own_result


def test_a_region_is_outlined_where_it_lies_and_only_on_its_own_image() -> None:
    """The picture is a copy of another size: a quarter of the source's columns and half of its rows."""
    source = frames_of(MULTI_FRAME, 3)
    region = Region(source, ((400.0, 800.0), (1200.0, 800.0), (1200.0, 900.0), (400.0, 900.0)), 1024, 2048, "lesion")
    plain = vessel([source])
    report = replace(plain, findings=(replace(plain.findings[0], region=region),))
    shown = built(report, MULTI_FRAME).pixel_array[:512].astype(int)
    left = (shown.shape[1] - 512) // 2
    changed = np.argwhere((shown != render_picture(grey_image(512, 512), plain)[:512]).any(axis=2))
    outlined = shown[400, left + 100 : left + 301]
    assert (outlined[:, 2] > outlined[:, 0] + 100).all(), "the upper edge is drawn all along"
    assert changed[:, 1].min() >= left + 95
    assert changed[:, 1].max() <= left + 305
    assert 360 < changed[:, 0].min() < 400, "the label stands above"
    assert changed[:, 0].max() <= 455
    other = built(report, MULTI_FRAME, shown=[frames_of(MULTI_FRAME, 5)]).pixel_array[:512]
    assert np.array_equal(other, render_picture(grey_image(512, 512), plain)[:512])


def test_capture_that_lost_its_warning_does_not_pass_the_check() -> None:
    report = vessel([frames_of(CT)], is_standin=True)
    capture = build_capture(grey_image(64, 64), report, CT, **UIDS)
    capture.ImageComments = "Vessel blocked"
    with pytest.raises(ResultError, match="Research use"):
        check_result(write_dicom(capture), report)


def test_probability_measurement_of_another_finding_is_found() -> None:
    report = vessel([frames_of(CT)])
    second = replace(report.findings[0], tracking_id="second")
    first = replace(report.findings[0], measurements=(Measurement(second.finding_type, 1.0, second.finding_type),))
    assert "0.93" in probability_line(replace(report, findings=(first, second), headline="Vessel blocked"))
