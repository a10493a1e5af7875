"""The fragments of an encapsulated pixel data element as one seekable file, read in place (PS3.5 A.4).

Input: an instance whose pixel data are one stream. Output: a binary file over its fragments, without the basic offset
table; nothing is copied. On failure: `PixelError`, where there are no fragments or they are cut.
"""

from __future__ import annotations

import io
import itertools
import struct
from bisect import bisect_right
from typing import Any

from pydicom.encaps import parse_fragments

from dicom_node.pixels import ImageAttributes


class FragmentStream(io.RawIOBase):
    """The fragments of one encapsulated pixel data element as one seekable file, read in place (PS3.5 A.4)."""

    def __init__(self, image: ImageAttributes) -> None:
        super().__init__()
        self._file = image.path.open("rb")
        self._at = 0
        try:
            self._pieces = self._find_pieces(image)
        except BaseException:
            self._file.close()
            raise
        #: Where in the stream each fragment ends.
        self._ends = list(itertools.accumulate(length for _, length in self._pieces))

    def _find_pieces(self, image: ImageAttributes) -> list[tuple[int, int]]:
        """Return (offset in the file, length) of each fragment but the basic offset table."""
        self._file.seek(image.pixel_data_at)
        head = self._file.read(12)
        if len(head) < 12 or head[:4] != b"\xe0\x7f\x10\x00" or head[8:] != b"\xff\xff\xff\xff":
            raise image.error("it has no encapsulated pixel data", "send the instance with its pixels")
        try:
            _, offsets = parse_fragments(self._file)
        except ValueError as error:
            raise image.error(
                f"its fragments cannot be told apart ({error})", "check the original and send the instance again"
            ) from error
        pieces = []
        for offset in offsets[1:]:
            self._file.seek(offset + 4)
            pieces.append((offset + 8, struct.unpack("<I", self._file.read(4))[0]))
        there = image.path.stat().st_size
        if not pieces or pieces[-1][0] + pieces[-1][1] > there:
            raise image.error("its pixel data are truncated", "send the instance again")
        return pieces

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be moved in."""
        return True

    def tell(self) -> int:
        """Return the place in the stream."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move in the stream."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the fragment at this place goes."""
        place = bisect_right(self._ends, self._at)
        if place == len(self._pieces):
            return 0
        offset, length = self._pieces[place]
        left = self._ends[place] - self._at
        self._file.seek(offset + length - left)
        count = self._file.readinto(memoryview(buffer).cast("B")[:left])
        self._at += count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
