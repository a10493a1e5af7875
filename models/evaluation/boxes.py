"""FLARE's detection tasks: boxes with labels against boxes with labels.

Input: truths and answers; boxes are [y0, x0, y1, x1] in thousandths of the picture. Output: F1, precision and recall at
IoU > 0.5 (detection, primary), F1 at IoU > 0.3 (instance detection, primary), and averaged over 0.3, 0.4, ... 0.7, also
label by label. A box counts once: boxes of one label are matched one to one, so that as many pairs as possible overlap
enough (scipy's linear sum assignment). All boxes of an answer that did not parse are missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.evaluation.closed import format_adherence
from models.evaluation.figures import Answer, Indices, Measured, bootstrapped, f1_of, proportion
from models.evaluation.labels import Label, folded

DETECTION_IOU, INSTANCE_IOU = 0.5, 0.3
AVERAGED_IOUS = (0.3, 0.4, 0.5, 0.6, 0.7)


class TrueObject(BaseModel):
    """One object that is there."""

    model_config = ConfigDict(extra="forbid")

    box_2d: Annotated[list[float], Field(min_length=4, max_length=4)]
    label: Label

    @model_validator(mode="after")
    def _is_a_box(self) -> TrueObject:
        top, left, bottom, right = self.box_2d
        if not (0 <= top < bottom <= 1000 and 0 <= left < right <= 1000):
            raise ValueError(f"{self.box_2d} is no box: [y0, x0, y1, x1], top left first, 0 to 1000")
        return self


class ObjectsTruth(BaseModel):
    """Everything there is; may be nothing."""

    model_config = ConfigDict(extra="forbid")

    objects: list[TrueObject]


#: hits, missed, invented.
Counts = tuple[int, int, int]


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes [y0, x0, y1, x1]."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return height * width / (sum(areas) - height * width)


def matches(true: Sequence[Sequence[float]], said: Sequence[Sequence[float]], threshold: float) -> int:
    """Return how many boxes find a partner of their own with IoU > threshold."""
    if not true or not said:
        return 0
    from scipy.optimize import linear_sum_assignment

    enough = np.array([[iou(a, b) > threshold for b in said] for a in true])
    rows, columns = linear_sum_assignment(enough, maximize=True)
    return int(enough[rows, columns].sum())


def all_found(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return 1 where every object was found at IoU > 0.5, and nothing else."""
    counted = _counted(truth, answer, DETECTION_IOU).values()
    return float(all(missed == 0 and invented == 0 for _, missed, invented in counted))


def measure_objects(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the figures of detection and of instance detection."""
    pairs = list(zip(truths, answers, strict=True))
    counted = {t: [_counted(truth, answer, t) for truth, answer in pairs] for t in AVERAGED_IOUS}
    labels = sorted({label for case in counted[DETECTION_IOU] for label in case})
    # Threshold -> hits, missed, invented: int, shape (cases, labels, 3)
    table = {
        t: np.array([[case.get(label, (0, 0, 0)) for label in labels] for case in cases]).reshape(len(pairs), -1, 3)
        for t, cases in counted.items()
    }

    def f1(thresholds: Sequence[float], label: slice = slice(None)) -> Callable[[Indices], float]:
        def statistic(chosen: Indices) -> float:
            return sum(f1_of(*table[t][chosen, label].sum(axis=(0, 1))) for t in thresholds) / len(thresholds)

        return statistic

    n = len(truths)
    hits, missed, invented = (int(total) for total in table[DETECTION_IOU].sum(axis=(0, 1)))
    of_boxes = "of boxes; the interval takes them for independent"
    figures = [
        bootstrapped("F1 at IoU > 0.5", f1([DETECTION_IOU]), n, "detection: primary"),
        proportion("precision at IoU > 0.5", hits, hits + invented, of_boxes),
        proportion("recall at IoU > 0.5", hits, hits + missed, of_boxes),
        bootstrapped("F1 at IoU > 0.3", f1([INSTANCE_IOU]), n, "instance detection: primary"),
        bootstrapped("F1 averaged over IoU 0.3 to 0.7", f1(AVERAGED_IOUS), n),
        format_adherence(answers),
    ]
    for number, label in enumerate(labels):
        only = slice(number, number + 1)
        figures.append(bootstrapped(f'F1 of "{label}" at IoU > 0.3', f1([INSTANCE_IOU], only), n))
        figures.append(bootstrapped(f'F1 of "{label}" at IoU > 0.5', f1([DETECTION_IOU], only), n))
    return Measured(tuple(figures))


def _counted(truth: Mapping[str, Any], answer: Answer, threshold: float) -> dict[str, Counts]:
    true, said = _by_label(truth), _by_label(answer or {"objects": []})
    counted = {}
    for label in {*true, *said}:
        there, found = true.get(label, []), said.get(label, [])
        hits = matches(there, found, threshold)
        counted[label] = (hits, len(there) - hits, len(found) - hits)
    return counted


def _by_label(part: Mapping[str, Any]) -> dict[str, list[Sequence[float]]]:
    found: dict[str, list[Sequence[float]]] = {}
    for entry in part["objects"]:
        found.setdefault(folded(entry["label"]), []).append(entry["box_2d"])
    return found
