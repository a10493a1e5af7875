"""Reading questions (prefill): several at once, and on from a prefix that was read before.

Input: tokens with the embeddings of their images. Output: an `Opening` for each row: what the model expects next, and
the key-value cache to go on from. Equal to reading each question alone (tested). On failure: what torch raises.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from models.engines.caches import RowCache, batch_of, new_cache, row_of
from models.engines.resident import Resident


@dataclass(frozen=True, slots=True)
class Opening:
    """A question, or the beginning of one, that the model has read."""

    adapter: str
    cache: RowCache
    #: Scores of the next token, float32, shape (vocabulary,).
    logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read in one row."""

    adapter: str
    ids: Sequence[int]
    #: Embeddings of the images in `ids`, in order, each of shape (image tokens, hidden size).
    embeddings: Sequence[torch.Tensor] = ()


class PrefixCache:
    """What was read last, for the next question on the same images: a few openings of one base model."""

    def __init__(self, room: int) -> None:
        """Keep `room` prefixes; 0 keeps none."""
        self.room = room
        self._kept: OrderedDict[tuple[str, str], Opening] = OrderedDict()
        #: Questions that went on from a prefix that was kept from an earlier call, for tests and benchmarks.
        self.reused = 0

    def get(self, key: tuple[str, str]) -> Opening | None:
        """Return the opening under (adapter digest, prefix digest), if it is still there."""
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
        return known

    def keep(self, key: tuple[str, str], opening: Opening) -> None:
        """Remember an opening, and forget the one used longest ago."""
        if self.room == 0:
            return
        self._kept[key] = replace(opening, cache=opening.cache.copy(), logits=opening.logits.clone())
        self._kept.move_to_end(key)
        while len(self._kept) > self.room:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


def read(resident: Resident, rows: Sequence[Reading]) -> list[Opening]:
    """Read rows from their beginning, in one pass, padded on the left."""
    model, device = resident.model, resident.device
    longest = max(len(row.ids) for row in rows)
    padding = [longest - len(row.ids) for row in rows]
    ids = torch.tensor([[0] * pad + list(row.ids) for pad, row in zip(padding, rows, strict=True)], device=device)
    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding], device=device)
    pictures = [embedding for row in rows for embedding in row.embeddings]
    seen = (ids == model.config.image_token_id) & (mask == 1)
    cache = new_cache(model)
    with resident.switch.answering([row.adapter for row in rows]):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            # Image tokens see one another; without images there is nothing to mark.
            token_type_ids=seen.long() if pictures else None,
            mm_encoder_outputs=_as_encoder_output(pictures),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
    return [
        Opening(row.adapter, row_of(cache, number, left=padding[number], right=0), logits[number].float())
        for number, row in enumerate(rows)
    ]


def read_on(resident: Resident, begun: Sequence[Opening], more: Sequence[Sequence[int]]) -> list[Opening]:
    """Read on from openings, in one pass, padded on the right; `more[row]` holds text only."""
    model, device = resident.model, resident.device
    cache, mask = batch_of(model, [opening.cache for opening in begun], keep_all=True)
    longest = max(len(ids) for ids in more)
    padding = [longest - len(ids) for ids in more]
    places = torch.arange(longest, device=device)
    lengths = torch.tensor([len(ids) for ids in more], device=device)
    start = torch.tensor([opening.cache.length for opening in begun], device=device)
    ends = sorted({len(ids) - 1 for ids in more})
    with resident.switch.answering([opening.adapter for opening in begun]):
        logits = model(
            input_ids=torch.tensor(
                [list(ids) + [0] * pad for ids, pad in zip(more, padding, strict=True)], device=device
            ),
            attention_mask=torch.cat([mask, (places[None, :] < lengths[:, None]).long()], 1),
            position_ids=start[:, None] + places[None, :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(ends, device=device),
        ).logits
    return [
        Opening(
            opening.adapter,
            row_of(cache, row, left=cache.get_seq_length() - longest - opening.cache.length, right=padding[row]),
            logits[row, ends.index(len(more[row]) - 1)].float(),
        )
        for row, opening in enumerate(begun)
    ]


def _as_encoder_output(pictures: Sequence[torch.Tensor]) -> dict[str, BaseModelOutputWithPooling] | None:
    """Return ready embeddings the way the model takes them instead of pixels."""
    if not pictures:
        return None
    return {"image": BaseModelOutputWithPooling(pooler_output=torch.stack(list(pictures)))}
