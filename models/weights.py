"""Weights on disk: found, told apart by digest, and matched with their base model. Nothing here needs torch.

Input: references to weights (hub id, revision, folder). Output: folders, SHA-256 digests and the state of each. On
failure: `WeightsError`, whose message says what to download, from where and under which licence, how to point the
settings at a local folder, and how to start the demonstration without any weights. The network is never used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from models.engines.configuration import AdapterWeights, EngineConfig, EngineKind, WeightsReference
from models.lora import LoraFile, obstacles_to_merging, obstacles_to_use, read_lora
from models.merge_record import MergeRecord, is_merged, read_merge_record
from models.weight_files import combined_digest, faults_of_adapter, faults_of_base, weight_digests
from models.weight_remedy import how_to_get

__all__ = [
    "STANDIN_BASE_ID",
    "STANDIN_FOLDER",
    "FoundWeights",
    "WeightsError",
    "check_base_match",
    "check_lora",
    "check_origin",
    "check_pin",
    "combined_digest",
    "find_weights",
    "is_merged",
    "lora_file",
    "merged_from",
    "read_merge_record",
    "standin_config",
    "weight_digests",
    "with_merged",
]

#: The checkpoint that is shipped in this package, and the names it goes by.
STANDIN_FOLDER = Path(__file__).parent / "standin" / "checkpoint"
STANDIN_BASE_ID = "dicom-worker/standin-base"


class WeightsError(Exception):
    """Weights are missing, incomplete or for another base model. Permanent until somebody puts them right."""


@dataclass(frozen=True, slots=True)
class FoundWeights:
    """Weights that lie on this machine."""

    reference: WeightsReference
    folder: Path

    @property
    def revision(self) -> str:
        """Return the exact revision: the commit where the hub cache knows it, else what the reference says."""
        # The hub cache keeps each revision as snapshots/<commit>.
        return self.folder.name if self.folder.parent.name == "snapshots" else self.reference.revision


def find_weights(
    reference: WeightsReference, *, adapter: bool, cache_dir: Path | None = None, name: str = ""
) -> FoundWeights:
    """Return where the weights lie: the reference's folder, else the hub cache.

    An adapter's folder may hold a merged model instead (`is_merged`). `name` is the adapter's, for the message.

    Raises:
        WeightsError: They are not there, or the folder lacks a file that is needed or holds it only in part.
    """
    if reference.folder is not None and reference.folder.is_relative_to(STANDIN_FOLDER):
        remedy = "  The stand-in is part of this software: install it again."
    else:
        remedy = how_to_get(reference, f"engine.adapters.{name}" if name else "")
    if reference.folder is not None:
        folder = reference.folder.expanduser()
        if not folder.is_dir():
            raise WeightsError(f"{reference.hub_id}: the folder {folder} of the settings does not exist.\n{remedy}")
    else:
        cached = _cached_snapshot(reference, cache_dir, marker="adapter_config.json" if adapter else "config.json")
        if cached is None:
            raise WeightsError(f"{reference.hub_id} (revision {reference.revision}) is not on this machine.\n{remedy}")
        folder = cached
    faults = faults_of_adapter(folder) if adapter and not is_merged(folder) else faults_of_base(folder)
    if faults:
        raise WeightsError(f"{reference.hub_id}: {folder} {'; it '.join(faults)}.\n{remedy}")
    return FoundWeights(reference, folder)


def check_base_match(found: FoundWeights, base: WeightsReference) -> None:
    """Make sure that an adapter was trained on this base model: the same LoRA on another base answers nonsense.

    Raises:
        WeightsError: Its adapter_config.json (or a merged model's note) names another base, or cannot be read.
    """
    trained_on = merged_from(found).base if is_merged(found.folder) else lora_file(found).base
    if trained_on is None or _last_part(trained_on) != _last_part(base.hub_id):
        raise WeightsError(
            f"adapter {found.reference.hub_id} was trained on {trained_on or 'a base it does not name'}, but the "
            f"engine's base is {base.hub_id}. Use the adapter with its own base (engine.bases), or leave it out "
            f"(engine.enabled)."
        )


def check_lora(found: FoundWeights, name: str) -> None:
    """Make sure that the engine can run what an adapter's own configuration asks for.

    Raises:
        WeightsError: It cannot; the message names the feature, and says where merging is the way out.
    """
    lora = lora_file(found)
    if obstacles := obstacles_to_use(lora):
        way_out = (
            "It can be used by no means here: leave it out (engine.enabled)."
            if obstacles_to_merging(lora)
            else f"Merge it into its base (`dicom-worker adapters merge {name} --out DIR`) and set "
            f"engine.adapters.{name} to DIR, or leave it out (engine.enabled)."
        )
        raise WeightsError(
            f"adapter {name}: {found.folder / 'adapter_config.json'} cannot be run as it is: "
            f"{'; '.join(obstacles)}. {way_out}"
        )


def check_pin(found: FoundWeights, config: EngineConfig) -> None:
    """Make sure that the files are the ones a site insists on (`EngineConfig.digests`), where it does.

    Raises:
        WeightsError: They are others; the message gives both digests.
    """
    hub_id = found.reference.hub_id
    wanted = config.digests.get(hub_id)
    if wanted is None:
        return
    digest = combined_digest(weight_digests(found.folder, config.digest_cache))
    if digest != wanted.strip().lower():
        raise WeightsError(
            f"{hub_id}: the files in {found.folder} have the combined SHA-256\n    {digest}\n"
            f"  but engine.digests insists on\n    {wanted}\n"
            f"  Somebody exchanged or damaged a file, or it is another revision ({found.revision}). Put the right\n"
            f"  files there, pin their revision (engine.revisions), or, if these are the ones you mean, write their\n"
            f"  digest into engine.digests."
        )


def with_merged(config: EngineConfig) -> EngineConfig:
    """Return the configuration with each merged adapter's folder as a base of its own, to which nothing is attached.

    Such an adapter keeps its name and reference and gets `merged=True`; its `base` is then its own hub id, a new key
    of `bases`. A base that only merged adapters came from is left out: it need not be on the machine.
    """
    merged = {
        name: own
        for name, own in config.adapters.items()
        if not own.merged and own.reference.folder is not None and is_merged(own.reference.folder.expanduser())
    }
    if not merged:
        return config
    adapters = {
        name: AdapterWeights(own.reference, own.reference.hub_id, merged=True) if name in merged else own
        for name, own in config.adapters.items()
    }
    needless = {own.base for own in merged.values()} - {own.base for own in adapters.values()}
    bases = {hub_id: base for hub_id, base in config.bases.items() if hub_id not in needless}
    return replace(
        config,
        adapters=adapters,
        bases=bases
        | {
            own.reference.hub_id: replace(own.reference, attention=config.bases[own.base].attention)
            for own in merged.values()
        },
    )


def standin_config(config: EngineConfig, checkpoint: Path = STANDIN_FOLDER) -> EngineConfig:
    """Return the configuration with the stand-in's base and adapters (as shipped) in place of any others."""

    def shipped(name: str, hub_id: str) -> WeightsReference:
        return WeightsReference(hub_id, "shipped", "Apache-2.0", checkpoint / name)

    folders = sorted(p.parent.name for p in checkpoint.glob("*/adapter_config.json"))
    return replace(
        config,
        kind=EngineKind.STANDIN,
        bases={STANDIN_BASE_ID: shipped("base", STANDIN_BASE_ID)},
        adapters={
            name: AdapterWeights(shipped(name, f"dicom-worker/standin-{name.replace('_', '-')}"), STANDIN_BASE_ID)
            for name in folders
        },
        digests={},
    )


def check_origin(found: FoundWeights, config: EngineConfig) -> None:
    """Make sure that a merged model is made of the adapter that it stands for, and of the base a site insists on."""
    record = merged_from(found)
    if _last_part(record.adapter) != _last_part(found.reference.hub_id):
        raise WeightsError(
            f"{found.folder} holds {record.base} with {record.adapter} merged in, but is set as the folder of "
            f"{found.reference.hub_id}; set engine.adapters to the right folder"
        )
    wanted = config.digests.get(record.base)
    if wanted is not None and record.base_digest != wanted.strip().lower():
        raise WeightsError(
            f"{found.folder} was merged from files of {record.base} with the combined SHA-256\n    "
            f"{record.base_digest}\n  but engine.digests insists on\n    {wanted}\n  Merge it again from the right "
            f"base (`dicom-worker adapters merge`), or correct engine.digests."
        )


def lora_file(found: FoundWeights) -> LoraFile:
    try:
        return read_lora(found.folder)
    except (OSError, ValueError) as error:
        path = found.folder / "adapter_config.json"
        raise WeightsError(f"{path} cannot be used as an adapter configuration: {error}") from error


def merged_from(found: FoundWeights) -> MergeRecord:
    try:
        return read_merge_record(found.folder)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"the note of {found.folder} about what was merged cannot be read: {error}; merge it again"
        ) from error


def _cached_snapshot(reference: WeightsReference, cache_dir: Path | None, marker: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if not reference.published:
        return None
    path = try_to_load_from_cache(reference.hub_id, marker, cache_dir=cache_dir, revision=reference.revision)
    return Path(path).parent if isinstance(path, str) else None


def _last_part(hub_id: str) -> str:
    return hub_id.rstrip("/").rsplit("/", 1)[-1].lower()
