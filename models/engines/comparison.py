"""Two models side by side: the same questions, answered greedily, token by token.

Input: a model in memory and a `GenerationRequest`. Output: the answer's tokens with the logits they were chosen from,
and how far two such answers are apart. On failure: what transformers raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from models.generation import GenerationRequest

#: A greedy answer to each question, at most this long.
_ANSWER_TOKENS = 32


@dataclass(frozen=True, slots=True)
class GreedyAnswer:
    """A greedy answer: token ids, and the logits (tokens, vocabulary) each was chosen from, float32 on the CPU."""

    ids: list[int]
    logits: torch.Tensor


def greedy_answer(model: Any, processor: Any, question: GenerationRequest, device: torch.device) -> GreedyAnswer:
    """Ask a model, greedily and in free words."""
    text = processor.apply_chat_template(
        [dict(message) for message in question.messages], add_generation_prompt=True, tokenize=False
    )
    pictures = [[Image.fromarray(image) for image in question.images]] if question.images else None
    # The template writes <bos> itself.
    encoded = processor(text=text, images=pictures, add_special_tokens=False, return_tensors="pt")
    inputs = {
        key: value.to(device, model.dtype if value.is_floating_point() else None) for key, value in encoded.items()
    }
    with torch.inference_mode():
        told = model.generate(
            **inputs,
            do_sample=False,
            top_k=None,
            top_p=None,
            max_new_tokens=_ANSWER_TOKENS,
            output_logits=True,
            return_dict_in_generate=True,
        )
    logits = torch.cat([step.float().cpu() for step in told.logits])
    return GreedyAnswer(told.sequences[0, inputs["input_ids"].shape[1] :].tolist(), logits)


def compare(left: Sequence[GreedyAnswer], right: Sequence[GreedyAnswer]) -> tuple[float, float]:
    """Return the share of answers with the same tokens, and the greatest logit difference while they are the same."""
    same, greatest = 0, 0.0
    for one, other in zip(left, right, strict=True):
        same += one.ids == other.ids
        agreed = next(
            (step for step, (a, b) in enumerate(zip(one.ids, other.ids, strict=False)) if a != b),
            min(len(one.ids), len(other.ids)) - 1,
        )
        # The step where they part was still chosen after the same words.
        apart = (one.logits[: agreed + 1] - other.logits[: agreed + 1]).abs().max()
        greatest = max(greatest, float("inf") if bool(apart.isnan()) else float(apart))
    return same / len(left), greatest
