"""Whole slides: the right level, the right frames, tissue and not glass; never a label."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from wsidicom import WsiDicom

from dicom_node.headers import InstanceFile, read_header
from dicom_node.pixels import PixelError
from dicom_node.slides import Region, read_region, read_slide, tissue_patches, whole_level
from dicom_node.tissue import shares, tissue_mask
from tests.dicom_validators import dciodvfy
from tests.phantoms.slide import CENTRE, GLASS, HALF_AXES, HEIGHT, TILE, WIDTH, level_picture, write_slide

FORMS = {"full": {}, "sparse": {"sparse": True}, "sparse without glass": {"sparse": True, "without_glass": True}}


@pytest.fixture(params=FORMS)
def slide_files(request: pytest.FixtureRequest, tmp_path: Path) -> list[InstanceFile]:
    files = write_slide(tmp_path, **FORMS[request.param])
    random.Random(1).shuffle(files)
    return files


@pytest.mark.parametrize("options", [{}, {"sparse": True}, {"jpeg": True}])
def test_the_phantom_is_valid(tmp_path: Path, options: dict[str, bool]) -> None:
    verdicts = {file.path.name: dciodvfy(file.path) for file in write_slide(tmp_path, **options)}
    assert {name: verdict.errors for name, verdict in verdicts.items() if verdict.errors} == {}


def test_the_pyramid_is_found_and_label_and_overview_are_not_in_it(slide_files: list[InstanceFile]) -> None:
    slide = read_slide(slide_files)
    sizes = [(level.width, level.height) for level in slide.levels]
    assert sizes == [(WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2), (WIDTH // 4, HEIGHT // 4)]
    assert [level.mm_per_pixel for level in slide.levels] == pytest.approx([0.0005, 0.001, 0.002])
    assert slide.left_out == (
        "1 label left out: it may name the patient",
        "1 overview left out: it may name the patient",
    )
    shown = {uid for level in slide.levels for uid in level.instances}
    named = {file.header.sop_instance_uid for file in slide_files if file.path.name.startswith("level")}
    assert shown == named
    assert (slide.level_that_fits(), slide.level_that_fits(700), slide.level_that_fits(10)) == (0, 1, 2)
    assert (slide.level_near(0.0011), slide.level_near(0.00001)) == (1, 0)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_whole_level_is_put_together_as_it_was_cut(slide_files: list[InstanceFile], level: int) -> None:
    slide = read_slide(slide_files)
    picture = read_region(slide.files, whole_level(slide, level))
    drawn = level_picture(2**level)
    stained = (drawn != GLASS).any(axis=2)
    assert np.array_equal(picture[stained], drawn[stained])
    assert picture[~stained].min() >= min(GLASS)


def test_patches_lie_on_the_tissue_and_are_the_same_each_time(slide_files: list[InstanceFile]) -> None:
    slide = read_slide(slide_files)
    patches = tissue_patches(slide, level=0, side=100, at_most=6)
    assert len(patches) == 6
    for patch in patches:
        x, y = patch.x + 50 - CENTRE[0], patch.y + 50 - CENTRE[1]
        assert (x / HALF_AXES[0]) ** 2 + (y / HALF_AXES[1]) ** 2 < 1.2
        picture = read_region(slide.files, patch)
        assert np.array_equal(
            picture[40:60, 40:60], level_picture()[patch.y + 40 : patch.y + 60, patch.x + 40 : patch.x + 60]
        )
        assert patch.tissue is not None
        assert patch.tissue == pytest.approx((picture.min(axis=2) < 200).mean(), abs=0.15)
    # From one side of the tissue to the other.
    assert max(patch.y for patch in patches) - min(patch.y for patch in patches) >= HALF_AXES[1]
    assert tissue_patches(read_slide(slide_files[::-1]), level=0, side=100, at_most=6) == patches


def test_a_stored_region_gives_the_same_pixels(slide_files: list[InstanceFile]) -> None:
    slide = read_slide(slide_files)
    patch = tissue_patches(slide, level=1, side=150, at_most=1)[0]
    stored = Region.from_json(json.loads(json.dumps(patch.to_json())))
    assert stored == patch
    assert np.array_equal(read_region(slide.files, stored), read_region(slide.files, patch))


def test_an_independent_reader_sees_the_same(tmp_path: Path) -> None:
    files = write_slide(tmp_path, jpeg=True)
    slide = read_slide(files)
    patch = tissue_patches(slide, level=0, side=300, at_most=1)[0]
    with WsiDicom.open([file.path for file in files]) as opened:
        theirs = opened.read_region((patch.x, patch.y), 0, (300, 300), as_array=True)
    ours = read_region(slide.files, patch).astype(int)
    assert len(patch.tiles) > 1
    # Two JPEG decoders; chroma is subsampled, and they differ in how they fill it in.
    assert np.abs(ours - theirs).mean() < 4
    assert np.abs(ours - level_picture()[patch.y : patch.y + 300, patch.x : patch.x + 300]).mean() < 8


def test_a_slide_without_stain_has_no_patches(tmp_path: Path) -> None:
    glass = np.full((300, 400, 3), GLASS, dtype=np.uint8)
    assert not tissue_mask(glass).any()
    assert not tissue_mask(np.zeros((4, 4, 3), dtype=np.uint8)).any()


def test_shares_of_tissue() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[:2, :3] = True
    assert shares(mask, 2, 2, 3, 2).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert shares(mask, 3, 1, 2, 4).tolist() == [[0.5, 0.25, 0.0]]


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    files = write_slide(tmp_path)
    with pytest.raises(PixelError, match="only label and overview"):
        read_slide([file for file in files if not file.path.name.startswith("level")])
    with pytest.raises(PixelError, match="no level"):
        read_slide([])
    files[0].path.write_bytes(files[0].path.read_bytes()[:3000])
    with pytest.raises(PixelError, match=r"send"):
        slide = read_slide(files[:1])
        read_region(slide.files, whole_level(slide, 0))


def test_a_claim_of_too_many_tiles_is_refused_at_once(tmp_path: Path) -> None:
    path = write_slide(tmp_path, sparse=True, with_label=False)[0].path
    ds = dcmread(path)
    ds.TotalPixelMatrixColumns = ds.TotalPixelMatrixRows = 4_000_000_000
    ds.save_as(path)
    with pytest.raises(PixelError, match="4000000000 x 4000000000 pixels in tiles of 256 x 256 is not possible"):
        read_slide([InstanceFile(read_header(path), path)])


def test_a_region_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    slide = read_slide(write_slide(tmp_path, levels=1))
    with pytest.raises(PixelError, match="100000 x 900 pixels is beyond the limit"):
        read_region(slide.files, replace(whole_level(slide, 0), width=100_000))


def test_an_instance_that_is_gone_is_named(tmp_path: Path) -> None:
    slide = read_slide(write_slide(tmp_path))
    region = whole_level(slide, 0)
    with pytest.raises(PixelError, match="not among the instances"):
        read_region({}, region)
    assert len(region.tiles) == -(-WIDTH // TILE) * -(-HEIGHT // TILE)
