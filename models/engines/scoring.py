"""A closed question, answered by likelihood: how probable is each label as the whole answer?

Input: an encoded question and the labels' tokens, each ending in the end-of-turn token. Output: the log-probability of
every token of every label. One pass over the question; its key-value cache is repeated per label, and one padded pass
over the labels follows. The result equals that of a full pass per label (tested).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def score_labels(
    model: Any, question: Mapping[str, torch.Tensor], labels: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Return for each label the natural log-probabilities of its tokens, given the question (batch of one)."""
    opening = model(**question, use_cache=True, logits_to_keep=1)
    first = opening.logits[0, -1].float().log_softmax(-1)
    scores = [[float(first[label[0]])] for label in labels]
    longest = max(len(label) for label in labels) - 1
    if longest == 0:
        return scores
    cache = opening.past_key_values
    cache.batch_repeat_interleave(len(labels))
    device = question["input_ids"].device
    # The last token of a label is predicted, never read. Padding on the right cannot be seen by what stands before it.
    read = [list(label[:-1]) + [label[-1]] * (longest - len(label) + 1) for label in labels]
    mask = [[1] * (len(label) - 1) + [0] * (longest - len(label) + 1) for label in labels]
    logits = model(
        input_ids=torch.tensor(read, device=device),
        attention_mask=torch.cat(
            [
                question["attention_mask"].repeat(len(labels), 1),
                torch.tensor(mask, device=device, dtype=question["attention_mask"].dtype),
            ],
            dim=1,
        ),
        past_key_values=cache,
        use_cache=True,
    ).logits.float()
    later = logits.log_softmax(-1)
    for row, label in enumerate(labels):
        scores[row] += [float(later[row, place, token]) for place, token in enumerate(label[1:])]
    return scores


def label_probabilities(scores: Sequence[Sequence[float]]) -> list[float]:
    """Return the labels' probabilities, summing to 1: softmax of their summed log-probabilities."""
    totals = torch.tensor([sum(tokens) for tokens in scores], dtype=torch.float64)
    return [float(p) for p in totals.softmax(-1)]
