"""Frames as the viewer gets them: the values are the project's own, and what is told about them shows them right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dicom_node.display import Window, colours, is_colour, modality_values, padding_mask, shade
from dicom_node.headers import InstanceFile, read_header
from dicom_node.mask_module import plan_subtraction
from dicom_node.pixels import PixelError, read_frame, read_image
from dicom_node.subtraction import Subtractor
from dicom_node.video import read_video, read_video_frames
from dicom_node.voi import VoiLut
from tests.phantoms.angiography import Detector, run, write_dsa
from tests.phantoms.ct import write_ct
from tests.phantoms.images import write_image
from tests.phantoms.nuclear import write_pet
from tests.phantoms.pictures import write_film_with_voi_luts
from tests.phantoms.volume import axial_planes
from worker.demo.phantom_video import write_video
from worker.web.viewer.arrangement import arrange, edge_letters
from worker.web.viewer.values import Look, read_values

FIRST_IS_MASK = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": 1}


def sample(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CT_small.dcm", "int16"),  # uncompressed, with a rescale
        ("MR_small_bigendian.dcm", "int16"),
        ("JPEG2000.dcm", "int16"),
        ("MR_small_RLE.dcm", "int16"),
        ("MR_small_jpeg_ls_lossless.dcm", "int16"),
        ("JPGExtended.dcm", "uint16"),
        ("mlut_18.dcm", "uint16"),  # a modality LUT
        ("rtdose.dcm", "uint16"),  # 32 bits
        ("examples_palette.dcm", "rgb"),
        ("examples_ybr_color.dcm", "rgb"),
        ("SC_rgb_jpeg_dcmtk.dcm", "rgb"),
    ],
)
def test_values_are_those_that_the_project_reads(name: str, kind: str) -> None:
    image = read_image(sample(name))
    index = image.frames - 1
    (values,) = read_values(image.path, [index])
    frame = read_frame(image, index)
    about = json.loads(json.dumps(values.about))
    assert about["kind"] == kind
    assert values.pixels.shape[:2] == (about["rows"], about["columns"]) == (image.rows, image.columns)
    sent = np.frombuffer(values.body(), "u1" if kind == "rgb" else f"<{np.dtype(kind).str[1:]}")
    if is_colour(image):
        assert np.array_equal(sent, colours(image, frame).reshape(-1))
        return
    visible = ~padding_mask(image, frame)
    again = sent.reshape(frame.shape) * about["slope"] + about["intercept"]
    wanted = modality_values(image, frame, index)
    # 32 bits are brought to 16 in equal steps: nothing is off by more than half of one.
    np.testing.assert_allclose(again[visible], wanted[visible], rtol=1e-6, atol=abs(about["slope"]) * 0.51)
    if image.bits_allocated <= 16:
        np.testing.assert_allclose(again[visible], wanted[visible], rtol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
def test_a_window_between_the_bounds_is_the_files_own_window(tmp_path: Path, function: str) -> None:
    windows = {"WindowCenter": [50, 300], "WindowWidth": [400, 1500], "VOILUTFunction": function}
    (file, *_) = write_ct(tmp_path, axial_planes(1), **windows)
    image = read_image(file.path)
    (values,) = read_values(file.path, [0])
    first, second = values.about["windows"]
    assert (first["center"], first["width"]) == (50, 400)
    wanted = shade(image, read_frame(image), Window(300, 1500, function))
    shown = values.pixels * values.about["slope"] + values.about["intercept"]
    between = np.clip((shown - second["low"]) / (second["high"] - second["low"]), 0, 1) * 255
    assert np.abs(between - wanted).max() <= 0.51


def test_padding_is_black_in_either_polarity(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint16).reshape(1, 4, 4)
    for polarity, black in (("MONOCHROME2", 0), ("MONOCHROME1", 65535)):
        path = write_image(
            tmp_path / f"{polarity}.dcm", pixels, PhotometricInterpretation=polarity, PixelPaddingValue=7
        )
        (values,) = read_values(path, [0])
        assert values.about["inverted"] == (polarity == "MONOCHROME1")
        assert values.pixels.flat[7] == black
        assert (values.about["low"], values.about["high"]) == (0, 15)


def test_each_slice_of_a_pet_keeps_its_own_slope(tmp_path: Path) -> None:
    files = write_pet(tmp_path, [np.full((32, 32), top, np.float32) for top in (100, 9000)])
    tops = [read_values(file.path, [0])[0] for file in files]
    assert [round(float(one.pixels.max() * one.about["slope"])) for one in tops] == [100, 9000]


def test_what_only_a_curve_can_say_comes_as_the_file_says_it(tmp_path: Path) -> None:
    path = write_film_with_voi_luts(tmp_path, [min(1023, place * place // 4096) for place in range(4096)])
    (values,) = read_values(path, [0])
    assert values.about["by_file"]
    assert not values.about["windows"]
    (shown,) = read_values(path, [0], Look.FILE)
    image = read_image(path)
    assert np.array_equal(shown.pixels, shade(image, read_frame(image), VoiLut(1)))


def test_a_run_that_asks_for_it_comes_less_its_mask(tmp_path: Path) -> None:
    path = write_dsa(tmp_path, run([0, 0.5, 1], Detector()), Detector(), FIRST_IS_MASK)
    image = read_image(path)
    plan, _ = plan_subtraction(image, 2)
    assert plan is not None
    (values,) = read_values(path, [2])
    assert values.about["subtracted"] == plan.in_words
    wanted = Subtractor(image).subtract(plan)
    again = values.pixels * values.about["slope"] + values.about["intercept"]
    np.testing.assert_allclose(again, wanted, atol=values.about["slope"] * 0.51)
    (stored,) = read_values(path, [2], Look.STORED)
    assert stored.about["subtracted"] == ""
    assert np.array_equal(stored.pixels, read_frame(image, 2))


def test_pixels_that_are_not_square_are_told_to_be_stretched(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.dcm", np.zeros((1, 4, 8), np.uint8), PixelAspectRatio=["2", "1"])
    assert read_values(path, [0])[0].about["stretch"] == [2.0, 1.0]


def test_frames_of_a_video_are_decoded_in_runs(tmp_path: Path) -> None:
    red = np.arange(40, dtype=np.uint8)[:, None, None, None] * 5
    path = write_video(tmp_path, np.broadcast_to(red, (40, 64, 64, 3)).copy())
    video = read_video(path)
    run = read_values(path, range(20, 60))
    assert len(run) == 20  # the header may count a few more than there are
    assert len(read_values(path, range(8))) == 8
    going_on = read_values(path, range(8, 16))
    assert np.array_equal(going_on[7].pixels, next(iter(read_video_frames(video, [15]))))
    one_by_one = [next(iter(read_video_frames(video, [index]))) for index in (20, 27, 39)]
    for index, frame in zip((0, 7, 19), one_by_one, strict=True):
        assert np.array_equal(run[index].pixels, frame)
    with pytest.raises(PixelError, match="it has no frame 61"):
        read_values(path, [60])


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    (file, *_) = write_ct(tmp_path, axial_planes(1))
    file.path.write_bytes(file.path.read_bytes()[:-3000])
    with pytest.raises(PixelError, match=r"truncated.*send the instance again"):
        read_values(file.path, [0])


def test_slices_come_from_the_feet_up_and_what_is_no_slice_behind(tmp_path: Path) -> None:
    slices = write_ct(tmp_path, axial_planes(5))
    (localizer,) = write_ct(tmp_path, axial_planes(1), series="2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    arranged = arrange([localizer, *reversed(slices)])
    assert arranged.in_stack == 5
    wanted = [file.header.sop_instance_uid for file in (*slices, localizer)]
    assert [one.sop_instance_uid for one in arranged.shown] == wanted
    positions = [one.position_mm for one in arranged.shown[:5] if one.position_mm is not None]
    assert np.diff(positions).tolist() == [5.0] * 4
    assert arranged.rate is None


def test_edges_are_named_as_the_patient_lies() -> None:
    assert edge_letters((1, 0, 0, 0, 1, 0)) == ("R", "A", "L", "P")
    assert edge_letters((0, 1, 0, 0, 0, -1)) == ("A", "H", "P", "F")
    assert edge_letters((0.8, 0.6, 0, -0.6, 0.8, 0)) == ("RA", "AL", "LP", "PR")
    assert edge_letters(None) is None


@pytest.mark.parametrize(
    ("header", "edges", "view"),
    [
        ({"PatientOrientation": ["L", "F"], "ImageLaterality": "U", "ViewPosition": "PA"}, ["R", "H", "L", "F"], "PA"),
        ({"PatientOrientation": ["A", "FR"], "ImageLaterality": "R", "ViewPosition": "MLO"}, ["P", "HL", "A", "FR"],
         "right MLO"),
        ({"PatientOrientation": ["LE", "F"], "Laterality": "L"}, None, "left"),  # of a quadruped (PS3.3 C.7.6.1.1.1)
        ({"PatientOrientation": ""}, None, ""),
    ],
)  # fmt: skip
def test_a_film_says_which_side_is_which(
    tmp_path: Path, header: dict[str, object], edges: list[str] | None, view: str
) -> None:
    path = write_image(tmp_path / "a.dcm", np.zeros((1, 4, 4), np.uint8), **header)
    about = read_values(path, [0])[0].about
    assert (about["edges"], about["view"]) == (edges, view)


def test_a_run_plays_as_fast_as_the_header_recommends(tmp_path: Path) -> None:
    frames = np.zeros((6, 8, 8), np.uint8)
    path = write_image(tmp_path / "a.dcm", frames, Modality="XA", FrameTime="40")
    ds = dcmread(path)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.save_as(path)

    def rate() -> float | None:
        return arrange([InstanceFile(read_header(path), path)]).rate

    assert rate() == 25
    ds.RecommendedDisplayFrameRate = 15
    ds.save_as(path)
    assert rate() == 15
