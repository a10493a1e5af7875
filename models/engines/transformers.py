"""The engine that runs MedGemma and its LoRA adapters in this process, through transformers and PEFT.

Input: `GenerationRequest`s. Output: `Generation`s, one at a time, requests to the same adapter one after the other.
On failure: `EngineError`; an out-of-memory is the transient `EngineOutOfMemoryError`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import peft
import structlog
import torch
import transformers
from PIL import Image

from models.engines.configuration import BASE_ONLY, EngineConfig, EngineError, EngineOutOfMemoryError, Quantization
from models.engines.constrained import SchemaCompiler
from models.engines.decoding import DecodedAnswer, decode_greedily, split_text
from models.engines.resident import Resident, load_resident
from models.engines.scoring import label_probabilities, score_labels
from models.generation import (
    Generation,
    GenerationFailure,
    GenerationRequest,
    JsonAnswer,
    LabelAnswer,
    ModelProvenance,
    TokenLogprob,
)
from models.weights import FoundWeights, WeightsError, check_base_match, combined_digest, find_weights, weight_digests

log = structlog.get_logger()


class TransformersEngine:
    """A resident base model with a set of LoRA adapters. Implements `models.generation.Engine`."""

    #: Named in the provenance.
    kind = "transformers"
    is_standin = False

    def __init__(self, config: EngineConfig) -> None:
        """Find, check, hash and load the weights.

        Raises:
            WeightsError: Weights are missing or belong to another base.
            EngineError: They cannot be loaded here.
        """
        if len(config.bases) != 1:
            raise WeightsError(f"the engine needs one base model, {len(config.bases)} are named")
        (base,) = config.bases.values()
        started = time.monotonic()
        self._config = config
        self._base = find_weights(base, adapter=False, cache_dir=config.cache_dir)
        self._adapters: dict[str, FoundWeights] = {}
        for name, own in config.adapters.items():
            found = find_weights(own.reference, adapter=True, cache_dir=config.cache_dir)
            check_base_match(found, base)
            self._adapters[name] = found
        self._digests = {
            name: combined_digest(weight_digests(found.folder, config.digest_cache))
            for name, found in [(BASE_ONLY, self._base), *self._adapters.items()]
        }
        self._resident: Resident | None = load_resident(
            config, self._base.folder, {name: found.folder for name, found in self._adapters.items()}
        )
        self._schemas: SchemaCompiler | None = None
        self._lock = threading.Lock()
        log.info(
            "model loaded",
            action="load_model",
            engine=self.kind,
            base=base.hub_id,
            adapters=sorted(self._adapters),
            device=str(self._resident.device),
            elapsed_s=round(time.monotonic() - started, 2),
        )

    @property
    def resident(self) -> Resident:
        """Return the models in memory. Raises `EngineError` after `close`."""
        if self._resident is None:
            raise EngineError("the engine was closed; load a new one")
        return self._resident

    def provenance(self, adapter: str) -> ModelProvenance:
        """Return which weights answer for this adapter. Raises `EngineError` if it is not loaded."""
        self._require(adapter)
        own = self._adapters.get(adapter)
        dtype = str(self.resident.dtype).removeprefix("torch.")
        quantized = self._config.quantization != Quantization.NONE
        return ModelProvenance(
            base=self._base.reference.hub_id,
            base_revision=self._base.revision,
            base_digest=self._digests[BASE_ONLY],
            adapter=own.reference.hub_id if own else BASE_ONLY,
            adapter_revision=own.revision if own else "",
            adapter_digest=self._digests[adapter] if own else "",
            engine=self.kind,
            dtype=f"{self._config.quantization.value}/{dtype}" if quantized else dtype,
            device=str(self.resident.device),
            software=f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}",
            is_standin=self.is_standin,
        )

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation | GenerationFailure]:
        """Answer each request, in order; the first that fails raises.

        Requests to one adapter are worked on together, so that the adapters are switched as seldom as can be.
        """
        answers: dict[int, Generation | GenerationFailure] = {}
        for adapter in dict.fromkeys(request.adapter for request in requests):
            self._require(adapter)
            with self._lock, torch.inference_mode(), self._active(adapter):
                for place, request in enumerate(requests):
                    if request.adapter == adapter:
                        answers[place] = self._answer(request)
        return [answers[place] for place in range(len(requests))]

    def close(self) -> None:
        """Free the memory the models hold."""
        with self._lock:
            self._resident = None
            self._schemas = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _require(self, adapter: str) -> None:
        if adapter != BASE_ONLY and adapter not in self._adapters:
            loaded = ", ".join(sorted(self._adapters)) or "none"
            raise EngineError(
                f"adapter {adapter!r} is not loaded in this engine (loaded: {loaded}); check engine.adapters"
            )

    @contextlib.contextmanager
    def _active(self, adapter: str) -> Iterator[None]:
        """Make one adapter, or none, answer."""
        switch = self.resident.switch
        if switch is None:
            yield
        elif adapter == BASE_ONLY:
            with switch.disable_adapter():
                yield
        else:
            # Without inference_mode, switching turns gradients on.
            switch.set_adapter(adapter, inference_mode=True)
            yield

    def _answer(self, request: GenerationRequest) -> Generation:
        started = time.monotonic()
        try:
            question = self.encode(request)
            if isinstance(request.answer_form, LabelAnswer):
                text, tokens, scores, reason = self._score(question, request.answer_form)
            else:
                decoded = self._decode(question, request)
                text, tokens, scores, reason = decoded.text, decoded.tokens, None, decoded.finish_reason
        except torch.OutOfMemoryError as error:
            raise EngineOutOfMemoryError(
                f"{len(request.images)} images for adapter {request.adapter} need more memory than "
                f"{self.resident.device} has left; use engine.quantization nf4, or a larger device"
            ) from error
        return Generation(
            text=text,
            tokens=tokens,
            label_scores=scores,
            finish_reason=reason,
            prompt_tokens=int(question["input_ids"].shape[1]),
            elapsed_s=time.monotonic() - started,
        )

    def encode(self, request: GenerationRequest) -> dict[str, torch.Tensor]:
        """Return the model's inputs for one request, on its device."""
        resident = self.resident
        asked = sum(
            part.get("type") == "image"
            for message in request.messages
            if not isinstance(message["content"], str)
            for part in message["content"]
        )
        if asked != len(request.images):
            raise EngineError(f"the messages hold {asked} image places, but {len(request.images)} images came along")
        # The template writes <bos> itself: tokenising must not add a second one.
        text = resident.processor.apply_chat_template(
            [dict(message) for message in request.messages], add_generation_prompt=True, tokenize=False
        )
        pictures = [[Image.fromarray(image) for image in request.images]] if request.images else None
        encoded = resident.processor(text=text, images=pictures, add_special_tokens=False, return_tensors="pt")
        return {
            name: value.to(resident.device, resident.dtype if value.is_floating_point() else None)
            for name, value in encoded.items()
        }

    def _score(
        self, question: dict[str, torch.Tensor], form: LabelAnswer
    ) -> tuple[str, tuple[TokenLogprob, ...], dict[str, float], str]:
        tokenizer = self.resident.processor.tokenizer
        labels = [tokenizer(f"{label}<end_of_turn>", add_special_tokens=False).input_ids for label in form.labels]
        scores = score_labels(self.resident.model, question, labels)
        chances = label_probabilities(scores)
        best = chances.index(max(chances))
        # Without the end of the turn, so that here too the tokens joined are the text.
        spelled = split_text(tokenizer, labels[best][:-1])
        tokens = tuple(TokenLogprob(token, score) for token, score in zip(spelled, scores[best], strict=False))
        return form.labels[best], tokens, dict(zip(form.labels, chances, strict=True)), "labels"

    def _decode(self, question: dict[str, torch.Tensor], request: GenerationRequest) -> DecodedAnswer:
        resident = self.resident
        form: Any = request.answer_form
        mask = None
        if isinstance(form, JsonAnswer):
            if self._schemas is None:
                rows = resident.model.get_input_embeddings().num_embeddings
                self._schemas = SchemaCompiler(resident.processor.tokenizer, rows, resident.eos_token_ids)
            mask = self._schemas.compile(form.json_schema, int(question["input_ids"].shape[1]))
        return decode_greedily(
            resident.model,
            resident.processor.tokenizer,
            question,
            max_new_tokens=form.max_new_tokens,
            eos_token_ids=resident.eos_token_ids,
            mask=mask,
        )
