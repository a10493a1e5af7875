"""Drawn phantoms: repeatable, and true to what they claim to show."""

from __future__ import annotations

import numpy as np
import pytest

from models.phantoms import abdomen_truth, draw_abdomen_volume, draw_injuries, draw_vessel_run


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
