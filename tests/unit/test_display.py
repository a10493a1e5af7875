"""From the header to shades: tables however they are written, windows by number, polarity, padding, palettes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_color_lut

from dicom_node.display import (
    VoiLut,
    Window,
    colours,
    display_picture,
    header_shading,
    header_voi_luts,
    header_window,
    header_windows,
    modality_values,
    shade,
    shading_from_json,
    shown_inverted,
)
from dicom_node.look_up_tables import read_look_up_table
from dicom_node.pixels import ImageAttributes, PixelError, read_frame, read_image
from tests.phantoms.angiography import Detector, run
from tests.phantoms.enhanced_xa import write_enhanced_xa
from tests.phantoms.pictures import write_film_with_voi_luts, write_palette_picture, write_ultrasound_cine
from worker.demo.phantom_pictures import write_chest_xray
from worker.demo.phantom_studies import write_ct_series

RAMP = np.linspace(-200, 300, 64 * 64).reshape(1, 64, 64).astype(np.int16)


def changed(path: Path, change: Callable[[Dataset], object]) -> ImageAttributes:
    ds = dcmread(path)
    change(ds)
    ds.save_as(path, enforce_file_format=False)
    return read_image(path)


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct_series(tmp_path, RAMP)[0]


# Which shading


def test_the_first_window_comes_before_the_voi_lut_and_that_before_nothing(tmp_path: Path) -> None:
    path = write_film_with_voi_luts(tmp_path, range(4096), range(4095, -1, -1))
    assert header_shading(read_image(path)) == VoiLut(1)
    assert header_voi_luts(read_image(path)) == (VoiLut(1), VoiLut(2))
    windowed = changed(path, lambda ds: ds.update({"WindowCenter": [0, 900], "WindowWidth": [0, 800]}))
    assert header_shading(windowed) == Window(900, 800)
    plain = changed(write_chest_xray(tmp_path, np.zeros((8, 8), dtype=np.uint16)), lambda ds: ds.pop("WindowWidth"))
    assert header_shading(plain) is None


def test_windows_are_asked_for_by_their_number_in_the_file(ct: Path) -> None:
    image = changed(ct, lambda ds: ds.update({"WindowCenter": [40, 0, -600], "WindowWidth": [400, 0, 1500]}))
    assert header_window(image, 3) == Window(-600, 1500)
    assert [header_window(image, number) for number in (0, 2, 4)] == [None, None, None]
    assert header_windows(image) == (Window(40, 400), Window(-600, 1500))


def test_a_voi_lut_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    image = read_image(write_film_with_voi_luts(tmp_path, range(4096)))
    with pytest.raises(PixelError, match="has no VOI LUT 2, only 1"):
        shade(image, read_frame(image), VoiLut(2))


@given(
    st.one_of(
        st.builds(
            Window,
            st.floats(-4000, 4000),
            st.floats(0.1, 8000),
            st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
            st.sampled_from(["header", "percentiles", "trauma"]),
        ),
        st.builds(VoiLut, st.integers(1, 9)),
    )
)
def test_shadings_survive_storage(shading: Window | VoiLut) -> None:
    assert shading_from_json(json.loads(json.dumps(shading.to_json()))) == shading


def test_frames_of_an_enhanced_run_are_shown_in_their_own_window_and_polarity(tmp_path: Path) -> None:
    detector = Detector("LOG", -1, "MONOCHROME1")
    image = read_image(write_enhanced_xa(tmp_path, run((0.0, 1.0), detector), detector))
    assert header_shading(image, 1) == Window(32768, 65536)
    assert shown_inverted(image)
    frame = read_frame(image, 1)
    expected = 255 - np.round((frame.astype(np.float64) - 32767.5) / 65535 * 255 + 127.5)
    assert np.abs(shade(image, frame, header_shading(image, 1), 1) - expected).max() <= 1


# Look-up tables


@pytest.mark.parametrize("name", ["mlut_18.dcm"])
def test_a_modality_lut_maps_every_value(name: str) -> None:
    """A table of 4096 entries for -2048 .. 2047, as the file's own data say."""
    image = read_image(Path(str(get_testdata_file(name, download=False))))
    item = image.dataset.ModalityLUTSequence[0]
    frame = read_frame(image)
    first = int(item.LUTDescriptor[1])
    entries = np.asarray(item.LUTData)
    expected = entries[np.clip(frame.astype(int) - first, 0, len(entries) - 1)]
    assert first < 0
    assert np.array_equal(modality_values(image, frame), expected)


def look_up_table(descriptor: list[int], data: object, vr: str) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", vr, data)
    return item


@pytest.mark.parametrize(
    ("item", "little_endian", "signed", "entries", "first", "bits"),
    [
        (look_up_table([3, 5, 12], [0, 9, 4095], "US"), True, False, [0, 9, 4095], 5, 12),
        (look_up_table([3, 65534, 12], [0, 9, 4095], "US"), True, True, [0, 9, 4095], -2, 12),
        (look_up_table([3, 65534, 12], [0, 9, 4095], "US"), True, False, [0, 9, 4095], 65534, 12),
        (look_up_table([3, 0, 16], b"\x01\x02\x03\x04\xff\xff", "OW"), True, False, [0x201, 0x403, 0xFFFF], 0, 16),
        (look_up_table([3, 0, 16], b"\x01\x02\x03\x04\xff\xff", "OW"), False, False, [0x102, 0x304, 0xFFFF], 0, 16),
        # 8-bit entries, two to a word, and one to a word.
        (look_up_table([3, 0, 8], b"\x01\x02\x03\x00", "OW"), True, False, [1, 2, 3], 0, 8),
        (look_up_table([3, 0, 8], b"\x02\x01\x00\x03", "OW"), False, False, [1, 2, 3], 0, 8),
        (look_up_table([3, 0, 8], b"\x01\x00\x02\x00\x03\x00", "OW"), True, False, [1, 2, 3], 0, 8),
        # Entries that need more bits than the descriptor grants.
        (look_up_table([2, 0, 8], [0, 4095], "US"), True, False, [0, 4095], 0, 12),
    ],
)
def test_tables_are_read_however_they_are_written(
    item: Dataset, little_endian: bool, signed: bool, entries: list[int], first: int, bits: int
) -> None:
    table = read_look_up_table(item, "LUTData", little_endian=little_endian, signed=signed)
    assert (table.entries.tolist(), table.first, table.bits) == (entries, first, bits)
    below_and_beyond = np.array([first - 10, first, first + len(entries) + 10])
    assert table.look_up(below_and_beyond).tolist() == [entries[0], entries[0], entries[-1]]


def test_a_count_of_zero_means_65536_entries() -> None:
    item = look_up_table([0, 0, 16], np.arange(2**16, dtype="<u2").tobytes(), "OW")
    table = read_look_up_table(item, "LUTData", little_endian=True, signed=False)
    assert table.look_up(np.array([0, 4711, 65535])).tolist() == [0, 4711, 65535]


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("LUTDescriptor", [4096, 0], "not three integers"),
        ("LUTDescriptor", [4096, 0, 0], "names 0 bits"),
        ("LUTDescriptor", [4097, 0, 12], "has 4096 of the 4097 entries"),
    ],
)
def test_a_broken_table_is_refused_with_the_reason(tmp_path: Path, keyword: str, value: object, reason: str) -> None:
    path = write_film_with_voi_luts(tmp_path, range(4096))
    image = changed(path, lambda ds: ds.VOILUTSequence[0].update({keyword: value}))
    with pytest.raises(PixelError, match=f"VOI LUT cannot be applied .*{reason}"):
        shade(image, read_frame(image), header_shading(image))


# Palettes and colours


def segmented(data: list[int], count: int, bits: int) -> list[int]:
    ds = Dataset()
    ds.RedPaletteColorLookupTableDescriptor = [count, 0, bits]
    ds.SegmentedRedPaletteColorLookupTableData = np.array(data, dtype="<u2" if bits == 16 else "u1").tobytes()
    table = read_look_up_table(
        ds,
        "SegmentedRedPaletteColorLookupTableData",
        little_endian=True,
        signed=False,
        descriptor="RedPaletteColorLookupTableDescriptor",
    )
    return table.entries.tolist()


def test_segments_are_expanded() -> None:
    """PS3.3 C.7.9.2: discrete, linear, and indirect, whose offset counts bytes."""
    assert segmented([0, 3, 5, 6, 7], 3, 16) == [5, 6, 7]
    assert segmented([0, 1, 10, 1, 4, 50], 5, 16) == [10, 20, 30, 40, 50]
    assert segmented([0, 1, 10, 1, 4, 50, 2, 1, 6, 0], 9, 16) == [10, 20, 30, 40, 50, 50, 50, 50, 50]
    assert segmented([0, 2, 10, 30, 0, 1, 7, 2, 2, 0, 0], 6, 16) == [10, 30, 7, 10, 30, 7]
    assert segmented([0, 1, 10, 1, 4, 50, 2, 1, 0, 0, 0, 0], 6, 8) == [10, 20, 30, 40, 50, 10]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([1, 4, 50, 0], "segment of kind 1"),
        ([9, 4, 50, 0], "segment of kind 9"),
        ([0, 1, 10, 2, 1, 0], "ends within"),
        ([0, 1, 10, 1, 65535, 0, 1, 65535, 0, 0], "more than 65536 entries"),
    ],
)
def test_segments_that_make_no_table_are_refused(data: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        segmented(data, 3, 16)


@pytest.mark.parametrize("name", ["gdcm-US-ALOKA-16.dcm", "examples_palette.dcm", "OBXXXX1A.dcm"])
def test_real_palettes_are_as_pydicom_has_them(name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    image = read_image(path)
    frame = read_frame(image)
    expected = apply_color_lut(frame, dcmread(path))
    assert np.array_equal(colours(image, frame), expected >> 8 if expected.dtype == np.uint16 else expected)


def test_values_beyond_a_short_palette_get_its_last_colour(tmp_path: Path) -> None:
    places = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    palette = np.array([[0, 0, 0], [65535, 0, 0], [0, 65535, 0]], dtype=np.uint16)
    image = read_image(write_palette_picture(tmp_path, places, palette))
    assert colours(image, read_frame(image)).tolist() == [[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [0, 255, 0]]]


def test_8_bit_colours_under_a_16_bit_descriptor_are_not_black(tmp_path: Path) -> None:
    places = np.array([[0, 1]] * 2, dtype=np.uint8)
    image = read_image(write_palette_picture(tmp_path, places, np.array([[0, 5, 9], [255, 128, 7]], dtype=np.uint16)))
    assert colours(image, read_frame(image))[0].tolist() == [[0, 5, 9], [255, 128, 7]]


@pytest.mark.parametrize(
    ("bits", "value", "shown"), [(16, 65535, 255), (16, 255, 0), (12, 2048, 128), (32, 2**31, 128)]
)
def test_deep_colours_keep_their_upper_bits(tmp_path: Path, bits: int, value: int, shown: int) -> None:
    image = read_image(write_ultrasound_cine(tmp_path, np.zeros((1, 90, 120, 3), dtype=np.uint8)))
    object.__setattr__(image, "bits_stored", bits)
    frame = np.full((2, 2, 3), value, dtype=np.uint32 if bits > 16 else np.uint16)
    assert (colours(image, frame) == shown).all()


def test_grey_is_no_colour_and_colour_has_no_values(tmp_path: Path, ct: Path) -> None:
    grey = read_image(ct)
    with pytest.raises(PixelError, match="not three planes"):
        colours(grey, read_frame(grey))
    colour = read_image(write_ultrasound_cine(tmp_path, np.zeros((1, 90, 120, 3), dtype=np.uint8)))
    with pytest.raises(PixelError, match="a colour image has no modality values"):
        shade(colour, read_frame(colour), Window(128, 256))


@pytest.mark.parametrize("photometric", ["HSV", "CMYK", "YBR_PARTIAL_422"])
def test_retired_colours_are_refused_by_name(tmp_path: Path, photometric: str) -> None:
    image = read_image(write_ultrasound_cine(tmp_path, np.zeros((1, 90, 120, 3), dtype=np.uint8)))
    frame = read_frame(image)
    object.__setattr__(image, "photometric", photometric)
    with pytest.raises(PixelError, match=f"{photometric}, which is retired"):
        colours(image, frame)


# Polarity and padding


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "LIN OD", True),
    ],
)
def test_polarity_is_turned_once(ct: Path, photometric: str, shape: str | None, inverted: bool) -> None:
    plain = shade(read_image(ct), read_frame(read_image(ct)), Window(0, 400))

    def turn(ds: Dataset) -> None:
        ds.PhotometricInterpretation = photometric
        if shape is not None:
            ds.PresentationLUTShape = shape

    image = changed(ct, turn)
    assert np.array_equal(shade(image, read_frame(image), Window(0, 400)), 255 - plain if inverted else plain)


@pytest.mark.parametrize("shading", [Window(0, 400), VoiLut(1), None])
def test_padding_is_black_in_either_polarity_and_every_shading(tmp_path: Path, shading: Window | VoiLut | None) -> None:
    path = write_film_with_voi_luts(tmp_path, range(4096), photometric="MONOCHROME1")
    image = changed(path, lambda ds: ds.add_new("PixelPaddingValue", "US", 7))
    frame = read_frame(image)
    picture = shade(image, frame, shading)
    assert (picture[frame == 7] == 0).all()
    assert (picture[(frame < 7)] > 0).all()


def outer(frame: NDArray[np.uint16]) -> NDArray[np.bool_]:
    mask = np.zeros(frame.shape, dtype=np.bool_)
    mask[:3] = True
    return mask


@pytest.mark.parametrize("shading", [Window(0, 400), None])
def test_more_can_be_made_black(ct: Path, shading: Window | None) -> None:
    image = read_image(ct)
    frame = read_frame(image)
    for given_as in (frame, modality_values(image, frame)):
        picture = shade(image, given_as, shading, padding=outer(frame))
        assert not picture[:3].any()
        assert picture[3:].any()


def test_what_is_no_number_is_black_and_leaves_the_window_alone(ct: Path) -> None:
    image = read_image(ct)
    values = modality_values(image, read_frame(image))
    values[0, :8] = [np.nan, np.inf, -np.inf, 0, 0, 0, 0, 0]
    picture = shade(image, values, None)
    assert picture[0, :3].tolist() == [0, 0, 0]
    assert (picture.min(), picture.max()) == (0, 255)


def test_a_voi_lut_over_hounsfield_units_begins_below_zero(ct: Path) -> None:
    def add(ds: Dataset) -> None:
        del ds.WindowCenter, ds.WindowWidth
        ds.VOILUTSequence = [look_up_table([256, 65536 - 128, 8], list(range(256)), "US")]

    image = changed(ct, add)
    frame = read_frame(image)
    assert np.array_equal(shade(image, frame, header_shading(image)), np.clip(RAMP[0].astype(int) + 128, 0, 255))


def test_display_picture_shows_what_shade_shows(ct: Path) -> None:
    image = read_image(ct)
    frame = read_frame(image)
    picture, window = display_picture(image, frame)
    assert np.array_equal(picture, shade(image, frame, header_shading(image)))
    assert window == header_shading(image)
