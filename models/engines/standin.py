"""The stand-in engine: the same code as for MedGemma, on the tiny checkpoint that this package ships.

Input, output and failures are those of the transformers engine. Its answers are right for drawn phantoms and mean
nothing for anything else; `is_standin` in the provenance says so wherever a result is shown.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.engines.configuration import Dtype, EngineConfig, Quantization
from models.engines.transformers import EngineCaches, TransformersEngine
from models.weights import STANDIN_FOLDER, standin_config


class StandinEngine(TransformersEngine):
    """`TransformersEngine` that owns up to being a stand-in."""

    kind = "standin"
    is_standin = True


def load_standin(
    config: EngineConfig | None = None,
    folder: Path = STANDIN_FOLDER,
    caches: EngineCaches = EngineCaches(),  # noqa: B008 - frozen
) -> StandinEngine:
    """Load the shipped checkpoint on the CPU in float32, whatever weights and device the configuration names."""
    shipped = standin_config(config or EngineConfig(), folder)
    return StandinEngine(
        replace(
            shipped,
            device="cpu",
            dtype=Dtype.FLOAT32,
            quantization=Quantization.NONE,
            attention="sdpa",
            digest_cache=None,
            threads=shipped.threads or 2,
        ),
        caches,
    )
