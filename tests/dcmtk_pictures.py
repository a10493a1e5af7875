"""Pictures of DICOM files by dcmtk's dcm2pnm, dcmj2pnm and dcml2pnm: an implementation that shares no code with ours.

Input: a file and the tool's options. Output: the 8-bit picture, or None where dcmtk cannot read the file. A tool that
is not installed is an error: a test must not pass because nothing was compared.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import JPEGLSLossless, JPEGLSNearLossless

from tests.services.process import dcmtk

_TIMEOUT_S = 60


def dcmtk_picture(path: Path, syntax: str, *options: str, overlays: bool = False) -> NDArray[np.uint8] | None:
    """Return a file's picture, (rows, columns), or (rows, columns, 3) of a colour image; None where dcmtk cannot.

    Args:
        path: The file.
        syntax: Its transfer syntax UID, which decides on the tool.
        options: Which shading, e.g. "+Wi", "1".
        overlays: Whether overlays are drawn.
    """
    tool = dcmtk("dcml2pnm" if syntax in (JPEGLSLossless, JPEGLSNearLossless) else "dcmj2pnm")
    asked = [*options, "--display-overlay" if overlays else "--no-overlays", *(["0"] if overlays else [])]
    done = subprocess.run([tool, "--quiet", *asked, str(path)], capture_output=True, timeout=_TIMEOUT_S, check=False)
    return _netpbm(done.stdout) if done.returncode == 0 else None


def _netpbm(file: bytes) -> NDArray[np.uint8]:
    """Read a binary PGM or PPM: three lines of text, then the values."""
    head = re.match(rb"(P5|P6)\s(?:#.*\n)?(\d+) (\d+)\s255\n", file)
    if head is None:
        raise AssertionError(f"dcmtk wrote {file[:40]!r}")
    columns, rows = int(head[2]), int(head[3])
    values = np.frombuffer(file, dtype=np.uint8, offset=head.end())
    return values.reshape((rows, columns) if head[1] == b"P5" else (rows, columns, 3))
