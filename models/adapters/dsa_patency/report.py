"""Patency findings -> coded report: one occlusion finding, present or absent, and an impression in words.

"Patent" has no code of its own: it is said as "occlusion absent". A TIMI grade is not claimed, because the model was
never asked for one.
"""

from __future__ import annotations

from pydantic import BaseModel

from dicom_node.codes import ABSENT, BLOOD_VESSEL, IMPRESSION, OCCLUSION, PRESENCE_OF_PROPERTY, PRESENT
from dicom_node.report import Evaluation, Narrative, Report, ReportedFinding
from models.adapter import ReportContext
from models.adapters.dsa_patency.findings import PatencyFindings
from models.report_parts import is_calibrated, probability, probability_in_words, statements

TITLE = "Vessel patency on angiography"
LIMITATIONS = (
    "Not a medical device: not for autonomous diagnosis, nor for emergency triage without a person.",
    "A blocked vessel can be missed; the whole run must be read by a physician.",
    "Not validated for children, nor for anything but angiography.",
)


def report(findings: BaseModel, context: ReportContext) -> Report:
    """Return the report on one run."""
    blocked = PatencyFindings.model_validate(findings).patency == "blocked"
    words = "Vessel blocked (occluded)" if blocked else "Vessel patent"
    headline = words + probability_in_words(context)
    finding = ReportedFinding(
        tracking_id="vessel-occlusion",
        finding_type=OCCLUSION,
        sites=(BLOOD_VESSEL,),
        evaluations=(Evaluation(PRESENCE_OF_PROPERTY, PRESENT if blocked else ABSENT),),
        measurements=probability(context),
        sources=context.key_sources,
    )
    return Report(
        title=TITLE,
        findings=(finding,),
        narratives=(Narrative(IMPRESSION, f"{headline}. The answer rests on {_frames(context)}."),),
        algorithm=context.algorithm,
        statements=statements(LIMITATIONS, context),
        sources=context.sources,
        headline=headline,
        answered_at=context.answered_at,
        calibrated=is_calibrated(context),
    )


def _frames(context: ReportContext) -> str:
    numbers = sorted({number for source in context.sources for number in source.frame_numbers})
    if not numbers:
        return "a single image"
    return f"frame{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))} of the run"
