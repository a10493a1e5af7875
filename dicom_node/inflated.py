"""A deflated data set as a file to read in (PS3.5 A.5): an open DICOM file in, what it inflates to out, piece by piece.

Input: a file in Deflated Explicit VR Little Endian. Output: `InflatedFile`, which reads, tells and seeks in what it
inflates to. It holds a few megabytes at a time: some kilobytes can inflate to gigabytes.
On failure: `InflateError` (an `OSError`, as of any file that cannot be read).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from pydicom.uid import DeflatedExplicitVRLittleEndian

_PIECE_BYTES: Final = 1 << 20
#: Far beyond any data set (deflated ones are small: few senders know the syntax); it bounds the time, not the memory.
_MOST_INFLATED_BYTES: Final = 1 << 33


class InflateError(OSError):
    """A deflated data set cannot be inflated, or inflates to more than is allowed."""


class DamagedError(InflateError):
    """What follows is no deflated data."""


class InflatedFile(io.BufferedIOBase):
    """What the rest of an open file inflates to. Going back begins again from the start."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._starts_at = file.tell()
        self._limit = _MOST_INFLATED_BYTES
        #: Where it ends, once it was measured.
        self._end: int | None = None
        self._at = 0
        #: The inflated piece at hand, and where it begins.
        self._from = 0
        self._piece = b""
        self._restart()

    @classmethod
    def of(cls, file: BinaryIO) -> InflatedFile | None:
        """Return the deflated data set of an open DICOM file; None where it is not deflated."""
        from pydicom.filereader import read_dataset, read_preamble

        read_preamble(file, force=True)
        meta = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag.group != 2
        )
        deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        return cls(file) if deflated else None

    @contextmanager
    def limited(self, size: int) -> Iterator[None]:
        """Refuse to go beyond so many inflated bytes meanwhile."""
        before, self._limit = self._limit, size
        try:
            yield
        finally:
            self._limit = before

    def measure(self, at_most: int) -> int:
        """Return how many bytes it inflates to, by inflating all of it once; then begin again.

        What a cut or damaged stream still yields counts, and reading ends there.

        Raises:
            InflateError: It yields nothing, or more than `at_most` bytes.
        """
        self._restart()
        with self.limited(at_most):
            try:
                while self._fill():
                    pass
            except DamagedError:
                if not self._from + len(self._piece):
                    raise
        self._end = self._from + len(self._piece)
        self._restart()
        return self._end

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be moved in."""
        return True

    def tell(self) -> int:
        """Return the place in the inflated data set."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move from the start or from here; what lies between is inflated and dropped."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("where a deflated data set ends is not known")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._from:
            self._restart()
        self._at = min(target, self._from + len(self._piece))
        while self._at < target and self._fill():
            self._at = min(target, self._from + len(self._piece))
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes; fewer at the end."""
        if size is None or size < 0:
            size = self._limit
        if self._end is not None:
            size = min(size, self._end - self._at)
        parts = []
        while size > 0:
            start = self._at - self._from
            part = self._piece[start : start + size]
            if not part and not self._fill():
                break
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the deflated file too."""
        self._file.close()
        super().close()

    def _restart(self) -> None:
        self._file.seek(self._starts_at)
        self._engine: Any = zlib.decompressobj(-zlib.MAX_WBITS)
        self._at, self._from, self._piece = 0, 0, b""

    def _fill(self) -> bool:
        """Inflate the next piece; False at the end."""
        piece = b""
        try:
            while not piece and not self._engine.eof:
                raw = self._engine.unconsumed_tail or self._file.read(1 << 16)
                if not raw:
                    break
                piece = self._engine.decompress(raw, _PIECE_BYTES)
        except zlib.error as error:
            raise DamagedError(f"its deflated data set cannot be inflated: {error}") from error
        self._from += len(self._piece)
        self._piece = piece
        if self._from + len(piece) > self._limit:
            raise InflateError(f"its deflated data set inflates to more than {self._limit} bytes")
        return bool(piece)


def deflated_data_set(path: Path) -> BinaryIO:
    """Open the deflated data set of a file. Raises `InflateError` where it is not deflated."""
    file = path.open("rb")
    inflated = None
    try:
        inflated = InflatedFile.of(file)
    finally:
        if inflated is None:
            file.close()
    if inflated is None:
        raise InflateError(f"{path.name} is not deflated")
    return cast(BinaryIO, inflated)
