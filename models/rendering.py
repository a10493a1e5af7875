"""Stored instances -> `ModelInput`: the very pixels the model sees, with a record of what was done to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from dicom_node.report import SourceFrames
from models.generation import RgbImage


class RenderError(Exception):
    """These instances cannot be turned into a model input; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """Images in the order the model sees them, where each comes from, and what was done."""

    images: tuple[RgbImage, ...]
    #: One entry per image: the source frames behind it.
    image_sources: tuple[SourceFrames, ...]
    #: Everything the answer rests on, for evidence.
    sources: tuple[SourceFrames, ...]
    #: JSON-ready: decoder, LUT, window, mask, frames chosen, resize. Small enough to keep with the job.
    record: dict[str, Any] = field(default_factory=dict)
    #: Sentences that make the input incomplete or doubtful ("gap of 10 mm after slice 14"); each one forces review.
    incomplete: tuple[str, ...] = ()
    #: Indices of the images a person should be shown first.
    key_images: tuple[int, ...] = (0,)

    def digest(self) -> str:
        """Return the SHA-256 over shapes and pixels, hexadecimal."""
        sha = hashlib.sha256()
        for image in self.images:
            sha.update(repr(image.shape).encode())
            sha.update(image.tobytes())
        return sha.hexdigest()
