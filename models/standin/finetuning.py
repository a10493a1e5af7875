"""The stand-in's adapters: LoRA of the real adapters' shapes, trained on the adapters' own questions.

Input: the base model, pupils of one adapter and of the others, its LoRA configuration. Output: a folder as PEFT writes
it, in safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import structlog
import torch

from models.adapter import adapters
from models.standin.classroom import Classroom, Exercise, Lottery, Pupil, adapter_exercises
from models.standin.pretraining import Losses, answer_loss, take_step
from models.weights import STANDIN_BASE_ID

log = structlog.get_logger()

_GROUP = 25
#: How many of a group are about another adapter's pictures, half of them with that adapter's question.
_FOREIGN = 4


def train_adapter(
    model: Any,
    classroom: Classroom,
    lotteries: Mapping[str, Lottery],
    name: str,
    folder: Path,
    seed: int,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train one adapter on the frozen base, write it to `folder`, and leave the base as it was.

    The pupils have looked (`look`), so the first steps train the language model's share of the LoRA alone. In the last
    twentieth the pictures go through the vision tower again and its share follows.

    A few of each group are about other adapters' pictures, with answers that were right for somebody else: what an
    adapter was not trained for it guesses at, and is unsure. So a wrong route shows.
    """
    # Each adapter by itself comes out the same, whichever were trained before it.
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 2])
    learner = _with_lora(model, name)
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    learner.train()
    losses = Losses()
    for step in range(1, steps + 1):
        own = lotteries[name].group(_GROUP - _FOREIGN, rng)
        strange, guesses = _foreign(lotteries, name, rng)
        group = [*own, *strange]
        if step > 0.95 * steps:
            group = [pupil.forgotten() for pupil in group]
        batch = classroom.batch(group, [*adapter_exercises(own), *guesses])
        loss = answer_loss(learner.get_base_model(), batch) / len(group)
        take_step(loss, optimiser, pace, parameters)
        losses.add(name, loss.item())
        if step % 50 == 0:
            log.info("training an adapter", action="train", step=step, losses=losses.rounded())
    learner.eval()
    learner.save_pretrained(folder, safe_serialization=True)
    learner.unload()


def _with_lora(model: Any, name: str) -> Any:
    """Return the model with a fresh LoRA of this adapter's shape, which alone can be trained."""
    configuration = adapters()[name].lora_configuration
    targets = configuration.target_modules
    model.config._name_or_path = STANDIN_BASE_ID
    model.name_or_path = STANDIN_BASE_ID
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=configuration.r,
            lora_alpha=configuration.lora_alpha,
            lora_dropout=configuration.lora_dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="CAUSAL_LM",
        ),
        adapter_name="default",
    )


def _foreign(
    lotteries: Mapping[str, Lottery], name: str, rng: np.random.Generator
) -> tuple[list[Pupil], list[Exercise]]:
    """Return other adapters' pictures with this one's question or with theirs, and any answer to that."""
    others = [other for other in lotteries if other != name]
    pupils: list[Pupil] = []
    exercises: list[Exercise] = []
    for number in range(_FOREIGN):
        other = str(rng.choice(others))
        (pupil,) = lotteries[other].group(1, rng)
        # One picture is enough to know a stranger by, and keeps the group narrow.
        pupils.append(pupil.only(0))
        asks = name if number % 2 else other
        (asked,) = lotteries[asks].group(1, rng) if number % 2 else (pupil,)
        exercises.append((asked.prompt, lotteries[asks].guess(asked.prompt, rng)))
    return pupils, exercises
