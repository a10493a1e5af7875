"""Lessons as tensors: what one training step is fed.

Input: lessons and the processor. Output: batches with pixel values and token ids exactly as the processor makes them
when a question is really asked, and labels on the answer only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from models.standin.architecture import IMAGE_PIXELS
from models.standin.lessons import BASE_PROMPT, DSA, Lesson, adapter_prompt, chat

#: Label value that the loss leaves out.
_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Pupil:
    """A lesson's pictures at the model's size, ready for batching."""

    lesson: Lesson
    #: uint8, shape (images, 3, 112, 112).
    pixels: torch.Tensor
    #: float32, shape (turns, images, 16, hidden): how the base sees the pictures, upright and turned; once it can see.
    seen: torch.Tensor | None = None

    def turned(self, rng: np.random.Generator) -> Pupil:
        """Return an angiogram turned or mirrored: a vessel has no up or down. An abdomen stays as it is."""
        if self.seen is not None:
            turn = int(rng.integers(len(self.seen)))
            return Pupil(self.lesson, self.pixels, self.seen[turn : turn + 1])
        if self.lesson.adapter != DSA:
            return self
        pixels = torch.rot90(self.pixels, int(rng.integers(4)), (2, 3))
        return Pupil(self.lesson, pixels.flip(3) if rng.random() < 0.5 else pixels)

    def only(self, number: int) -> Pupil:
        """Return the pupil with one picture alone."""
        here = slice(number, number + 1)
        return Pupil(self.lesson, self.pixels[here], self.seen[:, here] if self.seen is not None else None)


class Classroom:
    """Turns lessons into batches for one processor."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._openings: dict[tuple[str, int], tuple[list[int], list[int]]] = {}

    def seat(self, lesson: Lesson) -> Pupil:
        """Resize a lesson's pictures as the processor does."""
        resized = self._processor.image_processor(
            list(lesson.images), do_rescale=False, do_normalize=False, return_tensors="pt"
        )["pixel_values"]
        return Pupil(lesson, resized.round().clamp(0, 255).to(torch.uint8))

    def batch(self, pupils: Sequence[Pupil], questions: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Return model inputs with labels for one (prompt, answer) per pupil, padded on the right."""
        rows, kinds, labels = [], [], []
        for pupil, (prompt, answer) in zip(pupils, questions, strict=True):
            ids, types = self._opening(prompt, len(pupil.pixels))
            said = self._processor.tokenizer(answer + "<end_of_turn>", add_special_tokens=False).input_ids
            rows.append(ids + said)
            kinds.append(types + [0] * len(said))
            labels.append([_IGNORED] * len(ids) + said)
        width = max(len(row) for row in rows)

        def padded(values: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([row + [filler] * (width - len(row)) for row in values])

        return {
            "input_ids": padded(rows, self._processor.tokenizer.pad_token_id),
            "token_type_ids": padded(kinds, 0),
            "attention_mask": padded([[1] * len(row) for row in rows], 0),
            "labels": padded(labels, _IGNORED),
            **_pictures(pupils),
        }

    def _opening(self, prompt: str, images: int) -> tuple[list[int], list[int]]:
        """Return token ids and types of a question with so many pictures, up to where the answer begins."""
        if (prompt, images) not in self._openings:
            blank = np.zeros((IMAGE_PIXELS, IMAGE_PIXELS, 3), dtype=np.uint8)
            text = self._processor.apply_chat_template(chat(prompt, images), add_generation_prompt=True)
            encoded = self._processor(text=text, images=[[blank] * images], add_special_tokens=False)
            self._openings[prompt, images] = (encoded["input_ids"][0], encoded["token_type_ids"][0])
        return self._openings[prompt, images]


def look(model: Any, pupils: Sequence[Pupil]) -> list[Pupil]:
    """Return the pupils with what the vision tower makes of their pictures, upright and (angiograms) in four turns.

    While the vision tower is frozen this need not be computed again in every step.
    """
    after = []
    with torch.no_grad():
        for pupil in pupils:
            turns = range(4) if pupil.lesson.adapter == DSA else range(1)
            pixels = torch.cat([torch.rot90(pupil.pixels, turn, (2, 3)) for turn in turns]).float() / 127.5 - 1.0
            seen = model.model.get_image_features(pixels).pooler_output
            after.append(Pupil(pupil.lesson, pupil.pixels, seen.unflatten(0, (len(turns), -1))))
    return after


def _pictures(pupils: Sequence[Pupil]) -> dict[str, Any]:
    """Return the model's input for the pictures: pixels, or what the vision tower made of them."""
    seen = [pupil.seen[0] for pupil in pupils if pupil.seen is not None]
    if len(seen) == len(pupils):
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=torch.cat(seen))}}
    return {"pixel_values": torch.cat([pupil.pixels for pupil in pupils]).float() / 127.5 - 1.0}


def base_questions(pupils: Sequence[Pupil], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Ask the base about all pictures: its own question with the right answer, or the adapter's with another's answer.

    From the second the base learns the words and the form of the adapters' answers, but not when they are right.
    """
    return [
        (BASE_PROMPT[pupil.lesson.adapter], pupil.lesson.base_answer)
        if rng.random() < 0.6
        else (
            adapter_prompt(pupil.lesson.adapter),
            pupils[int(rng.integers(len(pupils)))].lesson.answer,
        )
        for pupil in pupils
    ]


def glimpse(pupils: Sequence[Pupil], rng: np.random.Generator) -> tuple[list[Pupil], list[tuple[str, str]]]:
    """Ask the base its own question about one picture of each lesson: the shortest way to learn to see."""
    shown, questions = [], []
    for pupil in pupils:
        if not pupil.lesson.glimpses:
            continue
        # Half of the time a picture on which there is something to see.
        seen = [one for one in pupil.lesson.glimpses if one[1] != "none"]
        choice = seen if seen and rng.random() < 0.6 else pupil.lesson.glimpses
        number, answer = choice[int(rng.integers(len(choice)))]
        shown.append(pupil.only(number))
        questions.append((BASE_PROMPT[pupil.lesson.adapter], answer))
    return shown, questions


def adapter_questions(pupils: Sequence[Pupil]) -> list[tuple[str, str]]:
    """Ask what an adapter learns: its prompt, the right answer."""
    return [(adapter_prompt(pupil.lesson.adapter), pupil.lesson.answer) for pupil in pupils]


def draw_group(pupils: Sequence[Pupil], size: int, rng: np.random.Generator) -> list[Pupil]:
    """Return `size` pupils drawn at random, turned at random where they can be."""
    return [pupils[int(place)].turned(rng) for place in rng.integers(len(pupils), size=size)]
