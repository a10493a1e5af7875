"""A stored Secondary Capture -> a PNG for a browser or a terminal.

Input: a DICOM file that this software wrote. Output: PNG bytes of one frame, pixel for pixel, banner included. On
failure `PictureError`, naming the file and the reason.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import pixel_array  # type: ignore[attr-defined]


class PictureError(Exception):
    """The object cannot be shown as a picture; the message says which and why."""


def png_of_capture(file: Path, frame: int = 1) -> bytes:
    """Return one frame (1-based) of an 8-bit Secondary Capture as PNG.

    Raises:
        PictureError: The file is gone, holds no such frame, or is no 8-bit picture.
    """
    try:
        ds = pydicom.dcmread(file)
        frames = int(ds.get("NumberOfFrames") or 1)
        pixels = pixel_array(ds, index=frame - 1) if 1 <= frame <= frames else None
    except Exception as error:  # a file can be damaged in any way: each is one unreadable picture
        raise PictureError(f"{file.name}: cannot be shown: {error}") from error
    if pixels is None:
        raise PictureError(f"{file.name}: there is no frame {frame}, it has {frames}")
    if pixels.dtype != np.uint8:
        raise PictureError(f"{file.name}: a key image has 8 bits a sample, this has {pixels.dtype}")
    png = BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    return png.getvalue()
