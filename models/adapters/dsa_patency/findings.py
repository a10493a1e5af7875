"""What the DSA adapter finds: its pydantic model, the parser of its answers, and how sure an answer is.

Input: a `Generation`. Output: `PatencyFindings` and a `Confidence`; an answer that names no label, or both, is a
`ParseFailure`.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.confidence import Confidence, likelihood_of_spans
from models.generation import Generation
from models.parsing import ParseFailure, answered_label

LABELS: tuple[Literal["patent", "blocked"], ...] = ("patent", "blocked")


class PatencyFindings(BaseModel):
    """Whether the vessel is open; the ledger's `findings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patency: Literal["patent", "blocked"]
    #: Label -> normalised likelihood; empty where the engine scores no labels or a person edited the finding.
    probabilities: dict[Literal["patent", "blocked"], Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )


def parse(generation: Generation) -> PatencyFindings | ParseFailure:
    """Return the findings of a generation: by its label scores, else by the one label that its text names."""
    label = answered_label(generation, LABELS)
    if isinstance(label, ParseFailure):
        return label
    scores = generation.label_scores or {}
    if any(not math.isfinite(score) or not 0 <= score <= 1 for score in scores.values()):
        return ParseFailure("the label scores are no probabilities", generation.text)
    return PatencyFindings.model_validate(
        {"patency": label, "probabilities": {name: round(score, 6) for name, score in scores.items()}}
    )


def answer_class(findings: BaseModel) -> str:
    """Return the key into the review policy."""
    return PatencyFindings.model_validate(findings).patency


def confidence(generation: Generation, findings: BaseModel) -> Confidence:
    """Return the likelihood of the label, or, from an engine that scores none, of the tokens that spell it."""
    label = PatencyFindings.model_validate(findings).patency
    if generation.label_scores is not None:
        return Confidence(generation.label_scores[label], calibrated=False, method="label likelihood")
    spelled = "".join(token.token for token in generation.tokens)
    start = spelled.lower().rfind(label)
    likelihood = likelihood_of_spans(generation.tokens, [(start, start + len(label))]) if start >= 0 else None
    if likelihood is None:
        return Confidence(0.0, calibrated=False, method="no likelihood reported by the engine")
    return Confidence(likelihood, calibrated=False, method="token likelihood of the label")
