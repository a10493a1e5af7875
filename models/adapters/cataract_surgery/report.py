"""Cataract findings -> report: the scene with the phase it is said to show, the instruction and the reasoning in words.

The model was not asked a coded question. Its reasoning is text; only where it plainly names one phase out of a closed
list is that phase coded, else the phase is "undetermined".
"""

from __future__ import annotations

from pydantic import BaseModel

from dicom_node.codes import (
    CONCLUSION,
    EYE,
    IMPRESSION,
    MODEL_REASONING,
    PROCEDURE_PHASE,
    UNDETERMINED,
)
from dicom_node.report import Evaluation, Narrative, Report, ReportedFinding
from models.adapter import ReportContext
from models.adapters.cataract_surgery.findings import CataractFindings
from models.adapters.cataract_surgery.phases import named_phase
from models.report_parts import is_calibrated, probability_in_words, statements

TITLE = "Cataract surgery scene"
LIMITATIONS = (
    "For research and education only: not for clinical decisions or direct patient care.",
    "The reasoning was learnt from another model's, not from surgeons; it may be fluent and wrong.",
    "The adapter was trained on single frames of one public set (Cataract-1K); of a video the model saw only the "
    "frames named in the report, all at once.",
)
#: More of the instruction would push the warnings off a small banner; the whole of it stands in the SR.
_MOST_IN_HEADLINE = 120


def report(findings: BaseModel, context: ReportContext) -> Report:
    """Return the report on one video or still."""
    answer = CataractFindings.model_validate(findings)
    headline = f'Instruction: "{_shortened(answer.final_answer)}"{probability_in_words(context)}'
    phase = named_phase(answer.thinking_process)
    finding = ReportedFinding(
        tracking_id="cataract-surgery-scene",
        finding_type=PROCEDURE_PHASE,
        sites=(EYE,),
        evaluations=(Evaluation(PROCEDURE_PHASE, phase or UNDETERMINED),),
        sources=context.sources,
        times_s=tuple(_times(context).values()),
    )
    return Report(
        title=TITLE,
        findings=(finding,),
        narratives=(
            Narrative(IMPRESSION, f"{headline}. The answer rests on {_frames(context)}."),
            Narrative(CONCLUSION, answer.final_answer),
            Narrative(MODEL_REASONING, answer.thinking_process),
        ),
        algorithm=context.algorithm,
        statements=statements(LIMITATIONS, context),
        sources=context.sources,
        headline=headline,
        answered_at=context.answered_at,
        calibrated=is_calibrated(context),
    )


def _shortened(text: str) -> str:
    words = " ".join(text.split()).rstrip(".")
    return words if len(words) <= _MOST_IN_HEADLINE else words[:_MOST_IN_HEADLINE].rsplit(" ", 1)[0] + " ..."


def _frames(context: ReportContext) -> str:
    """Name the frames with their times: "frames 13 (0.5 s), 38 (1.5 s) of the video"."""
    numbers = sorted({number for source in context.sources for number in source.frame_numbers})
    if not numbers:
        return "a single image"
    times = _times(context)
    shown = [f"{number} ({times[number]:.1f} s)" if number in times else str(number) for number in numbers]
    return f"frame{'s' if len(numbers) > 1 else ''} {', '.join(shown)} of the video"


def _times(context: ReportContext) -> dict[int, float]:
    """Return the times of the frames shown, in seconds after the start of the video, where it has a clock."""
    stamps = zip(context.record.get("frames_shown", ()), context.record.get("times_s", ()), strict=False)
    return {number: time for number, time in stamps if time is not None}
