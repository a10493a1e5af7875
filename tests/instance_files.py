"""Files of images as the steps get them."""

from __future__ import annotations

from pathlib import Path

from dicom_node.headers import InstanceFile, read_header


def stored(*paths: Path) -> list[InstanceFile]:
    """Return files with their headers."""
    return [InstanceFile(read_header(path), path) for path in paths]
