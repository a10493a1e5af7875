"""One broken image does not cost a series its answer: the rest is shown, and what was left out is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from dicom_node.headers import read_header
from models.adapters import adapters
from models.drawing import replay
from models.phantoms import draw_abdomen_volume
from models.rendering import RenderError
from tests.instance_files import stored
from worker.demo.phantom_pictures import write_chest_xray
from worker.demo.phantom_studies import write_ct_series, write_mr_series

TRAUMA, FLARE, CAPTION = (adapters()[name] for name in ("abdominal_trauma", "flare", "clinical_caption"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def without_pixels(path: Path) -> None:
    ds = dcmread(path)
    del ds.PixelData
    ds.save_as(path)


def junk(path: Path) -> None:
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    ds.PixelData = encapsulate([b"\xff\xd8\xff\xc3junk"])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(path)


def ct(folder: Path, slices: int = 40) -> list[Path]:
    volume = draw_abdomen_volume(np.random.default_rng(7), injuries={}, slices=slices, size=64)
    return write_ct_series(folder, volume.hounsfield, slice_spacing_mm=5.0)


@pytest.mark.parametrize("spoil", [cut, without_pixels, junk])
def test_a_volume_is_shown_without_its_broken_slice(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    paths = ct(tmp_path)
    spoil(paths[20])
    instances = stored(*paths)
    broken = instances[20].header.sop_instance_uid
    shown = TRAUMA.render(instances)
    assert len(shown.images) == 8
    (said,) = [sentence for sentence in shown.incomplete if broken in sentence]
    assert said.startswith("1 of 40 images was left out: instance ")
    assert any("gap of 10.0 mm" in sentence for sentence in shown.incomplete)
    assert broken not in {source.sop_instance_uid for source in shown.sources}
    assert len(replay(shown.input_record(), instances)) == 8


def test_a_volume_of_which_much_is_broken_is_refused(tmp_path: Path) -> None:
    paths = ct(tmp_path)
    for path in paths[10:30]:
        cut(path)
    with pytest.raises(RenderError, match=r"truncated.*; 4 of 40 images were left out before for reasons like it"):
        TRAUMA.render(stored(*paths))


def test_the_middle_slice_is_taken_of_those_that_can_be_read(tmp_path: Path) -> None:
    paths = write_mr_series(tmp_path, slices=5)
    cut(paths[2])
    for adapter in (FLARE, CAPTION):
        shown = adapter.render(stored(*paths))
        assert len(shown.images) == 1
        assert any(sentence.startswith("1 of 5 images was left out: ") for sentence in shown.incomplete)


def test_the_other_of_two_films_is_shown(tmp_path: Path) -> None:
    pixels = (np.add.outer(np.arange(64), np.arange(48)) * 16).astype(np.uint16)
    good = write_chest_xray(tmp_path, pixels)
    bad = write_chest_xray(tmp_path, pixels)
    cut(bad)
    shown = FLARE.render(stored(good, bad))
    assert len(shown.images) == 1
    assert shown.sources[0].sop_instance_uid == read_header(good).sop_instance_uid


def test_a_single_image_that_is_broken_is_refused(tmp_path: Path) -> None:
    path = write_chest_xray(tmp_path, np.zeros((64, 48), np.uint16))
    cut(path)
    with pytest.raises(RenderError, match="truncated"):
        FLARE.render(stored(path))
