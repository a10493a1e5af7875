"""The base models of an engine: which weights they are, and which of them are in memory.

Input: an `EngineConfig`. Output: weights found, matched and hashed, at once; an `Answerer` for a base when it is first
asked for, ready to answer. Those used longest ago make room. On failure: `WeightsError`, `EngineError`.
"""

from __future__ import annotations

import gc
import json
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch

from models.engines.answering import Answerer
from models.engines.configuration import (
    BASE_ONLY,
    AdapterWeights,
    EngineConfig,
    EngineOutOfMemoryError,
    Quantization,
)
from models.engines.embeddings import ImageCache
from models.engines.reading import PrefixCache
from models.engines.resident import choose_device, choose_dtype, load_resident
from models.weights import (
    FoundWeights,
    WeightsError,
    check_base_match,
    check_lora,
    check_pin,
    combined_digest,
    find_weights,
    weight_digests,
    with_merged,
)

log = structlog.get_logger()

#: A model needs room beside its weights: adapters, activations, key-value caches.
_ROOM_BESIDE = 1.25
#: Bytes of a quantised weight: 4 bits and its share of the scales.
_NF4_BYTES = 0.55


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """Weights on this machine, hashed."""

    found: FoundWeights
    #: File name -> SHA-256.
    files: dict[str, str]
    #: SHA-256 over all files.
    digest: str


class Bases:
    """Finds all weights at once; loads a base when it is needed, and drops the one used longest ago for another."""

    def __init__(self, config: EngineConfig, images: ImageCache, prefixes: int) -> None:
        """Find, match and hash all weights; load nothing.

        Args:
            config: the engine's configuration.
            images: the embeddings that all bases keep, together.
            prefixes: how many questions each base remembers having read.

        Raises:
            WeightsError: Weights are missing, changed, or belong to another base.
            EngineError: The device cannot be had.
        """
        config = with_merged(config)
        if not config.bases:
            raise WeightsError("the engine has no base model; enable an adapter (engine.enabled)")
        self._config, self._images, self._prefixes = config, images, prefixes
        self.device = choose_device(config.device)
        self.dtype = choose_dtype(config.dtype, self.device)
        self.bases = {
            hub_id: self._known(find_weights(base, adapter=False, cache_dir=config.cache_dir))
            for hub_id, base in config.bases.items()
        }
        #: Adapter name -> hub id of the base that answers for it; `BASE_ONLY` is the first.
        self.base_of = {BASE_ONLY: next(iter(config.bases))}
        self.base_of |= {name: own.base for name, own in config.adapters.items()}
        self.adapters = {
            name: self._known_adapter(name, own) for name, own in config.adapters.items() if not own.merged
        }
        self._loaded: OrderedDict[str, Answerer] = OrderedDict()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the hub ids of the bases in memory, the one used last at the end."""
        return tuple(self._loaded)

    def get(self, hub_id: str) -> Answerer:
        """Return a base with its adapters in memory; one that does not fit takes the place of the one used longest ago.

        Raises:
            EngineError: It cannot be loaded.
            EngineOutOfMemoryError: It does not fit, not in that place either.
        """
        if hub_id in self._loaded:
            self._loaded.move_to_end(hub_id)
            return self._loaded[hub_id]
        self._make_room(hub_id)
        loaded: Answerer | None = None
        try:
            loaded = self._load(hub_id)
        except EngineOutOfMemoryError:
            if not self._loaded:
                raise
        if loaded is None:
            # Only here, behind the exception, which held what was loaded before the memory ended.
            log.warning("no room beside other base models", action="load_model", base=hub_id)
            self._drop_oldest(hub_id)
            loaded = self._load(hub_id)
        self._loaded[hub_id] = loaded
        return loaded

    def forget_prefixes(self) -> None:
        """Free what is kept of questions that were read."""
        for loaded in self._loaded.values():
            loaded.prefixes.clear()

    def drop_all(self) -> None:
        """Free the memory of all bases."""
        self._loaded.clear()
        free_device_memory()

    def _make_room(self, hub_id: str) -> None:
        """Drop the bases used longest ago until this one fits by count and by memory, or none is left."""
        most = self._config.max_bases
        needed = _ROOM_BESIDE * _bytes_in_memory(self.bases[hub_id].found.folder, self._config, self.dtype)
        while self._loaded:
            room = free_bytes(self.device)
            if (most is None or len(self._loaded) < most) and (room is None or room >= needed):
                return
            self._drop_oldest(hub_id)

    def _drop_oldest(self, wanted: str) -> None:
        """Free the memory of the base used longest ago, and of what a failed try to load has left."""
        dropped, _ = self._loaded.popitem(last=False)
        free_device_memory()
        log.info("base model dropped for another", action="drop_model", base=dropped, wanted=wanted)

    def _load(self, hub_id: str) -> Answerer:
        started = time.monotonic()
        answering = {name: own for name, own in self._config.adapters.items() if own.base == hub_id}
        # A merged adapter is in the base's weights already.
        folders = {name: self.adapters[name].found.folder for name, own in answering.items() if not own.merged}
        own = replace(self._config, attention=self._config.attention_of(self._config.bases[hub_id]))
        resident = load_resident(own, self.bases[hub_id].found.folder, folders)
        log.info(
            "model loaded",
            action="load_model",
            engine=str(self._config.kind),
            base=hub_id,
            adapters=sorted(answering),
            device=str(resident.device),
            elapsed_s=round(time.monotonic() - started, 2),
        )
        return Answerer(resident, PrefixCache(self._prefixes), self._images, self._config.batch)

    def _known_adapter(self, name: str, own: AdapterWeights) -> KnownWeights:
        found = find_weights(own.reference, adapter=True, cache_dir=self._config.cache_dir, name=name)
        check_lora(found, name)
        check_base_match(found, self._config.bases[own.base])
        return self._known(found)

    def _known(self, found: FoundWeights) -> KnownWeights:
        check_pin(found, self._config)
        files = weight_digests(found.folder, self._config.digest_cache)
        return KnownWeights(found, files, combined_digest(files))


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory the device has left for another model; None where that cannot be known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds in reserve without using it is ours, too.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return available[0] if available else None


def free_device_memory() -> None:
    """Give back what is no longer referred to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _bytes_in_memory(folder: Path, config: EngineConfig, dtype: torch.dtype) -> float:
    """Return how many bytes a base's weights take in memory, from the headers of its safetensors files."""
    total = 0.0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            elements = 1
            for extent in tensor["shape"]:
                elements *= extent
            linear = "language_model" in name and "embed" not in name and len(tensor["shape"]) == 2
            in_four_bits = config.quantization == Quantization.NF4 and linear
            total += elements * (_NF4_BYTES if in_four_bits else dtype.itemsize)
    return total
