"""The state of an engine's weights: what there is of each base model and adapter, and what is wrong with it.

Input: an `EngineConfig`. Output: a `WeightsState` each, or the faults alone. It does not fail: whatever is wrong is
said in the state. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.engines.configuration import EngineConfig, EngineKind, WeightsReference
from models.lora import LoraFile
from models.merge_record import MergeRecord, is_merged
from models.weight_files import combined_digest, weight_digests
from models.weights import (
    FoundWeights,
    WeightsError,
    check_base_match,
    check_lora,
    check_origin,
    check_pin,
    find_weights,
    lora_file,
    merged_from,
    standin_config,
    with_merged,
)


@dataclass(frozen=True, slots=True)
class WeightsState:
    """What there is of one base model or adapter, and what is wrong with it."""

    #: Adapter name; "" for a base model.
    name: str
    reference: WeightsReference
    #: Hub id of the base it answers on (its own, for a base model).
    base: str
    found: FoundWeights | None = None
    #: Combined SHA-256; "" where it was not asked for.
    digest: str = ""
    #: What the adapter's own file says; None for a base model, a merged one, or a file that cannot be read.
    lora: LoraFile | None = None
    #: Set where the folder holds a merged model.
    merged: MergeRecord | None = None
    problems: tuple[str, ...] = ()


def inspect_weights(config: EngineConfig, *, hashed: bool = False) -> list[WeightsState]:
    """Return the state of every base model and adapter of an engine, bases first; costs no torch.

    `hashed` asks for the digest of each: a minute for gigabytes that were never hashed before. A server (kind openai)
    has its weights elsewhere: the list is empty.
    """
    if config.kind == EngineKind.OPENAI:
        return []
    if config.kind == EngineKind.STANDIN:
        config = standin_config(config)
    needed = with_merged(config).bases
    states = [
        _inspect(WeightsState("", base, base.hub_id), base, config, hashed)
        for base in config.bases.values()
        if base.hub_id in needed
    ]
    for name, own in config.adapters.items():
        states.append(_inspect(WeightsState(name, own.reference, own.base), config.bases[own.base], config, hashed))
    return states


def check_weights(config: EngineConfig) -> list[str]:
    """Return what is wrong with an engine's weights, one message each; empty when it can be loaded. Costs no torch.

    A server (kind openai) is asked what it serves.
    """
    if config.kind == EngineKind.OPENAI:
        from models.engines.openai import check_server

        return check_server(config)
    return [problem for state in inspect_weights(config) for problem in state.problems]


def _inspect(state: WeightsState, base: WeightsReference, config: EngineConfig, hashed: bool) -> WeightsState:
    """Find out as much as can be, up to the first thing that is wrong."""
    adapter = bool(state.name)
    try:
        found = find_weights(state.reference, adapter=adapter, cache_dir=config.cache_dir, name=state.name)
        state = replace(state, found=found)
        if hashed:
            state = replace(state, digest=combined_digest(weight_digests(found.folder, config.digest_cache)))
        if adapter and is_merged(found.folder):
            state = replace(state, merged=merged_from(found))
            check_origin(found, config)
        elif adapter:
            state = replace(state, lora=lora_file(found))
            check_lora(found, state.name)
        if adapter:
            check_base_match(found, base)
        check_pin(found, config)
    except WeightsError as error:
        return replace(state, problems=(str(error),))
    except OSError as error:
        return replace(state, problems=(f"{state.reference.hub_id} cannot be read: {error}",))
    return state
