"""Angiographic runs of every kind: subtracted here or before, biplane, rotational, with a moving table, enhanced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.headers import InstanceFile, read_header
from models.adapter import adapters
from models.drawing import replay
from models.rendering import InputRecord, ModelInput
from tests.phantoms.angiography import Detector, run, vessel, write_dsa
from tests.phantoms.enhanced_xa import write_enhanced_xa
from worker.routing import SeriesSummary, route

DSA = adapters()["dsa_patency"]
#: Fullest in the fifth frame (counted from 1).
FILLINGS = (0, 0, 0, 0.6, 1, 0.9, 0.8, 0.3, 0, 0)


def seen(path: Path) -> ModelInput:
    return DSA.render([InstanceFile(read_header(path), path)])


def changed(path: Path, **elements: Any) -> Path:
    ds = dcmread(path)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


def shows_the_vessel_alone(shown: ModelInput) -> bool:
    """Tell whether the key image is dark where the vessel is and even everywhere else."""
    image = shown.images[shown.key_images[0]][..., 0].astype(float)
    inside, outside = vessel() > 0.2, vessel() == 0
    return bool(image[inside].mean() + 60 < image[outside].mean() and image[outside].std() < 12)


@pytest.mark.parametrize("detector", [Detector(), Detector("LOG"), Detector("LIN", -1, "MONOCHROME1")])
def test_every_mask_operation_leaves_the_vessel_alone(tmp_path: Path, detector: Detector) -> None:
    frames = run(FILLINGS, detector)
    for mask in (
        {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1, 2]},
        {"MaskOperation": "TID", "TIDOffset": 4},
    ):
        shown = seen(write_dsa(tmp_path, frames, detector, mask))
        assert shown.incomplete == ()
        # Four frames before the fourth there is none to subtract.
        assert shown.record["frames_shown"] == ([5, 6, 7] if "TIDOffset" in mask else [4, 5, 6])
        assert mask["MaskOperation"] in shown.record["subtraction"]
        assert shows_the_vessel_alone(shown)
    assert not shows_the_vessel_alone(seen(write_dsa(tmp_path, frames, detector)))


@pytest.mark.parametrize(
    ("fillings", "shown", "key"),
    [
        # Arteries full in the fifth frame; from the ninth on veins fill the picture more, and longer.
        ((0, 0, 0.2, 0.7, 0.8, 0.7, 0.5, 0.7, 0.9, 1, 1, 1, 0.9, 0.8), [4, 5, 6], 5),
        # A slow run: a frame before the arterial one and a venous one after it are its neighbours.
        ((0, 0, 0.9, 0.4, 1, 1, 1), [2, 3, 4], 3),
        # A puff of contrast to find the place is no arterial phase.
        ((0, 0.3, 0, 0, 0.5, 0.9, 1, 0.8, 0.4), [6, 7, 8], 7),
        # Filling that wavers on its way up has not ebbed away.
        ((0, 0.5, 0.75, 0.7, 0.8, 1, 0.9, 0.5), [5, 6, 7], 6),
        # A run that ends while it fills, and one that begins when it is full.
        ((0, 0, 0.2, 0.5, 0.8, 1), [4, 5, 6], 6),
        ((1, 0.8, 0.5, 0.3, 0, 0), [1, 2, 3], 1),
        ((0, 1), [1, 2], 2),
    ],
    ids=["venous plateau", "slow", "puff", "wavering", "ends full", "begins full", "two frames"],
)
def test_the_arterial_maximum_is_shown_with_its_neighbours(
    tmp_path: Path, fillings: Sequence[float], shown: list[int], key: int
) -> None:
    detector = Detector("LOG")
    seen_ = seen(write_dsa(tmp_path, run(fillings, detector), detector))
    assert seen_.record["frames_shown"] == shown
    assert [source.frame_numbers for source in seen_.image_sources] == [(number,) for number in shown]
    assert seen_.image_sources[seen_.key_images[0]].frame_numbers == (key,)
    assert seen_.incomplete == ()


def test_a_mask_moved_by_parts_of_a_pixel_is_moved_back(tmp_path: Path) -> None:
    detector = Detector()
    frames = run(FILLINGS, detector, {0: (1.5, -2.25)})
    mask = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1]}
    assert not shows_the_vessel_alone(seen(write_dsa(tmp_path, frames, detector, mask)))
    # Rows down, columns to the left (PS3.3 C.7.6.10.1.2): back to where the ground is in the other frames.
    shown = seen(write_dsa(tmp_path, frames, detector, {**mask, "MaskSubPixelShift": [-1.5, -2.25]}))
    assert shows_the_vessel_alone(shown)
    assert "shifted by -1.5 rows" in shown.record["subtraction"]


def test_a_patient_who_moved_before_the_contrast_came_is_not_taken_for_an_artery(tmp_path: Path) -> None:
    detector = Detector("LOG")
    frames = run((0, 0, 0, 0.4, 0.8, 1, 0.9, 0.5), detector, {0: (1.5, -2.25), 1: (0.5, -1)})
    assert seen(write_dsa(tmp_path, frames, detector)).record["frames_shown"] == [5, 6, 7]


def test_a_run_that_is_subtracted_already_is_not_subtracted_again(tmp_path: Path) -> None:
    detector = Detector()
    mask = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1]}
    path = changed(
        write_dsa(tmp_path, run(FILLINGS, detector), detector, mask),
        ImageType=["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTION"],
    )
    shown = seen(path)
    assert shown.record["subtraction"] == "none"
    assert "subtracted already (ImageType SUBTRACTION)" in shown.incomplete[0]


@pytest.mark.parametrize(
    ("motion", "words"),
    [
        ({"PositionerMotion": "DYNAMIC", "PositionerPrimaryAngleIncrement": list(range(0, 200, 20))}, "the C-arm"),
        ({"PositionerMotion": "DYNAMIC"}, "the C-arm"),
        ({"TableMotion": "DYNAMIC", "TableLongitudinalIncrement": [30.0 * n for n in range(10)]}, "the table"),
    ],
    ids=["rotation", "rotation without angles", "stepping table"],
)
def test_where_the_ground_moves_the_run_is_shown_evenly_and_held(
    tmp_path: Path, motion: dict[str, Any], words: str
) -> None:
    detector = Detector("LOG")
    shown = seen(changed(write_dsa(tmp_path, run(FILLINGS, detector), detector), **motion))
    assert shown.record["frames_shown"] == [2, 6, 9]
    assert shown.incomplete == (
        f"{words} moved during the run: frames evenly spread over it were shown, not its arterial maximum",
    )


@pytest.mark.parametrize(
    "motion",
    [
        {"PositionerMotion": "STATIC"},
        {"PositionerMotion": "DYNAMIC", "PositionerPrimaryAngleIncrement": [0.0] * 9 + [0.4]},
    ],
)
def test_a_c_arm_that_stands_still_is_no_rotation(tmp_path: Path, motion: dict[str, Any]) -> None:
    detector = Detector("LOG")
    shown = seen(changed(write_dsa(tmp_path, run(FILLINGS, detector), detector), **motion))
    assert (shown.record["frames_shown"], shown.incomplete) == ([4, 5, 6], ())


def test_each_plane_of_a_biplane_run_is_a_run_of_its_own(tmp_path: Path) -> None:
    detector = Detector("LOG")
    for plane in ("BIPLANE A", "BIPLANE B"):
        path = write_dsa(tmp_path, run(FILLINGS, detector), detector)
        shown = seen(changed(path, ImageType=["ORIGINAL", "PRIMARY", plane]))
        assert (shown.record["plane"], shown.incomplete) == (plane, ())


def test_an_enhanced_run_is_taken_and_subtracted_frame_by_frame(tmp_path: Path) -> None:
    detector = Detector()
    mask = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1, 2], "ApplicableFrameRange": [1, 10]}
    path = write_enhanced_xa(tmp_path, run(FILLINGS, detector), detector, mask)
    header = read_header(path)
    assert [one.adapter for one in route(SeriesSummary((header,)), [], {"dsa_patency": DSA}).assignments] == [
        "dsa_patency"
    ]
    shown = seen(path)
    assert shown.record["frames_shown"] == [4, 5, 6]
    assert shows_the_vessel_alone(shown)
    again = replay(InputRecord.from_json(shown.to_json()), [InstanceFile(header, path)])
    assert all(np.array_equal(one, other) for one, other in zip(shown.images, again, strict=True))


def with_angles(path: Path, angles: Sequence[float]) -> Path:
    ds = dcmread(path)
    for group, angle in zip(ds.PerFrameFunctionalGroupsSequence, angles, strict=True):
        position = Dataset()
        position.PositionerPrimaryAngle, position.PositionerSecondaryAngle = angle, 0.0
        group.PositionerPositionSequence = [position]
    for shared in ds.SharedFunctionalGroupsSequence:
        if "PositionerPositionSequence" in shared:
            del shared.PositionerPositionSequence
    ds.save_as(path)
    return path


def test_an_enhanced_rotation_is_known_by_its_frames(tmp_path: Path) -> None:
    detector = Detector("LOG")
    path = with_angles(write_enhanced_xa(tmp_path, run(FILLINGS, detector), detector), [20.0 * n for n in range(10)])
    assert "the C-arm moved" in seen(path).incomplete[0]
