"""Closed questions: whether a vessel is open, and which organs are hurt how badly.

Input: truths and answers, one of each for every case; an answer that did not parse is None and counts as wrong.
Output: the figures of the authors' cards. DSA: accuracy, sensitivity (recall of "blocked"), specificity. Trauma: format
adherence, organ identification, severity match.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.evaluation.figures import Answer, Figure, Indices, Measured, bootstrapped, f1_of, proportion

#: Above this accuracy and below this sensitivity a model may just call everything normal (the DSA card's warning).
HIGH_ACCURACY, NEAR_ZERO_SENSITIVITY = 0.8, 0.2
ORGANS = ("liver", "spleen", "kidney", "bowel")


class PatencyTruth(BaseModel):
    """Truth of a DSA run."""

    model_config = ConfigDict(extra="forbid")

    patency: Literal["patent", "blocked"]


class TraumaTruth(BaseModel):
    """Truth of an abdominal CT; the wording of the free text is not compared."""

    model_config = ConfigDict(extra="forbid")

    organs_involved: list[Literal["liver", "spleen", "kidney", "bowel"]]
    severity_estimate: Literal["none", "mild", "moderate", "severe"]


def format_adherence(answers: Sequence[Answer]) -> Figure:
    """Return the share of answers that could be read."""
    return proportion("format adherence", sum(answer is not None for answer in answers), len(answers))


def same_patency(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return 1 where the vessel's state is right."""
    return float(answer["patency"] == truth["patency"])


def measure_patency(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the DSA card's figures."""
    hits = {"blocked": 0, "patent": 0}
    for truth, answer in zip(truths, answers, strict=True):
        hits[truth["patency"]] += answer is not None and answer["patency"] == truth["patency"]
    counts = {state: sum(truth["patency"] == state for truth in truths) for state in hits}
    accuracy = proportion("accuracy", sum(hits.values()), len(truths))
    sensitivity = proportion("sensitivity", hits["blocked"], counts["blocked"], 'recall of "blocked"')
    specificity = proportion("specificity", hits["patent"], counts["patent"], 'recall of "patent"')
    right = np.array([a is not None and same_patency(t, a) == 1 for t, a in zip(truths, answers, strict=True)])
    blocked = np.array([truth["patency"] == "blocked" for truth in truths])

    def balanced(chosen: Indices) -> float:
        true, good = blocked[chosen], right[chosen]
        return float((good[true].mean() + good[~true].mean()) / 2) if 0 < true.sum() < len(true) else math.nan

    warnings = []
    if not all(counts.values()):
        missing = " and ".join(state for state, count in counts.items() if not count)
        warnings.append(f"no case is {missing}: sensitivity and specificity need both")
    elif (accuracy.value or 0) >= HIGH_ACCURACY and (sensitivity.value or 0) < NEAR_ZERO_SENSITIVITY:
        warnings.append(
            f"accuracy is {accuracy.value:.2f} but sensitivity only {sensitivity.value:.2f}: the model misses blocked "
            "vessels and is right because they are rare (the pitfall that its author warns of)"
        )
    figures = (accuracy, sensitivity, specificity, bootstrapped("balanced accuracy", balanced, len(truths)))
    return Measured((*figures, format_adherence(answers)), tuple(warnings))


def same_trauma(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return 1 where organs and severity are both right."""
    organs = set(answer["organs_involved"]) == set(truth["organs_involved"])
    return float(organs and answer["severity_estimate"] == truth["severity_estimate"])


def measure_trauma(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the trauma card's figures, and organ by organ what is found of it."""
    pairs = list(zip(truths, answers, strict=True))
    told = [(set(truth["organs_involved"]), None if a is None else set(a["organs_involved"])) for truth, a in pairs]
    decisions = sum(a is not None and ((organ in a) == (organ in t)) for t, a in told for organ in ORGANS)
    severity = sum(a is not None and a["severity_estimate"] == truth["severity_estimate"] for truth, a in pairs)

    counts = np.array([(len(t & (a or set())), len(t - (a or set())), len((a or set()) - t)) for t, a in told])

    def f1(chosen: Indices) -> float:
        return f1_of(*counts[chosen].sum(axis=0))

    recalls = [
        proportion(f"recall of {organ}", sum(bool(a and organ in a) for t, a in told if organ in t), of_organ)
        for organ in ORGANS
        if (of_organ := sum(organ in t for t, _ in told))
    ]
    figures = (
        format_adherence(answers),
        proportion(
            "organ identification accuracy",
            decisions,
            len(told) * len(ORGANS),
            "of all decisions hurt or not, four organs a case; the interval takes them for independent",
        ),
        proportion("all organs right", sum(t == a for t, a in told), len(told)),
        bootstrapped("organ F1", f1, len(told), "over all organs that are or were called hurt"),
        proportion("severity match", severity, len(pairs)),
        *recalls,
    )
    return Measured(figures)
