"""Settings and enabled adapters -> what `models.engines.load_engine` needs; nothing heavy is imported or loaded."""

from __future__ import annotations

from pathlib import Path

from models.adapter import HubReference, adapters
from models.engines import (
    AdapterWeights,
    Dtype,
    EngineConfig,
    EngineKind,
    OpenAIServer,
    Quantization,
    WeightsReference,
)
from models.weights import WeightsError
from models.weights_inspection import check_weights
from worker.engine_settings import EngineSettings, OpenAISettings
from worker.settings import Settings, SettingsError
from worker.site import enabled_adapters


def engine_config(settings: Settings) -> EngineConfig:
    """Return the engine's configuration.

    Raises:
        SettingsError: a name of an adapter or of a base model is unknown.
    """
    chosen = settings.engine
    enabled = enabled_adapters(settings)
    known = adapters()
    needed = {adapter.base.hub_id for adapter in known.values()}
    if unknown := sorted(set(chosen.adapters) - set(known)):
        raise SettingsError(f"engine.adapters: no adapter {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    if unknown := sorted(set(chosen.bases) - needed):
        raise SettingsError(
            f"engine.bases: no adapter needs {', '.join(unknown)}; they need {', '.join(sorted(needed))}"
        )
    ours = needed | {adapter.lora.hub_id for adapter in known.values()}
    for setting, named in (("revisions", chosen.revisions), ("digests", chosen.digests)):
        if unknown := sorted(set(named) - ours):
            raise SettingsError(
                f"engine.{setting}: nothing uses {', '.join(unknown)}; there are {', '.join(sorted(ours))}"
            )
    bases = {adapter.base.hub_id: adapter.base for adapter in enabled.values()}
    return EngineConfig(
        kind=EngineKind(chosen.kind),
        bases={hub_id: _weights(base, chosen.bases.get(hub_id), chosen) for hub_id, base in bases.items()},
        adapters={
            name: AdapterWeights(_weights(adapter.lora, chosen.adapters.get(name), chosen), adapter.base.hub_id)
            for name, adapter in enabled.items()
        },
        digests=chosen.digests,
        dtype=Dtype(chosen.dtype),
        quantization=Quantization(chosen.quantization),
        device=chosen.device,
        digest_cache=settings.data_dir / "weights-digests.json",
        batch=chosen.batch,
        max_bases=chosen.max_bases,
        image_cache_mib=chosen.image_cache_mib,
        compile=chosen.compile,
        server=None if chosen.openai is None else _server(chosen.openai),
    )


def check_engine(settings: Settings) -> None:
    """Refuse to start where the engine could not be loaded.

    Raises:
        SettingsError: the settings do not fit together.
        WeightsError: weights are missing, here or on the server; the message says how to come by them.
    """
    config = engine_config(settings)
    if config.kind == EngineKind.OPENAI:
        from models.engines.openai import check_server

        # A server that is away is waited for; one that lacks a model needs a person.
        problems = check_server(config, must_answer=False)
    else:
        problems = check_weights(config)
    if problems:
        raise WeightsError("\n".join(problems))


def _weights(reference: HubReference, folder: Path | None, chosen: EngineSettings) -> WeightsReference:
    revision = chosen.revisions.get(reference.hub_id, reference.revision)
    return WeightsReference(
        reference.hub_id, revision, reference.licence, folder, reference.published, reference.attention
    )


def _server(chosen: OpenAISettings) -> OpenAIServer:
    return OpenAIServer(
        base_url=chosen.base_url,
        models=chosen.models,
        api_key=chosen.api_key.get_secret_value(),
        ca=chosen.ca,
        timeout_s=chosen.timeout_s,
        attempts=chosen.attempts,
        concurrency=chosen.concurrency,
    )
