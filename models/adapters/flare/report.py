"""FLARE's findings -> coded report, one function for each kind of question.

Labels are a site's own words. They stay words: in tracking identifiers and narratives, never as codes that somebody
guessed. Coded is what is sure: whether the thing named is present, how many, what value in which unit, where it lies.

A box is counted in thousandths of the picture that the model saw, which was resized without keeping its shape; it is
mapped back to pixels of the source by the size on record. Where the model saw several pictures it does not say on which
a box lies, and none is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import BaseModel

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.report import (
    Evaluation,
    Measurement,
    Narrative,
    Region,
    Report,
    ReportedFinding,
    probability_text,
)
from models.adapter import ReportContext
from models.adapters.flare.findings import (
    BOX_SCALE,
    ClassFindings,
    CountFindings,
    DetectedObject,
    LabelsFindings,
    ObjectsFindings,
    TextFindings,
    ValueFindings,
)
from models.question import Question
from models.report_parts import is_calibrated, probability, probability_in_words, statements

Reporter = Callable[[BaseModel, ReportContext], Report]

TITLE: Final = "General image reading"
LIMITATIONS: Final = (
    "Not validated in clinical settings: for research and education, not for clinical decisions.",
    "Performance may vary across imaging modalities and populations; the model may be wrong and must be verified.",
    "Not for emergencies, nor for patients to read without medical supervision.",
)
_PRESENT: Final = (Evaluation(codes.PRESENCE_OF_PROPERTY, codes.PRESENT),)
_ABSENT: Final = (Evaluation(codes.PRESENCE_OF_PROPERTY, codes.ABSENT),)


def class_report(question: Question) -> Reporter:
    """Return the reporter of one label among several."""

    def report(findings: BaseModel, context: ReportContext) -> Report:
        answer = ClassFindings.model_validate(findings.model_dump())
        found = (_finding(question, answer.label, context, _PRESENT),)
        likely = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
        said = ", ".join(f"{label} {probability_text(share)}" for label, share in likely)
        more = (Narrative(codes.FINDING, f"Likelihood of each label: {said}"),) if said else ()
        return _report(question, context, answer.label, found, more)

    return report


def labels_report(question: Question) -> Reporter:
    """Return the reporter of the labels that are present; of those not named nothing is coded but in words."""

    def report(findings: BaseModel, context: ReportContext) -> Report:
        named = LabelsFindings.model_validate(findings.model_dump()).labels
        if not named:
            return _none_of(question, context)
        others = [label for label in question.labels if label not in named]
        more = (Narrative(codes.FINDING, f"Not named: {', '.join(others)}"),) if others else ()
        found = tuple(_finding(question, label, context, _PRESENT) for label in named)
        return _report(question, context, ", ".join(named), found, more)

    return report


def objects_report(question: Question) -> Reporter:
    """Return the reporter of boxes: a finding each, with its region on the source image."""

    def report(findings: BaseModel, context: ReportContext) -> Report:
        objects = ObjectsFindings.model_validate(findings.model_dump()).objects
        if not objects:
            return _none_of(question, context)
        regions = [_region(found, context) for found in objects]
        findings_ = tuple(
            _finding(question, f"{number}: {found.label}", context, _PRESENT, region=region)
            for number, (found, region) in enumerate(zip(objects, regions, strict=True), start=1)
        )
        lines = [_box_in_words(number, found) for number, found in enumerate(objects, start=1)]
        if regions[0] is None:
            lines.append("The boxes are not drawn: several pictures were shown, and the answer does not say on which.")
        counts = {label: sum(found.label == label for found in objects) for label in question.labels}
        words = ", ".join(f"{count} {label}" for label, count in counts.items() if count)
        return _report(question, context, words, findings_, (Narrative(codes.FINDING, "\n".join(lines)),))

    return report


def count_report(question: Question) -> Reporter:
    """Return the reporter of a count, as a number without a unit."""

    def report(findings: BaseModel, context: ReportContext) -> Report:
        count = CountFindings.model_validate(findings).count
        (label,) = question.labels
        measured = Measurement(codes.NUMBER_OF_OCCURRENCES, count, codes.NO_UNITS)
        found = _finding(question, label, context, _PRESENT if count else _ABSENT, measured)
        return _report(question, context, f"{label}: {count}", (found,))

    return report


def value_report(question: Question) -> Reporter:
    """Return the reporter of a measurement in the question's unit; what was measured stands in words."""

    def report(findings: BaseModel, context: ReportContext) -> Report:
        value = round(ValueFindings.model_validate(findings).value, 2)
        (label,) = question.labels
        unit = codes.NO_UNITS if question.unit == codes.NO_UNITS.value else Code(question.unit, "UCUM", question.unit)
        found = _finding(question, label, context, (), Measurement(codes.VALUE_NAMED_IN_TEXT, value, unit))
        shown = f"{value:g}" if unit == codes.NO_UNITS else f"{value:g} {question.unit}"
        return _report(question, context, f"{label}: {shown}", (found,))

    return report


def text_report(question: Question) -> Reporter:
    """Return the reporter of free text; nothing in it is turned into codes."""

    def report(findings: BaseModel, context: ReportContext) -> Report:
        text = TextFindings.model_validate(findings).report
        said = (Evaluation(codes.FORM_OF_ANSWER, codes.FREE_TEXT),)
        found = _finding(question, "free text", context, said)
        return _report(question, context, "Report in free text", (found,), (Narrative(codes.FINDING, text),))

    return report


def _finding(
    question: Question,
    what: str,
    context: ReportContext,
    evaluations: tuple[Evaluation, ...],
    *measured: Measurement,
    region: Region | None = None,
) -> ReportedFinding:
    return ReportedFinding(
        tracking_id=f"{question.task}: {what}",
        finding_type=codes.NAMED_IN_TEXT,
        evaluations=evaluations,
        measurements=(*measured, *probability(context)),
        sources=context.key_sources,
        region=region,
    )


def _none_of(question: Question, context: ReportContext) -> Report:
    words = f"none of {', '.join(question.labels)}"
    return _report(question, context, words.capitalize(), (_finding(question, words, context, _ABSENT),))


def _report(
    question: Question,
    context: ReportContext,
    words: str,
    findings: tuple[ReportedFinding, ...],
    narratives: tuple[Narrative, ...] = (),
) -> Report:
    headline = words + probability_in_words(context)
    asked = question.text or f"{question.task} of {', '.join(question.labels)}" if question.labels else question.text
    about = (Narrative(codes.COMMENT, f"Asked: {asked}"),) if asked else ()
    return Report(
        title=TITLE,
        findings=findings,
        narratives=(Narrative(codes.IMPRESSION, f"{headline}."), *narratives, *about),
        algorithm=context.algorithm,
        statements=statements(LIMITATIONS, context),
        sources=context.sources,
        headline=headline,
        answered_at=context.answered_at,
        calibrated=is_calibrated(context),
    )


def _region(found: DetectedObject, context: ReportContext) -> Region | None:
    """Map a box to the pixels of the one source image; None where there were several, or its size is not on record."""
    # Before recipes were kept, the record had an entry for each picture.
    shown = context.record.get("instances") or context.record.get("pictures", ())
    if len(context.key_sources) != 1 or len(shown) != 1:
        return None
    rows, columns = int(shown[0]["rows"]), int(shown[0]["columns"])
    top, bottom = (edge * rows / BOX_SCALE for edge in (found.box_2d[0], found.box_2d[2]))
    left, right = (edge * columns / BOX_SCALE for edge in (found.box_2d[1], found.box_2d[3]))
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Region(context.key_sources[0], corners, rows=rows, columns=columns, label=found.label)


def _box_in_words(number: int, found: DetectedObject) -> str:
    top, left, bottom, right = (edge / (BOX_SCALE // 100) for edge in found.box_2d)
    return (
        f"{number}: {found.label}, from {top:g} to {bottom:g} % of the height and from {left:g} to {right:g} % of the "
        "width, from the top left"
    )
