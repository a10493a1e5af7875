"""Stored values and pictures of them: right in every common case, refused with a reason in every broken one."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1

from dicom_node.display import (
    Window,
    apply_window,
    display_picture,
    header_windows,
    modality_values,
    padding_mask,
    percentile_window,
)
from dicom_node.pixels import FrameReader, PixelError, PixelLimits, read_frame, read_frames, read_image
from tests.phantoms.images import jpeg_lossless, smooth, write_image
from worker.demo.phantom_studies import write_ct_series, write_xa_run

ARITHMETIC = "1.2.840.10008.1.2.4.54"
RAMP = np.linspace(-200, 300, 64 * 64).reshape(1, 64, 64).astype(np.int16)


def changed(path: Path, change: Callable[[FileDataset], object]) -> Path:
    ds = dcmread(path)
    change(ds)
    ds.save_as(path, enforce_file_format=False)
    return path


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct_series(tmp_path, RAMP)[0]


@pytest.fixture
def xa(tmp_path: Path) -> Path:
    frames = np.arange(6 * 32 * 48, dtype=np.uint16).reshape(6, 32, 48) % 4096
    return write_xa_run(tmp_path, frames)


@pytest.mark.parametrize(
    ("name", "frames", "shape"),
    [
        ("CT_small.dcm", 1, (128, 128)),
        ("MR_small_implicit.dcm", 1, (64, 64)),
        ("MR_small_bigendian.dcm", 1, (64, 64)),
        ("image_dfl.dcm", 1, (512, 512)),
        ("emri_small_jpeg_ls_lossless.dcm", 10, (64, 64)),
        ("emri_small_RLE.dcm", 10, (64, 64)),
        ("JPEG2000.dcm", 1, (1024, 256)),
        ("SC_rgb_jpeg_gdcm.dcm", 1, (100, 100, 3)),
        ("SC_ybr_full_422_uncompressed.dcm", 1, (100, 100, 3)),
        ("liver_1frame.dcm", 1, (512, 512)),
    ],
)
def test_real_files_decode(name: str, frames: int, shape: tuple[int, ...]) -> None:
    image = read_image(Path(str(get_testdata_file(name, download=False))))
    decoded = list(read_frames(image))
    assert [frame.shape for frame in decoded] == [shape] * frames


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_every_encoding_of_the_same_pixels_gives_the_same_values(ct: Path, tmp_path: Path, syntax: str) -> None:
    expected = read_frame(read_image(ct))
    ds = dcmread(ct)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(tmp_path / "other.dcm", little_endian=True, implicit_vr=syntax == ImplicitVRLittleEndian)
    assert np.array_equal(read_frame(read_image(tmp_path / "other.dcm")), expected)


def test_frames_come_in_the_order_asked_for(xa: Path) -> None:
    image = read_image(xa)
    everything = list(read_frames(image))
    assert image.frames == len(everything) == 6
    picked = list(read_frames(image, [4, 1]))
    assert np.array_equal(picked[0], everything[4])
    assert np.array_equal(picked[1], everything[1])
    with pytest.raises(PixelError, match="has no frame 7, only 6"):
        read_frame(image, 6)


def test_a_long_run_is_never_held_whole(tmp_path: Path) -> None:
    image = read_image(write_xa_run(tmp_path, np.zeros((120, 256, 256), dtype=np.uint16)))
    tracemalloc.start()
    seen = sum(1 for _ in read_frames(image))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 120
    assert peak < 4 * 2**20, "the run takes 15 MiB, a frame 128 KiB"


def set_size(rows: int, columns: int) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.Rows, ds.Columns = rows, columns

    return change


def remove_pixels(ds: Dataset) -> None:
    del ds.PixelData


def name_syntax(ds: FileDataset) -> None:
    ds.PixelData = encapsulate([b"\xff\x0a nobody decodes this"])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = ARITHMETIC


def set_frames(number: int) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, "NumberOfFrames", number)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_size(60000, 60000), "beyond the limit of 16384"),
        (set_size(16000, 16000), "truncated"),
        (set_size(0, 512), "no image"),
        (set_frames(1000), "truncated"),
        (set_frames(10**9), "NumberOfFrames is 1000000000"),
        (set_frames(-1), "NumberOfFrames is -1"),
        (remove_pixels, "no pixel data"),
        (name_syntax, "no decoder for transfer syntax .*JPEG Spectral Selection"),
        (lambda ds: setattr(ds, "BitsAllocated", 12), "BitsAllocated 12"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-200]), "truncated"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_allocated(
    xa: Path, change: Callable[[Any], object], reason: str
) -> None:
    uid = dcmread(xa).SOPInstanceUID
    changed(xa, change)
    tracemalloc.start()
    with pytest.raises(PixelError, match=reason) as refusal:
        read_image(xa)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20
    assert uid in str(refusal.value)
    assert refusal.value.remedy


def test_a_private_transfer_syntax_is_refused_by_name(xa: Path) -> None:
    xa.write_bytes(xa.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.9.9.9\0"))
    with pytest.raises(PixelError, match=r"no decoder for transfer syntax 1\.2\.840\.99999\.9\.9\.9"):
        read_image(xa)


def test_a_frame_beyond_the_limit_of_bytes_is_refused(xa: Path) -> None:
    with pytest.raises(PixelError, match="one frame would take 3072 bytes, the limit is 1000"):
        read_image(xa, PixelLimits(max_frame_bytes=1000))


def test_broken_compressed_frames_are_refused_with_the_reason(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 4096, (2, 32, 32)).astype(np.uint16)
    path = write_xa_run(tmp_path, frames, transfer_syntax="1.2.840.10008.1.2.5")
    assert [np.array_equal(a, b) for a, b in zip(read_frames(read_image(path)), frames, strict=True)] == [True, True]
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(PixelError, match="frame 2 cannot be decoded"):
        list(read_frames(read_image(path)))


@pytest.mark.parametrize("content", [b"", b"not DICOM at all", b"\0" * 128 + b"DICM"])
def test_what_is_no_dicom_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.dcm"
    path.write_bytes(content)
    with pytest.raises(PixelError, match=r"broken\.dcm"):
        read_image(path)


def test_ct_values_are_hounsfield_units(ct: Path) -> None:
    image = read_image(ct)
    assert np.array_equal(modality_values(image, read_frame(image)), RAMP[0])


def test_log_xa_values_are_shown_without_their_modality_lut(xa: Path) -> None:
    def log(ds: Dataset) -> None:
        ds.PixelIntensityRelationship = "LOG"
        ds.RescaleSlope, ds.RescaleIntercept = 7, 100

    image = read_image(changed(xa, log))
    assert np.array_equal(modality_values(image, read_frame(image)), read_frame(image))


def test_padding_is_black_and_leaves_the_window_alone(ct: Path) -> None:
    def pad(ds: Dataset) -> None:
        stored = np.frombuffer(ds.PixelData, "<u2").reshape(64, 64).copy()
        stored[:8] = 4000
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "US", 4000)
        del ds.WindowCenter, ds.WindowWidth

    image = read_image(changed(ct, pad))
    frame = read_frame(image)
    picture, window = display_picture(image, frame)
    assert padding_mask(image, frame).sum() == 8 * 64
    assert not picture[:8].any()
    assert window.center + window.width / 2 < 310, "padding of 2976 HU must not stretch the window"


def test_a_padding_range_and_a_padding_of_the_wrong_sign_are_understood(tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, RAMP)[0]

    def pad(ds: Dataset) -> None:
        ds.PixelRepresentation = 1
        stored = np.frombuffer(ds.PixelData, "<u2").astype("<i2").reshape(64, 64).copy()
        stored[:4], stored[4:8] = -2000, -1990
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "US", 65536 - 2000)
        ds.add_new("PixelPaddingRangeLimit", "SS", -1990)

    image = read_image(changed(path, pad))
    assert padding_mask(image, read_frame(image)).sum() == 8 * 64


def test_monochrome1_is_inverted_over_the_display_range(tmp_path: Path) -> None:
    # The values fill the lower half of the window only: inverted over their own range they would come out darker.
    stored = np.linspace(0, 2000, 32 * 32).reshape(1, 32, 32).astype(np.uint16)
    pictures = []
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        path = write_xa_run(tmp_path, stored, photometric=photometric)
        image = read_image(changed(path, lambda ds: ds.update({"WindowCenter": 2048, "WindowWidth": 4096})))
        pictures.append(display_picture(image, read_frame(image))[0])
    assert np.array_equal(pictures[1], 255 - pictures[0])
    assert pictures[1].min() > 120


def test_the_first_usable_window_is_taken(ct: Path) -> None:
    def several(ds: Dataset) -> None:
        ds.WindowCenter, ds.WindowWidth = [0, 50, -600], [0, 400, 1500]

    image = read_image(changed(ct, several))
    assert header_windows(image) == (Window(50, 400), Window(-600, 1500))
    assert display_picture(image, read_frame(image))[1] == Window(50, 400)


@pytest.mark.parametrize(("center", "width"), [("", ""), (50, 0), (50, -3), ("", 400)])
def test_without_a_usable_window_the_values_make_one(ct: Path, center: object, width: object) -> None:
    image = read_image(changed(ct, lambda ds: ds.update({"WindowCenter": center, "WindowWidth": width})))
    picture, window = display_picture(image, read_frame(image))
    assert window.source == "percentiles"
    assert picture.min() == 0
    assert picture.max() == 255


def test_windows_and_rescale_are_found_in_functional_groups(tmp_path: Path) -> None:
    path = write_xa_run(tmp_path, np.full((2, 16, 16), 100, dtype=np.uint16))

    def group(slope: float, center: float) -> Dataset:
        groups, values, window = Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = slope, 1
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, 50, "SIGMOID"
        groups.PixelValueTransformationSequence, groups.FrameVOILUTSequence = [values], [window]
        return groups

    def functional(ds: Dataset) -> None:
        ds.PerFrameFunctionalGroupsSequence = [group(1, 10), group(2, 20)]

    image = read_image(changed(path, functional))
    assert [float(modality_values(image, read_frame(image, n), n)[0, 0]) for n in (0, 1)] == [101, 201]
    assert [header_windows(image, n) for n in (0, 1)] == [(Window(10, 50, "SIGMOID"),), (Window(20, 50, "SIGMOID"),)]


@given(st.floats(-2000, 3000), st.floats(1, 4000), st.integers(-3000, 4000))
def test_linear_windows_follow_the_standards_formula(center: float, width: float, x: int) -> None:
    """PS3.3 C.11.2.1.2.1 word for word."""
    if x <= center - 0.5 - (width - 1) / 2:
        expected = 0.0
    elif x > center - 0.5 + (width - 1) / 2:
        expected = 255.0
    else:
        expected = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
    got = int(apply_window(np.array([[x]], dtype=np.float32), Window(center, width))[0, 0])
    # float32 against exact arithmetic: half a grey level, or a step's width in a window of hardly more than one value.
    assert abs(got - expected) <= 0.51 + 255 * 0.001 / max(width - 1, 0.001)


@given(st.floats(-2000, 3000), st.floats(0.5, 4000), st.sampled_from(["LINEAR_EXACT", "SIGMOID"]))
def test_the_other_windows_are_monotonous_and_half_way_at_their_centre(
    center: float, width: float, function: str
) -> None:
    values = np.linspace(center - 2 * width, center + 2 * width, 101, dtype=np.float32)[np.newaxis]
    grey = apply_window(values, Window(center, width, function)).astype(int)[0]
    assert (np.diff(grey) >= 0).all()
    assert abs(grey[50] - 127.5) <= 2


def test_a_flat_picture_has_a_window_too() -> None:
    assert percentile_window(np.full((4, 4), 7, dtype=np.float32), 0.5).width == 1.0


def without(keyword: str) -> Callable[[Dataset], object]:
    return lambda ds: ds.__delattr__(keyword)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (set_frames(1), r"hold 18432 bytes, 1 frame\(s\) of 32 x 48 take 3072: the header may be wrong"),
        (without("NumberOfFrames"), r"hold 18432 bytes, 1 frame\(s\) of 32 x 48 take 3072"),
        (set_size(16, 48), r"hold 18432 bytes, 6 frame\(s\) of 16 x 48 take 9216"),
    ],
)
def test_pixels_beyond_what_the_header_claims_are_told(xa: Path, lie: Callable[[Dataset], object], said: str) -> None:
    reader = FrameReader(read_image(changed(xa, lie)))
    assert len(list(reader.frames([0]))) == 1
    assert re.search(said, reader.surplus)


@pytest.mark.parametrize("table", ["basic", "none"])
@pytest.mark.parametrize("claimed", [1, 2])
def test_more_compressed_frames_than_the_header_claims_are_told(tmp_path: Path, claimed: int, table: str) -> None:
    values = np.stack([smooth((24, 16), 8, seed=seed) for seed in range(3)])
    frames = [jpeg_lossless(frame) for frame in values]
    path = write_image(tmp_path / "a.dcm", values, JPEGLosslessSV1, frames, table=table, NumberOfFrames=claimed)
    reader = FrameReader(read_image(path))
    assert np.array_equal(next(iter(reader.frames([0]))), values[0])
    assert reader.surplus == f"hold 3 frames, the header claims {claimed}: the header may be wrong"


def test_padding_at_the_end_is_no_surplus(xa: Path) -> None:
    def pad(ds: Dataset) -> None:
        ds.PixelData += b"\0" * 20

    for path in (xa, changed(xa, pad)):
        reader = FrameReader(read_image(path))
        list(reader.frames())
        assert not reader.surplus
