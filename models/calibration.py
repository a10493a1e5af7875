"""Reviewed cases -> how often an answer of a given probability was right; then raw probability -> calibrated one.

Input: for each reviewed answer its raw probability and whether the reviewer let it stand. Output: a `Calibration`,
which `models.confidence.decide` applies. Few cases give a temperature (one parameter; Guo et al., "On Calibration of
Modern Neural Networks", 2017), many an isotonic fit (Zadrozny & Elkan 2002; scikit-learn). On failure:
`CalibrationError`, with the reason: too few cases, or all of them with one outcome.

A calibration belongs to the weights, the precision, the prompt and the kind of probability it was fitted on. Others
stay uncalibrated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.confidence import Confidence
from models.generation import ModelProvenance

#: Fewer reviewed cases than this say nothing.
CASES_AT_LEAST = 20
#: From here on the curve may have any rising shape. With few cases an isotonic fit follows their noise (Niculescu-Mizil
#: and Caruana, "Predicting Good Probabilities With Supervised Learning", 2005); the number is this project's choice.
ISOTONIC_FROM = 200
#: Fewer cases than this with one of the two outcomes make a fit that one mistake can turn.
FEW_OF_ONE_OUTCOME = 5
#: A temperature outside of this range says that the probabilities carry no information, or too few cases.
TEMPERATURES = (0.05, 20.0)
#: Raw probabilities are kept this far from 0 and 1, where the logit has no end.
EDGE = 1e-6

_VERSION_MARK = ", calibration "
Vector = NDArray[np.float64]


class CalibrationError(Exception):
    """No calibration can be fitted; the message says why, and what would help."""


class Method(StrEnum):
    """How raw probabilities are turned into calibrated ones."""

    #: logit(p) divided by one number.
    TEMPERATURE = "temperature"
    #: A rising step-wise linear curve.
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True)
class ReviewedCase:
    """One answer that a person judged."""

    #: Raw probability of the answer, in [0, 1].
    probability: float
    #: The reviewer let stand what the answer says.
    right: bool


@dataclass(frozen=True, slots=True)
class CalibrationScope:
    """What a calibration is for: another adapter, question, site, prompt, weights or probability is another."""

    adapter: str
    question_key: str
    #: The reviewers' organisation; empty for all of them.
    site: str
    base_digest: str
    adapter_digest: str
    dtype: str
    #: `models.prompting.prompt_digest`: the same weights answer other words otherwise. Empty where it is not known.
    prompt_digest: str
    #: `Confidence.method` of the raw probability.
    confidence_method: str

    def fits(self, provenance: ModelProvenance, prompt_digest: str) -> bool:
        """Tell whether these are the weights, the precision and the prompt whose answers were reviewed."""
        theirs = (provenance.base_digest, provenance.adapter_digest, provenance.dtype, prompt_digest)
        return bool(prompt_digest) and theirs == (self.base_digest, self.adapter_digest, self.dtype, self.prompt_digest)


@dataclass(frozen=True, slots=True)
class Fit:
    """The outcome of a fit, before it is stored."""

    method: Method
    #: {"temperature": T}, or {"raw": [...], "calibrated": [...]} (the corners of the curve); JSON-ready.
    parameters: Mapping[str, Any]
    cases: int
    right: int
    #: Mean negative log-likelihood of the outcomes, raw and calibrated. The second by 5-fold cross-validation where the
    #: cases allow it: a curve always fits the cases it was drawn through.
    log_loss_raw: float
    log_loss_calibrated: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fit with its scope and version."""

    scope: CalibrationScope
    version: int
    method: Method
    parameters: Mapping[str, Any]
    cases: int
    right: int
    fitted_at: datetime

    def apply(self, confidence: Confidence) -> Confidence:
        """Return the calibrated confidence; unchanged where its kind is not the calibrated one, or it is no number."""
        if raw_method(confidence) != self.scope.confidence_method or confidence.calibrated:
            return confidence
        if not 0 <= confidence.probability <= 1:  # also NaN, which must stay one and be held
            return confidence
        (probability,) = calibrated(self.method, self.parameters, np.array([confidence.probability]))
        method = f"{confidence.method}{_VERSION_MARK}{self.version} ({self.method.value}, {self.cases} reviewed cases)"
        return replace(
            confidence, probability=float(probability), calibrated=True, method=method, raw=confidence.probability
        )


def raw_method(confidence: Confidence) -> str:
    """Return how the raw probability came about, without the calibration."""
    return confidence.method.split(_VERSION_MARK)[0]


def raw_probability(confidence: Confidence) -> float:
    """Return the probability before any calibration."""
    return confidence.probability if confidence.raw is None else confidence.raw


def calibrated(method: Method, parameters: Mapping[str, Any], raw: Vector) -> Vector:
    """Return calibrated probabilities, shape as `raw`, in [0, 1]; never falling where `raw` rises."""
    if method is Method.TEMPERATURE:
        return _expit(_logit(raw) / float(parameters["temperature"]))
    curve = np.interp(raw, np.asarray(parameters["raw"]), np.asarray(parameters["calibrated"]))
    return np.asarray(curve, dtype=np.float64)


def fit(cases: Sequence[ReviewedCase]) -> Fit:
    """Fit a calibration: a temperature below `ISOTONIC_FROM` cases, an isotonic curve from there on.

    Raises:
        CalibrationError: There are fewer than `CASES_AT_LEAST` cases, or all were right, or all were wrong.
    """
    usable = [case for case in cases if 0 <= case.probability <= 1]
    right = sum(case.right for case in usable)
    if len(usable) < CASES_AT_LEAST:
        raise CalibrationError(
            f"{len(usable)} reviewed cases are too few, at least {CASES_AT_LEAST} are needed: review more of them"
        )
    if right in (0, len(usable)):
        outcome = "right" if right else "wrong"
        raise CalibrationError(
            f"all {len(usable)} reviewed answers were {outcome}: how often a probability holds can only be learned "
            "where there are right and wrong ones; review more, also released answers (review.audit_fraction)"
        )
    raw = np.array([case.probability for case in usable])
    outcomes = np.array([case.right for case in usable], dtype=float)
    method = Method.ISOTONIC if len(usable) >= ISOTONIC_FROM else Method.TEMPERATURE
    parameters = _parameters(method, raw, outcomes)
    held_out = _cross_validated(method, raw, outcomes)
    before, after = _log_loss(raw, outcomes), _log_loss(held_out, outcomes)
    warnings = _warnings(method, parameters, min(right, len(usable) - right), before, after)
    return Fit(method, parameters, len(usable), right, before, after, warnings)


def _parameters(method: Method, raw: Vector, outcomes: Vector) -> dict[str, Any]:
    return _temperature(raw, outcomes) if method is Method.TEMPERATURE else _isotonic(raw, outcomes)


def _temperature(raw: Vector, outcomes: Vector) -> dict[str, Any]:
    from scipy.optimize import minimize_scalar

    towards_truth = _logit(raw) * (2 * outcomes - 1)
    lowest, highest = (math.log(bound) for bound in TEMPERATURES)
    found = minimize_scalar(
        # -log expit(z / T), in a form that does not round to 0 for large z
        lambda log_t: float(np.mean(np.logaddexp(0, -towards_truth / math.exp(log_t)))),
        bounds=(lowest, highest),
        method="bounded",
    )
    return {"temperature": round(math.exp(float(found.x)), 4)}


def _isotonic(raw: Vector, outcomes: Vector) -> dict[str, Any]:
    from sklearn.isotonic import IsotonicRegression

    # No number of reviewed cases makes certain: at most what one more case to the contrary would leave (Laplace).
    most = (len(raw) + 1) / (len(raw) + 2)
    curve = IsotonicRegression(y_min=1 - most, y_max=most, out_of_bounds="clip").fit(raw, outcomes)
    corners = zip(curve.X_thresholds_, curve.y_thresholds_, strict=True)
    rounded = [(round(float(x), 6), round(float(y), 6)) for x, y in corners]
    return {"raw": [x for x, _ in rounded], "calibrated": [y for _, y in rounded]}


def _cross_validated(method: Method, raw: Vector, outcomes: Vector) -> Vector:
    """Return what each case gets from the other four fifths of the cases; from all where those have but one outcome."""
    order = np.random.default_rng(0).permutation(len(raw))
    said = np.empty(len(raw))
    for part in np.array_split(order, 5):
        rest = np.setdiff1d(order, part)
        learn_from = rest if len(set(outcomes[rest])) == 2 else order
        said[part] = calibrated(method, _parameters(method, raw[learn_from], outcomes[learn_from]), raw[part])
    return said


def _warnings(
    method: Method, parameters: Mapping[str, Any], fewest: int, before: float, after: float
) -> tuple[str, ...]:
    said = []
    if fewest < FEW_OF_ONE_OUTCOME:
        said.append(f"only {fewest} of the cases had the rarer outcome: one mistake of a reviewer turns the fit")
    if after > before:
        said.append("by cross-validation the calibrated probabilities predict the outcomes no better than the raw ones")
    if method is Method.TEMPERATURE:
        temperature = parameters["temperature"]
        if temperature <= TEMPERATURES[0] * 1.02 or temperature >= TEMPERATURES[1] * 0.98:
            said.append(
                f"the temperature {temperature:g} is at the end of its range: one number does not fit these cases"
            )
    return tuple(said)


def _log_loss(probabilities: Vector, outcomes: Vector) -> float:
    inside = np.clip(probabilities, EDGE, 1 - EDGE)
    return float(-np.mean(outcomes * np.log(inside) + (1 - outcomes) * np.log1p(-inside)))


def _logit(probabilities: Vector) -> Vector:
    inside = np.clip(probabilities, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


def _expit(logits: Vector) -> Vector:
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)
