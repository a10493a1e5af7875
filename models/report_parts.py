"""Parts that every adapter's report has: the statements that go with an answer, and the probability as a measurement.

Input: a `ReportContext`. Output: values of `dicom_node.report`. Pure; it cannot fail.
"""

from __future__ import annotations

from dicom_node.codes import NO_UNITS, PROBABILITY
from dicom_node.report import Measurement, probability_text
from models.adapter import ReportContext
from models.confidence import is_of_words


def statements(limitations: tuple[str, ...], context: ReportContext) -> tuple[str, ...]:
    """Return what must be said with the answer: who edited it, what was incomplete, then the card's limits.

    That a stand-in answered, or that a probability is uncalibrated, is said by `dicom_node.marking` for every report.
    """
    said: list[str] = []
    if context.reviewer is not None:
        said.append("The findings were edited by a person; they are not the algorithm's own answer.")
    said += [f"Input incomplete or doubtful: {sentence}." for sentence in context.incomplete]
    return (*said, *limitations)


def is_calibrated(context: ReportContext) -> bool:
    """Tell whether the report's probability was compared with reviewed cases."""
    return context.confidence is not None and context.confidence.calibrated


def probability(context: ReportContext) -> tuple[Measurement, ...]:
    """Return the probability of the answer as a measurement; nothing where a person's findings have none.

    Nor where all that is known is how likely the words are: that is no probability of what they say.
    """
    if context.confidence is None or context.reviewer is not None or is_of_words(context.confidence):
        return ()
    return (Measurement(PROBABILITY, round(context.confidence.probability, 4), NO_UNITS),)


def probability_in_words(context: ReportContext) -> str:
    """Return ", probability 0.93 (uncalibrated)" for a headline, or who edited, or that there is none."""
    if context.reviewer is not None:
        return ", as edited by a reviewer"
    if context.confidence is None:
        return ", probability unknown"
    calibrated = "calibrated" if context.confidence.calibrated else "uncalibrated"
    what = "likelihood of the words" if is_of_words(context.confidence) else "probability"
    return f", {what} {probability_text(context.confidence.probability)} ({calibrated})"
