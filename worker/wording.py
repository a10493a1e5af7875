"""Ledger values -> short words, the same on the terminal, in the demo and on the pages. Pure; it cannot fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from dicom_node.report import probability_text
from worker.schemas import JobView, ResultView


def findings_in_words(findings: Mapping[str, Any] | None) -> str:
    """Return an answer as one line, e.g. ``injury pattern: laceration; organs involved: liver, spleen``.

    Tables within it (all probabilities, say) are for the detailed views and left out.
    """
    if findings is None:
        return "no usable answer"
    flat = {name: value for name, value in findings.items() if not isinstance(value, Mapping)}
    named = ((label(name), value_in_words(value)) for name, value in flat.items())
    return "; ".join(f"{name}: {words}" for name, words in named if words)


def value_in_words(value: Any) -> str:
    """Return one value of an answer; what is empty gives nothing."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{label(name)} {value_in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(value_in_words, value)))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def label(name: str) -> str:
    """Return a field's name as words."""
    return name.replace("_", " ")


def confidence_in_words(job: JobView) -> str:
    """Return how sure the answer is, e.g. ``0.93 (uncalibrated)``; no answer looks surer than it is."""
    if job.confidence is None:
        return "unknown"
    return probability_text(job.confidence) + ("" if job.calibrated else " (uncalibrated)")


def deliveries_in_words(results: list[ResultView]) -> str:
    """Return where results stand, e.g. ``pacs: 2 delivered``."""
    states = Counter((d.destination, d.state) for result in results for d in result.deliveries)
    return "; ".join(f"{name}: {count} {state}" for (name, state), count in sorted(states.items()))
