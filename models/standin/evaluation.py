"""How good the stand-in is on phantoms it has not seen, asked through the engine like any study.

Input: an engine and lessons of one adapter. Output: shares of right answers, errors of numbers, confidences, and the
area under the risk-coverage curve.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.engines import EngineError
from models.evaluation.reliability import area_under_risk_coverage
from models.generation import Engine, Generation, GenerationFailure, GenerationRequest
from models.parsing import ParseFailure
from models.standin.curriculum import FIRST_HELD_OUT_SEED, SUBJECTS, held_out
from models.standin.lessons import Lesson, Marks, chat

__all__ = [
    "FIRST_HELD_OUT_SEED",
    "Score",
    "evaluate",
    "held_out",
    "request_for",
    "wrong_route",
]

#: Requests that are given to the engine at once.
_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class Score:
    """What came of one adapter's held-out phantoms."""

    phantoms: int
    #: Share of answers that had the adapter's form.
    parsed: float
    #: Share of right answers, by what was asked.
    accuracy: dict[str, float]
    #: Mean absolute error of numbers, by what was asked.
    mean_error: dict[str, float]
    mean_confidence_right: float
    #: None where nothing was wrong.
    mean_confidence_wrong: float | None
    #: Area under the risk-coverage curve (Geifman & El-Yaniv 2017): mean risk over all coverages, 0 is best.
    area_under_risk_coverage: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def request_for(lesson: Lesson, asked: str | None = None) -> GenerationRequest:
    """Return the request a job would make of these pictures; `asked` names other weights than the lesson's adapter."""
    adapter = lesson.asked
    return GenerationRequest(
        adapter=asked or adapter.name,
        messages=chat(adapter.prompt, len(lesson.images)),
        images=lesson.images,
        answer_form=adapter.answer_form,
    )


def wrong_route(lesson: Lesson, other: Lesson) -> GenerationRequest:
    """Return what a wrong route asks: the other lesson's question, of its adapter, about this lesson's pictures."""
    adapter = other.asked
    return GenerationRequest(
        adapter=adapter.name,
        messages=chat(adapter.prompt, len(lesson.images)),
        images=lesson.images,
        answer_form=adapter.answer_form,
    )


def evaluate(engine: Engine, lessons: Sequence[Lesson], asked: str | None = None) -> Score:
    """Ask the engine about held-out lessons of one adapter, and compare with the truth."""
    outcomes: list[tuple[Marks, float]] = []
    parsed = 0
    for start in range(0, len(lessons), _TOGETHER):
        some = lessons[start : start + _TOGETHER]
        answers = engine.generate([request_for(lesson, asked) for lesson in some])
        for lesson, generation in zip(some, answers, strict=True):
            if isinstance(generation, GenerationFailure):
                raise EngineError(f"the stand-in did not answer: {generation.reason}")
            outcome = _judge(lesson, generation)
            parsed += outcome is not None
            outcomes.append(outcome or (_all_wrong(lesson), 0.0))
    return _score(outcomes, parsed / len(lessons))


def _judge(lesson: Lesson, generation: Generation) -> tuple[Marks, float] | None:
    """Return how an answer compares with the truth, and its confidence; nothing where it does not parse."""
    adapter = lesson.asked
    findings = adapter.parse(generation)
    if isinstance(findings, ParseFailure):
        return None
    confidence = adapter.confidence(generation, findings).probability
    return SUBJECTS[lesson.adapter].mark(findings, lesson), confidence


def _all_wrong(lesson: Lesson) -> Marks:
    return Marks(dict.fromkeys(SUBJECTS[lesson.adapter].marked(lesson), 0.0))


def _score(outcomes: Sequence[tuple[Marks, float]], parsed: float) -> Score:
    right = [min(marks.right.values()) > 0.99 for marks, _ in outcomes]
    sure = [confidence for _, confidence in outcomes]
    wrong_confidences = [c for good, c in zip(right, sure, strict=True) if not good]
    right_confidences = [c for good, c in zip(right, sure, strict=True) if good]
    return Score(
        phantoms=len(outcomes),
        parsed=parsed,
        accuracy=_means(marks.right for marks, _ in outcomes),
        mean_error=_means(marks.errors for marks, _ in outcomes),
        mean_confidence_right=float(np.mean(right_confidences)) if right_confidences else 0.0,
        mean_confidence_wrong=float(np.mean(wrong_confidences)) if wrong_confidences else None,
        area_under_risk_coverage=area_under_risk_coverage(sure, right),
    )


def _means(marks: Iterable[Mapping[str, float]]) -> dict[str, float]:
    collected: dict[str, list[float]] = defaultdict(list)
    for some in marks:
        for name, value in some.items():
            collected[name].append(value)
    return {name: float(np.mean(values)) for name, values in sorted(collected.items())}
