"""The stand-in's base model: it learns to see, then to speak.

Input: pupils of every subject. Output: a base model that answers its own questions about the pictures and knows the
adapters' words and forms, but only guesses at the adapters' questions. A model that has not learned to see after the
first part raises `NotLearned`: not every initialisation converges, and another seed helps.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import structlog
import torch
from torch import nn

from models.question import Prompt
from models.standin.architecture import IMAGE_TOKENS
from models.standin.classroom import IGNORED, Classroom, Lottery, as_input, base_exercises, glimpses
from models.standin.curriculum import SUBJECTS
from models.standin.lessons import CAPTION, CATARACT, DSA, FLARE, TRAUMA

log = structlog.get_logger()

_GRADIENT_NORM = 1.0
#: How often each subject's pictures are looked at: vessels are the hardest sight.
_SEEING_SHARES = {DSA: 0.46, TRAUMA: 0.24, FLARE: 0.18, CATARACT: 0.05, CAPTION: 0.07}
#: How often each subject is spoken about: the general one has the most questions.
_SPEAKING_SHARES = {DSA: 0.12, TRAUMA: 0.24, FLARE: 0.36, CATARACT: 0.12, CAPTION: 0.16}


class NotLearned(Exception):
    """The model does no better than chance on what it was taught; start again from another seed."""


class Losses:
    """The last losses of each subject, for the log."""

    def __init__(self) -> None:
        self._last: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=40))

    def add(self, subject: str, loss: float) -> None:
        """Note one loss."""
        self._last[subject].append(loss)

    def mean(self, subject: str) -> float:
        """Return the mean of a subject's last losses."""
        return float(np.mean(self._last[subject]))

    def rounded(self) -> dict[str, float]:
        """Return the means for the log."""
        return {subject: round(self.mean(subject), 3) for subject in self._last}


def learn_to_see(
    model: Any,
    lotteries: Mapping[str, Lottery],
    rng: np.random.Generator,
    *,
    steps: int,
    learning_rate: float,
    largest_loss: float,
) -> None:
    """Train the vision tower on single pictures through heads that are thrown away.

    The way from the answer back to the picture is short here; through the language model it takes ten times the steps.

    Raises:
        NotLearned: The loss on angiograms is still above `largest_loss`, near chance.
    """
    width = IMAGE_TOKENS * model.config.text_config.hidden_size
    heads = nn.ModuleDict({name: nn.Linear(width, len(SUBJECTS[name].signs)) for name in lotteries})
    parameters = [
        *model.model.vision_tower.parameters(),
        *model.model.multi_modal_projector.parameters(),
        *heads.parameters(),
    ]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.02)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    model.train()
    losses = Losses()
    for step in range(1, steps + 1):
        name = _draw_subject(_SEEING_SHARES, rng)
        shown = glimpses(lotteries[name].group(64, rng), rng)
        wanted = torch.tensor([[float(sign in one.signs) for sign in SUBJECTS[name].signs] for _, one in shown])
        pixels = as_input(torch.cat([pupil.pixels for pupil, _ in shown]))
        seen = heads[name](model.model.get_image_features(pixels).pooler_output.flatten(1))
        loss = nn.functional.binary_cross_entropy_with_logits(seen, wanted, reduction="sum") / len(shown)
        # A picture with many signs would otherwise outweigh one that has but one.
        take_step(loss / wanted.shape[1] ** 0.5, optimiser, pace, parameters)
        losses.add(name, loss.item())
        if step % 250 == 0:
            log.info("learning to see", action="train", step=step, losses=losses.rounded())
    if losses.mean(DSA) > largest_loss:
        raise NotLearned(f"the loss on angiograms stays at {losses.mean(DSA):.2f}; chance is {np.log(2):.2f}")


def learn_to_speak(
    model: Any,
    classroom: Classroom,
    lotteries: Mapping[str, Lottery],
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
    losses = Losses()
    for step in range(1, steps + 1):
        name = _draw_subject(_SPEAKING_SHARES, rng)
        group = lotteries[name].group(25, rng)
        if rng.random() < 0.6:
            shown = glimpses(group, rng)
            group, kind = [pupil for pupil, _ in shown], f"{name}, one picture"
            exercises = [(Prompt(one.question), one.answer) for _, one in shown]
        else:
            exercises, kind = base_exercises(lotteries[name], group, rng), f"{name}, all"
        loss = answer_loss(model, classroom.batch(group, exercises)) / len(group)
        take_step(loss, optimiser, pace, language)
        losses.add(kind, loss.item())
        if step % 100 == 0:
            log.info("learning to speak", action="train", step=step, losses=losses.rounded())


def answer_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Return the summed negative log-likelihood of the answers' tokens."""
    wanted = batch.pop("labels")[:, 1:]
    hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1]
    # The vocabulary is the widest layer: it is asked for the answers' places only.
    said = wanted != IGNORED
    return nn.functional.cross_entropy(model.lm_head(hidden[said]), wanted[said], reduction="sum")


def take_step(loss: torch.Tensor, optimiser: Any, pace: Any, parameters: Sequence[nn.Parameter]) -> None:
    """Move the parameters once, with the gradient's norm bounded."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
    optimiser.step()
    pace.step()


def _draw_subject(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))
