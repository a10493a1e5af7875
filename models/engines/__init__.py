"""Engines: what turns a `GenerationRequest` into a `Generation`.

Input: an `EngineConfig`. Output: an `Engine` with its models in memory. On failure: `EngineError` or
`models.weights.WeightsError`, with the reason and the remedy. Importing this package loads neither torch nor
transformers; `load_engine` does.
"""

from __future__ import annotations

from models.engines.configuration import (
    BASE_ONLY,
    AdapterWeights,
    Dtype,
    EngineConfig,
    EngineDeviceError,
    EngineError,
    EngineKind,
    EngineOutOfMemoryError,
    OpenAIServer,
    Quantization,
    WeightsReference,
)
from models.generation import Engine

__all__ = [
    "BASE_ONLY",
    "AdapterWeights",
    "Dtype",
    "EngineConfig",
    "EngineDeviceError",
    "EngineError",
    "EngineKind",
    "EngineOutOfMemoryError",
    "OpenAIServer",
    "Quantization",
    "WeightsReference",
    "load_engine",
]


def load_engine(config: EngineConfig) -> Engine:
    """Load the models and return the engine that answers with them.

    Raises:
        WeightsError: Weights are missing or belong to another base model.
        EngineError: The device, precision or kind cannot be had here.
    """
    if config.kind == EngineKind.STANDIN:
        from models.engines.standin import load_standin

        return load_standin(config)
    if config.kind == EngineKind.TRANSFORMERS:
        from models.engines.transformers import TransformersEngine

        return TransformersEngine(config)
    if config.kind == EngineKind.OPENAI:
        from models.engines.openai import OpenAIEngine

        return OpenAIEngine(config)
    raise EngineError(f"engine.kind {str(config.kind)!r} is none of {', '.join(EngineKind)}")
