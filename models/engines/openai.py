"""The engine that asks a separate server over the OpenAI protocol (vLLM and alike); each adapter is a model name there.

Input: `GenerationRequest`s. Output: `Generation`s in their order, each from a chat completion of its own, at most
`concurrency` on their way at once. On failure: a request that fails is a `GenerationFailure`; a server that answers and
does not serve what is needed is an `EngineError` at the start. A server that cannot be reached at the start is waited
for: every request is a transient failure until it is there.

Nothing leaves this machine but the prompt and the rendered pictures (`chat_completions` writes all of it). The weights
lie elsewhere and cannot be hashed from here: their digests begin with "unverified:" (decision 10).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import openai
import structlog

from models.engines.chat_completions import (
    Offer,
    completion_body,
    png_data_uri,
    read_choice,
    refused_offer,
    sampling_body,
)
from models.engines.configuration import BASE_ONLY, EngineConfig, EngineError, OpenAIServer
from models.engines.loop_thread import LoopThread
from models.engines.model_server import ModelServer, ServedModel, ServerFailureError
from models.generation import (
    EngineStatus,
    Generation,
    GenerationFailure,
    GenerationRequest,
    ModelProvenance,
    TextAnswer,
)

log = structlog.get_logger()

#: A model whose name, weights or base hold this word is the stand-in.
STANDIN_WORD = "standin"


class OpenAIEngine:
    """Adapters that a separate server holds. Implements `models.generation.Engine`; may be used by several threads."""

    kind = "openai"

    def __init__(self, config: EngineConfig) -> None:
        """Look at what the server serves.

        Raises:
            EngineError: The settings name no server, the server lacks a model, or it will not let us in.
        """
        self._config = config
        self._settings = _server_of(config)
        self._server = ModelServer(self._settings)
        self._slots = asyncio.Semaphore(self._settings.concurrency)
        self._served: dict[str, ServedModel] = {}
        #: The server has not been asked, or has been away since.
        self._listing_due = True
        #: Adapter -> what the server would not take of its requests.
        self._left_out: dict[str, set[Offer]] = {}
        self._loop = LoopThread()
        try:
            self._loop.run(self._list())
            _require_models(config, self._served)
        except ServerFailureError as failure:
            if not failure.transient:
                self.close()
                raise
            log.warning("the model server is waited for", action="load_model", reason=str(failure))
        except BaseException:
            self.close()
            raise
        log.info("model server", action="load_model", engine=self.kind, models=sorted(self._served))

    def status(self) -> EngineStatus:
        """Return which server answers; what it holds in memory is its own affair."""
        return EngineStatus(kind=self.kind, device=self._settings.base_url)

    def provenance(self, adapter: str) -> ModelProvenance:
        """Return which weights the server says that it answers with.

        Raises:
            EngineError: The adapter is none of this engine's, or the server does not serve it or cannot be reached.
        """
        if not self._served:
            self._loop.run(self._list())
        model = self._served.get(self._model_name(adapter))
        if model is None:
            raise EngineError(_missing(self._config, adapter, self._model_name(adapter), self._served))
        base = self._served.get(model.parent, model)
        own = self._config.adapters.get(adapter)
        reference = self._config.bases.get(own.base) if own else None
        is_standin = any(STANDIN_WORD in said.lower() for m in (model, base) for said in (m.id, m.root, m.parent))
        # What the settings say the weights are is worth no more than the settings; of the stand-in it is wrong.
        claimed = own is not None and not is_standin
        return ModelProvenance(
            base=own.base if own and claimed else base.id,
            base_revision=reference.revision if reference and claimed else "",
            base_digest=_unverified(base),
            adapter=own.reference.hub_id if own and claimed else model.id,
            adapter_revision=own.reference.revision if own and claimed else "",
            adapter_digest=_unverified(model),
            engine=self.kind,
            dtype="unknown",
            device="unknown",
            software=f"server {base.owned_by or 'unknown'}, model {model.id}, openai {openai.__version__}",
            is_standin=is_standin,
        )

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation | GenerationFailure]:
        """Answer each request, in order. A request that fails fails alone."""
        return self._loop.run(self._answer_all(requests))

    def close(self) -> None:
        """Close the connections; requests on their way are given up."""
        self._loop.close(self._server.close())

    async def _list(self) -> None:
        self._served = await self._server.models()
        self._listing_due = False

    async def _answer_all(self, requests: Sequence[GenerationRequest]) -> list[Generation | GenerationFailure]:
        if self._listing_due:
            try:
                await self._list()
            except ServerFailureError as failure:
                # Who cannot even list its models in time has not looked at a request.
                away = failure.away or failure.unreachable
                return [GenerationFailure(str(failure), failure.transient, engine_away=away)] * len(requests)
        return list(await asyncio.gather(*(self._answer(request) for request in requests)))

    async def _answer(self, request: GenerationRequest) -> Generation | GenerationFailure:
        try:
            name = self._model_name(request.adapter)
            if name not in self._served:
                return GenerationFailure(_missing(self._config, request.adapter, name, self._served), transient=False)
            async with self._slots:
                return await self._complete(request, name)
        except ServerFailureError as failure:
            # Whoever comes back may be another server: its models are looked at again.
            self._listing_due = self._listing_due or failure.unreachable
            return GenerationFailure(str(failure), failure.transient, engine_away=failure.away)
        except EngineError as error:
            return GenerationFailure(str(error), transient=False)

    async def _complete(self, request: GenerationRequest, model: str) -> Generation:
        started = time.monotonic()
        # In a thread: many large pictures would hold up the other requests.
        images = [await asyncio.to_thread(png_data_uri, image) for image in request.images]
        try:
            body = completion_body(request, model, images, self._left_out.get(request.adapter, ()))
        except ValueError as error:
            raise EngineError(str(error)) from error
        completion = await self._ask(request.adapter, body)
        answer = read_choice(completion["choices"][0], request.answer_form)
        samples: list[str] = []
        while isinstance(request.answer_form, TextAnswer) and len(samples) < request.samples:
            left_out = self._left_out.get(request.adapter, ())
            more = sampling_body(body, request.samples - len(samples), len(samples), left_out)
            drawn = await self._ask(request.adapter, more)
            samples += [read_choice(choice, request.answer_form).text for choice in drawn["choices"]]
        usage = completion.get("usage")
        prompt_tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
        return Generation(
            text=answer.text,
            tokens=answer.tokens,
            label_scores=answer.label_scores,
            finish_reason=answer.finish_reason,
            prompt_tokens=prompt_tokens if isinstance(prompt_tokens, int) else 0,
            elapsed_s=time.monotonic() - started,
            samples=tuple(samples[: request.samples]),
        )

    async def _ask(self, adapter: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a completion; what the server refuses and can be done without is left out, now and from now on."""
        dropped: set[Offer] = set()
        while True:
            try:
                completion = await self._server.complete({k: v for k, v in body.items() if k not in dropped})
            except ServerFailureError as failure:
                sent = {name: value for name, value in body.items() if name not in dropped}
                offer = refused_offer(failure.refusal, sent) if failure.refusal is not None else None
                if offer is None:
                    raise
                log.warning("the server does not take this", action="infer", part=offer.value, reason=failure.refusal)
                dropped.add(offer)
                continue
            # Only what helped: a request that is refused without it too was refused for something else.
            self._left_out.setdefault(adapter, set()).update(dropped)
            return completion

    def _model_name(self, adapter: str) -> str:
        """Return the server's name for an adapter. Raises `EngineError` where this engine has no such adapter."""
        if adapter != BASE_ONLY and adapter not in self._config.adapters:
            known = ", ".join(sorted(self._config.adapters)) or "none"
            raise EngineError(f"adapter {adapter!r} is not one of this engine's ({known}); check engine.enabled")
        return self._settings.models.get(adapter, adapter)


def check_server(config: EngineConfig, *, must_answer: bool = True) -> list[str]:
    """Return what keeps the server of the settings from answering for the adapters; empty when nothing does.

    Args:
        config: An engine of kind openai.
        must_answer: Whether it is a problem that the server cannot be reached now.
    """

    async def look() -> list[str]:
        server = ModelServer(_server_of(config))
        try:
            return missing_models(config, await server.models())
        finally:
            await server.close()

    try:
        return asyncio.run(look())
    except ServerFailureError as failure:
        return [] if failure.transient and not must_answer else [str(failure)]
    except EngineError as error:
        return [str(error)]


def _require_models(config: EngineConfig, served: Mapping[str, ServedModel]) -> None:
    if problems := missing_models(config, served):
        raise EngineError("\n".join(problems))


def missing_models(config: EngineConfig, served: Mapping[str, ServedModel]) -> list[str]:
    """Return one sentence for each adapter whose model the server does not list."""
    named = _server_of(config).models
    wanted = {adapter: named.get(adapter, adapter) for adapter in config.adapters}
    return [_missing(config, adapter, name, served) for adapter, name in wanted.items() if name not in served]


def _missing(config: EngineConfig, adapter: str, name: str, served: Mapping[str, ServedModel]) -> str:
    own = config.adapters.get(adapter)
    there = ", ".join(sorted(served)) or "nothing"
    said = f"adapter {adapter}: {_server_of(config).base_url} serves no model {name!r} (it serves {there})."
    if own is None:
        return f"{said} Name the base model in engine.openai.models."
    return (
        f"{said}\n"
        f"  Serve it, for example\n"
        f"    vllm serve {own.base} --enable-lora --enable-tower-connector-lora --max-lora-rank 64 "
        f"--lora-modules {name}={own.reference.folder or own.reference.hub_id}\n"
        f"  or merge it with its base (dicom-worker adapters merge {adapter} --out DIR) and serve DIR by that name,\n"
        f"  or say in engine.openai.models by which name it is served."
    )


def _server_of(config: EngineConfig) -> OpenAIServer:
    """Return the server. Raises `EngineError` where there is none, or where it is asked to prove its weights."""
    if config.server is None:
        raise EngineError("engine.kind is openai, and engine.openai.base_url names no server; set it")
    if config.digests:
        raise EngineError(
            f"engine.digests insists on the files of {', '.join(sorted(config.digests))}, and a server cannot prove "
            "which files it has loaded; take the digests out, or set engine.kind to transformers"
        )
    return config.server


def _unverified(model: ServedModel) -> str:
    """Return what stands in the place of a digest: the same as long as the server says the same about the model.

    Where the server is does not count, so that the same models on another machine make the same result UIDs.
    """
    said = "\n".join((model.id, model.root, model.parent))
    return f"unverified:{hashlib.sha256(said.encode()).hexdigest()[:32]}"
