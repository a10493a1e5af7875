"""Stored instances -> `ModelInput`: the very pixels the model sees, with a record of what was done to them.

Input: the instances of one job. Output: a `ModelInput`, and its `InputRecord`, the part that rows can keep: reporting
runs in another process and rebuilds it from stored JSON. On failure: `RenderError` when no honest input can be made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dicom_node.report import SourceFrames
from models.generation import RgbImage


class RenderError(Exception):
    """These instances cannot be turned into a model input; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class InputRecord:
    """Everything about a model input but its pixels: JSON in and out."""

    #: One entry per image: the source frames behind it.
    image_sources: tuple[SourceFrames, ...]
    #: Everything the answer rests on, for evidence.
    sources: tuple[SourceFrames, ...]
    #: JSON-ready: decoder, LUT, window, mask, frames chosen, resize.
    record: Mapping[str, Any]
    #: Sentences that make the input incomplete or doubtful; each one forces review.
    incomplete: tuple[str, ...]
    #: Indices of the images a person should be shown first.
    key_images: tuple[int, ...]
    #: SHA-256 over the images' shapes and pixels, hexadecimal.
    digest: str

    @property
    def key_sources(self) -> tuple[SourceFrames, ...]:
        """The source frames behind the key images."""
        return tuple(self.image_sources[index] for index in self.key_images)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {
            "image_sources": [asdict(source) for source in self.image_sources],
            "sources": [asdict(source) for source in self.sources],
            "record": dict(self.record),
            "incomplete": list(self.incomplete),
            "key_images": list(self.key_images),
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> InputRecord:
        """Rebuild a record from `to_json`."""
        return cls(
            image_sources=tuple(_source(entry) for entry in stored["image_sources"]),
            sources=tuple(_source(entry) for entry in stored["sources"]),
            record=stored["record"],
            incomplete=tuple(stored["incomplete"]),
            key_images=tuple(stored["key_images"]),
            digest=stored["digest"],
        )


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

    def input_record(self) -> InputRecord:
        """Return the part that is kept with the job."""
        return InputRecord(
            image_sources=self.image_sources,
            sources=self.sources,
            record=self.record,
            incomplete=self.incomplete,
            key_images=self.key_images,
            digest=self.digest(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON-ready dictionary; `InputRecord.from_json` reads it back."""
        return self.input_record().to_json()


def _source(stored: Mapping[str, Any]) -> SourceFrames:
    return SourceFrames(
        sop_class_uid=stored["sop_class_uid"],
        sop_instance_uid=stored["sop_instance_uid"],
        series_instance_uid=stored["series_instance_uid"],
        frame_numbers=tuple(stored["frame_numbers"]),
    )
