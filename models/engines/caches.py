"""Key-value caches, row by row: taken out of a batch without its padding, put together into another batch.

Input and output: `RowCache`s and transformers' `DynamicCache`. A sliding-window layer keeps the last `window - 1`
tokens only, so a cache cannot be cut back to an earlier place; it is copied, and the copy goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache


@dataclass(frozen=True, slots=True)
class RowCache:
    """Keys and values of one row, no padding among them."""

    #: Per layer: keys and values, each of shape (1, heads, tokens kept, head size).
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    #: Tokens the model has read; a sliding-window layer keeps fewer.
    length: int

    def copy(self) -> RowCache:
        """Return the row with memory of its own: what was taken out of a batch otherwise holds the whole batch's."""
        return RowCache(tuple((keys.clone(), values.clone()) for keys, values in self.layers), self.length)


def new_cache(model: Any, *, keep_all: bool = False) -> DynamicCache:
    """Return an empty cache.

    Args:
        model: the base model.
        keep_all: sliding-window layers keep every token of the next pass, so that padding can be cut off on the right.
    """
    cache = DynamicCache(config=model.config.get_text_config())
    for layer in cache.layers:
        if keep_all and layer.is_sliding:
            layer.activate_past_recording()
    return cache


def row_of(cache: DynamicCache, row: int, *, left: int, right: int) -> RowCache:
    """Take one row out of a batch, without its `left` and `right` padding; views, nothing is copied."""
    length = cache.get_seq_length() - left - right
    layers = []
    for layer in cache.layers:
        kept = min(length, layer.sliding_window - 1) if layer.is_sliding else length
        end = layer.keys.shape[2] - right
        window = (slice(row, row + 1), slice(None), slice(end - kept, end))
        layers.append((layer.keys[window], layer.values[window]))
    return RowCache(tuple(layers), length)


def batch_of(model: Any, rows: Sequence[RowCache], *, keep_all: bool = False) -> tuple[DynamicCache, torch.Tensor]:
    """Put rows together, padded on the left.

    Returns:
        The cache, and the attention mask of shape (rows, longest row).
    """
    cache = new_cache(model, keep_all=keep_all)
    longest = max(row.length for row in rows)
    device = rows[0].layers[0][0].device
    for number, layer in enumerate(cache.layers):
        keys = _right_aligned([row.layers[number][0] for row in rows])
        values = _right_aligned([row.layers[number][1] for row in rows])
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        if layer.is_sliding:
            layer.cumulative_length = longest
    lengths = torch.tensor([row.length for row in rows], device=device)
    mask = torch.arange(longest, device=device)[None, :] >= longest - lengths[:, None]
    return cache, mask.long()


def _right_aligned(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack tensors of shape (1, heads, n, size), zeros before the shorter ones."""
    longest = max(part.shape[2] for part in parts)
    if all(part.shape[2] == longest for part in parts):
        return torch.cat(list(parts))
    _, heads, _, size = parts[0].shape
    stacked = parts[0].new_zeros(len(parts), heads, longest, size)
    for row, part in enumerate(parts):
        stacked[row, :, longest - part.shape[2] :] = part[0]
    return stacked
