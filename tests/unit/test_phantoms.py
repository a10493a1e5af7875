"""Drawn phantoms: repeatable, and true to what they claim to show."""

from __future__ import annotations

import numpy as np
import pytest

from models.phantoms import (
    abdomen_truth,
    draw_abdomen_volume,
    draw_captioned_picture,
    draw_general_picture,
    draw_injuries,
    draw_spots,
    draw_surgical_scene,
    draw_vessel_run,
)
from models.phantoms.captions import FINDINGS
from models.phantoms.general import GENERAL_MODALITIES, PICTURE_WIDTH_MM, SPOTS
from models.phantoms.surgery import INSTRUMENTS, PHASES


def test_the_same_seed_draws_the_same_pixels() -> None:
    first = draw_vessel_run(np.random.default_rng(4), blocked=True, frames=6, size=96)
    again = draw_vessel_run(np.random.default_rng(4), blocked=True, frames=6, size=96)
    other = draw_vessel_run(np.random.default_rng(5), blocked=True, frames=6, size=96)
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_contrast_arrives_over_the_run() -> None:
    run = draw_vessel_run(np.random.default_rng(0), blocked=False, frames=12, size=128)
    dark = (run.pixels < np.median(run.pixels[0]) - 400).mean(axis=(1, 2))
    assert run.pixels.dtype == np.uint16
    assert run.pixels.max() < 4096
    assert dark[0] == 0
    assert dark[6:9].max() > 0.01
    assert dark[3] < dark[6:9].max()


def test_a_blocked_vessel_shows_less_contrast_than_the_same_one_patent() -> None:
    shown = {
        blocked: draw_vessel_run(np.random.default_rng(11), blocked=blocked, frames=1, size=128, difficulty=0.1).pixels
        for blocked in (True, False)
    }
    assert (shown[True] < 1900).sum() < 0.8 * (shown[False] < 1900).sum()


def test_an_unsubtracted_run_begins_with_a_mask() -> None:
    run = draw_vessel_run(np.random.default_rng(2), blocked=False, frames=8, size=128, subtracted=False)
    frames = run.pixels.astype(np.int32)
    assert frames[0].std() > 60, "bones lie over the vessel"
    difference = frames[0] - frames[6]
    assert np.percentile(difference, 99) > 500, "subtraction leaves the vessel"
    assert abs(np.median(difference)) < 60, "and takes the bones away"


def test_an_injured_organ_is_darker_inside_and_bleeds_bright() -> None:
    whole = draw_abdomen_volume(np.random.default_rng(1), injuries={}, slices=20, size=96, subtle=False)
    torn = draw_abdomen_volume(np.random.default_rng(1), injuries={"liver": "severe"}, slices=20, size=96, subtle=False)
    assert whole.hounsfield.dtype == np.int16
    assert whole.truth["organs_involved"] == []
    assert torn.truth["organs_involved"] == ["liver"]
    assert torn.truth["severity_estimate"] == "severe"
    middle, half_height = torn.lesions["liver"]
    assert 0 < middle < 20
    assert half_height > 1
    at_lesion = slice(int(middle), int(middle) + 2)
    bright_torn = (torn.hounsfield[at_lesion, :, :48] > 280).sum()
    bright_whole = (whole.hounsfield[at_lesion, :, :48] > 280).sum()
    assert bright_torn > bright_whole + 20


def test_truth_names_each_organ_once_and_the_worst_severity() -> None:
    truth = abdomen_truth({"kidney": "mild", "liver": "moderate"})
    assert truth["organs_involved"] == ["liver", "kidney"]
    assert truth["severity_estimate"] == "moderate"
    assert abdomen_truth({})["severity_estimate"] == "none"


def test_patients_differ() -> None:
    drawn = [draw_injuries(np.random.default_rng(seed)) for seed in range(200)]
    counts = [len(injuries) for injuries in drawn]
    assert counts.count(0) > 20
    assert counts.count(2) > 10
    assert {organ for injuries in drawn for organ in injuries} == {"liver", "spleen", "kidney", "bowel"}


def test_impossible_wishes_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="brain"):
        draw_abdomen_volume(rng, injuries={"brain": "mild"})
    with pytest.raises(ValueError, match="at least 10 slices"):
        draw_abdomen_volume(rng, injuries={}, slices=3)
    with pytest.raises(ValueError, match="at least 1 frame"):
        draw_vessel_run(rng, blocked=True, frames=0)


def test_every_phase_of_an_operation_looks_different_and_has_its_instrument() -> None:
    scenes = [draw_surgical_scene(np.random.default_rng(3), phase=phase, safe=True, size=96) for phase in PHASES]
    assert [scene.instrument for scene in scenes] == list(INSTRUMENTS.values())
    assert len({scene.pixels.tobytes() for scene in scenes}) == len(PHASES)
    for scene in scenes:
        assert scene.pixels.shape == (1, 96, 96, 3)
        assert scene.pixels.dtype == np.uint8


def test_an_unsafe_instrument_leaves_the_pupil_free() -> None:
    blue = {
        safe: draw_surgical_scene(np.random.default_rng(4), phase="phacoemulsification", safe=safe, size=128).pixels[0]
        for safe in (True, False)
    }
    middle = {safe: pixels[48:80, 48:80].astype(np.int32) for safe, pixels in blue.items()}
    # The phaco tip is blue, the nucleus it works on is not.
    shaft = {safe: int((part[..., 2] > part[..., 0] + 40).sum()) for safe, part in middle.items()}
    assert shaft[True] > 100
    assert shaft[False] == 0


def test_the_eye_moves_from_frame_to_frame_and_stays_the_same() -> None:
    scene = draw_surgical_scene(np.random.default_rng(5), phase="lens implantation", safe=False, frames=4, size=96)
    first, last = scene.pixels[0].astype(np.int32), scene.pixels[3].astype(np.int32)
    assert not np.array_equal(first, last)
    assert np.median(np.abs(first - last)) < 25


@pytest.mark.parametrize("modality", GENERAL_MODALITIES)
def test_spots_are_where_the_truth_says(modality: str) -> None:
    dark, bright = SPOTS[modality]
    picture = draw_general_picture(np.random.default_rng(6), modality=modality, spots=[dark, bright, bright], size=160)
    plain = draw_general_picture(np.random.default_rng(6), modality=modality, size=160)
    assert picture.names == (dark, bright)
    assert len(picture.spots) == 3
    ground = float(plain.pixels[40:120, 40:120].mean())
    for spot in picture.spots:
        left, top, right, bottom = (side * 160 for side in spot.box)
        row, column = int((top + bottom) / 2), int((left + right) / 2)
        inside = picture.pixels[row - 3 : row + 4, column - 3 : column + 4].mean()
        assert (inside < ground - 25) if spot.name == dark else (inside > ground + 25)
    assert picture.report.endswith(f"one {dark} and two {bright}s.")


def test_a_spot_alone_has_the_diameter_it_is_said_to_have() -> None:
    picture = draw_general_picture(np.random.default_rng(7), modality="DX", spots=["nodule"], size=200)
    bright = (picture.pixels[..., 0] > 200).any(axis=0)
    assert abs(bright.sum() / 200 * PICTURE_WIDTH_MM - picture.widest_mm) < 1.5


def test_general_pictures_vary_in_what_is_on_them() -> None:
    drawn = [draw_spots(np.random.default_rng(seed), "OP") for seed in range(200)]
    assert {len(spots) for spots in drawn} == {0, 1, 2, 3, 4}
    assert any(len(set(spots)) == 2 for spots in drawn)


def test_captions_say_side_and_finding_in_both_languages() -> None:
    picture = draw_captioned_picture(np.random.default_rng(8), modality="DX", finding="right pleural effusion")
    assert picture.caption() == "The chest X-ray shows a right pleural effusion."
    assert picture.caption("de") == "Das Röntgenbild des Thorax zeigt einen Pleuraerguss rechts."
    captions = {
        draw_captioned_picture(np.random.default_rng(9), modality=modality, finding=finding, size=64).caption(language)
        for modality, findings in FINDINGS.items()
        for finding in findings
        for language in ("en", "de")
    }
    assert len(captions) == 2 * sum(len(findings) for findings in FINDINGS.values())


def test_an_effusion_is_on_the_side_that_is_named() -> None:
    def whiteness(finding: str) -> tuple[float, float]:
        drawn = draw_captioned_picture(np.random.default_rng(10), modality="DX", finding=finding, size=128)
        base_of_lungs = drawn.pixels[75:95].astype(np.float64)
        return float(base_of_lungs[:, 24:56].mean()), float(base_of_lungs[:, 72:104].mean())

    right_side, left_side = whiteness("right pleural effusion")
    assert right_side > left_side + 20, "the patient's right is on the left of the picture"
    right_side, left_side = whiteness("left pleural effusion")
    assert left_side > right_side + 20


def test_what_cannot_be_drawn_is_refused_with_what_can() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"suturing.*incision"):
        draw_surgical_scene(rng, phase="suturing", safe=True)
    with pytest.raises(ValueError, match="64 pixels"):
        draw_surgical_scene(rng, phase="incision", safe=True, size=10)
    with pytest.raises(ValueError, match="polyp"):
        draw_general_picture(rng, modality="CT", spots=["polyp"])
    with pytest.raises(ValueError, match="at most 4"):
        draw_general_picture(rng, modality="CT", spots=["cyst"] * 5)
    with pytest.raises(ValueError, match="DX: none"):
        draw_captioned_picture(rng, modality="DX", finding="fracture")
    with pytest.raises(ValueError, match="no captions in 'fr'"):
        draw_captioned_picture(rng, modality="CT").caption("fr")
