"""The stand-in's adapters: LoRA of the real adapters' shapes, trained on the adapters' own questions.

Input: the base model, lessons of one adapter, its LoRA configuration. Output: a folder as PEFT writes it,
in safetensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import structlog
import torch

from models.adapter import LoraConfiguration
from models.standin.classroom import Classroom, Pupil, adapter_questions, draw_group
from models.standin.pretraining import answer_loss
from models.weights import STANDIN_BASE_ID

log = structlog.get_logger()


def train_adapter(
    model: Any,
    classroom: Classroom,
    pupils: Sequence[Pupil],
    configuration: LoraConfiguration,
    folder: Path,
    rng: np.random.Generator,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train one adapter on the frozen base, write it to `folder`, and leave the base as it was.

    The pupils have looked (`look`), so the first steps train the language model's share of the LoRA alone. In the last
    twentieth the pictures go through the vision tower again and its share follows.
    """
    name = folder.name
    targets = configuration.target_modules
    model.config._name_or_path = STANDIN_BASE_ID
    model.name_or_path = STANDIN_BASE_ID
    learner = peft.get_peft_model(
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
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    learner.train()
    recent: list[float] = []
    for step in range(1, steps + 1):
        group = draw_group(pupils, 25, rng)
        if step > 0.95 * steps:
            group = [Pupil(pupil.lesson, pupil.pixels) for pupil in group]
        loss = answer_loss(learner.get_base_model(), classroom.batch(group, adapter_questions(group))) / len(group)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        pace.step()
        recent = [*recent[-39:], loss.item()]
        if step % 50 == 0:
            log.info(
                "training an adapter", action="train", adapter=name, step=step, loss=round(float(np.mean(recent)), 3)
            )
    learner.eval()
    learner.save_pretrained(folder, safe_serialization=True)
    learner.unload()
