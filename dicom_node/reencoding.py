"""A file in the default transfer syntax, for a peer that accepts no other (PS3.5 10.1).

Input: a DICOM file in Explicit VR Little Endian. Output: the same data set in Implicit VR Little Endian, in a file that
is gone with the block. Nothing but the encoding changes. On failure `FileFormatError`, and `OSError` for the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.file_format import FileFormatError


@contextmanager
def in_default_syntax(path: Path) -> Iterator[Path]:
    """Yield the path of the same instance in Implicit VR Little Endian."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as other:
        try:
            ds = dcmread(path)
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            ds.save_as(other, implicit_vr=True, little_endian=True, enforce_file_format=True)
        except (ValueError, AttributeError, KeyError, TypeError, NotImplementedError) as error:
            raise FileFormatError(f"{path} cannot be written in {ImplicitVRLittleEndian.name}: {error}") from error
        other.flush()
        yield Path(other.name)
