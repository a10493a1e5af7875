"""Decoding: several answers at once, token by token, with the probability of each token.

Input: questions that were read, each with a token budget and, for JSON, the schema's mask. Output: text, tokens, and
why it ended. A row that has ended leaves the batch; the others go on. Each row equals what it is alone (tested). On
failure: `EngineError` for scores that are not numbers; what torch raises.

A token's log-probability is that of the distribution it was chosen from: for free text the model's own, for JSON the
model's own renormalised over the tokens the schema allows. A token the schema forces has log-probability 0 and says
nothing about the model; at a choice between "mild" and "severe" the figure is the model's preference between them.

What a thinking model writes before its answer (`<unused94>` ... `<unused95>`) is kept, marks included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from models.engines.caches import batch_of
from models.engines.configuration import EngineError
from models.engines.constrained import SchemaMask
from models.engines.reading import Opening
from models.engines.resident import Resident
from models.generation import TokenLogprob


@dataclass(frozen=True, slots=True)
class DecodedAnswer:
    """An answer as it was decoded; the tokens joined are the text."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    finish_reason: str


@dataclass(eq=False, slots=True)
class AnswerRow:
    """One answer on its way."""

    opening: Opening
    max_new_tokens: int
    mask: SchemaMask | None = None
    #: Draws each token at temperature 1 with this seed; None takes the most probable one.
    seed: int | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    _random: torch.Generator | None = None

    def choose(self, scores: torch.Tensor) -> int:
        """Choose the next token by its scores, float32 of shape (vocabulary,), and note it.

        Raises:
            EngineError: The scores are not numbers.
        """
        if self.mask is not None:
            scores = self.mask.restrict(scores)
        chances = scores.log_softmax(-1)
        if self.seed is None:
            token = int(chances.argmax())
        else:
            # On the CPU, so that a GPU draws the same.
            if self._random is None:
                self._random = torch.Generator().manual_seed(self.seed)
            token = int(torch.multinomial(chances.exp().cpu(), 1, generator=self._random))
        logprob = float(chances[token])
        if not math.isfinite(logprob):
            raise EngineError(f"the model's scores are not numbers after {len(self.ids)} tokens of the answer")
        if self.mask is not None:
            self.mask.consume(token)
        self.ids.append(token)
        self.logprobs.append(logprob)
        return token

    def has_ended(self, eos_token_ids: Sequence[int]) -> bool:
        """Return whether the answer is finished, or its budget is."""
        return bool(self.ids) and (self.ids[-1] in eos_token_ids or len(self.ids) >= self.max_new_tokens)


@torch.inference_mode()
def decode(resident: Resident, rows: Sequence[AnswerRow]) -> list[DecodedAnswer]:
    """Carry every row to its end, all of them in one batch."""
    alive = list(rows)
    scores = torch.stack([row.opening.logits for row in alive])
    cache, mask = batch_of(resident.model, [row.opening.cache for row in alive])
    while True:
        chosen = [row.choose(scores[number]) for number, row in enumerate(alive)]
        going_on = [number for number, row in enumerate(alive) if not row.has_ended(resident.eos_token_ids)]
        if not going_on:
            return [_read_off(resident, row) for row in rows]
        if len(going_on) < len(alive):
            kept = torch.tensor(going_on, device=resident.device)
            cache.batch_select_indices(kept)
            mask, alive = mask[kept], [alive[number] for number in going_on]
            chosen = [chosen[number] for number in going_on]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        with resident.switch.answering([row.opening.adapter for row in alive]):
            scores = (
                resident.model(
                    input_ids=torch.tensor(chosen, device=resident.device)[:, None],
                    attention_mask=mask,
                    position_ids=mask.sum(-1, keepdim=True) - 1,
                    past_key_values=cache,
                    use_cache=True,
                )
                .logits[:, -1]
                .float()
            )


def _read_off(resident: Resident, row: AnswerRow) -> DecodedAnswer:
    stopped = row.ids[-1] in resident.eos_token_ids
    if row.mask is not None and not stopped:
        # The budget may run out exactly where the document is whole and only the end token is missing.
        stopped = row.mask.is_complete()
    said = [token for token in row.ids if token not in resident.eos_token_ids]
    tokens = tuple(
        TokenLogprob(piece, logprob)
        for piece, logprob in zip(split_text(resident.processor.tokenizer, said), row.logprobs, strict=False)
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
