"""Lessons in cataract surgery: which phase, which instrument, and is its tip where it should be?

Input: seeds. Output: lessons with one to four frames of a drawn scene, and answers under the author's two headings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel

from models.adapters.cataract_surgery.findings import FINAL, THINKING, CataractFindings
from models.phantoms.surgery import INSTRUMENTS, PHASES, draw_surgical_scene
from models.standin.lessons import CATARACT, Glimpse, Lesson, Marks, Subject

BASE_QUESTION = "Name phase, instrument and safety of this operation on an eye."
#: The most frames that the adapter shows of a video.
_MOST_FRAMES = 4


def surgery_lesson(seed: int, varied: bool = False, *, size: int = 128) -> Lesson:
    """Draw one scene; half are stills, the others have four frames (varied: any number up to four)."""
    rng = np.random.default_rng([3, seed])
    phase, safe = str(rng.choice(PHASES)), bool(rng.random() < 0.5)
    frames = int(rng.integers(1, _MOST_FRAMES + 1)) if varied else int(rng.choice((1, _MOST_FRAMES)))
    scene = draw_surgical_scene(rng, phase=phase, safe=safe, frames=frames, size=size)
    said = f"{phase}, {scene.instrument}, {'safe' if safe else 'unsafe'}"
    signs = frozenset({phase} if safe else {phase, "unsafe"})
    return Lesson(
        CATARACT,
        tuple(scene.pixels),
        answer=answer(phase, safe),
        truth={"phase": phase, "instrument": scene.instrument, "safe": safe},
        base_question=BASE_QUESTION,
        base_answer=said,
        glimpses=tuple(Glimpse(number, BASE_QUESTION, said, signs) for number in range(frames)),
    )


def answer(phase: str, safe: bool) -> str:
    """Return the right answer about a scene."""
    instrument = INSTRUMENTS[phase]
    if safe:
        reasoning = f"The tip of the {instrument} is near the middle of the pupil. Safety margins are adequate, safe."
        instruction = f"Continue the {phase} and keep the {instrument} near the middle of the pupil."
    else:
        reasoning = f"The tip of the {instrument} is over the iris. Safety margins are inadequate, unsafe."
        instruction = f"Stop and bring the {instrument} back to the middle of the pupil."
    return f"{THINKING}:\nThe frame shows the {phase} phase. {reasoning}\n\n{FINAL}:\n{instruction}"


def mark(findings: BaseModel, lesson: Lesson) -> Marks:
    """Compare the phase and the instrument that are named, and whether the instruction is to stop."""
    said = CataractFindings.model_validate(findings)
    phases = [phase for phase in PHASES if f"the {phase} phase" in said.thinking_process]
    instruments = [name for name in INSTRUMENTS.values() if name in said.final_answer]
    stops = said.final_answer.startswith("Stop")
    goes_on = said.final_answer.startswith("Continue")
    return Marks(
        {
            "phase": float(phases == [lesson.truth["phase"]]),
            "instrument": float(instruments == [lesson.truth["instrument"]]),
            "safety": float(goes_on and not stops if lesson.truth["safe"] else stops),
        }
    )


def sentences() -> Iterator[str]:
    """Return what is said about operations."""
    yield from [BASE_QUESTION, "safe", "unsafe"] * 20
    for phase in PHASES:
        for safe in (True, False):
            yield from [f"{phase}, {INSTRUMENTS[phase]}, {'safe' if safe else 'unsafe'}", answer(phase, safe)] * 12


SUBJECT = Subject(
    CATARACT, surgery_lesson, (*PHASES, "unsafe"), mark, lambda _: ("phase", "instrument", "safety"), sentences
)
