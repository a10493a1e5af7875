"""What belongs to a picture and what lies over or around it: regions, shutters, overlays, the shape of pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from dicom_node.display import Window, colours, shade
from dicom_node.overlays import burn, overlay_mask, overlays
from dicom_node.picture_areas import Box, black_outside, burned_in_annotation, crop, shutter_mask, ultrasound_box
from dicom_node.pixel_aspect import SquareSize, square_size
from dicom_node.pixels import ImageAttributes, PixelError, read_frame, read_image
from tests.phantoms.pictures import US_COLUMNS, US_ROWS, ultrasound_frames, write_ultrasound_cine
from worker.demo.phantom_studies import write_ct_series, write_xa_run

SIZE = (40, 60)


def changed(path: Path, change: Callable[[Dataset], object]) -> ImageAttributes:
    ds = dcmread(path)
    change(ds)
    ds.save_as(path, enforce_file_format=False)
    return read_image(path)


@pytest.fixture
def xa(tmp_path: Path) -> Path:
    return write_xa_run(tmp_path, np.full((3, *SIZE), 900, dtype=np.uint16))


# Ultrasound regions


@pytest.fixture
def cine(tmp_path: Path) -> Path:
    return write_ultrasound_cine(tmp_path, ultrasound_frames())


def test_the_box_of_an_ultrasound_picture_leaves_the_writing_outside(cine: Path) -> None:
    image = read_image(cine)
    box = ultrasound_box(image)
    assert box == Box(US_ROWS[0], US_COLUMNS[0], US_ROWS[1] + 1, US_COLUMNS[1] + 1)
    assert Box.from_json(json.loads(json.dumps(box.to_json()))) == box
    picture = colours(image, read_frame(image))
    assert (picture[2:6, 4:60] == 255).all()
    blackened = black_outside(picture, box)
    assert not blackened[:10].any()
    assert np.array_equal(crop(blackened, box), crop(picture, box))
    assert crop(picture, box).shape == (60, 80, 3)
    assert (picture[2:6, 4:60] == 255).all(), "the picture itself is not changed"


def region(top: int, left: int, bottom: int, right: int, spatial_format: int = 1) -> Dataset:
    ds = Dataset()
    ds.RegionLocationMinY0, ds.RegionLocationMinX0 = top, left
    ds.RegionLocationMaxY1, ds.RegionLocationMaxX1 = bottom, right
    ds.RegionSpatialFormat = spatial_format
    return ds


@pytest.mark.parametrize(
    ("regions", "box"),
    [
        # Two pictures side by side; the spectrum below is none.
        ([region(10, 5, 49, 54), region(10, 60, 49, 110), region(60, 5, 80, 110, 3)], Box(10, 5, 50, 111)),
        ([region(60, 5, 80, 110, 3)], Box(60, 5, 81, 111)),
        ([region(0, 0, 89, 119)], None),
        ([region(10, 10, 400, 400)], Box(10, 10, 90, 120)),
        ([region(50, 50, 20, 20)], None),
        ([Dataset()], None),
        ([], None),
    ],
)
def test_regions_make_one_box(cine: Path, regions: list[Dataset], box: Box | None) -> None:
    assert ultrasound_box(changed(cine, lambda ds: setattr(ds, "SequenceOfUltrasoundRegions", regions))) == box


@pytest.mark.parametrize(("value", "told"), [("YES", True), ("NO", False), ("", None), ("MAYBE", None)])
def test_burned_in_annotation_is_as_the_header_says(xa: Path, value: str, told: bool | None) -> None:
    assert burned_in_annotation(changed(xa, lambda ds: setattr(ds, "BurnedInAnnotation", value))) is told


# Shutters


def test_a_rectangular_shutter_shows_its_edges_and_what_is_within(xa: Path) -> None:
    def shut(ds: Dataset) -> None:
        ds.ShutterShape = "RECTANGULAR"
        ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 5, 36
        ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 11, 50

    image = changed(xa, shut)
    hidden = shutter_mask(image)
    expected = np.ones(SIZE, dtype=bool)
    expected[4:36, 10:50] = False
    assert np.array_equal(hidden, expected)
    picture = shade(image, read_frame(image), Window(500, 1000), padding=hidden)
    assert (picture[expected] == 0).all()
    assert (picture[~expected] > 0).all()


def test_a_circular_shutter_has_its_centre_and_radius(xa: Path) -> None:
    def shut(ds: Dataset) -> None:
        ds.ShutterShape, ds.CenterOfCircularShutter, ds.RadiusOfCircularShutter = "CIRCULAR", [21, 31], 10

    hidden = shutter_mask(changed(xa, shut))
    assert hidden is not None
    assert [bool(hidden[row, column]) for row, column in ((20, 30), (30, 30), (31, 30), (20, 40), (20, 41))] == [
        False, False, True, False, True,
    ]  # fmt: skip
    assert np.pi * 100 == pytest.approx((~hidden).sum(), rel=0.05)


def test_a_polygonal_shutter_and_a_rectangle_hide_what_either_hides(xa: Path) -> None:
    def shut(ds: Dataset) -> None:
        ds.ShutterShape = ["POLYGONAL", "RECTANGULAR"]
        ds.VerticesOfThePolygonalShutter = [1, 1, 1, 60, 40, 1]
        ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 1, 20
        ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 1, 60

    hidden = shutter_mask(changed(xa, shut))
    assert hidden is not None
    assert not hidden[0].any()
    assert hidden[20:].all()
    assert (~hidden[:20]).sum() == pytest.approx(60 * 20 * 0.75, rel=0.05)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [500, 500], "RadiusOfCircularShutter": 3},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 5, 5]},
    ],
)
def test_a_shutter_that_is_none_hides_nothing(xa: Path, attributes: dict[str, object]) -> None:
    assert shutter_mask(changed(xa, lambda ds: ds.update(attributes))) is None


# Overlays


def plane(*marks: tuple[int, int], size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    drawn = np.zeros(size, dtype=np.bool_)
    for row, column in marks:
        drawn[row, column] = True
    return drawn


def add_overlay(
    ds: Dataset, planes: list[NDArray[np.bool_]], origin: tuple[int, int] = (1, 1), group: int = 0x6000
) -> None:
    ds.add_new((group, 0x0010), "US", planes[0].shape[0])
    ds.add_new((group, 0x0011), "US", planes[0].shape[1])
    ds.add_new((group, 0x0040), "CS", "G")
    ds.add_new((group, 0x0050), "SS", list(origin))
    ds.add_new((group, 0x0100), "US", 1)
    ds.add_new((group, 0x0102), "US", 0)
    ds.add_new((group, 0x1500), "LO", "Measurements")
    bits = np.packbits(np.concatenate([one.ravel() for one in planes]), bitorder="little").tobytes()
    ds.add_new((group, 0x3000), "OW", bits + b"\0" * (len(bits) % 2))


def test_a_single_overlay_lies_over_every_frame(xa: Path) -> None:
    image = changed(xa, lambda ds: add_overlay(ds, [plane((3, 4), (39, 59))]))
    (overlay,) = overlays(image)
    assert (overlay.label, overlay.kind, overlay.bit) == ("Measurements", "G", None)
    for index in (0, 2):
        mask = overlay_mask(image, overlay, index)
        assert mask is not None
        assert np.argwhere(mask).tolist() == [[3, 4], [39, 59]]
    picture = shade(image, read_frame(image), Window(500, 1000))
    assert burn(picture, mask)[3, 4] == 255
    assert burn(picture, mask, 0)[3, 4] == 0
    assert picture[3, 4] not in (0, 255)


def test_an_overlay_begins_at_its_origin_even_outside_the_image(xa: Path) -> None:
    small = plane((0, 0), (1, 2), (9, 9), size=(10, 10))

    def add(ds: Dataset) -> None:
        add_overlay(ds, [small], (0, -1))
        add_overlay(ds, [small], (36, 56), 0x601E)

    image = changed(xa, add)
    marks = []
    for overlay in overlays(image):
        mask = overlay_mask(image, overlay)
        assert mask is not None
        marks.append(np.argwhere(mask).tolist())
    assert marks == [[[0, 0], [8, 7]], [[35, 55], [36, 57]]]


def test_frames_of_an_overlay_belong_to_frames_of_the_image(xa: Path) -> None:
    def add(ds: Dataset) -> None:
        # 7 x 9 bits: the second plane does not begin at a whole byte.
        add_overlay(ds, [plane((1, 1), size=(7, 9)), plane((2, 2), size=(7, 9))])
        ds.add_new((0x6000, 0x0015), "IS", 2)
        ds.add_new((0x6000, 0x0051), "US", 2)

    image = changed(xa, add)
    (overlay,) = overlays(image)
    masks = [overlay_mask(image, overlay, index) for index in range(3)]
    assert masks[0] is None
    assert [np.argwhere(mask).tolist() for mask in masks[1:] if mask is not None] == [[[1, 1]], [[2, 2]]]


def test_an_overlay_in_the_pixels_unused_bits_is_found_and_does_not_show(xa: Path) -> None:
    def embed(ds: Dataset) -> None:
        stored = np.frombuffer(ds.PixelData, "<u2").reshape(3, *SIZE).copy()
        for index in range(3):
            stored[index, index, 5] |= 1 << 13
        ds.PixelData = stored.tobytes()
        for element, vr, value in ((0x0010, "US", 40), (0x0011, "US", 60), (0x0040, "CS", "G")):
            ds.add_new((0x6000, element), vr, value)
        ds.add_new((0x6000, 0x0100), "US", 16)
        ds.add_new((0x6000, 0x0102), "US", 13)

    image = changed(xa, embed)
    (overlay,) = overlays(image)
    assert overlay.bit == 13
    for index in range(3):
        assert (read_frame(image, index) == 900).all()
        mask = overlay_mask(image, overlay, index)
        assert mask is not None
        assert np.argwhere(mask).tolist() == [[index, 5]]


def test_a_real_overlay_is_read() -> None:
    image = read_image(Path(str(get_testdata_file("examples_overlay.dcm", download=False))))
    (overlay,) = overlays(image)
    mask = overlay_mask(image, overlay)
    assert mask is not None
    # As pydicom reads it.
    assert np.array_equal(mask, dcmread(image.path).overlay_array(0x6000).astype(bool))


def test_an_overlay_that_is_cut_short_is_refused(xa: Path) -> None:
    def cut(ds: Dataset) -> None:
        add_overlay(ds, [plane()])
        ds[0x6000, 0x3000].value = b"\0" * 10

    image = changed(xa, cut)
    with pytest.raises(PixelError, match=r"overlay 6000 has 10 bytes where .* need 300"):
        overlay_mask(image, overlays(image)[0])


def test_an_overlay_without_data_is_none(xa: Path) -> None:
    def empty(ds: Dataset) -> None:
        add_overlay(ds, [plane()])
        del ds[0x6000, 0x3000]

    assert overlays(changed(xa, empty)) == ()


# Pixels that are not square


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({}, None),
        ({"PixelAspectRatio": [1, 1]}, None),
        ({"PixelAspectRatio": [2, 1]}, SquareSize(80, 60, "PixelAspectRatio")),
        ({"PixelAspectRatio": [3, 4]}, SquareSize(40, 80, "PixelAspectRatio")),
        ({"PixelSpacing": [0.5, 0.4]}, SquareSize(50, 60, "PixelSpacing")),
        ({"ImagerPixelSpacing": [0.2, 0.4]}, SquareSize(40, 120, "ImagerPixelSpacing")),
        ({"NominalScannedPixelSpacing": [0.6, 0.4]}, SquareSize(60, 60, "NominalScannedPixelSpacing")),
        # The first that is there decides, and it is square.
        ({"PixelSpacing": [0.3, 0.3], "PixelAspectRatio": [2, 1]}, None),
        ({"PixelSpacing": [0.3, 0.3001]}, None),
        ({"PixelAspectRatio": [0, 1]}, None),
        ({"PixelAspectRatio": [1, 4000]}, None),
    ],
)
def test_the_size_with_square_pixels(xa: Path, attributes: dict[str, object], size: SquareSize | None) -> None:
    def change(ds: Dataset) -> None:
        del ds.ImagerPixelSpacing
        ds.update(attributes)

    assert square_size(changed(xa, change)) == size


def test_the_size_is_stored_and_found_in_functional_groups(tmp_path: Path) -> None:
    def group(ds: Dataset) -> None:
        measures, groups = Dataset(), Dataset()
        measures.PixelSpacing = [1.0, 0.5]
        groups.PixelMeasuresSequence = [measures]
        ds.SharedFunctionalGroupsSequence = [groups]

    image = changed(write_ct_series(tmp_path, np.zeros((1, *SIZE), dtype=np.int16))[0], group)
    size = square_size(image)
    assert size == SquareSize(80, 60, "PixelSpacing")
    assert SquareSize.from_json(json.loads(json.dumps(size.to_json()))) == size
