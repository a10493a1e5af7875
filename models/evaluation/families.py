"""Which figures belong to an adapter and task, what a truth must look like, and when an answer is right.

Input: names. Output: a `Family`. An adapter that is not listed raises `LookupError` with those that are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from models.evaluation import amounts, boxes, closed, labels, texts
from models.evaluation.figures import Answer, Measured

Truth = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of question with its truth and its figures."""

    title: str
    #: What a manifest must say of each case.
    truth: type[BaseModel]
    measure: Callable[[Sequence[Truth], Sequence[Answer]], Measured]
    #: How good one answer is, in [0, 1]; never asked of one that did not parse.
    quality: Callable[[Truth, Mapping[str, Any]], float]
    #: When an answer counts as right, in words; empty where `quality` is a degree, and no answer is right or wrong.
    right_means: str


_FAMILIES: Final[Mapping[tuple[str, str], Family]] = {
    ("dsa_patency", ""): Family(
        "vessel patency",
        closed.PatencyTruth,
        closed.measure_patency,
        closed.same_patency,
        "the vessel's state is right",
    ),
    ("abdominal_trauma", ""): Family(
        "abdominal trauma",
        closed.TraumaTruth,
        closed.measure_trauma,
        closed.same_trauma,
        "organs and severity are both right",
    ),
    ("cataract_surgery", ""): Family(
        "surgical instruction", texts.InstructionTruth, texts.measure_instructions, texts.instruction_score, ""
    ),
    ("clinical_caption", ""): Family("caption", texts.CaptionTruth, texts.measure_captions, texts.caption_score, ""),
    ("flare", "classification"): Family(
        "classification", labels.ClassTruth, labels.measure_classes, labels.same_class, "the label is right"
    ),
    ("flare", "multi_label"): Family(
        "multi-label classification",
        labels.LabelsTruth,
        labels.measure_labels,
        labels.same_labels,
        "exactly the right labels are named",
    ),
    ("flare", "detection"): Family(
        "detection",
        boxes.ObjectsTruth,
        boxes.measure_objects,
        boxes.all_found,
        "every object is found at IoU > 0.5, and nothing else",
    ),
    ("flare", "counting"): Family(
        "counting", amounts.CountTruth, amounts.measure_counts, amounts.same_count, "the count is exact"
    ),
    ("flare", "regression"): Family(
        "regression", amounts.ValueTruth, amounts.measure_values, amounts.near_value, "within 10 % of the truth"
    ),
    ("flare", "report"): Family("report", texts.ReportTruth, texts.measure_reports, texts.report_score, ""),
}


def family_of(adapter: str, task: str) -> Family:
    """Return the family of an adapter's task; adapters with but one question have one whatever the task's name.

    Raises:
        LookupError: There are no figures for it.
    """
    found = _FAMILIES.get((adapter, task)) or _FAMILIES.get((adapter, ""))
    if found is None:
        known = sorted({" ".join(filter(None, key)) for key in _FAMILIES})
        raise LookupError(f"there are no figures for {adapter} {task}; there are for {', '.join(known)}")
    return found
