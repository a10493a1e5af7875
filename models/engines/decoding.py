"""Greedy decoding of one answer, token by token, with the probability of each token.

Input: an encoded question, a token budget and, for JSON, the schema's mask. Output: text, tokens, and why it ended.

A token's log-probability is that of the distribution it was chosen from: for free text the model's own, for JSON the
model's own renormalised over the tokens the schema allows. A token the schema forces has log-probability 0 and says
nothing about the model; at a choice between "mild" and "severe" the figure is the model's preference between them.

What a thinking model writes before its answer (`<unused94>` ... `<unused95>`) is kept, marks included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from models.engines.constrained import SchemaMask
from models.generation import TokenLogprob


@dataclass(frozen=True, slots=True)
class DecodedAnswer:
    """An answer as it was decoded; the tokens joined are the text."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    finish_reason: str


class _GreedyRecorder(LogitsProcessor):  # type: ignore[misc]
    """Notes the log-probability of the token that greedy search will take. Keeps one number a step, not a row."""

    def __init__(self) -> None:
        self.logprobs: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores (1, vocabulary) unchanged."""
        self.logprobs.append(float(scores[0].float().log_softmax(-1).max()))
        return scores


def decode_greedily(
    model: Any,
    tokenizer: Any,
    question: Mapping[str, torch.Tensor],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    mask: SchemaMask | None = None,
) -> DecodedAnswer:
    """Return the greedy answer to an encoded question (batch of one)."""
    recorder = _GreedyRecorder()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos_token_ids[0]
    sequence = model.generate(
        **question,
        generation_config=GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(eos_token_ids), pad_token_id=pad
        ),
        logits_processor=LogitsProcessorList([mask, recorder] if mask is not None else [recorder]),
    )[0].tolist()
    answer = sequence[question["input_ids"].shape[1] :]
    stopped = bool(answer) and answer[-1] in eos_token_ids
    if mask is not None and not stopped:
        # The budget may run out exactly where the document is whole and only the end token is missing.
        mask.consume(sequence)
        stopped = mask.is_complete()
    said = [token for token in answer if token not in eos_token_ids]
    tokens = tuple(
        TokenLogprob(piece, logprob)
        for piece, logprob in zip(split_text(tokenizer, said), recorder.logprobs, strict=False)
    )
    return DecodedAnswer("".join(token.token for token in tokens), tokens, "stop" if stopped else "length")


def split_text(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return each token's share of the text; joined they are the text.

    A character whose bytes are spread over several tokens is counted to the last of them.
    """
    pieces, start, done = [], 0, 0
    for end in range(1, len(ids) + 1):
        # A few tokens of context suffice: a piece depends on what stands right before it, not on the whole answer.
        context = tokenizer.decode(ids[start:done], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        text = tokenizer.decode(ids[start:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and end < len(ids):
            pieces.append("")
            continue
        pieces.append(text[len(context) :])
        done = end
        start = max(0, done - 4)
    return pieces
