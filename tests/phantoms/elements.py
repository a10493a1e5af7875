"""Elements by keyword -> a data set; a data set -> a file with its header. What every phantom is put together with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.headers import InstanceFile, read_header


def dataset(**elements: Any) -> Dataset:
    """Return a data set, or an item of a sequence, with these elements."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def saved(ds: Dataset, path: Path) -> InstanceFile:
    """Write a data set as a file, and return it as a stored instance."""
    ds.save_as(path, enforce_file_format=True)
    return InstanceFile(read_header(path), path)
