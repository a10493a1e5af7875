"""Trauma findings -> coded report: traumatic abnormality, present or absent, organs and severity; the rest in words.

Bleeding is reported in words only: the model describes it, it does not answer a coded question about it.
"""

from __future__ import annotations

from pydantic import BaseModel

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.report import Evaluation, Narrative, Report, ReportedFinding
from models.adapter import ReportContext
from models.adapters.abdominal_trauma.findings import Organ, Severity, TraumaFindings
from models.report_parts import is_calibrated, probability, probability_in_words, statements

TITLE = "Abdominal trauma on CT"
LIMITATIONS = (
    "Not a medical device: always to be reviewed by a radiologist.",
    "Subtle bowel injury is a known weakness; the adapter was trained on 200 cases.",
    "The model saw at most eight slices, of the middle 60 % of the series.",
)

_SEVERITIES: dict[Severity, Code] = {
    "none": codes.NONE,
    "mild": codes.MILD,
    "moderate": codes.MODERATE,
    "severe": codes.SEVERE,
}
#: Finding type and site of an injured organ. Bowel as a whole has no code in the dictionaries at hand.
_ORGANS: dict[Organ, tuple[Code, Code]] = {
    "liver": (codes.TRAUMATIC_INJURY, codes.LIVER),
    "spleen": (codes.TRAUMATIC_INJURY, codes.SPLEEN),
    "kidney": (codes.TRAUMATIC_INJURY, codes.KIDNEY),
    "bowel": (codes.BOWEL_INJURY, codes.ABDOMEN),
}


def report(findings: BaseModel, context: ReportContext) -> Report:
    """Return the report on one series: the abdomen as a whole, then each organ named."""
    answer = TraumaFindings.model_validate(findings)
    headline = _words(answer) + probability_in_words(context)
    injured = answer.severity_estimate != "none" or bool(answer.organs_involved)
    whole = ReportedFinding(
        tracking_id="abdominal-trauma",
        finding_type=codes.TRAUMATIC_INJURY,
        sites=(codes.ABDOMEN,),
        evaluations=(
            Evaluation(codes.PRESENCE_OF_PROPERTY, codes.PRESENT if injured else codes.ABSENT),
            Evaluation(codes.SEVERITY, _SEVERITIES[answer.severity_estimate]),
        ),
        measurements=probability(context),
        sources=context.key_sources,
    )
    narratives = [
        Narrative(codes.IMPRESSION, f"{headline}."),
        Narrative(codes.INJURY_DESCRIPTION, answer.injury_pattern),
        Narrative(codes.BLEEDING_DESCRIPTION, answer.bleeding_description),
    ]
    if answer.differential_diagnosis:
        narratives.append(Narrative(codes.DIFFERENTIAL_DIAGNOSIS, "; ".join(answer.differential_diagnosis)))
    return Report(
        title=TITLE,
        findings=(whole, *(_organ_finding(organ, context) for organ in answer.organs_involved)),
        narratives=tuple(narratives),
        algorithm=context.algorithm,
        statements=statements(LIMITATIONS, context),
        sources=context.sources,
        headline=headline,
        answered_at=context.answered_at,
        calibrated=is_calibrated(context),
    )


def _organ_finding(organ: Organ, context: ReportContext) -> ReportedFinding:
    finding_type, site = _ORGANS[organ]
    return ReportedFinding(
        tracking_id=f"abdominal-trauma-{organ}",
        finding_type=finding_type,
        sites=(site,),
        evaluations=(Evaluation(codes.PRESENCE_OF_PROPERTY, codes.PRESENT),),
        sources=context.key_sources,
    )


def _words(answer: TraumaFindings) -> str:
    if answer.organs_involved:
        severity = "" if answer.severity_estimate == "none" else f"{answer.severity_estimate} "
        return f"{severity}injury of {', '.join(answer.organs_involved)}".capitalize()
    if answer.severity_estimate == "none":
        return "No injury of liver, spleen, kidney or bowel"
    return f"{answer.severity_estimate} injury, no organ named".capitalize()
