"""Which weights answer for an adapter, in the words of `ModelProvenance`.

Input: the engine's weights. Output: names, revisions and digests, with the SHA-256 of every file. A merged model names
the base and the adapter that it was made of, and its own files beside theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.engines.bases import Bases, KnownWeights
from models.engines.configuration import BASE_ONLY
from models.weights import read_merge_record


@dataclass(frozen=True, slots=True)
class Origin:
    """The part of a provenance that the weights decide."""

    base: str
    base_revision: str
    base_digest: str
    adapter: str
    adapter_revision: str
    adapter_digest: str
    files: dict[str, str]


def origin(bases: Bases, adapter: str) -> Origin:
    """Return where an adapter's weights come from."""
    base = bases.bases[bases.base_of[adapter]]
    own = bases.adapters.get(adapter)
    if own is None and adapter != BASE_ONLY:
        return _merged(base)
    reference = base.found.reference
    files = _under("base", base.files)
    if own is None:
        return Origin(reference.hub_id, base.found.revision, base.digest, BASE_ONLY, "", "", files)
    return Origin(
        base=reference.hub_id,
        base_revision=base.found.revision,
        base_digest=base.digest,
        adapter=own.found.reference.hub_id,
        adapter_revision=own.found.revision,
        adapter_digest=own.digest,
        files=files | _under("adapter", own.files),
    )


def _merged(model: KnownWeights) -> Origin:
    record = read_merge_record(model.found.folder)
    return Origin(
        base=record.base,
        base_revision=record.base_revision,
        base_digest=record.base_digest,
        adapter=record.adapter,
        adapter_revision=record.adapter_revision,
        adapter_digest=record.adapter_digest,
        files=_under("base", record.base_files)
        | _under("adapter", record.adapter_files)
        | _under("merged", model.files),
    )


def _under(prefix: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}/{name}": digest for name, digest in files.items()}
