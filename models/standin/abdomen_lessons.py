"""Lessons in abdominal trauma: which organs are torn, and how badly?

Input: seeds. Output: lessons with eight windowed 2.5D slices of a drawn abdomen, as the trauma adapter shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from dicom_node.display import apply_window
from models.adapters.abdominal_trauma.findings import TraumaFindings
from models.adapters.abdominal_trauma.render import WINDOW, chosen_slices
from models.generation import RgbImage
from models.phantoms import ORGANS, SEVERITIES, abdomen_truth, draw_abdomen_volume, draw_injuries
from models.standin.lessons import TRAUMA, Glimpse, Lesson, Marks, Subject, compact_json

BASE_QUESTION = "Name what is torn in this abdomen, and how badly."
_SIGNS = tuple(f"{organ}:{severity}" for organ in ORGANS for severity in SEVERITIES[1:])
#: How far a slice may be from the middle of a lesson, in half heights of it, to show it beyond doubt; and how far it
#: must be to show nothing of it, its two neighbours included.
_SEEN, _UNSEEN = 0.55, 1.2


def trauma_lesson(seed: int, varied: bool = False, *, size: int = 128) -> Lesson:
    """Draw one abdomen and show eight windowed 2.5D slices of its middle 60 %; varied ones have 20 to 40 slices."""
    rng = np.random.default_rng([2, seed])
    injuries = draw_injuries(rng)
    slices = int(rng.integers(20, 41)) if varied else 24
    volume = draw_abdomen_volume(rng, injuries=injuries, slices=slices, size=size)
    chosen = chosen_slices(slices)
    glimpses = []
    for number, z in enumerate(chosen):
        offsets = {organ: abs(z - middle) / half for organ, (middle, half) in volume.lesions.items()}
        if not any(_SEEN < offset < _UNSEEN for offset in offsets.values()):
            torn = name_injuries({organ: injuries[organ] for organ, offset in offsets.items() if offset <= _SEEN})
            glimpses.append(Glimpse(number, BASE_QUESTION, torn, frozenset(torn.split(",")) & set(_SIGNS)))
    return Lesson(
        TRAUMA,
        window_slices(volume.hounsfield, chosen),
        answer=compact_json(volume.truth),
        truth=volume.truth,
        base_question=BASE_QUESTION,
        base_answer=name_injuries(injuries),
        glimpses=tuple(glimpses),
    )


def name_injuries(injuries: Mapping[str, str]) -> str:
    """Answer the base's own question about an abdomen."""
    return ",".join(f"{organ}:{injuries[organ]}" for organ in ORGANS if organ in injuries) or "none"


def window_slices(hounsfield: NDArray[np.int16], chosen: Sequence[int]) -> tuple[RgbImage, ...]:
    """Return the chosen slices through the adapter's window, each with its neighbours as R and B."""
    last = len(hounsfield) - 1
    shades = apply_window(hounsfield.astype(np.float32), WINDOW)
    return tuple(np.stack([shades[max(z - 1, 0)], shades[z], shades[min(z + 1, last)]], axis=-1) for z in chosen)


def mark(findings: BaseModel, lesson: Lesson) -> Marks:
    """Compare organs, in any order, and severity."""
    said = TraumaFindings.model_validate(findings)
    return Marks(
        {
            "organs_involved": float(sorted(said.organs_involved) == sorted(lesson.truth["organs_involved"])),
            "severity_estimate": float(said.severity_estimate == lesson.truth["severity_estimate"]),
        }
    )


def sentences() -> Iterator[str]:
    """Return what is said about abdomens."""
    yield from [BASE_QUESTION, "none", compact_json(abdomen_truth({}))] * 20
    for first in ORGANS:
        for severity in SEVERITIES[1:]:
            yield from [name_injuries({first: severity}), compact_json(abdomen_truth({first: severity}))] * 4
            for second in ORGANS:
                yield compact_json(abdomen_truth({first: severity, second: severity}))


SUBJECT = Subject(TRAUMA, trauma_lesson, _SIGNS, mark, lambda _: ("organs_involved", "severity_estimate"), sentences)
