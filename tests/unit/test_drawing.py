"""What the model saw can be drawn again from what is kept with the job, to the very pixel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.display import VoiLut, Window
from dicom_node.headers import InstanceFile, read_header
from dicom_node.mask_module import SubtractionPlan
from dicom_node.picture_areas import Box
from models.adapters import adapters
from models.drawing import draw, replay
from models.phantoms import draw_abdomen_volume, draw_vessel_run
from models.recipe import (
    Filter,
    FrameOf,
    Percentiles,
    Picture,
    Plane,
    RecipeError,
    Size,
    recipe_from_json,
    recipe_to_json,
)
from models.rendering import InputRecord, RenderError
from tests.instance_files import stored
from tests.phantoms.pictures import (
    US_COLUMNS,
    US_ROWS,
    ultrasound_frames,
    write_film_with_voi_luts,
    write_ultrasound_cine,
)
from tests.sample_reports import TEST_FILES
from worker.demo.phantom_studies import write_ct_series, write_mr_series, write_xa_run


def xa(folder: Path) -> list[InstanceFile]:
    run = draw_vessel_run(np.random.default_rng(3), blocked=True, size=128, difficulty=0.0, subtracted=False).pixels
    return stored(write_xa_run(folder, run, mask_frames=(1, 2)))


def ct(folder: Path) -> list[InstanceFile]:
    volume = draw_abdomen_volume(np.random.default_rng(7), injuries={"spleen": "severe"}, slices=40, size=64)
    return stored(*write_ct_series(folder, volume.hounsfield, pixel_spacing_mm=6.0, slice_spacing_mm=5.0))


def mr(folder: Path) -> list[InstanceFile]:
    return stored(*write_mr_series(folder, slices=5))


SEEN: dict[str, tuple[str, Callable[[Path], list[InstanceFile]]]] = {
    "subtracted run": ("dsa_patency", xa),
    "CT volume": ("abdominal_trauma", ct),
    "surgery": ("cataract_surgery", lambda _: stored(TEST_FILES / "examples_ybr_color.dcm")),
    "ultrasound": ("flare", lambda _: stored(TEST_FILES / "examples_ybr_color.dcm")),
    "MR for several tasks": ("flare", mr),
    "MR for a caption": ("clinical_caption", mr),
    "CT for a caption": ("clinical_caption", ct),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_is_kept_with_a_job_gives_the_same_pixels_again(tmp_path: Path, name: str) -> None:
    adapter, write = SEEN[name]
    instances = write(tmp_path)
    seen = adapters()[adapter].render(instances)
    record = InputRecord.from_json(json.loads(json.dumps(seen.to_json())))
    assert record == seen.input_record()
    again = replay(record, list(reversed(instances)))
    assert len(again) == len(seen.images) > 0
    for one, other in zip(seen.images, again, strict=True):
        assert np.array_equal(one, other)


def test_other_pixels_than_the_model_saw_are_refused(tmp_path: Path) -> None:
    instances = xa(tmp_path)
    record = adapters()["dsa_patency"].render(instances).input_record()
    ds = dcmread(instances[0].path)
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(instances[0].path)
    with pytest.raises(RenderError, match=r"differ from those the model saw.*retry the job"):
        replay(record, instances)
    with pytest.raises(RenderError, match=f"{instances[0].header.sop_instance_uid} is not among those given"):
        replay(record, [])


def test_ct_for_the_base_model_has_three_windows_for_three_colours(tmp_path: Path) -> None:
    instances = ct(tmp_path)
    seen = adapters()["clinical_caption"].render(instances)
    (source,) = seen.image_sources
    path = next(one.path for one in instances if one.header.sop_instance_uid == source.sop_instance_uid)
    ds = dcmread(path)
    hounsfield = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    for colour, (low, high) in enumerate(((-1024, 1024), (-135, 215), (0, 80))):
        expected = np.clip((hounsfield - low) / (high - low), 0, 1) * 255
        assert np.abs(seen.images[0][..., colour] - expected).max() <= 1


def test_mr_is_scaled_over_the_whole_acquisition(tmp_path: Path) -> None:
    instances = mr(tmp_path)
    slices = [dcmread(one.path) for one in instances]
    # One bright spot far from the slice that is shown: the shown slice must become darker for it.
    plain = adapters()["clinical_caption"].render(instances).images[0]
    brightest = max(int(ds.pixel_array.max()) for ds in slices)
    pixels = slices[0].pixel_array.copy()
    pixels[0, 0] = 2 * brightest
    slices[0].PixelData = pixels.tobytes()
    slices[0].save_as(instances[0].path)
    scaled = adapters()["clinical_caption"].render(instances).images[0]
    assert plain.max() > 0
    assert scaled.mean() == pytest.approx(plain.mean() / 2, rel=0.1)


def test_outside_of_the_area_to_show_all_is_black() -> None:
    instances = stored(TEST_FILES / "examples_ybr_color.dcm")
    of = FrameOf(instances[0].header.sop_instance_uid)
    whole, part = draw([Picture(colour=of), Picture(colour=of, only=Box(10, 20, 50, 100))], instances).images
    assert np.array_equal(part[10:50, 20:100], whole[10:50, 20:100])
    assert part.sum() == part[10:50, 20:100].sum(dtype=np.int64) > 0


numbers = st.floats(-1e6, 1e6)
frames = st.builds(FrameOf, st.from_regex(r"1(\.[1-9][0-9]{0,8}){1,6}", fullmatch=True), st.integers(1, 10_000))
shadings = st.one_of(
    st.builds(Window, numbers, st.floats(1, 1e6), st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]), st.text()),
    st.builds(VoiLut, st.integers(1, 9)),
    st.builds(Percentiles, st.floats(0, 49), st.booleans()),
)
counted = st.lists(st.integers(1, 500), min_size=1, max_size=4).map(tuple)
plans = st.builds(SubtractionPlan, counted, counted, st.tuples(numbers, numbers), st.booleans(), st.just("AVG_SUB"))
planes = st.builds(Plane, frames, shadings, st.none() | plans)
boxes = st.none() | st.builds(Box, *[st.integers(0, 4096)] * 4)
sizes = st.none() | st.builds(Size, st.integers(1, 4096), st.integers(1, 4096), st.sampled_from(Filter))
pictures = st.one_of(
    st.builds(
        Picture, planes=st.sampled_from([1, 3]).flatmap(lambda n: st.tuples(*[planes] * n)), only=boxes, size=sizes
    ),
    st.builds(Picture, colour=frames, only=boxes, size=sizes),
)


@given(st.lists(pictures, max_size=4).map(tuple))
def test_any_recipe_survives_storage(recipe: tuple[Picture, ...]) -> None:
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe


@pytest.mark.parametrize("stored_recipe", [None, 7, [{"planes": 3}], [{}], [{"colour": {"frame": 1}}]])
def test_what_is_no_recipe_is_refused_in_words(stored_recipe: Any) -> None:
    with pytest.raises(RecipeError):
        recipe_from_json(stored_recipe)


def test_pixels_beyond_what_the_header_claims_make_the_answer_doubtful(tmp_path: Path) -> None:
    (run,) = xa(tmp_path)
    ds = dcmread(run.path)
    frames, ds.Rows = ds.NumberOfFrames, 64
    ds.save_as(run.path)
    said = adapters()["dsa_patency"].render(stored(run.path)).incomplete
    assert any(f"hold {frames * 128 * 128 * 2} bytes, {frames} frame(s) of 64 x 128 take" in one for one in said)


def test_one_slice_with_pixels_too_many_is_told_from_the_others(tmp_path: Path) -> None:
    slices = ct(tmp_path)
    ds = dcmread(slices[20].path)
    ds.PixelData *= 2
    ds.save_as(slices[20].path)
    shown = adapters()["abdominal_trauma"].render(slices)
    assert sum(slices[20].header.sop_instance_uid in sentence for sentence in shown.incomplete) == 1
    groups = shown.record["instances"]
    assert [len(group["sop_instance_uids"]) for group in groups if "surplus" in group] == [1]
    assert len(groups) == 2


def test_a_viewers_overlays_are_not_drawn_and_that_is_kept_on_record(tmp_path: Path) -> None:
    (run,) = xa(tmp_path)
    without = adapters()["dsa_patency"].render([run])
    ds = dcmread(run.path)
    ds.add_new(0x60000010, "US", 128)
    ds.add_new(0x60000011, "US", 128)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60000102, "US", 0)
    ds.add_new(0x60003000, "OW", b"\xff" * (128 * 128 // 8))
    ds.save_as(run.path)
    shown = adapters()["dsa_patency"].render([run])
    assert shown.digest() == without.digest()
    assert [group.get("overlays_not_drawn") for group in shown.record["instances"]] == [1]
    assert "overlays_not_drawn" not in without.record["instances"][0]


def test_writing_in_the_pixels_holds_the_answer_unless_it_is_blacked_out(tmp_path: Path) -> None:
    def written(path: Path) -> InstanceFile:
        ds = dcmread(path)
        ds.BurnedInAnnotation = "YES"
        ds.save_as(path)
        return InstanceFile(read_header(path), path)

    frames = np.full((4, 128, 128), 900, np.uint16)
    run = written(write_xa_run(tmp_path, frames))
    (said,) = [one for one in adapters()["dsa_patency"].render([run]).incomplete if "BurnedInAnnotation" in one]
    assert run.header.sop_instance_uid in said and "may name the patient" in said
    film = written(write_film_with_voi_luts(tmp_path, range(4096)))
    assert any("BurnedInAnnotation" in one for one in adapters()["clinical_caption"].render([film]).incomplete)
    # Of an ultrasound picture all but the image region is black, and with it the writing.
    cine = written(write_ultrasound_cine(tmp_path, ultrasound_frames()))
    seen = adapters()["flare"].render([cine])
    assert not any("BurnedInAnnotation" in one for one in seen.incomplete)
    assert seen.record["instances"][0]["burned_in_annotation"] == "YES"


def test_of_a_cine_the_sharpest_frame_is_shown_whatever_the_writing_around_it_does(tmp_path: Path) -> None:
    frames = ultrasound_frames(7)
    inside = (slice(US_ROWS[0], US_ROWS[1] + 1), slice(US_COLUMNS[0], US_COLUMNS[1] + 1))
    for number in (0, 1, 2, 3, 5, 6):
        frames[number][inside] = frames[number][inside].mean(axis=(0, 1)).astype(np.uint8)
    frames[1, 72:, ::4] = 255
    path = write_ultrasound_cine(tmp_path, frames)
    seen = adapters()["flare"].render([InstanceFile(read_header(path), path)])
    assert [source.frame_numbers for source in seen.image_sources] == [(5,)]
    assert "its sharpest frame" in seen.record["chosen_by"]
    assert seen.incomplete == ("only frame 5 of 7 of a multi-frame image was shown",)
