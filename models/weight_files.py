"""The files of a folder with weights: what is missing, what was cut off, and their digests. Nothing here needs torch.

Input: a folder. Output: lists of faults in words, and SHA-256 digests. On failure: `OSError` where a file
cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_DIGEST_CHUNK_BYTES = 4 << 20
#: A longer header than this is no header: safetensors' own limit.
_MAX_HEADER_BYTES = 100_000_000


def faults_of_base(folder: Path) -> list[str]:
    """Return what a base model's folder lacks, or holds only in part."""
    faults = [f"lacks {name}" for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            return [*faults, f"lacks a readable {index.name}"]
    else:
        shards = ["model.safetensors"]
    faults += [fault for name in shards if (fault := _tensor_fault(folder / name))]
    # Only now: who has no weights at all is not helped by hearing of a missing chat template.
    if not faults:
        if not any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
            faults.append("lacks processor_config.json (how images are prepared)")
        if not _has_chat_template(folder):
            faults.append("lacks chat_template.jinja (how questions are put)")
    return faults


def faults_of_adapter(folder: Path) -> list[str]:
    """Return what an adapter's folder lacks, or holds only in part."""
    faults = [] if (folder / "adapter_config.json").is_file() else ["lacks adapter_config.json"]
    fault = _tensor_fault(folder / "adapter_model.safetensors")
    if fault and (folder / "adapter_model.bin").is_file():
        fault += (
            "; its adapter_model.bin is a pickle, which can run any code when it is read, and is not loaded: "
            "ask its author for safetensors"
        )
    return [*faults, fault] if fault else faults


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


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's JSON object.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds no JSON object.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"it holds {type(document).__name__}, not an object")  # noqa: TRY004  callers catch ValueError
    return document


def _tensor_fault(path: Path) -> str | None:
    """Return what is wrong with a safetensors file by its header; a download that was cut off is the usual case.

    The file starts with the header's length (8 bytes, little endian) and the header (JSON), which says where each
    tensor begins and ends in what follows (safetensors format, https://github.com/huggingface/safetensors).
    """
    if not path.is_file():
        return f"lacks {path.name}"
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= _MAX_HEADER_BYTES:
            return f"has a {path.name} that is no safetensors file"
        try:
            header = json.loads(stream.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return f"has a {path.name} that is no safetensors file, or was cut off in its header"
    wanted, there = 8 + length + int(end), path.stat().st_size
    if there != wanted:
        return f"has a {path.name} of {there} bytes where its header says {wanted}: it was not copied as a whole"
    return None


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    for name in ("tokenizer_config.json", "processor_config.json"):
        try:
            if read_json(folder / name).get("chat_template"):
                return True
        except (OSError, ValueError):
            continue
    return False


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        sha = hashlib.sha256()
        while chunk := stream.read(_DIGEST_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()
