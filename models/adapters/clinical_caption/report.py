"""Caption -> report: the words as the impression, in their own language; nothing of it is turned into codes.

TID 1500 wants a measurement group: it says only that the answer is free text. The likelihood of the words is not the
probability that they are true, so it becomes a coded Probability only once it was compared with reviewed cases.
"""

from __future__ import annotations

from pydantic import BaseModel

from dicom_node import codes
from dicom_node.report import Evaluation, Narrative, Report, ReportedFinding, probability_text
from models.adapter import ReportContext
from models.adapters.clinical_caption.findings import CaptionFindings
from models.report_parts import is_calibrated, probability, probability_in_words, statements

TITLE = "Image caption"
LIMITATIONS = (
    "Research adapter: its author publishes no validation, neither of captions nor of single findings.",
    "A caption may name findings that are not there and leave out some that are.",
    "The model saw one image of the series, without history, earlier studies or measurements.",
)


def report(findings: BaseModel, context: ReportContext) -> Report:
    """Return the report on one series."""
    answer = CaptionFindings.model_validate(findings)
    return Report(
        title=TITLE,
        findings=(
            ReportedFinding(
                tracking_id="caption",
                finding_type=codes.FINDING,
                evaluations=(Evaluation(codes.FORM_OF_ANSWER, codes.FREE_TEXT),),
                measurements=probability(context) if is_calibrated(context) else (),
                sources=context.key_sources,
            ),
        ),
        narratives=(Narrative(codes.IMPRESSION, answer.caption, answer.language),),
        algorithm=context.algorithm,
        statements=statements(LIMITATIONS, context),
        sources=context.sources,
        headline=f"Caption{_sureness(context)}: \u201c{answer.caption}\u201d",
        answered_at=context.answered_at,
        calibrated=is_calibrated(context),
    )


def _sureness(context: ReportContext) -> str:
    if context.reviewer is None and context.confidence is not None and not context.confidence.calibrated:
        return f", likelihood of the words {probability_text(context.confidence.probability)} (uncalibrated)"
    return probability_in_words(context)
