"""Ledger values -> short words, the same on the terminal, in the demo and on the pages. Pure; it cannot fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from dicom_node.report import probability_text
from models.confidence import OF_WORDS
from worker.schemas import JobView, ResultView

#: Fields in which a model says how it came to its answer.
_THOUGHTS = frozenset({"thinking_process"})


def findings_in_words(findings: Mapping[str, Any] | None) -> str:
    """Return an answer as one line, e.g. ``injury pattern: laceration; organs involved: liver, spleen``.

    Tables within it (all probabilities, say) are for the detailed views and left out.
    """
    if findings is None:
        return "no usable answer"
    flat = {name: value for name, value in answer_first(findings).items() if not isinstance(value, Mapping)}
    named = ((label(name), value_in_words(value)) for name, value in flat.items())
    return "; ".join(f"{name}: {words}" for name, words in named if words)


def answer_first(findings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an answer with what the model thought before it behind it: a line may be cut at its end."""
    return {name: findings[name] for name in sorted(findings, key=lambda name: name in _THOUGHTS)}


def value_in_words(value: Any) -> str:
    """Return one value of an answer; what is empty gives nothing."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        rest = {name: inner for name, inner in value.items() if name != "label"}
        words = ", ".join(f"{label(name)} {value_in_words(inner)}" for name, inner in rest.items())
        return f"{value['label']} ({words})" if "label" in value and words else words or value_in_words(value["label"])
    if isinstance(value, list | tuple):
        between = "; " if any(isinstance(inner, Mapping) for inner in value) else ", "
        return between.join(filter(None, map(value_in_words, value)))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def label(name: str) -> str:
    """Return a field's name as words."""
    return name.replace("_", " ")


def confidence_in_words(job: JobView) -> str:
    """Return how sure the answer is, e.g. ``0.93 (uncalibrated)``; no answer looks surer than it is.

    A likelihood of words is called that: it is high for any fluent sentence, and no probability that one is true.
    """
    if job.confidence is None:
        return "unknown"
    words = "words " if is_of_words(job) else ""
    return words + probability_text(job.confidence) + ("" if job.calibrated else " (uncalibrated)")


def is_of_words(job: JobView) -> bool:
    """Tell whether the figure says only how usual the words of the answer are."""
    return not job.calibrated and OF_WORDS in (job.method or "")


def deliveries_in_words(results: list[ResultView]) -> str:
    """Return where results stand, e.g. ``pacs: 2 delivered``."""
    states = Counter((d.destination, d.state) for result in results for d in result.deliveries)
    return "; ".join(f"{name}: {count} {state}" for (name, state), count in sorted(states.items()))
