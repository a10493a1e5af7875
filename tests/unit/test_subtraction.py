"""Mask subtraction: a vessel of known absorption over a structured ground comes out alone, in every way to store it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.display import shade
from dicom_node.mask_module import SubtractionPlan, already_subtracted, plan_subtraction, plan_subtractions
from dicom_node.pixels import Frame, ImageAttributes, PixelError, read_frames, read_image
from dicom_node.subtraction import LOGARITHM_SCALE, Subtractor
from tests.phantoms.angiography import LOG_STEPS, Detector, ground, run, vessel, write_dsa
from tests.phantoms.enhanced_xa import write_enhanced_xa

DETECTORS = [
    Detector(relationship, sign, photometric)
    for relationship in ("LIN", "LOG", "DISP")
    for sign in (1, -1)
    for photometric in ("MONOCHROME1", "MONOCHROME2")
]
#: Empty, empty, half full, full, emptying.
FILLINGS = (0.0, 0.0, 0.5, 1.0, 0.25)
AVERAGE = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1, 2]}


def subtracted(path: Path, index: int) -> NDArray[np.float32]:
    image = read_image(path)
    plan, why = plan_subtraction(image, index)
    assert plan is not None, why
    return Subtractor(image).subtract(plan)


def absorption(detector: Detector, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo what the detector and the subtraction did to the vessel's absorption."""
    steps = LOGARITHM_SCALE if detector.relationship == "LIN" else LOG_STEPS
    return -detector.sign * values / np.float32(steps)


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_the_vessel_alone_is_left_whatever_the_detector_writes(tmp_path: Path, detector: Detector) -> None:
    path = write_dsa(tmp_path, run(FILLINGS, detector), detector, AVERAGE)
    for index in (2, 3):
        left = absorption(detector, subtracted(path, index))
        assert np.abs(left - vessel(FILLINGS[index])).max() < 0.001, "the vessel's thickest place absorbs 0.3"


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_contrast_is_shown_as_the_polarity_says(tmp_path: Path, detector: Detector) -> None:
    """MONOCHROME2 shows high values bright, also subtracted ones; contrast lowers values unless the sign is -1."""
    path = write_dsa(tmp_path, run(FILLINGS, detector), detector, AVERAGE)
    picture = shade(read_image(path), subtracted(path, 3), None)
    inside, outside = picture[vessel() > 0.25], picture[vessel() == 0]
    bright = (detector.sign == -1) == (detector.photometric == "MONOCHROME2")
    assert (float(inside.mean()) > float(outside.mean())) is bright
    assert int(outside.max()) - int(outside.min()) < 8, "no rib is left beside the vessel"


def test_logarithms_make_the_vessel_the_same_before_bone_and_before_air(tmp_path: Path) -> None:
    detector = Detector("LIN")
    frames = run(FILLINGS, detector)
    logarithmic = write_dsa(tmp_path, frames, detector, AVERAGE)
    linear = write_dsa(tmp_path, frames, Detector("DISP"), AVERAGE)
    ridge = vessel() > 0.29
    spread = {path: np.ptp(values[ridge]) / abs(values[ridge].mean()) for path in (logarithmic, linear)
              for values in [subtracted(path, 3)]}  # fmt: skip
    assert spread[logarithmic] < 0.05
    assert spread[linear] > 0.3


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, 0.25), (-1.75, 2.5), (3.0, -2.0)])
def test_a_shifted_mask_is_aligned(tmp_path: Path, shift: tuple[float, float]) -> None:
    """PS3.3 C.7.6.10.1.2: rows first, positive down; then columns, positive to the left."""
    down, left = shift
    detector = Detector("LOG")
    frames = run((0.0, 1.0), detector, {0: (-down, left)})
    mask = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1]}
    inner = (slice(6, -6), slice(6, -6))  # what moves in at the borders is not known
    aligned = absorption(
        detector, subtracted(write_dsa(tmp_path, frames, detector, {**mask, "MaskSubPixelShift": list(shift)}), 1)
    )
    wrong = absorption(detector, subtracted(write_dsa(tmp_path, frames, detector, mask), 1))
    assert np.abs(aligned - vessel())[inner].max() < 0.002
    assert np.abs(wrong - vessel())[inner].max() > 0.008


def test_a_mask_of_several_frames_is_their_mean_and_less_noisy(tmp_path: Path) -> None:
    detector, rng = Detector("LOG"), np.random.default_rng(3)
    frames = run([0.0] * 8 + [1.0], detector) + rng.normal(0, 40, (9, *ground().shape)).astype(np.int16)
    noise = {}
    for masks in ([1], [1, 2, 3, 4, 5, 6, 7, 8]):
        path = write_dsa(tmp_path, frames.astype(np.uint16), detector, {**AVERAGE, "MaskFrameNumbers": masks})
        noise[len(masks)] = float(subtracted(path, 8)[vessel() == 0].std())
    assert noise[1] == pytest.approx(40 * np.sqrt(2), rel=0.1)
    assert noise[8] == pytest.approx(40 * np.sqrt(1 + 1 / 8), rel=0.1)


def test_contrast_frames_are_averaged_from_the_frame_on(tmp_path: Path) -> None:
    detector = Detector("LOG")
    path = write_dsa(tmp_path, run(FILLINGS, detector), detector, {**AVERAGE, "ContrastFrameAveraging": 2})
    assert np.abs(absorption(detector, subtracted(path, 2)) - vessel((0.5 + 1.0) / 2)).max() < 0.001
    plan, why = plan_subtraction(read_image(path), 4)
    assert plan is None
    assert "ends before the 2 contrast frames" in why


def test_time_interval_differences_show_what_came_in_between(tmp_path: Path) -> None:
    detector = Detector("LIN")
    frames = run((0.0, 0.25, 0.5, 1.0), detector)
    for offset, expected in (([2], vessel(1.0) - vessel(0.25)), ([], vessel(1.0) - vessel(0.5))):
        path = write_dsa(tmp_path, frames, detector, {"MaskOperation": "TID", "TIDOffset": offset or None})
        assert np.abs(absorption(detector, subtracted(path, 3)) - expected).max() < 0.001


def test_at_the_runs_start_there_is_no_mask_and_that_is_said(tmp_path: Path) -> None:
    detector = Detector("LIN")
    image = read_image(write_dsa(tmp_path, run(FILLINGS, detector), detector, {"MaskOperation": "TID", "TIDOffset": 2}))
    assert plan_subtraction(image, 1) == (None, "the run's mask does not apply to frame 2: it is not subtracted")
    plans, why = plan_subtractions(image, (1, 2, 3))
    assert plans == ()
    assert "frame 2" in why
    assert [plan.mask_frames for plan in plan_subtractions(image, (2, 3))[0]] == [(1,), (2,)]


def test_reversed_intervals_pair_a_run_with_one_of_the_opposite_order(tmp_path: Path) -> None:
    """Three masks as the arm swings out, three contrast frames as it swings back: 4-3, 5-2, 6-1."""
    detector = Detector("LOG")
    places = {number: (0.0, 5.0 * min(number, 5 - number)) for number in range(6)}
    frames = run((0.0, 0.0, 0.0, 1.0, 1.0, 1.0), detector, places)
    mask = {"MaskOperation": "REV_TID", "TIDOffset": 1, "ApplicableFrameRange": [4, 6]}
    image = read_image(write_dsa(tmp_path, frames, detector, mask))
    plans, why = plan_subtractions(image, (3, 4, 5))
    assert (why, [plan.mask_frames for plan in plans]) == ("", [(3,), (2,), (1,)])
    for plan in plans:
        assert np.abs(absorption(detector, Subtractor(image).subtract(plan)) - vessel()).max() < 0.001


def test_each_frame_finds_the_item_that_covers_it(tmp_path: Path) -> None:
    detector = Detector("LOG")
    first = {**AVERAGE, "MaskFrameNumbers": [1], "ApplicableFrameRange": [2, 3]}
    second = {**AVERAGE, "MaskFrameNumbers": [2], "ApplicableFrameRange": [5, 5, 4, 4]}
    image = read_image(write_dsa(tmp_path, run(FILLINGS, detector), detector, first, second))
    plans, _ = plan_subtractions(image, (1, 2, 3, 4))
    assert [plan.mask_frames for plan in plans] == [(1,), (1,), (2,), (2,)]
    assert plan_subtraction(image, 0)[1] == "the run's mask does not apply to frame 1: it is not subtracted"


def test_an_enhanced_run_shifts_each_frames_mask_by_its_own_pixel_shift(tmp_path: Path) -> None:
    detector = Detector("LIN", -1, "MONOCHROME1")
    # The mask lay elsewhere than frame 2, and elsewhere again than frame 3: the contrast frames moved.
    frames = run((0.0, 1.0, 1.0), detector, {1: (0.5, 0.0), 2: (0.0, -1.5)})
    shifts = {1: [(7, 9.0, 9.0), (1, 0.5, 0.0)], 2: [(1, 0.0, 1.5)]}
    path = write_enhanced_xa(tmp_path, frames, detector, {**AVERAGE, "MaskFrameNumbers": [1]}, shifts=shifts)
    inner = (slice(6, -6), slice(6, -6))
    for index in (1, 2):
        assert np.abs(absorption(detector, subtracted(path, index)) - vessel())[inner].max() < 0.004
    plan, _ = plan_subtraction(read_image(path), 1)
    assert plan is not None
    assert plan.in_words == "AVG_SUB of frames 1 shifted by 0.5 rows and 0 columns, logarithmic"


@pytest.mark.parametrize("rising", [True, False])
def test_an_enhanced_runs_own_table_makes_the_logarithms(tmp_path: Path, rising: bool) -> None:
    """Values made for the eye by a square root: only the header knows the way back."""
    detector = Detector("DISP")
    intensities = run((0.0, 1.0), Detector("LIN")).astype(np.float64)
    frames = np.round(np.sqrt(intensities) * 200).astype(np.uint16)
    steps = 5000 * np.log(np.maximum(np.arange(2**16), 1))  # twice the logarithm of the root
    table = np.round(steps if rising else 65535 - steps).astype(int).tolist()
    mask = {**AVERAGE, "MaskFrameNumbers": [1]}
    image = read_image(write_enhanced_xa(tmp_path, frames, detector, mask, to_log=table))
    plan, _ = plan_subtraction(image, 1)
    assert plan is not None
    assert plan.in_words == "AVG_SUB of frames 1, logarithmic by the header's table"
    assert np.abs(-Subtractor(image).subtract(plan) / 2500 - vessel()).max() < 0.002
    assert SubtractionPlan.from_json(plan.to_json()) == plan


def changed(path: Path, change: Callable[[Dataset], object]) -> ImageAttributes:
    ds = dcmread(path)
    change(ds)
    ds.save_as(path)
    return read_image(path)


def already(ds: Dataset) -> None:
    ds.ImageType = ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"]


def by_code(ds: Dataset) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113062", "DCM", "Pixel by pixel subtraction"
    ds.DerivationCodeSequence = [code]


def by_description(ds: Dataset) -> None:
    ds.ImageType = ["DERIVED", "PRIMARY", "SINGLE PLANE"]
    ds.DerivationDescription = "Digitally subtracted from mask"


@pytest.mark.parametrize("change", [already, by_code, by_description])
def test_a_run_that_was_subtracted_before_is_not_subtracted_again(
    tmp_path: Path, change: Callable[[Dataset], object]
) -> None:
    detector = Detector("DISP")
    image = changed(write_dsa(tmp_path, run(FILLINGS, detector), detector, AVERAGE), change)
    plan, why = plan_subtraction(image, 3)
    assert plan is None
    assert "subtracted already" in why


def test_plain_words_of_an_unsubtracted_run_do_not_mislead() -> None:
    ds = Dataset()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE", "UNSUBTRACTED"]
    assert already_subtracted(ds) == ""
    ds.ImageType = ["DERIVED", "PRIMARY", "SINGLE PLANE", "NOT_SUBTRACTED"]
    ds.DerivationDescription = "edge enhanced"
    assert already_subtracted(ds) == ""


def set_viewing_mode(value: str) -> Callable[[Dataset], object]:
    return lambda ds: setattr(ds, "RecommendedViewingMode", value)


def set_mask(**attributes: object) -> Callable[[Dataset], object]:
    return lambda ds: ds.MaskSubtractionSequence[0].update(attributes)


@pytest.mark.parametrize(
    "change",
    [
        set_mask(MaskOperation="NONE"),
        set_viewing_mode("NAT"),
        lambda ds: delattr(ds, "RecommendedViewingMode"),
        lambda ds: delattr(ds, "MaskSubtractionSequence"),
    ],
)
def test_what_is_not_to_be_subtracted_is_left_alone_silently(
    tmp_path: Path, change: Callable[[Dataset], object]
) -> None:
    detector = Detector("DISP")
    image = changed(write_dsa(tmp_path, run(FILLINGS, detector), detector, AVERAGE), change)
    assert plan_subtraction(image, 3) == (None, "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_mask(MaskFrameNumbers=[9]), "no usable mask frames"),
        (set_mask(MaskFrameNumbers=None), "no usable mask frames"),
        (set_mask(MaskOperation="REV_TID", TIDOffset=40, ApplicableFrameRange=[1, 5]), "no usable mask frames"),
        (set_mask(MaskOperation="DREAM"), "mask operation DREAM, which is not known"),
        (set_mask(MaskOperation=None), r"mask operation \(none named\)"),
        (set_mask(ApplicableFrameRange=[1, 2]), "does not apply to frame 4"),
        (set_mask(MaskSubPixelShift=[0.5, 400.0]), "shift its mask by .*, which cannot be"),
    ],
)
def test_what_cannot_be_subtracted_says_why(tmp_path: Path, change: Callable[[Dataset], object], words: str) -> None:
    detector = Detector("DISP")
    image = changed(write_dsa(tmp_path, run(FILLINGS, detector), detector, AVERAGE), change)
    plan, why = plan_subtraction(image, 3)
    assert plan is None
    assert re.search(words, why), why
    assert "not subtracted" in why


def test_plans_survive_storage(tmp_path: Path) -> None:
    detector = Detector("LIN")
    mask = {**AVERAGE, "MaskSubPixelShift": [0.5, -0.25], "ContrastFrameAveraging": 2}
    plan, _ = plan_subtraction(read_image(write_dsa(tmp_path, run(FILLINGS, detector), detector, mask)), 2)
    assert plan == SubtractionPlan((3, 4), (1, 2), (0.5, -0.25), True, "AVG_SUB")
    assert SubtractionPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_mask_is_read_once_and_few_are_kept(tmp_path: Path) -> None:
    detector = Detector("LOG")
    read: list[int] = []

    def counting(image: ImageAttributes, indices: Sequence[int]) -> Iterator[Frame]:
        read.extend(indices)
        return read_frames(image, indices)

    image = read_image(write_dsa(tmp_path, run([0.0] * 2 + [1.0] * 30, detector), detector, AVERAGE))
    plans, _ = plan_subtractions(image, range(2, 32))
    subtractor = Subtractor(image, counting)
    for plan, frame in zip(plans, read_frames(image, range(2, 32)), strict=True):
        subtractor.subtract(plan, frame)
    assert read == [0, 1]


def test_a_missing_frame_is_an_error_of_the_image(tmp_path: Path) -> None:
    detector = Detector("LOG")
    path = write_dsa(tmp_path, run(FILLINGS, detector), detector, AVERAGE)
    stored: dict[str, Any] = {**SubtractionPlan((1,), (9,), (0.0, 0.0), False, "AVG_SUB").to_json()}
    with pytest.raises(PixelError, match="has no frame 9"):
        Subtractor(read_image(path)).subtract(SubtractionPlan.from_json(stored))
