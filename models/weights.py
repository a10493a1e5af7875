"""Weights on disk: found, told apart by digest, and matched with their base model. Nothing here needs torch.

Input: references to weights (hub id, revision, folder). Output: folders and SHA-256 digests. On failure:
`WeightsError`, whose message says what to download, from where and under which licence, how to point the settings at
a local folder, and how to start the demonstration without any weights. The network is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from models.engines.configuration import AdapterWeights, EngineConfig, EngineKind, WeightsReference

#: Licence of MedGemma's weights, where a reference names none.
MEDGEMMA_LICENCE = "Health AI Developer Foundations terms of use"
_MEDGEMMA_TERMS_URL = "https://developers.google.com/health-ai-developer-foundations/terms"

#: The checkpoint that is shipped in this package, and the names it goes by.
STANDIN_FOLDER = Path(__file__).parent / "standin" / "checkpoint"
STANDIN_BASE_ID = "dicom-worker/standin-base"

_DIGEST_CHUNK_BYTES = 4 << 20


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


def find_weights(reference: WeightsReference, *, adapter: bool, cache_dir: Path | None = None) -> FoundWeights:
    """Return where the weights lie: the reference's folder, else the hub cache.

    Raises:
        WeightsError: They are not there, or the folder lacks a file that is needed.
    """
    if reference.folder is not None:
        folder = reference.folder.expanduser()
        if not folder.is_dir():
            raise WeightsError(
                f"{reference.hub_id}: the folder {folder} of the settings does not exist.\n{_remedy(reference)}"
            )
    else:
        cached = _cached_snapshot(reference, cache_dir, marker="adapter_config.json" if adapter else "config.json")
        if cached is None:
            raise WeightsError(
                f"{reference.hub_id} (revision {reference.revision}) is not on this machine.\n{_remedy(reference)}"
            )
        folder = cached
    missing = _missing_files(folder, adapter=adapter)
    if missing:
        raise WeightsError(f"{reference.hub_id}: {folder} lacks {', '.join(missing)}.\n{_remedy(reference)}")
    return FoundWeights(reference, folder)


def check_base_match(found: FoundWeights, base: WeightsReference) -> None:
    """Make sure that an adapter was trained on this base model: the same LoRA on another base answers nonsense.

    Raises:
        WeightsError: Its adapter_config.json names another base, or cannot be read.
    """
    path = found.folder / "adapter_config.json"
    try:
        trained_on = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read as an adapter configuration: {error}") from error
    if trained_on is None or _last_part(trained_on) != _last_part(base.hub_id):
        raise WeightsError(
            f"adapter {found.reference.hub_id} was trained on {trained_on or 'a base it does not name'}, but the "
            f"engine's base is {base.hub_id}. Use the adapter with its own base (engine.base), or leave it out."
        )


def weight_digests(folder: Path, digest_cache: Path | None = None) -> dict[str, str]:
    """Return file name -> SHA-256 of every weight and configuration file in a folder.

    Large files are hashed once per (path, size, modification time) when `digest_cache` names a JSON file.
    """
    remembered: dict[str, str] = {}
    if digest_cache is not None and digest_cache.is_file():
        try:
            remembered = json.loads(digest_cache.read_text(encoding="utf-8"))
        except ValueError:
            remembered = {}  # a broken cache costs time, nothing else
    known = dict(remembered)
    digests = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".model", ".jinja")):
        state = path.stat()
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        if key not in known:
            known[key] = _sha256(path)
        digests[path.name] = known[key]
    if digest_cache is not None and known != remembered:
        digest_cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = digest_cache.with_name(f"{digest_cache.name}.{os.getpid()}")
        temporary.write_text(json.dumps(known, indent=1), encoding="utf-8")
        temporary.replace(digest_cache)
    return digests


def combined_digest(digests: dict[str, str]) -> str:
    """Return one SHA-256 that changes when any file, or its name, does."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


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


def check_weights(config: EngineConfig) -> list[str]:
    """Return what is wrong with an engine's weights, one message each; empty when it can be loaded. Costs no torch."""
    if config.kind == EngineKind.OPENAI:
        return []
    if config.kind == EngineKind.STANDIN:
        config = standin_config(config)
    problems = []
    for base in config.bases.values():
        try:
            find_weights(base, adapter=False, cache_dir=config.cache_dir)
        except WeightsError as error:
            problems.append(str(error))
    for own in config.adapters.values():
        try:
            found = find_weights(own.reference, adapter=True, cache_dir=config.cache_dir)
            check_base_match(found, config.bases[own.base])
        except WeightsError as error:
            problems.append(str(error))
    return problems


def _cached_snapshot(reference: WeightsReference, cache_dir: Path | None, marker: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(reference.hub_id, marker, cache_dir=cache_dir, revision=reference.revision)
    return Path(path).parent if isinstance(path, str) else None


def _missing_files(folder: Path, *, adapter: bool) -> list[str]:
    """Return which files a folder of weights lacks. Pickled weights (.bin) do not count: loading one runs code."""
    if adapter:
        return [name for name in ("adapter_config.json", "adapter_model.safetensors") if not (folder / name).is_file()]
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            return [*missing, f"a readable {index.name}"]
        missing += sorted(name for name in shards if not (folder / name).is_file())
    elif not (folder / "model.safetensors").is_file():
        missing.append("model.safetensors")
    return missing


def _remedy(reference: WeightsReference) -> str:
    if reference.folder is not None and reference.folder.is_relative_to(STANDIN_FOLDER):
        return "  The stand-in is part of this software: install it again."
    if not reference.published:
        return (
            "  They are on no hub: train them with the author's script, or get them from the author, and name\n"
            "  the folder that holds them in the settings (engine.adapters: {ADAPTER: FOLDER}), or leave the\n"
            "  adapter out (engine.enabled)."
        )
    licence = reference.licence or MEDGEMMA_LICENCE
    terms = f" ({_MEDGEMMA_TERMS_URL})" if licence == MEDGEMMA_LICENCE else ""
    return (
        f"  To get them: accept the licence of https://huggingface.co/{reference.hub_id} - {licence}{terms} - and run\n"
        f"    hf download {reference.hub_id} --revision {reference.revision}\n"
        f"  or name a folder that holds them in the settings (engine.bases, engine.adapters).\n"
        f"  To see the system without any weights, start\n"
        f"    dicom-worker run --profile demo\n"
        f"  which answers with the stand-in; its answers mean nothing."
    )


def _last_part(hub_id: str) -> str:
    return hub_id.rstrip("/").rsplit("/", 1)[-1].lower()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        sha = hashlib.sha256()
        while chunk := stream.read(_DIGEST_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()
