"""What an engine is asked and what it answers: neutral values, no torch, JSON in and out so that rows can keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: uint8, shape (rows, columns, 3), RGB.
RgbImage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """A closed question: each label is scored by its likelihood as the whole answer; nothing is sampled."""

    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """An answer constrained to a JSON schema while it is generated, greedily."""

    json_schema: Mapping[str, Any]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """Free text, greedily."""

    max_new_tokens: int


AnswerForm = LabelAnswer | JsonAnswer | TextAnswer


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One question to one adapter: chat messages in the transformers form, with the images in order."""

    adapter: str
    #: [{"role": ..., "content": [{"type": "image"} | {"type": "text", "text": ...}]}]
    messages: Sequence[Mapping[str, Any]]
    images: tuple[RgbImage, ...]
    answer_form: AnswerForm
    #: Further answers drawn at random (temperature 1), to see whether the model agrees with itself; text only.
    samples: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token as text, and the natural logarithm of its probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Generation:
    """A raw answer, saved before it is parsed so that a parser fix needs no GPU."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    #: Label -> normalised probability (sums to 1); only for `LabelAnswer`. Normalised is not calibrated.
    label_scores: Mapping[str, float] | None
    #: "stop", "length" (cut off: the answer is incomplete) or "labels".
    finish_reason: str
    prompt_tokens: int
    #: Seconds the engine spent on this request.
    elapsed_s: float
    #: Further answers, drawn at random.
    samples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Generation:
        """Rebuild a generation from `to_json`."""
        return cls(
            text=stored["text"],
            tokens=tuple(TokenLogprob(t["token"], t["logprob"]) for t in stored["tokens"]),
            label_scores=stored["label_scores"],
            finish_reason=stored["finish_reason"],
            prompt_tokens=stored["prompt_tokens"],
            elapsed_s=stored["elapsed_s"],
            samples=tuple(stored.get("samples", ())),
        )


@dataclass(frozen=True, slots=True)
class GenerationFailure:
    """One request that could not be answered; the others of the same call were."""

    #: Why, and what can be done.
    reason: str
    #: True where the same request may succeed later.
    transient: bool
    #: True where nobody was there to answer: it says nothing about the request, and waiting costs it no attempt.
    engine_away: bool = False


@dataclass(frozen=True, slots=True)
class ModelProvenance:
    """Which weights answered, on what; kept with the job, and hashed into every result's UID."""

    base: str
    base_revision: str
    base_digest: str
    adapter: str
    adapter_revision: str
    adapter_digest: str
    engine: str
    dtype: str
    device: str
    #: "transformers 5.23.0" and alike.
    software: str
    is_standin: bool
    #: Weight or configuration file ("base/model.safetensors") -> SHA-256.
    files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ModelProvenance:
        """Rebuild a provenance from `to_json`."""
        return cls(**stored)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine holds in memory at this moment, for people who look after it."""

    #: "transformers", "standin" or "openai".
    kind: str
    #: "cuda:0", "cpu", or the address of the server that answers.
    device: str
    #: Name of the device, such as "NVIDIA H100"; empty where it has none.
    device_name: str = ""
    #: Base model in memory -> adapters that answer on it; empty where a server holds them.
    resident: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Bytes of the device's own memory that are in use, by whomever, and that it has; None without such memory.
    memory_used: int | None = None
    memory_total: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "resident": {base: list(names) for base, names in self.resident.items()}}


class Engine(Protocol):
    """Runs a resident base model with a set of LoRA adapters."""

    def status(self) -> EngineStatus:
        """Return what is in memory now; may be called from another thread while the engine answers."""
        ...

    def provenance(self, adapter: str) -> ModelProvenance:
        """Return which weights answer for this adapter."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation | GenerationFailure]:
        """Answer each request, in order. A request that fails fails alone."""
        ...

    def close(self) -> None:
        """Free the memory the models hold."""
        ...
