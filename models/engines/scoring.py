"""A closed question, answered by likelihood: how probable is each label as the whole answer?

Input: a question that was read, and the labels' tokens, each ending in the end-of-turn token. Output: the
log-probability of every token of every label. The question's key-value cache is repeated per label, and one padded pass
over the labels follows. The result equals that of a full pass per label (tested).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from models.engines.caches import batch_of
from models.engines.configuration import EngineError
from models.engines.reading import Opening
from models.engines.resident import Resident

#: Labels in one pass: each needs a copy of the question's key-value cache.
_AT_ONCE = 16


def score_labels(resident: Resident, opening: Opening, labels: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return for each label the natural log-probabilities of its tokens, given the question.

    Raises:
        EngineError: They are not numbers.
    """
    first = opening.logits.log_softmax(-1)
    scores = [[float(first[label[0]])] for label in labels]
    for start in range(0, len(labels), _AT_ONCE):
        chunk = labels[start : start + _AT_ONCE]
        if max(len(label) for label in chunk) > 1:
            for offset, later in enumerate(_later_tokens(resident, opening, chunk)):
                scores[start + offset] += later
    if not all(math.isfinite(score) for label in scores for score in label):
        raise EngineError("the model's scores of the labels are not numbers")
    return scores


def _later_tokens(resident: Resident, opening: Opening, labels: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the log-probabilities of each label's tokens after its first."""
    device = resident.device
    longest = max(len(label) for label in labels) - 1
    cache, mask = batch_of(resident.model, [opening.cache] * len(labels))
    # The last token of a label is predicted, never read. Padding on the right cannot be seen by what stands before it.
    read = [list(label[:-1]) + [label[-1]] * (longest - len(label) + 1) for label in labels]
    seen = [[1] * (len(label) - 1) + [0] * (longest - len(label) + 1) for label in labels]
    places = torch.arange(opening.cache.length, opening.cache.length + longest, device=device)
    with resident.switch.answering([opening.adapter]):
        logits = resident.model(
            input_ids=torch.tensor(read, device=device),
            attention_mask=torch.cat([mask, torch.tensor(seen, device=device)], dim=1),
            position_ids=places.expand(len(labels), -1),
            past_key_values=cache,
            use_cache=True,
        ).logits.float()
    chances = logits.log_softmax(-1)
    return [
        [float(chances[row, place, token]) for place, token in enumerate(label[1:])] for row, label in enumerate(labels)
    ]


def label_probabilities(scores: Sequence[Sequence[float]]) -> list[float]:
    """Return the labels' probabilities, summing to 1: softmax of their summed log-probabilities."""
    totals = torch.tensor([sum(tokens) for tokens in scores], dtype=torch.float64)
    return [float(p) for p in totals.softmax(-1)]
