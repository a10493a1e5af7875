"""Calibration: what reviewed cases teach is found again, and never applied to what it was not learned from."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapter import adapters
from models.calibration import (
    Calibration,
    CalibrationError,
    CalibrationScope,
    Method,
    ReviewedCase,
    calibrated,
    fit,
    raw_method,
    raw_probability,
)
from models.confidence import Confidence, Outcome, decide
from models.decisive import decisive_fields, same_answer
from models.generation import Generation, ModelProvenance

DSA, TRAUMA = adapters()["dsa_patency"], adapters()["abdominal_trauma"]
PROVENANCE = ModelProvenance("b", "1", "base", "a", "1", "lora", "transformers", "bfloat16", "cpu", "x", False)
SCOPE = CalibrationScope("dsa_patency", "", "", "base", "lora", "bfloat16", "asked", "label likelihood")


def overconfident(count: int, temperature: float) -> list[ReviewedCase]:
    """Return cases whose stated logits are `temperature` times too large."""
    rng = np.random.default_rng(4)
    true = rng.uniform(0.03, 0.97, count)
    stated = 1 / (1 + np.exp(-temperature * np.log(true / (1 - true))))
    return [
        ReviewedCase(float(p), bool(right)) for p, right in zip(stated, rng.uniform(size=count) < true, strict=True)
    ]


def of_temperature(temperature: float, version: int = 3) -> Calibration:
    moment = datetime(2026, 3, 4, tzinfo=UTC)
    return Calibration(SCOPE, version, Method.TEMPERATURE, {"temperature": temperature}, 50, 40, moment)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    found = fit(overconfident(199, temperature))
    assert found.method is Method.TEMPERATURE
    assert found.parameters["temperature"] == pytest.approx(temperature, rel=0.25)
    if temperature > 2:
        assert found.log_loss_calibrated < found.log_loss_raw


def test_many_cases_give_a_rising_curve_near_the_truth() -> None:
    found = fit(overconfident(4000, 2.5))
    assert found.method is Method.ISOTONIC
    raw = np.linspace(0, 1, 501)
    curve = calibrated(found.method, found.parameters, raw)
    assert (np.diff(curve) >= 0).all()
    assert curve[0] > 0
    assert curve[-1] < 1
    # A stated 0.908 = expit(2.5 * logit(0.714)) was right in 71 of 100.
    (at,) = calibrated(found.method, found.parameters, np.array([1 / (1 + math.exp(-2.5 * math.log(0.714 / 0.286)))]))
    assert at == pytest.approx(0.714, abs=0.08)
    assert found.log_loss_calibrated < found.log_loss_raw


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        (overconfident(19, 1), "19 reviewed cases are too few, at least 20"),
        ([ReviewedCase(0.9, True)] * 30, "all 30 reviewed answers were right"),
        ([ReviewedCase(0.9, False)] * 30, "all 30 reviewed answers were wrong"),
        ([ReviewedCase(math.nan, True)] * 15 + overconfident(19, 1), "19 reviewed cases are too few"),
    ],
)
def test_too_little_is_refused_with_the_reason(cases: list[ReviewedCase], reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        fit(cases)


def test_a_fit_that_one_mistake_can_turn_says_so() -> None:
    cases = [ReviewedCase(0.6 + 0.01 * n, n != 3) for n in range(30)]
    assert any("only 1 of the cases had the rarer outcome" in warning for warning in fit(cases).warnings)


def test_probabilities_that_separate_right_from_wrong_say_that_one_number_does_not_fit() -> None:
    cases = [ReviewedCase(0.8, True)] * 20 + [ReviewedCase(0.2, False)] * 20
    assert any("end of its range" in warning for warning in fit(cases).warnings)


def test_a_calibrated_confidence_names_its_version_and_keeps_the_raw_probability() -> None:
    confidence = of_temperature(2.0).apply(Confidence(0.9, calibrated=False, method="label likelihood"))
    assert confidence.calibrated
    assert confidence.probability == pytest.approx(0.75)
    assert confidence.raw == 0.9
    assert str(confidence) == "0.75 (calibrated label likelihood, calibration 3 (temperature, 50 reviewed cases))"
    assert (raw_method(confidence), raw_probability(confidence)) == ("label likelihood", 0.9)
    assert Confidence.from_json(confidence.to_json()) == confidence


def test_rows_from_before_there_were_calibrations_stay_as_they_were() -> None:
    stored = {"probability": 0.9, "calibrated": False, "method": "label likelihood"}
    assert Confidence.from_json(stored).to_json() == stored


def test_another_kind_of_probability_and_no_number_stay_uncalibrated() -> None:
    spelled = Confidence(0.9, calibrated=False, method="token likelihood of the label")
    assert of_temperature(2.0).apply(spelled) == spelled
    nothing = of_temperature(2.0).apply(Confidence(math.nan, calibrated=False, method="label likelihood"))
    assert not nothing.calibrated
    twice = of_temperature(2.0).apply(of_temperature(2.0).apply(replace(spelled, method="label likelihood")))
    assert twice.raw == 0.9


def test_a_calibration_belongs_to_its_weights_and_precision() -> None:
    assert SCOPE.fits(PROVENANCE, "asked")
    assert not SCOPE.fits(PROVENANCE, "asked otherwise")
    assert not replace(SCOPE, prompt_digest="").fits(PROVENANCE, ""), "two unknown prompts are not known to be one"
    for other in ({"adapter_digest": "new"}, {"base_digest": "new"}, {"dtype": "float32"}):
        assert not SCOPE.fits(replace(PROVENANCE, **other), "asked")  # type: ignore[arg-type]


def test_what_is_released_follows_the_calibrated_probability() -> None:
    generation = Generation("patent", (), {"patent": 0.97, "blocked": 0.03}, "labels", 900, 0.1)
    raw = decide(DSA, DSA.parse(generation), generation)
    assert (raw.outcome, raw.confidence and raw.confidence.calibrated) == (Outcome.RELEASE, False)
    sobered = decide(DSA, DSA.parse(generation), generation, calibration=of_temperature(2.0))
    assert sobered.outcome is Outcome.REVIEW
    assert 'probability 0.85 of "patent" is below 0.95' in sobered.reason
    assert sobered.from_json(sobered.to_json()) == sobered


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 20))
def test_calibration_never_turns_the_order_round(one: float, other: float, temperature: float) -> None:
    low, high = calibrated(Method.TEMPERATURE, {"temperature": temperature}, np.array(sorted((one, other))))
    assert 0 <= low <= high <= 1


# Did the reviewer let the answer stand?

INJURED = {
    "injury_pattern": "liver laceration",
    "organs_involved": ["liver", "spleen"],
    "bleeding_description": "no active bleeding",
    "severity_estimate": "mild",
    "differential_diagnosis": ["contusion"],
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"bleeding_description": "small haematoma"}, True),
        ({"differential_diagnosis": []}, True),
        ({"organs_involved": ["spleen", "liver"]}, True),
        ({"organs_involved": ["liver"]}, False),
        ({"severity_estimate": "severe"}, False),
        ({"severity_estimate": "not a severity"}, False),
    ],
)
def test_wording_may_be_edited_and_the_answer_still_stands(change: dict[str, object], same: bool) -> None:
    assert decisive_fields(TRAUMA.findings) == ("organs_involved", "severity_estimate")
    assert same_answer(TRAUMA, INJURED, {**INJURED, **change}) is same


def test_probabilities_are_not_what_a_patency_answer_says() -> None:
    said = {"patency": "blocked", "probabilities": {"patent": 0.2, "blocked": 0.8}}
    assert same_answer(DSA, said, {"patency": "blocked"})
    assert not same_answer(DSA, said, {"patency": "patent"})
