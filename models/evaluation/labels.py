"""FLARE's classification and multi-label tasks.

Input: truths and answers; an answer that did not parse is None, which is a wrong label and no label. Output: the card's
figures. Classification: balanced accuracy (primary), accuracy, weighted F1. Multi-label: sample-wise F1 (primary),
precision, recall. Labels are compared without regard to case and surrounding blanks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.evaluation.closed import format_adherence
from models.evaluation.figures import Answer, Indices, Measured, bootstrapped, mean_of, proportion

Label = Annotated[str, Field(min_length=1)]


class ClassTruth(BaseModel):
    """The one label that fits."""

    model_config = ConfigDict(extra="forbid")

    label: Label


class LabelsTruth(BaseModel):
    """All labels that fit; may be none."""

    model_config = ConfigDict(extra="forbid")

    labels: list[Label]


def folded(label: str) -> str:
    """Return a label as it is compared."""
    return " ".join(label.casefold().split())


def same_class(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return 1 where the label is right."""
    return float(folded(answer["label"]) == folded(truth["label"]))


def same_labels(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return 1 where exactly the right labels were named."""
    return float({folded(x) for x in answer["labels"]} == {folded(x) for x in truth["labels"]})


def measure_classes(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the figures of classification; classes are those that occur among the truths."""
    names = sorted({folded(truth["label"]) for truth in truths})
    number = {name: index for index, name in enumerate(names)}
    true = np.array([number[folded(truth["label"])] for truth in truths], dtype=np.int64)
    # What is no class of the truths, or no answer at all, is one more class that is never right.
    said = np.array(
        [len(names) if answer is None else number.get(folded(answer["label"]), len(names)) for answer in answers],
        dtype=np.int64,
    )

    def counted(chosen: Indices) -> tuple[Any, Any, Any]:
        """Return per class: right answers, cases, answers; classes that were not drawn are left out."""
        drawn, told = true[chosen], said[chosen]
        hits = np.bincount(drawn[drawn == told], minlength=len(names))
        cases = np.bincount(drawn, minlength=len(names))
        named = np.bincount(told, minlength=len(names) + 1)[: len(names)]
        there = cases > 0
        return hits[there], cases[there], named[there]

    def balanced(chosen: Indices) -> float:
        hits, cases, _ = counted(chosen)
        return float((hits / cases).mean())

    def weighted(chosen: Indices) -> float:
        hits, cases, named = counted(chosen)
        return float(np.average(2 * hits / (cases + named), weights=cases))

    n = len(truths)
    per_class = [
        proportion(f'recall of "{name}"', int((said[true == index] == index).sum()), int((true == index).sum()))
        for name, index in number.items()
    ]
    return Measured(
        (
            bootstrapped("balanced accuracy", balanced, n, "primary"),
            proportion("accuracy", int((true == said).sum()), n),
            bootstrapped("weighted F1", weighted, n),
            format_adherence(answers),
            *per_class,
        )
    )


def measure_labels(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the sample-wise figures: computed for each case, then averaged.

    A case without labels that is answered with none is fully right; an answer that could not be read is fully wrong.
    """
    scores = [_sample(truth, answer) for truth, answer in zip(truths, answers, strict=True)]
    f1, precision, recall = zip(*scores, strict=True) if scores else ((), (), ())
    exact = sum(a is not None and same_labels(t, a) == 1 for t, a in zip(truths, answers, strict=True))
    return Measured(
        (
            mean_of("sample-wise F1", f1, "primary"),
            mean_of("sample-wise precision", precision),
            mean_of("sample-wise recall", recall),
            proportion("exact match", exact, len(truths)),
            format_adherence(answers),
        )
    )


def _sample(truth: Mapping[str, Any], answer: Answer) -> tuple[float, float, float]:
    if answer is None:
        return 0.0, 0.0, 0.0
    true, said = ({folded(label) for label in part["labels"]} for part in (truth, answer))
    hits = len(true & said)
    precision = hits / len(said) if said else float(not true)
    recall = hits / len(true) if true else float(not said)
    f1 = 2 * hits / (len(true) + len(said)) if true or said else 1.0
    return f1, precision, recall
