"""What a merged and an unmerged model are asked when they are compared: an adapter's own prompt, drawn pictures.

Input: an adapter's definition. Output: a few `GenerationRequest`s, the same every time. It cannot fail. The pictures
are nobody's: a drawn angiogram, a drawn abdomen and noise. What is answered does not matter, only that both answer
alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.display import apply_window, grey_to_rgb, percentile_window
from models.adapter import AdapterDefinition
from models.generation import GenerationRequest, RgbImage
from models.phantoms import draw_abdomen_volume, draw_vessel_run
from models.prompting import build_request
from models.rendering import ModelInput

_SIZE = 224


def merge_questions(adapter: AdapterDefinition) -> list[GenerationRequest]:
    """Return one question about each picture, and one about all of them together; images are (224, 224, 3) uint8."""
    adapter = replace(adapter, samples=0)
    pictures = _pictures()
    shown = [*((picture,) for picture in pictures), pictures]
    return [build_request(adapter, ModelInput(images, (), ())) for images in shown]


def _pictures() -> tuple[RgbImage, ...]:
    rng = np.random.default_rng(7)
    run = draw_vessel_run(rng, blocked=True, frames=8, size=_SIZE)
    volume = draw_abdomen_volume(rng, injuries={"liver": "moderate"}, slices=12, size=_SIZE)
    noise = rng.integers(0, 256, (_SIZE, _SIZE, 3), dtype=np.uint8)
    return (_shown(run.pixels[5]), _shown(volume.hounsfield[6]), noise)


def _shown(frame: NDArray[np.integer[Any]]) -> RgbImage:
    """Show one drawn frame between its outer percentiles."""
    values = frame.astype(np.float32)
    return grey_to_rgb(apply_window(values, percentile_window(values, 0.5)))
