"""Settings and enabled adapters -> what `models.engines.load_engine` needs; nothing heavy is imported or loaded."""

from __future__ import annotations

from pathlib import Path

from models.adapter import HubReference
from models.engines import Dtype, EngineConfig, EngineKind, Quantization, WeightsReference
from models.weights import WeightsError, check_weights
from worker.routing import enabled_adapters
from worker.settings import Settings, SettingsError


def engine_config(settings: Settings) -> EngineConfig:
    """Return the engine's configuration.

    Raises:
        SettingsError: the enabled adapters need different base models (one base is resident), or a name is unknown.
    """
    chosen = settings.engine
    enabled = enabled_adapters(chosen.enabled)
    if unknown := sorted(set(chosen.adapters) - set(enabled)):
        raise SettingsError(f"engine.adapters: no adapter {', '.join(unknown)}; there are {', '.join(enabled)}")
    bases = {adapter.base.hub_id: adapter.base for adapter in enabled.values()}
    if unknown := sorted(set(chosen.bases) - set(bases)):
        raise SettingsError(f"engine.bases: no adapter needs {', '.join(unknown)}; they need {', '.join(bases)}")
    if len(bases) > 1:
        raise SettingsError(
            f"engine.enabled: the adapters need {len(bases)} base models ({', '.join(sorted(bases))}) and one is kept "
            "resident: enable adapters of one base"
        )
    base = next(iter(bases.values()))
    return EngineConfig(
        kind=EngineKind(chosen.kind),
        base=_weights(base, chosen.bases.get(base.hub_id)),
        adapters={name: _weights(adapter.lora, chosen.adapters.get(name)) for name, adapter in enabled.items()},
        dtype=Dtype(chosen.dtype),
        quantization=Quantization(chosen.quantization),
        device=chosen.device,
        digest_cache=settings.data_dir / "weights-digests.json",
    )


def check_engine(settings: Settings) -> None:
    """Refuse to start where the engine could not be loaded.

    Raises:
        SettingsError: the settings do not fit together.
        WeightsError: weights are missing; the message says what to download, from where, and under which licence.
    """
    if problems := check_weights(engine_config(settings)):
        raise WeightsError("\n".join(problems))


def _weights(reference: HubReference, folder: Path | None) -> WeightsReference:
    return WeightsReference(reference.hub_id, reference.revision, reference.licence, folder)
