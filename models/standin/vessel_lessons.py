"""Lessons in angiography: is the vessel patent or blocked?

Input: seeds. Output: lessons with the best filled frames of a drawn run, shown as the DSA adapter shows them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from dicom_node.display import apply_window, grey_to_rgb, percentile_window
from models.adapters.dsa_patency.findings import PatencyFindings
from models.generation import RgbImage
from models.phantoms import draw_vessel_run
from models.standin.lessons import DSA, Glimpse, Lesson, Marks, Subject

LABELS = ("patent", "blocked")
BASE_QUESTION = "Describe how far the contrast runs in this angiogram."
BASE_ANSWERS = {"patent": "patent, it runs through to the periphery", "blocked": "blocked, it ends abruptly"}

#: Percentiles that the DSA adapter's rendering leaves out at either end.
_TAIL_PERCENT = 0.5
#: Hard drawings begin here (`models.phantoms.vessels`); beyond the second even the drawing hardly tells.
_HARD, _HARDEST = 0.42, 0.92


def dsa_lesson(seed: int, varied: bool = False, *, size: int = 128) -> Lesson:
    """Draw one angiography run and show its best filled frames.

    Varied lessons have as many hard runs as plain ones, other sizes and lengths, and poorer choices of frames.
    """
    rng = np.random.default_rng([1, seed])
    blocked = bool(rng.random() < 0.5)
    if not varied:
        run = draw_vessel_run(rng, blocked=blocked, frames=8, size=size)
        return _lesson(run.truth, run.pixels, filled_frames(run.pixels, 3), _TAIL_PERCENT)
    difficulty = float(rng.uniform(_HARD, _HARDEST) if rng.random() < 0.5 else rng.uniform(0.0, _HARD))
    run = draw_vessel_run(
        rng,
        blocked=blocked,
        frames=int(rng.integers(4, 11)),
        size=int(rng.choice((64, 112, 128, 144))),
        difficulty=difficulty,
    )
    chosen = filled_frames(run.pixels, int(rng.integers(1, 4)), rng)
    return _lesson(run.truth, run.pixels, chosen, float(rng.uniform(0.0, 1.5)))


def _lesson(truth: str, pixels: NDArray[np.uint16], chosen: list[int], tail_percent: float) -> Lesson:
    said = BASE_ANSWERS[truth]
    signs = frozenset({"blocked"} if truth == "blocked" else ())
    return Lesson(
        DSA,
        tuple(show(pixels[frame], tail_percent) for frame in chosen),
        answer=truth,
        truth={"patency": truth},
        base_question=BASE_QUESTION,
        base_answer=said,
        glimpses=tuple(Glimpse(number, BASE_QUESTION, said, signs) for number in range(len(chosen))),
    )


def filled_frames(pixels: NDArray[np.uint16], count: int, rng: np.random.Generator | None = None) -> list[int]:
    """Return the frames with most contrast, in order of time; with `rng`, any of the well-filled ones."""
    background = np.median(pixels, axis=(1, 2), keepdims=True)
    darkness = np.clip(background - pixels.astype(np.float32) - 150, 0, None).mean(axis=(1, 2))
    if rng is None:
        return sorted(int(frame) for frame in np.argsort(darkness)[-count:])
    well_filled = np.flatnonzero(darkness >= 0.8 * darkness.max())
    return sorted(int(frame) for frame in rng.choice(well_filled, min(count, len(well_filled)), replace=False))


def show(frame: NDArray[np.uint16], tail_percent: float) -> RgbImage:
    """Show one frame between its outer percentiles."""
    values = frame.astype(np.float32)
    return grey_to_rgb(apply_window(values, percentile_window(values, tail_percent)))


def mark(findings: BaseModel, lesson: Lesson) -> Marks:
    """Compare the label."""
    said = PatencyFindings.model_validate(findings).patency
    return Marks({"patency": float(said == lesson.truth["patency"])})


def sentences() -> Iterator[str]:
    """Return what is said about vessels."""
    yield from [BASE_QUESTION, *LABELS, *BASE_ANSWERS.values()] * 20


SUBJECT = Subject(DSA, dsa_lesson, ("blocked",), mark, lambda _: ("patency",), sentences, turns=4)
