"""The engine that runs MedGemma and its LoRA adapters in this process, through transformers and PEFT.

Input: `GenerationRequest`s. Output: for each, in order, a `Generation`, or a `GenerationFailure` that is its own: the
others of the call are answered. Requests are answered in batches (`models.engines.batching`). On failure: a batch that
does not fit into memory, or in which something goes wrong, is halved until the request that is at fault stands alone.
Only `EngineDeviceError` is raised: the device is lost to this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import peft
import structlog
import torch
import transformers

from models.engines.answering import Answerer, Asked
from models.engines.bases import Bases, free_device_memory
from models.engines.batching import Place, plan_batches
from models.engines.configuration import BASE_ONLY, EngineConfig, EngineDeviceError, EngineError, Quantization
from models.engines.embeddings import ImageCache
from models.engines.encoding import encode
from models.engines.faults import is_device_lost, is_out_of_memory
from models.engines.provenance import origin
from models.engines.resident import Resident
from models.generation import EngineStatus, Generation, GenerationFailure, GenerationRequest, ModelProvenance

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EngineCaches:
    """How much is kept between requests, and whether adapters share a batch; for tests and benchmarks."""

    #: Prefixes kept for each base.
    prefixes: int = 2
    #: None mixes on a GPU only: on a CPU grouping is faster (docs/benchmarks.md).
    mixing: bool | None = None


class TransformersEngine:
    """Resident base models, each with a set of LoRA adapters. Implements `models.generation.Engine`."""

    #: Named in the provenance.
    kind = "transformers"
    is_standin = False

    def __init__(self, config: EngineConfig, caches: EngineCaches = EngineCaches()) -> None:
        """Find, check and hash all weights; load the first base.

        Raises:
            WeightsError: Weights are missing or belong to another base.
            EngineError: They cannot be loaded here.
        """
        self._config = config
        self.images = ImageCache(config.image_cache_mib)
        self._bases: Bases | None = Bases(config, self.images, caches.prefixes)
        self._mixing = self._bases.device.type == "cuda" if caches.mixing is None else caches.mixing
        # Hooks that come and go would have the language model compiled anew.
        self._mixing = self._mixing and not config.compile
        self._lock = threading.Lock()
        self._bases.get(self._bases.base_of[BASE_ONLY])

    @property
    def bases(self) -> Bases:
        """Return the weights, and the models in memory. Raises `EngineError` after `close`."""
        if self._bases is None:
            raise EngineError("the engine was closed; load a new one")
        return self._bases

    @property
    def resident(self) -> Resident:
        """Return the first base in memory. Raises `EngineError` after `close`."""
        return self.bases.get(self.bases.base_of[BASE_ONLY]).resident

    def provenance(self, adapter: str) -> ModelProvenance:
        """Return which weights answer for this adapter. Raises `EngineError` if it is not loaded."""
        self._base(adapter)
        weights = origin(self.bases, adapter)
        dtype = str(self.bases.dtype).removeprefix("torch.")
        quantized = self._config.quantization != Quantization.NONE
        return ModelProvenance(
            base=weights.base,
            base_revision=weights.base_revision,
            base_digest=weights.base_digest,
            adapter=weights.adapter,
            adapter_revision=weights.adapter_revision,
            adapter_digest=weights.adapter_digest,
            engine=self.kind,
            dtype=f"{self._config.quantization.value}/{dtype}" if quantized else dtype,
            device=str(self.bases.device),
            software=f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}",
            is_standin=self.is_standin,
            files=weights.files,
        )

    def status(self) -> EngineStatus:
        """Return what is in memory now. Raises `EngineError` after `close`."""
        bases, own = self.bases, self._config.adapters
        device, on_gpu = bases.device, bases.device.type == "cuda"
        free, total = torch.cuda.mem_get_info(device) if on_gpu else (0, 0)
        return EngineStatus(
            kind=self.kind,
            device=str(device),
            device_name=torch.cuda.get_device_name(device) if on_gpu else "",
            resident={base: tuple(sorted(name for name in own if own[name].base == base)) for base in bases.loaded},
            memory_used=total - free if on_gpu else None,
            memory_total=total if on_gpu else None,
        )

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation | GenerationFailure]:
        """Answer each request, in order; one that fails fails alone.

        Raises:
            EngineDeviceError: The device is lost to this process.
        """
        answers: dict[int, Generation | GenerationFailure] = {}
        with self._lock, torch.inference_mode():
            in_memory = self.bases.loaded
            by_base: dict[str, list[int]] = {}
            for number, request in enumerate(requests):
                try:
                    by_base.setdefault(self._base(request.adapter), []).append(number)
                except EngineError as error:
                    answers[number] = GenerationFailure(str(error), transient=False)
            # What is in memory first: loading another base may drop it.
            for hub_id in sorted(by_base, key=lambda hub_id: hub_id not in in_memory):
                answers |= self._ask_base(hub_id, {number: requests[number] for number in by_base[hub_id]})
        return [answers[number] for number in range(len(requests))]

    def close(self) -> None:
        """Free the memory the models hold."""
        with self._lock:
            if self._bases is not None:
                self._bases.drop_all()
            self._bases = None
            self.images.clear()
            free_device_memory()

    def _base(self, adapter: str) -> str:
        bases = self.bases.base_of
        if adapter not in bases:
            loaded = ", ".join(sorted(set(bases) - {BASE_ONLY})) or "none"
            raise EngineError(
                f"adapter {adapter!r} is not loaded in this engine (loaded: {loaded}); check engine.adapters"
            )
        return bases[adapter]

    def _ask_base(
        self, hub_id: str, requests: dict[int, GenerationRequest]
    ) -> dict[int, Generation | GenerationFailure]:
        """Answer requests to one base."""
        answerer: Answerer | None = None
        try:
            answerer = self.bases.get(hub_id)
        except Exception as error:  # noqa: BLE001 - whatever keeps a base from loading, other bases still answer
            failure = self._failure(error, f"base model {hub_id}")
        if answerer is None:
            # What was loaded of it goes with the exception, but for what refers to itself.
            free_device_memory()
            return dict.fromkeys(requests, failure)
        answers: dict[int, Generation | GenerationFailure] = {}
        asked: dict[int, Asked] = {}
        for number, request in requests.items():
            try:
                question = encode(answerer.resident.processor, request)
                answerer.check(request.answer_form)
                asked[number] = Asked(request, question, self._digest(request.adapter))
            except Exception as error:  # noqa: BLE001 - a request that cannot be put fails alone, whatever is wrong with it
                answers[number] = self._failure(error, f"adapter {request.adapter}")
        places = [
            Place(number, hub_id, one.request.adapter, one.question.prefix_digest(), len(one.question.ids))
            for number, one in asked.items()
        ]
        for batch in plan_batches(places, self._config.batch, mixing=self._mixing):
            found = self._answer(answerer, [asked[number] for number in batch])
            answers |= dict(zip(batch, found, strict=True))
        return answers

    def _digest(self, adapter: str) -> str:
        """Return what the embeddings of this adapter belong to."""
        own = self.bases.adapters.get(adapter)
        return own.digest if own else self.bases.bases[self._base(adapter)].digest

    def _answer(self, answerer: Answerer, batch: list[Asked]) -> list[Generation | GenerationFailure]:
        """Answer one batch; halve it where that fails, until what is at fault stands alone."""
        started = time.monotonic()
        try:
            found = answerer.answer(batch)
            share_s = (time.monotonic() - started) / len(batch)
            return [one.generation(share_s) for one in found]
        except Exception as error:  # noqa: BLE001 - one poisoned request must not cost the others their answers
            failure = self._failure(error, f"{len(batch[0].request.images)} images for adapter {batch[0].adapter}")
            # The traceback holds the tensors of the failed pass.
            error.__traceback__ = None
        # What is kept takes memory, and may itself be what is wrong (numbers that are none).
        self.images.clear()
        self.bases.forget_prefixes()
        if failure.transient:
            free_device_memory()
        if len(batch) == 1:
            return [failure]
        log.warning("batch failed and is halved", action="infer", requests=len(batch), error=failure.reason)
        half = len(batch) // 2
        return self._answer(answerer, batch[:half]) + self._answer(answerer, batch[half:])

    def _failure(self, error: Exception, subject: str) -> GenerationFailure:
        """Say what went wrong with a request. Raises `EngineDeviceError` where the device is lost."""
        if is_device_lost(error):
            raise EngineDeviceError(f"{self.bases.device} failed and is lost to this process: {error}") from error
        if is_out_of_memory(error):
            return GenerationFailure(
                f"{subject}: more memory is needed than {self.bases.device} has left; use engine.quantization nf4, or "
                f"a larger device",
                transient=True,
            )
        if isinstance(error, EngineError):
            return GenerationFailure(str(error), transient=error.transient)
        return GenerationFailure(f"{subject}: {type(error).__name__}: {error}", transient=False)
