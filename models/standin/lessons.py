"""What a lesson is: pictures, a question put as an adapter puts it, and the right answer.

Input: an adapter's own words. Output: `Lesson`s, and the chat messages of a question. A lesson also has a question of
the base's own about the same pictures: the base learns to look under those and only guesses at the adapters'; the LoRA
adapters then make the difference, as they do on MedGemma. Both kinds of answer use the same deciding words: words that
the base cannot tell apart, no adapter can learn to tell apart, because LoRA leaves the vocabulary alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from models.adapter import AdapterDefinition, adapters
from models.generation import RgbImage
from models.question import Prompt, Question

DSA, TRAUMA, CATARACT, FLARE, CAPTION = (
    "dsa_patency",
    "abdominal_trauma",
    "cataract_surgery",
    "flare",
    "clinical_caption",
)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What is to be seen on one picture alone."""

    #: Which picture of the lesson, from 0.
    number: int
    #: The base's question about it, and the right answer.
    question: str
    answer: str
    #: What is on it, in names of `Subject.signs`.
    signs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One example."""

    adapter: str
    images: tuple[RgbImage, ...]
    #: The right answer to the adapter's prompt, to the letter.
    answer: str
    #: What the adapter's findings are compared with; its keys are the subject's.
    truth: dict[str, Any]
    #: The base's own question about all of the pictures, and the right answer.
    base_question: str
    base_answer: str
    #: One for each picture on which it is beyond doubt what is to be seen.
    glimpses: tuple[Glimpse, ...]
    #: What the adapter is asked, where it answers several kinds of question.
    question: Question | None = None

    @property
    def asked(self) -> AdapterDefinition:
        """Return the adapter as it is asked here."""
        return adapters()[self.adapter].asked(self.question)


@dataclass(frozen=True, slots=True)
class Marks:
    """How one answer compares with the truth."""

    #: What was asked -> 1 for right, 0 for wrong, a share where an answer has parts.
    right: dict[str, float]
    #: What was measured -> absolute error, in the unit that the key names.
    errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything about the lessons of one adapter."""

    adapter: str
    #: Draws the lesson of a seed; `varied` lessons are for training: more hard ones, other sizes.
    draw: Callable[[int, bool], Lesson]
    #: What can be seen on a single picture.
    signs: tuple[str, ...]
    #: Compares findings that the adapter parsed with the lesson's truth.
    mark: Callable[[BaseModel, Lesson], Marks]
    #: Names what `mark` gives marks for.
    marked: Callable[[Lesson], tuple[str, ...]]
    #: Everything that is said in the lessons, for the vocabulary.
    sentences: Callable[[], Iterable[str]]
    #: What the adapter is asked in the lessons.
    questions: tuple[Question | None, ...] = (None,)
    #: How many quarter turns leave a picture what it is.
    turns: int = 1


def chat(prompt: str | Prompt, images: int) -> list[dict[str, Any]]:
    """Return the messages of one question: the system's words if any, then pictures in order and the text.

    The form is that of `models.prompting.build_request`.
    """
    asked = Prompt(prompt) if isinstance(prompt, str) else prompt
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": asked.user}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if asked.system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": asked.system}]})
    return messages


def compact_json(answer: dict[str, Any]) -> str:
    """Write an answer in the one whitespace style the constrained decoder allows: none."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
