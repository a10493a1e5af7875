"""What the stand-in is taught: drawn phantoms, prepared as the adapters prepare real images, with question and answer.

Input: seeds. Output: `Lesson`s: pictures, prompt, the right answer, and the answer to a question of the base's own
about the same pictures. The base learns to look under those other questions and only guesses at the adapters'; the
LoRA adapters then make the difference, as they do on MedGemma. Both kinds of answer use the same deciding words: words
that the base cannot tell apart, no adapter can learn to tell apart, because LoRA leaves the vocabulary alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models.adapters
from dicom_node.display import apply_window, grey_to_rgb, percentile_window
from models.adapters.abdominal_trauma.render import WINDOW, chosen_slices
from models.generation import RgbImage
from models.phantoms import ORGANS, SEVERITIES, abdomen_truth, draw_abdomen_volume, draw_injuries, draw_vessel_run

DSA, TRAUMA = "dsa_patency", "abdominal_trauma"
LABELS = ("patent", "blocked")

#: The base's own questions.
BASE_PROMPT = {
    DSA: "Describe how far the contrast runs in this angiogram.",
    TRAUMA: "Name what is torn in this abdomen, and how badly.",
}

#: Percentiles that the DSA adapter's rendering leaves out at either end.
_TAIL_PERCENT = 0.5


@dataclass(frozen=True, slots=True)
class Lesson:
    """One example."""

    adapter: str
    images: tuple[RgbImage, ...]
    #: The right answer to the adapter's prompt, to the letter.
    answer: str
    #: The same as the adapter's findings have it.
    truth: dict[str, Any]
    #: The right answer to the base's own question about all of the pictures.
    base_answer: str
    #: (picture, right answer) to the base's own question about one picture alone, where that is beyond doubt.
    glimpses: tuple[tuple[int, str], ...]


def adapter_prompt(adapter: str) -> str:
    """Return the adapter's user prompt, from its folder."""
    folder = Path(models.adapters.__file__).parent / adapter
    return (folder / "prompt.md").read_text(encoding="utf-8").strip()


def chat(prompt: str, images: int) -> list[dict[str, Any]]:
    """Return the messages of one question: the pictures in order, then the text."""
    return [{"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": prompt}]}]


def compact_json(answer: dict[str, Any]) -> str:
    """Write an answer in the one whitespace style the constrained decoder allows: none."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False)


def dsa_lesson(seed: int, *, size: int = 128, varied: bool = False) -> Lesson:
    """Draw one angiography run and show its best filled frames; `varied` also teaches poorer choices of frames."""
    rng = np.random.default_rng([1, seed])
    run = draw_vessel_run(rng, blocked=bool(rng.random() < 0.5), frames=8, size=size)
    count = int(rng.integers(1, 4)) if varied else 3
    tail_percent = rng.uniform(0.0, 1.5) if varied else _TAIL_PERCENT
    images = tuple(
        show(run.pixels[frame], tail_percent) for frame in filled_frames(run.pixels, count, rng if varied else None)
    )
    base = "blocked, it ends abruptly" if run.blocked else "patent, it runs through to the periphery"
    return Lesson(
        DSA, images, run.truth, {"patency": run.truth}, base, tuple((number, base) for number in range(len(images)))
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


def trauma_lesson(seed: int, *, size: int = 128, varied: bool = False) -> Lesson:
    """Draw one abdomen and show eight windowed 2.5D slices of its middle 60 %."""
    rng = np.random.default_rng([2, seed])
    injuries = draw_injuries(rng)
    slices = int(rng.integers(20, 31)) if varied else 24
    volume = draw_abdomen_volume(rng, injuries=injuries, slices=slices, size=size)
    chosen = chosen_slices(slices)
    glimpses = []
    for number, z in enumerate(chosen):
        # How far the slice is from the middle of each lesion, in half heights of it.
        offsets = {organ: abs(z - middle) / half for organ, (middle, half) in volume.lesions.items()}
        if not any(0.55 < offset < 1.2 for offset in offsets.values()):
            torn = {organ: injuries[organ] for organ, offset in offsets.items() if offset <= 0.55}
            glimpses.append((number, name_injuries(torn)))
    images = window_slices(volume.hounsfield, chosen)
    return Lesson(TRAUMA, images, compact_json(volume.truth), volume.truth, name_injuries(injuries), tuple(glimpses))


def name_injuries(injuries: Mapping[str, str]) -> str:
    """Answer the base's own question about an abdomen."""
    return ",".join(f"{organ}:{injuries[organ]}" for organ in ORGANS if organ in injuries) or "none"


def window_slices(hounsfield: NDArray[np.int16], chosen: Sequence[int]) -> tuple[RgbImage, ...]:
    """Return the chosen slices through the adapter's window, each with its neighbours as R and B."""
    last = len(hounsfield) - 1
    shades = apply_window(hounsfield.astype(np.float32), WINDOW)
    return tuple(np.stack([shades[max(z - 1, 0)], shades[z], shades[min(z + 1, last)]], axis=-1) for z in chosen)


def sentences() -> Iterator[str]:
    """Return everything the stand-in reads or says, for its vocabulary; whole words become single tokens."""
    for adapter in (DSA, TRAUMA):
        yield from [adapter_prompt(adapter), BASE_PROMPT[adapter], "user\n", "model\n"] * 20
    yield from [*LABELS, "blocked, it ends abruptly", "patent, it runs through to the periphery", "none"] * 20
    for first in ORGANS:
        for severity in SEVERITIES[1:]:
            yield from [name_injuries({first: severity}), compact_json(abdomen_truth({first: severity}))] * 4
            for second in ORGANS:
                yield compact_json(abdomen_truth({first: severity, second: severity}))
    yield from [compact_json(abdomen_truth({}))] * 20
