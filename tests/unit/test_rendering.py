"""What the models see: the right frames and slices, prepared as the adapters' authors say, and doubts in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from models.adapters import adapters
from models.adapters.abdominal_trauma.render import chosen_slices
from models.phantoms import draw_abdomen_volume, draw_vessel_run
from models.rendering import InputRecord, ModelInput, RenderError
from tests.instance_files import stored
from worker.demo.phantom_studies import write_ct_localizer, write_ct_series, write_mr_series, write_xa_run

DSA, TRAUMA = adapters()["dsa_patency"], adapters()["abdominal_trauma"]


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    ds = dcmread(path)
    change(ds)
    ds.save_as(path)
    return path


def vessel_run(seed: int = 5, **wishes: Any) -> NDArray[np.uint16]:
    return draw_vessel_run(np.random.default_rng(seed), blocked=False, size=128, difficulty=0.0, **wishes).pixels


@pytest.fixture(scope="module")
def hounsfield() -> NDArray[np.int16]:
    rng = np.random.default_rng(7)
    return draw_abdomen_volume(rng, injuries={"spleen": "severe"}, slices=40, size=64).hounsfield


@pytest.fixture
def ct_paths(tmp_path: Path, hounsfield: NDArray[np.int16]) -> list[Path]:
    return write_ct_series(tmp_path / "ct", hounsfield, pixel_spacing_mm=6.0, slice_spacing_mm=5.0)


# XA ------------------------------------------------------------------------------------------------------------------


def test_the_fullest_frame_and_its_neighbours_are_shown_in_order_of_time(tmp_path: Path) -> None:
    pixels = vessel_run(frames=12)
    seen = DSA.render(stored(write_xa_run(tmp_path, pixels)))
    frames = [source.frame_numbers[0] for source in seen.image_sources]
    darkness = [-float(frame.mean()) for frame in pixels]
    (key,) = seen.key_images
    assert frames == [frames[key] - 1, frames[key], frames[key] + 1]
    assert darkness[frames[key] - 1] == pytest.approx(max(darkness), abs=0.05 * (max(darkness) - min(darkness)))
    assert seen.incomplete == ()
    assert seen.sources[0].frame_numbers == tuple(frames)


def test_frames_with_contrast_win_wherever_they_are_in_the_run(tmp_path: Path) -> None:
    pixels = np.concatenate([vessel_run(frames=6)[::-1], np.full((10, 128, 128), 2600, dtype=np.uint16)])
    seen = DSA.render(stored(write_xa_run(tmp_path, pixels)))
    assert max(source.frame_numbers[0] for source in seen.image_sources) <= 6


def test_both_polarities_give_the_same_pictures(tmp_path: Path) -> None:
    pixels = vessel_run()
    plain = DSA.render(stored(write_xa_run(tmp_path, pixels)))
    inverted = DSA.render(stored(write_xa_run(tmp_path, 4095 - pixels, photometric="MONOCHROME1")))
    assert [s.frame_numbers for s in plain.image_sources] == [s.frame_numbers for s in inverted.image_sources]
    for one, other in zip(plain.images, inverted.images, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_pictures_are_rgb_and_use_the_whole_range(tmp_path: Path) -> None:
    for image in DSA.render(stored(write_xa_run(tmp_path, vessel_run()))).images:
        assert (image.dtype, image.shape) == (np.uint8, (128, 128, 3))
        assert (int(image.min()), int(image.max())) == (0, 255)


@pytest.mark.parametrize("pixel_type", [np.uint8, np.uint16])
def test_a_single_frame_is_taken_without_frame_numbers(tmp_path: Path, pixel_type: type) -> None:
    frame = (vessel_run()[8:9] >> (4 if pixel_type is np.uint8 else 0)).astype(pixel_type)
    seen = DSA.render(stored(write_xa_run(tmp_path, frame)))
    assert len(seen.images) == 1
    assert seen.image_sources[0].frame_numbers == ()


def test_a_recommended_mask_is_subtracted(tmp_path: Path) -> None:
    pixels = vessel_run(subtracted=False)
    plain = DSA.render(stored(write_xa_run(tmp_path, pixels)))
    subtracted = DSA.render(stored(write_xa_run(tmp_path, pixels, mask_frames=(1,))))
    assert subtracted.record["subtraction"] == "AVG_SUB of frames 1"
    assert subtracted.incomplete == ()
    # Bones and the soft-tissue gradient are gone: the ground left of the vessels is even.
    assert np.std(subtracted.images[1][subtracted.images[1] > 128]) < np.std(plain.images[1][plain.images[1] > 128])


def set_mask(**attributes: object) -> Callable[[Dataset], None]:
    return lambda ds: ds.MaskSubtractionSequence[0].update(attributes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_mask(MaskOperation="DREAM"), "mask operation DREAM, which is not known"),
        (set_mask(MaskFrameNumbers=[40]), "no usable mask frames"),
        (set_mask(MaskSubPixelShift=[1.5, 900.0]), "shift its mask"),
        (set_mask(ApplicableFrameRange=[1, 2]), "does not apply"),
    ],
)
def test_a_mask_that_is_not_applied_is_said_and_nothing_is_subtracted(
    tmp_path: Path, change: Callable[[Dataset], None], words: str
) -> None:
    seen = DSA.render(stored(changed(write_xa_run(tmp_path, vessel_run(), mask_frames=(1,)), change)))
    assert seen.record["subtraction"] == "none"
    assert words in seen.incomplete[0]


def test_a_mask_operation_of_none_is_obeyed_silently(tmp_path: Path) -> None:
    path = changed(write_xa_run(tmp_path, vessel_run(), mask_frames=(1,)), set_mask(MaskOperation="NONE"))
    assert DSA.render(stored(path)).incomplete == ()


def test_a_run_without_contrast_is_doubted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    anatomy = np.linspace(800, 2600, 128)[np.newaxis, np.newaxis, :]
    run = (anatomy + rng.normal(0, 20, (8, 128, 128))).astype(np.uint16)
    assert "no contrast filling" in DSA.render(stored(write_xa_run(tmp_path, run))).incomplete[0]


def test_black_collimator_borders_do_not_flatten_the_vessels(tmp_path: Path) -> None:
    pixels = vessel_run()
    bordered = pixels.copy()
    bordered[:, :20], bordered[:, -20:] = 0, 0
    open_field = DSA.render(stored(write_xa_run(tmp_path, pixels))).images[1][30:98]
    collimated = DSA.render(stored(write_xa_run(tmp_path, bordered))).images[1][30:98]
    assert abs(float(open_field.mean()) - float(collimated.mean())) < 12


def test_what_is_no_grey_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_xa_run(tmp_path, vessel_run())
    with pytest.raises(RenderError, match="a run is one instance, 2 were given"):
        DSA.render(stored(path, path))
    with pytest.raises(RenderError, match="truncated"):
        DSA.render(stored(changed(path, lambda ds: setattr(ds, "NumberOfFrames", 500))))


# CT ------------------------------------------------------------------------------------------------------------------


def test_slices_come_from_the_middle_sixty_percent_head_first(
    ct_paths: list[Path], hounsfield: NDArray[np.int16]
) -> None:
    seen = TRAUMA.render(stored(*reversed(ct_paths)))
    assert len(seen.images) == 8
    chosen = [int(number) - 1 for number in seen.record["slices_shown"]]
    assert chosen == [8, 11, 14, 18, 21, 25, 28, 31]
    names = [path.stem for path in ct_paths]
    assert [source.sop_instance_uid for source in seen.image_sources] == [names[index] for index in chosen]
    # Red, green and blue are the slice before, the slice and the slice behind, at W400 L50.
    for image, index in zip(seen.images, chosen, strict=True):
        expected = np.clip((hounsfield[index - 1 : index + 2] + 150) / 400, 0, 1) * 255
        assert np.abs(image.astype(float) - np.moveaxis(expected, 0, -1)).max() <= 1
    assert seen.incomplete == ()


@pytest.mark.parametrize("count", [3, 5, 8, 10, 100, 800])
def test_slices_are_never_shown_twice_nor_from_outside(count: int) -> None:
    chosen = chosen_slices(count)
    assert len(set(chosen)) == len(chosen) <= 8
    assert all(0.19 * (count - 1) - 0.5 <= index <= 0.81 * (count - 1) + 0.5 for index in chosen)


def test_evidence_is_what_was_looked_at_and_no_more(ct_paths: list[Path]) -> None:
    seen = TRAUMA.render(stored(*ct_paths))
    uids = {source.sop_instance_uid for source in seen.sources}
    assert len(uids) == len(seen.sources) <= 24
    assert {source.sop_instance_uid for source in seen.image_sources} <= uids


def test_a_missing_slice_is_said(ct_paths: list[Path]) -> None:
    seen = TRAUMA.render(stored(*ct_paths[:14], *ct_paths[15:]))
    assert seen.incomplete == ("gap of 10.0 mm after slice 25 (expected 5.0 mm)",)


def test_localizers_do_not_get_into_the_volume(tmp_path: Path, ct_paths: list[Path]) -> None:
    seen = TRAUMA.render(stored(write_ct_localizer(tmp_path), *ct_paths))
    assert seen.record["slices_in_stack"] == 40
    assert seen.incomplete == ()


def test_few_thick_and_foreign_slices_are_doubted(tmp_path: Path, hounsfield: NDArray[np.int16]) -> None:
    paths = write_ct_series(tmp_path / "few", hounsfield[:8], slice_spacing_mm=12.0, body_part="CHESTABDPELVIS")
    doubts = " ".join(TRAUMA.render(stored(*paths)).incomplete)
    assert "only 8 slices" in doubts
    assert "12.0 mm between slices" in doubts
    assert "also covers chest" in doubts


def test_slices_without_geometry_are_used_and_doubted(ct_paths: list[Path]) -> None:
    def blind(ds: Dataset) -> None:
        del ds.ImagePositionPatient, ds.ImageOrientationPatient

    seen = TRAUMA.render(stored(*(changed(path, blind) for path in ct_paths)))
    assert "ordered by InstanceNumber" in seen.incomplete[0]


def test_padding_is_black(ct_paths: list[Path]) -> None:
    def pad(ds: Dataset) -> None:
        pixels = np.frombuffer(ds.PixelData, "<u2").reshape(64, 64).copy()
        pixels[:6] = 3000
        ds.PixelData = pixels.tobytes()
        ds.add_new("PixelPaddingValue", "US", 3000)

    seen = TRAUMA.render(stored(*(changed(path, pad) for path in ct_paths)))
    assert all(not image[:6].any() for image in seen.images)


def test_two_slices_are_refused_with_the_reason(ct_paths: list[Path]) -> None:
    with pytest.raises(RenderError, match="needs at least 3"):
        TRAUMA.render(stored(*ct_paths[:2]))


def test_coronal_slices_are_refused(tmp_path: Path) -> None:
    def coronal(ds: Dataset) -> None:
        x, y, z = ds.ImagePositionPatient
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 0, -1], [x, z, y]

    paths = [changed(path, coronal) for path in write_mr_series(tmp_path)]
    with pytest.raises(RenderError, match="the slices are coronal"):
        TRAUMA.render(stored(*paths))


# Both ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path: Path, ct_paths: list[Path]) -> list[ModelInput]:
    return [DSA.render(stored(write_xa_run(tmp_path, vessel_run()))), TRAUMA.render(stored(*ct_paths))]


def test_the_record_survives_storage_and_stays_small(inputs: list[ModelInput]) -> None:
    for seen in inputs:
        text = json.dumps(seen.to_json())
        assert len(text) < 16_000
        record = InputRecord.from_json(json.loads(text))
        assert record == seen.input_record()
        assert record.key_sources == tuple(seen.image_sources[index] for index in seen.key_images)
        assert record.digest == seen.digest()


def test_the_same_pixels_have_the_same_digest_and_others_do_not(inputs: list[ModelInput]) -> None:
    assert inputs[0].digest() != inputs[1].digest()
    assert inputs[0].digest() == inputs[0].digest()
