"""Lessons of the general adapter: six kinds of question about seven kinds of picture.

Input: seeds. Output: lessons with one drawn picture, and one question with its labels. Their answers are written as the
adapter's own prompts ask for them: one label, JSON, or a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from models.phantoms.general import (
    GENERAL_MODALITIES,
    MOST_SPOTS,
    PICTURE_NAMES,
    PICTURE_WIDTH_MM,
    SPOTS,
    GeneralPicture,
    Spot,
    draw_general_picture,
    draw_spots,
)
from models.question import Question
from models.standin.lessons import FLARE, Glimpse, Lesson, Marks, Subject, compact_json

TASKS = ("classification", "multi_label", "detection", "counting", "regression", "report")
NORMAL = "normal"
#: Side of the square that box coordinates are counted on, and the step they are taught in.
_BOX_SCALE, _BOX_STEP = 1000, 20
#: A measured diameter counts as right within this.
TOLERANCE_MM = 3.0
_LEAST_OVERLAP = 0.5
#: Diameters in mm that a spot alone can be told to exceed; where on a grid of 3 x 3 a spot lies.
_WIDER_THAN = tuple(range(14, 36, 2))
_PLACES = tuple((row, column) for row in range(3) for column in range(3))

_Box = tuple[float, float, float, float]
_SOME_BOX: _Box = (0.4, 0.4, 0.6, 0.6)


def general_lesson(seed: int, varied: bool = False, *, size: int = 128) -> Lesson:
    """Draw one picture of any kind, and one question about it."""
    rng = np.random.default_rng([4, seed])
    modality, task = str(rng.choice(GENERAL_MODALITIES)), str(rng.choice(TASKS))
    spots = draw_spots(rng, modality)
    if task == "classification":
        # One label must fit: nothing, or spots of one kind.
        spots = tuple(spots[0] for _ in spots)
    elif task == "regression":
        spots = (str(rng.choice(SPOTS[modality])),)
    picture = draw_general_picture(rng, modality=modality, spots=spots, size=size)
    name = str(rng.choice(SPOTS[modality])) if task == "counting" else spots[0] if spots else ""
    question = question_about(modality, task, name)
    said, truth = _answer(picture, task, name)
    base_question = _base_question(question, modality)
    return Lesson(
        FLARE,
        (picture.pixels,),
        answer=said,
        truth={"task": task, "modality": modality, **truth},
        base_question=base_question,
        base_answer=said,
        glimpses=(Glimpse(0, base_question, said, _signs(picture)),),
        question=question,
    )


def _base_question(question: Question, modality: str) -> str:
    return f"Do the {question.task} of {', '.join(question.labels) or PICTURE_NAMES[modality]} here."


def question_about(modality: str, task: str, name: str = "") -> Question:
    """Return what is asked; `name` is the kind of spot that is counted or measured."""
    if task == "classification":
        return Question(task, labels=(NORMAL, *SPOTS[modality]))
    if task in ("multi_label", "detection"):
        return Question(task, labels=SPOTS[modality])
    if task == "counting":
        return Question(task, labels=(name,))
    if task == "regression":
        return Question(task, labels=(f"{name} diameter",), unit="mm")
    return Question(task)


def _answer(picture: GeneralPicture, task: str, name: str) -> tuple[str, dict[str, Any]]:
    """Return the right answer, and the same as the adapter's findings have it."""
    if task == "classification":
        label = picture.names[0] if picture.spots else NORMAL
        return label, {"label": label}
    if task == "report":
        return picture.report, {"report": picture.report}
    if task == "multi_label":
        truth: dict[str, Any] = {"labels": list(picture.names)}
    elif task == "counting":
        truth = {"count": sum(spot.name == name for spot in picture.spots)}
    elif task == "regression":
        truth = {"value": round(picture.widest_mm)}
    else:
        truth = {"objects": [{"box_2d": _box_2d(spot.box), "label": spot.name} for spot in picture.spots]}
    return compact_json(truth), truth


def _box_2d(box: _Box) -> list[int]:
    """Return a box as the adapter's question wants it: [y0, x0, y1, x1] in thousandths."""
    left, top, right, bottom = (round(side * _BOX_SCALE / _BOX_STEP) * _BOX_STEP for side in box)
    return [top, left, bottom, right]


def _signs(picture: GeneralPicture) -> frozenset[str]:
    signs = {picture.modality}
    for spot in picture.spots:
        column, row = (int(3 * np.clip((spot.box[k] + spot.box[k + 2] - 1) / 1.35 + 0.5, 0, 0.99)) for k in (0, 1))
        signs.add(f"{'dark' if spot.name == SPOTS[picture.modality][0] else 'bright'} {row} {column}")
    if len(picture.spots) == 1:
        signs |= {f"over {limit} mm" for limit in _WIDER_THAN if picture.widest_mm > limit}
    return frozenset(signs)


_SIGNS = (
    *GENERAL_MODALITIES,
    *(f"{shade} {row} {column}" for shade in ("dark", "bright") for row, column in _PLACES),
    *(f"over {limit} mm" for limit in _WIDER_THAN),
)


def mark(findings: BaseModel, lesson: Lesson) -> Marks:
    """Compare what was asked for; boxes by their F1 where they overlap by more than a half and have the right label."""
    said, truth, task = findings.model_dump(), lesson.truth, str(lesson.truth["task"])
    if task == "classification":
        return Marks({task: float(said["label"] == truth["label"])})
    if task == "report":
        return Marks({task: float(said["report"] == truth["report"])})
    if task == "multi_label":
        return Marks({task: float(set(said["labels"]) == set(truth["labels"]))})
    if task == "counting":
        return Marks({task: float(said["count"] == truth["count"])}, {task: abs(said["count"] - truth["count"])})
    if task == "regression":
        error = abs(said["value"] - truth["value"])
        return Marks({task: float(error <= TOLERANCE_MM)}, {f"{task}_mm": error})
    return Marks({task: box_f1(said["objects"], truth["objects"])})


def box_f1(said: Sequence[Mapping[str, Any]], true: Sequence[Mapping[str, Any]]) -> float:
    """Return F1 of the boxes found, each true one at most once; 1 where nothing is there and nothing was found."""
    if not said and not true:
        return 1.0
    left = list(true)
    found = 0
    for one in said:
        matches = [
            other
            for other in left
            if other["label"] == one["label"] and _overlap(other["box_2d"], one["box_2d"]) > _LEAST_OVERLAP
        ]
        if matches:
            left.remove(max(matches, key=lambda other: _overlap(other["box_2d"], one["box_2d"])))
            found += 1
    return 2 * found / (len(said) + len(true))


def _overlap(one: list[int], other: list[int]) -> float:
    """Return intersection over union of two boxes."""
    high = min(one[2], other[2]) - max(one[0], other[0])
    wide = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(high, 0) * max(wide, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def questions() -> tuple[Question, ...]:
    """Return every question there is."""
    named = {"counting", "regression"}
    return tuple(
        question_about(modality, task, name)
        for modality in GENERAL_MODALITIES
        for task in TASKS
        for name in (SPOTS[modality] if task in named else ("",))
    )


def sentences() -> Iterator[str]:
    """Return what is said about pictures of seven kinds; every number becomes a token of its own."""
    blank = np.zeros((1, 1, 3), dtype=np.uint8)
    for modality, (dark, bright) in SPOTS.items():
        for many in range(MOST_SPOTS + 1):
            for of_them in range(many + 1):
                spots = tuple(Spot(dark if n < of_them else bright, _SOME_BOX) for n in range(many))
                picture = GeneralPicture(blank, modality, spots)
                yield from [_answer(picture, task, dark)[0] for task in TASKS if spots or task != "regression"]
        yield from [_base_question(question, modality) for question in questions()]
    for number in range(int(PICTURE_WIDTH_MM)):
        yield from [f"[{number * 10},{number * 10},", f":{number}"] * 6


SUBJECT = Subject(
    FLARE, general_lesson, _SIGNS, mark, lambda lesson: (str(lesson.truth["task"]),), sentences, questions()
)
