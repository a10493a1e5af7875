"""How good the stand-in is on phantoms it has not seen, asked through the engine like any study.

Input: an engine and how many phantoms. Output: accuracies, confidences, and the area under the risk-coverage curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.adapters.abdominal_trauma.adapter import ADAPTER as TRAUMA_ADAPTER
from models.adapters.dsa_patency.adapter import ADAPTER as DSA_ADAPTER
from models.engines import EngineError
from models.generation import Engine, GenerationFailure, GenerationRequest
from models.parsing import ParseFailure
from models.standin.lessons import DSA, TRAUMA, Lesson, chat, dsa_lesson, trauma_lesson

#: Seeds below are for training.
FIRST_HELD_OUT_SEED = 1_000_000

_ADAPTERS = {DSA: DSA_ADAPTER, TRAUMA: TRAUMA_ADAPTER}


@dataclass(frozen=True, slots=True)
class Score:
    """What came of one adapter's held-out phantoms."""

    phantoms: int
    #: Share of answers that had the adapter's form.
    parsed: float
    #: Share of right answers, by what was asked.
    accuracy: dict[str, float]
    mean_confidence_right: float
    #: None where nothing was wrong.
    mean_confidence_wrong: float | None
    #: Area under the risk-coverage curve (Geifman & El-Yaniv 2017): mean risk over all coverages, 0 is best.
    area_under_risk_coverage: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def request_for(lesson: Lesson, asked: str | None = None) -> GenerationRequest:
    """Return the request a job would make of these pictures; `asked` names another adapter to ask than the lesson's."""
    adapter = _ADAPTERS[lesson.adapter]
    return GenerationRequest(
        adapter=asked or adapter.name,
        messages=chat(adapter.prompt.user, len(lesson.images)),
        images=lesson.images,
        answer_form=adapter.answer_form,
    )


def held_out(adapter: str, count: int, first: int = FIRST_HELD_OUT_SEED) -> list[Lesson]:
    """Draw phantoms that no training has seen."""
    draw = dsa_lesson if adapter == DSA else trauma_lesson
    return [draw(first + number) for number in range(count)]


def evaluate(engine: Engine, lessons: Sequence[Lesson], asked: str | None = None) -> Score:
    """Ask the engine about held-out lessons of one adapter, and compare with the truth."""
    adapter = _ADAPTERS[lessons[0].adapter]
    outcomes: list[tuple[dict[str, bool], float]] = []
    parsed = 0
    for lesson in lessons:
        (generation,) = engine.generate([request_for(lesson, asked)])
        if isinstance(generation, GenerationFailure):
            raise EngineError(f"the stand-in did not answer: {generation.reason}")
        findings = adapter.parse(generation)
        if isinstance(findings, ParseFailure):
            outcomes.append((dict.fromkeys(_questions(lesson.adapter), False), 0.0))
            continue
        parsed += 1
        said = findings.model_dump()
        confidence = adapter.confidence(generation, findings).probability
        outcomes.append(({key: _same(said[key], lesson.truth[key]) for key in _questions(lesson.adapter)}, confidence))
    return _score(outcomes, parsed / len(lessons))


def area_under_risk_coverage(right: Sequence[bool], confidence: Sequence[float]) -> float:
    """Return the mean share of wrong answers among the surest k, over all k."""
    order = np.argsort(-np.asarray(confidence), kind="stable")
    wrong = ~np.asarray(right, dtype=bool)[order]
    return float(np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1)))


def _questions(adapter: str) -> tuple[str, ...]:
    return ("patency",) if adapter == DSA else ("organs_involved", "severity_estimate")


def _same(said: Any, true: Any) -> bool:
    return sorted(said) == sorted(true) if isinstance(true, list) else said == true


def _score(outcomes: Sequence[tuple[dict[str, bool], float]], parsed: float) -> Score:
    right = [all(outcome.values()) for outcome, _ in outcomes]
    sure = [confidence for _, confidence in outcomes]
    wrong_confidences = [c for good, c in zip(right, sure, strict=True) if not good]
    right_confidences = [c for good, c in zip(right, sure, strict=True) if good]
    return Score(
        phantoms=len(outcomes),
        parsed=parsed,
        accuracy={key: float(np.mean([outcome[key] for outcome, _ in outcomes])) for key in outcomes[0][0]},
        mean_confidence_right=float(np.mean(right_confidences)) if right_confidences else 0.0,
        mean_confidence_wrong=float(np.mean(wrong_confidences)) if wrong_confidences else None,
        area_under_risk_coverage=area_under_risk_coverage(right, sure),
    )
