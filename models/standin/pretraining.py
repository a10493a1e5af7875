"""The stand-in's base model: it learns to see, then to speak.

Input: lessons on both kinds of pictures. Output: a base model that answers its own questions about them and knows the
adapters' words and forms, but only guesses at the adapters' questions. A model that has not learned to see after the
first part raises `NotLearned`: not every initialisation converges, and another seed helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog
import torch
from torch import nn

from models.phantoms import ORGANS, SEVERITIES
from models.standin.architecture import IMAGE_TOKENS
from models.standin.classroom import Classroom, Pupil, base_questions, draw_group, glimpse
from models.standin.lessons import DSA

log = structlog.get_logger()

_GRADIENT_NORM = 1.0
_INJURIES = [f"{organ}:{severity}" for organ in ORGANS for severity in SEVERITIES[1:]]


class NotLearned(Exception):
    """The model does no better than chance on what it was taught; start again from another seed."""


def learn_to_see(
    model: Any, pupils: Sequence[Sequence[Pupil]], rng: np.random.Generator, *, steps: int, learning_rate: float
) -> float:
    """Train the vision tower on single pictures through a head that is thrown away; return the last loss.

    The way from the answer back to the picture is short here; through the language model it takes ten times the steps.
    """
    head = nn.Linear(IMAGE_TOKENS * model.config.text_config.hidden_size, 1 + len(_INJURIES))
    seeing = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    optimiser = torch.optim.AdamW([*seeing, *head.parameters()], lr=learning_rate, weight_decay=0.02)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    model.train()
    recent: list[float] = []
    for step in range(1, steps + 1):
        # Vessels are the harder sight.
        angiograms = rng.random() < 0.6
        shown, questions = glimpse(draw_group(pupils[0 if angiograms else 1], 64, rng), rng)
        wanted = torch.stack([_signs(pupil, answer) for pupil, (_, answer) in zip(shown, questions, strict=True)])
        pixels = torch.cat([pupil.pixels for pupil in shown]).float() / 127.5 - 1.0
        seen = head(model.model.get_image_features(pixels).pooler_output.flatten(1))
        columns = slice(0, 1) if angiograms else slice(1, None)
        loss = nn.functional.binary_cross_entropy_with_logits(seen[:, columns], wanted[:, columns], reduction="sum")
        _step(loss / len(shown), optimiser, pace, [*seeing, *head.parameters()])
        if angiograms:
            recent = [*recent[-39:], loss.item() / len(shown)]
        if step % 250 == 0:
            log.info("learning to see", action="train", step=step, angiogram_loss=round(float(np.mean(recent)), 3))
    if np.mean(recent) > 0.45:
        raise NotLearned(f"the loss on angiograms stays at {np.mean(recent):.2f}; chance is {np.log(2):.2f}")
    return float(np.mean(recent))


def learn_to_speak(
    model: Any,
    classroom: Classroom,
    pupils: Sequence[Sequence[Pupil]],
    rng: np.random.Generator,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train the language model on questions and answers in words: one picture most of the time, all of them at times.

    The pupils have looked (`look`): vision tower and projector stay as they are.
    """
    language = list(model.model.language_model.parameters())
    optimiser = torch.optim.AdamW(language, lr=learning_rate, weight_decay=0.01)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    model.train()
    recent: list[float] = []
    for step in range(1, steps + 1):
        group = draw_group(pupils[int(rng.integers(2))], 25, rng)
        if rng.random() < 0.65:
            group, questions = glimpse(group, rng)
        else:
            questions = base_questions(group, rng)
        loss = answer_loss(model, classroom.batch(group, questions)) / len(group)
        _step(loss, optimiser, pace, language)
        recent = [*recent[-39:], loss.item()]
        if step % 100 == 0:
            log.info("learning to speak", action="train", step=step, loss=round(float(np.mean(recent)), 3))


def answer_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Return the summed negative log-likelihood of the answers' tokens."""
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )


def _step(loss: torch.Tensor, optimiser: Any, pace: Any, parameters: Sequence[nn.Parameter]) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
    optimiser.step()
    pace.step()


def _signs(pupil: Pupil, answer: str) -> torch.Tensor:
    """Return what is to be seen as ones and zeros: the vessel ends; then each organ with each severity."""
    if pupil.lesson.adapter == DSA:
        return torch.tensor([float("abruptly" in answer)] + [0.0] * len(_INJURIES))
    named = answer.split(",")
    return torch.tensor([0.0] + [float(injury in named) for injury in _INJURIES])
