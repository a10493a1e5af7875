"""Lessons as tensors: what one training step is fed.

Input: lessons and the processor. Output: batches with pixel values and token ids exactly as the processor makes them
when a question is really asked, and labels on the answer only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from models.question import Prompt
from models.standin.architecture import IMAGE_PIXELS
from models.standin.curriculum import SUBJECTS
from models.standin.lessons import Glimpse, Lesson, chat

#: Label value that the loss leaves out.
IGNORED = -100

#: A prompt and the answer that is taught to it.
Exercise = tuple[Prompt, str]


@dataclass(frozen=True, slots=True)
class Pupil:
    """A lesson's pictures at the model's size, ready for batching."""

    #: Without its pictures.
    lesson: Lesson
    #: uint8, shape (images, 3, 112, 112).
    pixels: torch.Tensor
    #: The words the lesson's adapter is asked with.
    prompt: Prompt
    #: float32, shape (turns, images, 16, hidden): how the base sees the pictures in every turn; once it can see.
    seen: torch.Tensor | None = None

    @property
    def turns(self) -> int:
        """Return how many quarter turns leave the pictures what they are."""
        return SUBJECTS[self.lesson.adapter].turns

    def turned(self, rng: np.random.Generator) -> Pupil:
        """Return the pupil with its pictures turned or mirrored, where that leaves them what they are."""
        if self.seen is not None:
            turn = int(rng.integers(len(self.seen)))
            return replace(self, seen=self.seen[turn : turn + 1])
        if self.turns == 1:
            return self
        pixels = torch.rot90(self.pixels, int(rng.integers(self.turns)), (2, 3))
        return replace(self, pixels=pixels.flip(3) if rng.random() < 0.5 else pixels)

    def only(self, number: int) -> Pupil:
        """Return the pupil with one picture alone."""
        here = slice(number, number + 1)
        return replace(self, pixels=self.pixels[here], seen=None if self.seen is None else self.seen[:, here])

    def forgotten(self) -> Pupil:
        """Return the pupil as before it looked."""
        return replace(self, seen=None)


class Classroom:
    """Turns lessons into batches for one processor."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._openings: dict[tuple[Prompt, int], tuple[list[int], list[int]]] = {}

    def batch(self, pupils: Sequence[Pupil], exercises: Sequence[Exercise]) -> dict[str, Any]:
        """Return model inputs with labels for one exercise per pupil, padded on the right."""
        rows, kinds, labels = [], [], []
        for pupil, (prompt, answer) in zip(pupils, exercises, strict=True):
            ids, types = self._opening(prompt, len(pupil.pixels))
            said = self._processor.tokenizer(answer + "<end_of_turn>", add_special_tokens=False).input_ids
            rows.append(ids + said)
            kinds.append(types + [0] * len(said))
            labels.append([IGNORED] * len(ids) + said)
        width = max(len(row) for row in rows)

        def padded(values: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([row + [filler] * (width - len(row)) for row in values])

        return {
            "input_ids": padded(rows, self._processor.tokenizer.pad_token_id),
            "token_type_ids": padded(kinds, 0),
            "attention_mask": padded([[1] * len(row) for row in rows], 0),
            "labels": padded(labels, IGNORED),
            **_pictures(pupils),
        }

    def _opening(self, prompt: Prompt, images: int) -> tuple[list[int], list[int]]:
        """Return token ids and types of a question with so many pictures, up to where the answer begins."""
        if (prompt, images) not in self._openings:
            blank = np.zeros((IMAGE_PIXELS, IMAGE_PIXELS, 3), dtype=np.uint8)
            text = self._processor.apply_chat_template(chat(prompt, images), add_generation_prompt=True)
            encoded = self._processor(text=text, images=[[blank] * images], add_special_tokens=False)
            self._openings[prompt, images] = (encoded["input_ids"][0], encoded["token_type_ids"][0])
        return self._openings[prompt, images]


def seat(processor: Any, lesson: Lesson) -> Pupil:
    """Resize a lesson's pictures as the processor does."""
    resized = processor.image_processor(list(lesson.images), do_rescale=False, do_normalize=False, return_tensors="pt")[
        "pixel_values"
    ]
    return Pupil(replace(lesson, images=()), resized.round().clamp(0, 255).to(torch.uint8), lesson.asked.prompt)


def look(model: Any, pupils: Sequence[Pupil]) -> list[Pupil]:
    """Return the pupils with what the vision tower makes of their pictures, in every turn.

    While the vision tower is frozen this need not be computed again in every step.
    """
    after = []
    with torch.no_grad():
        for pupil in pupils:
            turned = [torch.rot90(pupil.pixels, turn, (2, 3)) for turn in range(pupil.turns)]
            seen = model.model.get_image_features(as_input(torch.cat(turned))).pooler_output
            after.append(replace(pupil, seen=seen.unflatten(0, (pupil.turns, -1))))
    return after


def as_input(pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels as the processor's normalisation leaves them."""
    return pixels.float() / 127.5 - 1.0


def _pictures(pupils: Sequence[Pupil]) -> dict[str, Any]:
    """Return the model's input for the pictures: pixels, or what the vision tower made of them."""
    seen = [pupil.seen[0] for pupil in pupils if pupil.seen is not None]
    if len(seen) == len(pupils):
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=torch.cat(seen))}}
    return {"pixel_values": as_input(torch.cat([pupil.pixels for pupil in pupils]))}


class Lottery:
    """Draws pupils, and answers that were right for others who were asked the same."""

    def __init__(self, pupils: Sequence[Pupil]) -> None:
        self.pupils = pupils
        self._answers: dict[Prompt, list[str]] = defaultdict(list)
        for pupil in pupils:
            self._answers[pupil.prompt].append(pupil.lesson.answer)

    def group(self, size: int, rng: np.random.Generator) -> list[Pupil]:
        """Return `size` pupils drawn at random, turned at random where they can be."""
        return [self.pupils[int(place)].turned(rng) for place in rng.integers(len(self.pupils), size=size)]

    def guess(self, prompt: Prompt, rng: np.random.Generator) -> str:
        """Return an answer to this prompt, as often as it is right, but whatever the pictures show."""
        answers = self._answers[prompt]
        return answers[int(rng.integers(len(answers)))]


def adapter_exercises(pupils: Sequence[Pupil]) -> list[Exercise]:
    """Ask what an adapter learns: its prompt, the right answer."""
    return [(pupil.prompt, pupil.lesson.answer) for pupil in pupils]


def base_exercises(lottery: Lottery, pupils: Sequence[Pupil], rng: np.random.Generator) -> list[Exercise]:
    """Ask the base about all pictures: its own question with the right answer, or the adapter's with another's answer.

    From the second the base learns the words and the form of the adapters' answers, but not when they are right.
    """
    return [
        (Prompt(pupil.lesson.base_question), pupil.lesson.base_answer)
        if rng.random() < 0.6
        else (pupil.prompt, lottery.guess(pupil.prompt, rng))
        for pupil in pupils
    ]


def glimpses(pupils: Sequence[Pupil], rng: np.random.Generator) -> list[tuple[Pupil, Glimpse]]:
    """Show one picture of each lesson, where it is beyond doubt what is on it: the shortest way to learn to see."""
    shown = []
    for pupil in pupils:
        if not pupil.lesson.glimpses:
            continue
        # Half of the time a picture on which there is something to see.
        telling = [one for one in pupil.lesson.glimpses if one.signs]
        choice = telling if telling and rng.random() < 0.6 else pupil.lesson.glimpses
        one = choice[int(rng.integers(len(choice)))]
        shown.append((pupil.only(one.number), one))
    return shown
