"""Stored instances -> `ModelInput`: the very pixels the model sees, with a record of what was done to them.

Input: the instances of one job. Output: a `ModelInput`, and its `InputRecord`, the part that rows can keep: reporting
runs in another process and rebuilds it from stored JSON. On failure: `RenderError` when no honest input can be made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dicom_node.report import SourceFrames
from models.generation import RgbImage
from models.recipe import Recipe, recipe_from_json, recipe_to_json


class RenderError(Exception):
    """These instances cannot be turned into a model input; the message says which, why, and what to do."""


class RenderInterrupted(RenderError):
    """The work was cut off from outside; the same instances may well be shown another time."""


@dataclass(frozen=True, slots=True)
class InputRecord:
    """Everything about a model input but its pixels: JSON in and out."""

    #: One entry per image: the source frames behind it.
    image_sources: tuple[SourceFrames, ...]
    #: Everything the answer rests on, for evidence.
    sources: tuple[SourceFrames, ...]
    #: JSON-ready, for people: how frames were chosen, what was left out, how each instance was decoded.
    record: Mapping[str, Any]
    #: Sentences that make the input incomplete or doubtful; each one forces review.
    incomplete: tuple[str, ...]
    #: Indices of the images a person should be shown first.
    key_images: tuple[int, ...]
    #: SHA-256 over the images' shapes and pixels, hexadecimal.
    digest: str
    #: What makes the same pixels again (`models.drawing.replay`); empty for what was rendered before recipes were kept.
    recipe: Recipe = ()

    @property
    def key_sources(self) -> tuple[SourceFrames, ...]:
        """The source frames behind the key images."""
        return tuple(self.image_sources[index] for index in self.key_images)

    @property
    def record_digest(self) -> str:
        """SHA-256 over how the pixels were made (record and recipe), hexadecimal; the same from rows as when made."""
        made = {"record": dict(self.record), "recipe": recipe_to_json(self.recipe)}
        return hashlib.sha256(json.dumps(made, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {
            "image_sources": [asdict(source) for source in self.image_sources],
            "sources": [asdict(source) for source in self.sources],
            "record": dict(self.record),
            "incomplete": list(self.incomplete),
            "key_images": list(self.key_images),
            "digest": self.digest,
            "recipe": recipe_to_json(self.recipe),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> InputRecord:
        """Rebuild a record from `to_json`. Raises `RecipeError` where its recipe is of a later version."""
        return cls(
            image_sources=tuple(_source(entry) for entry in stored["image_sources"]),
            sources=tuple(_source(entry) for entry in stored["sources"]),
            record=stored["record"],
            incomplete=tuple(stored["incomplete"]),
            key_images=tuple(stored["key_images"]),
            digest=stored["digest"],
            recipe=recipe_from_json(stored.get("recipe", [])),
        )


@dataclass(frozen=True, slots=True)
class ModelInput:
    """Images in the order the model sees them, where each comes from, and what was done."""

    images: tuple[RgbImage, ...]
    #: One entry per image: the source frames behind it.
    image_sources: tuple[SourceFrames, ...]
    #: Everything the answer rests on, for evidence.
    sources: tuple[SourceFrames, ...]
    #: JSON-ready, for people: how frames were chosen, what was left out, how each instance was decoded.
    record: dict[str, Any] = field(default_factory=dict)
    #: Sentences that make the input incomplete or doubtful ("gap of 10 mm after slice 14"); each one forces review.
    incomplete: tuple[str, ...] = ()
    #: Indices of the images a person should be shown first.
    key_images: tuple[int, ...] = (0,)
    #: What makes the same pixels again.
    recipe: Recipe = ()

    def digest(self) -> str:
        """Return the SHA-256 over shapes and pixels, hexadecimal."""
        return images_digest(self.images)

    def input_record(self) -> InputRecord:
        """Return the part that is kept with the job."""
        return InputRecord(
            image_sources=self.image_sources,
            sources=self.sources,
            record=self.record,
            incomplete=self.incomplete,
            key_images=self.key_images,
            digest=self.digest(),
            recipe=self.recipe,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON-ready dictionary; `InputRecord.from_json` reads it back."""
        return self.input_record().to_json()


def images_digest(images: Sequence[RgbImage]) -> str:
    """Return the SHA-256 over images' shapes and pixels, hexadecimal."""
    sha = hashlib.sha256()
    for image in images:
        sha.update(repr(image.shape).encode())
        sha.update(np.ascontiguousarray(image).data)
    return sha.hexdigest()


def _source(stored: Mapping[str, Any]) -> SourceFrames:
    return SourceFrames(
        sop_class_uid=stored["sop_class_uid"],
        sop_instance_uid=stored["sop_instance_uid"],
        series_instance_uid=stored["series_instance_uid"],
        frame_numbers=tuple(stored["frame_numbers"]),
    )
