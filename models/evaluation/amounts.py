"""FLARE's counting and regression tasks.

Input: truths and answers. Output: the card's figures: mean absolute error (primary) and root mean squared error. An
answer that did not parse has no error in the unit of the question: it is left out of both and counted apart, and it
counts as wrong in the share of answers that are right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.evaluation.closed import format_adherence
from models.evaluation.figures import Answer, Measured, bootstrapped, mean_of, proportion

#: A measured value this near to the truth is called right (this project's choice).
NEAR = 0.10


class CountTruth(BaseModel):
    """How many there are."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(ge=0)


class ValueTruth(BaseModel):
    """The true value, in the unit that the question asks for."""

    model_config = ConfigDict(extra="forbid")

    value: float = Field(allow_inf_nan=False)


def same_count(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return 1 where the count is exact."""
    return float(answer["count"] == truth["count"])


def near_value(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return 1 where the value is within 10 % of the truth."""
    return float(math.isclose(answer["value"], truth["value"], rel_tol=0, abs_tol=NEAR * abs(truth["value"]) + 1e-9))


def measure_counts(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the figures of counting."""
    exact = sum(a is not None and same_count(t, a) == 1 for t, a in zip(truths, answers, strict=True))
    errors = _errors("count", truths, answers)
    return Measured((*errors, proportion("exact counts", exact, len(truths)), format_adherence(answers)))


def measure_values(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the figures of regression."""
    near = sum(a is not None and near_value(t, a) == 1 for t, a in zip(truths, answers, strict=True))
    errors = _errors("value", truths, answers)
    return Measured((*errors, proportion("within 10 % of the truth", near, len(truths)), format_adherence(answers)))


def _errors(field: str, truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> tuple[Any, ...]:
    off = np.array([float(a[field]) - float(t[field]) for t, a in zip(truths, answers, strict=True) if a is not None])
    unread = len(truths) - len(off)
    remark = f"without {unread} answers that could not be read" if unread else ""
    primary = "; ".join(filter(None, ("primary", remark)))
    return (
        mean_of("mean absolute error", np.abs(off).tolist(), primary),
        bootstrapped("root mean squared error", lambda i: float(np.sqrt(np.mean(off[i] ** 2))), len(off), remark),
    )
