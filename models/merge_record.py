"""The note in a merged model's folder: which adapter was merged into which base.

Input: a folder that `dicom-worker adapters merge` made. Output: `MergeRecord`. On failure: `ValueError`
or `OSError` where the note cannot be understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from models.weight_files import combined_digest, read_json

#: File name of the note.
MERGE_RECORD = "dicom_worker_merge.json"


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """Where a merged model comes from."""

    #: Adapter name (`models/adapters/NAME`).
    name: str
    #: Hub ids and revisions.
    base: str
    base_revision: str
    adapter: str
    adapter_revision: str
    #: File name -> SHA-256 of what was merged.
    base_files: Mapping[str, str]
    adapter_files: Mapping[str, str]
    #: Number format of the merged weights; the sum was made in float32.
    dtype: str
    #: "transformers 5.23.0, peft ..., torch ...".
    software: str

    @property
    def base_digest(self) -> str:
        """Return the combined digest of the base model that went in."""
        return combined_digest(dict(self.base_files))

    @property
    def adapter_digest(self) -> str:
        """Return the combined digest of the adapter that went in."""
        return combined_digest(dict(self.adapter_files))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def is_merged(folder: Path) -> bool:
    """Return whether this folder holds a base model with an adapter merged in, not an adapter."""
    return (folder / MERGE_RECORD).is_file()


def read_merge_record(folder: Path) -> MergeRecord:
    """Return where the merged model in a folder comes from.

    Raises:
        OSError: The note cannot be read.
        ValueError: It is not one of these notes.
    """
    stored = read_json(folder / MERGE_RECORD)
    names = {field.name for field in fields(MergeRecord)}
    if lacking := sorted(names - set(stored)):
        raise ValueError(f"it does not say {', '.join(lacking)}")
    return MergeRecord(**{name: stored[name] for name in names})


def write_merge_record(folder: Path, record: MergeRecord) -> None:
    """Write the note into a merged model's folder."""
    (folder / MERGE_RECORD).write_text(json.dumps(record.to_json(), indent=2) + "\n", encoding="utf-8")
