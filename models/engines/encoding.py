"""Request -> tokens: the chat template written out, each image place filled with its image tokens.

Input: a `GenerationRequest` and the base model's processor. Output: an `EncodedQuestion`, without any pixels: an image
whose embedding is known is never prepared again. On failure: `EngineError` for messages that do not fit the images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from models.engines.configuration import EngineError
from models.generation import GenerationRequest, RgbImage


@dataclass(frozen=True, slots=True)
class EncodedQuestion:
    """One question as tokens."""

    ids: tuple[int, ...]
    #: SHA-256 of each image, in order.
    images: tuple[str, ...]
    #: How many tokens there are up to the end of the last image; what follows is the question about them.
    prefix: int

    def prefix_digest(self) -> str:
        """Return the SHA-256 of everything up to the end of the last image, hexadecimal."""
        return hashlib.sha256(repr((self.ids[: self.prefix], self.images)).encode()).hexdigest()

    def seed(self, draw: int) -> int:
        """Return the seed of one random answer: the same whenever the same question comes again."""
        return int.from_bytes(hashlib.sha256(repr((self.ids, self.images, draw)).encode()).digest()[:7], "big")


def encode(processor: Any, request: GenerationRequest) -> EncodedQuestion:
    """Return a request as tokens; equal to what the processor itself makes of text and images (tested).

    Raises:
        EngineError: There are more or fewer image places than images, or an image is no RGB picture.
    """
    places = sum(
        part.get("type") == "image"
        for message in request.messages
        if not isinstance(message["content"], str)
        for part in message["content"]
    )
    if places != len(request.images):
        raise EngineError(f"the messages hold {places} image places, but {len(request.images)} images came along")
    for image in request.images:
        if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise EngineError(f"an image is {image.dtype} of shape {image.shape}; it must be uint8 (rows, columns, 3)")
    text = processor.apply_chat_template(
        [dict(message) for message in request.messages], add_generation_prompt=True, tokenize=False
    )
    if text.count(processor.boi_token) != places:
        raise EngineError(f"the words of the question hold {processor.boi_token}, which only an image may stand for")
    # The template writes <bos> itself: tokenising must not add a second one.
    ids = processor.tokenizer(
        text.replace(processor.boi_token, processor.full_image_sequence), add_special_tokens=False
    ).input_ids
    ends = [place for place, token in enumerate(ids) if token == processor.tokenizer.eoi_token_id]
    return EncodedQuestion(tuple(ids), tuple(map(image_digest, request.images)), ends[-1] + 1 if ends else 0)


def image_digest(image: RgbImage) -> str:
    """Return the SHA-256 over an image's shape and pixels, hexadecimal."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
