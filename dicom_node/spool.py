"""The store of received and made instances: bytes in, a durable file named by its digest out.

Input: File Meta Information and the fragments of a data set, or a whole file. Output: `StoredFile`, whose bytes and
directory entry are on disk when `commit` returns. On failure `SpoolError`, and nothing is left that could be taken for
a whole object: what is being written lives in `incoming/`, and only whole, synced files are renamed into `objects/`. No
text from the network ever becomes part of a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_OBJECT_NAME: Final = re.compile(r"[0-9a-f]{64}\.dcm")


class SpoolError(Exception):
    """The disk does not take the instance; the message names the directory and the reason.

    Transient: the sender may try again when there is room.
    """


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A whole, durable file in the spool."""

    path: Path
    #: SHA-256 of the file, hexadecimal; also its name.
    sha256: str
    #: In bytes, File Meta Information included.
    size: int


class Spool:
    """A content-addressed store below `root`: ``objects/<first two hex digits>/<sha256>.dcm``."""

    def __init__(self, root: Path, incoming: str = "incoming", *, keep_free_bytes: int = 0) -> None:
        """Open the store, making its folders where they are absent. Raises `SpoolError`.

        Each process that receives has an `incoming` folder of its own, which only it may sweep. What is begun while
        less than `keep_free_bytes` of the disk are free is refused.
        """
        self.root = root
        self._keep_free_bytes = keep_free_bytes
        self.incoming = root / incoming
        self._objects = root / "objects"
        try:
            self.incoming.mkdir(parents=True, exist_ok=True)
            # All at once, so that storing an object needs no new directory entry but its own.
            for number in range(256):
                (self._objects / f"{number:02x}").mkdir(parents=True, exist_ok=True)
            for directory in (self._objects, root, root.parent):
                _sync_directory(directory)
        except OSError as error:
            raise SpoolError(f"the spool {root} cannot be opened: {error.strerror}") from error

    def begin(self, meta: bytes) -> SpoolWriter:
        """Start an object with the bytes that precede the data set (`file_format.file_meta`). Raises `SpoolError`."""
        if self._keep_free_bytes:
            self._check_room()
        return SpoolWriter(self, meta)

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.incoming).free
        if free < self._keep_free_bytes:
            keeps, has = (f"{size / (1 << 30):.1f} GiB" for size in (self._keep_free_bytes, free))
            raise SpoolError(f"{self.root} takes no more: it keeps {keeps} free, and has {has}")

    def put_bytes(self, data: bytes) -> StoredFile:
        """Store a whole file. Raises `SpoolError`."""
        with self.begin(data) as writer:
            return writer.commit()

    def path_of(self, sha256: str) -> Path:
        """Return where the object with this digest lies or would lie. Raises `ValueError` on anything but a digest."""
        name = f"{sha256}.dcm"
        if not _OBJECT_NAME.fullmatch(name):
            raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal")
        return self._objects / sha256[:2] / name

    def sweep(self) -> int:
        """Remove what an earlier process left unfinished and return how many there were.

        Only for the process that owns the spool, before it accepts anything.
        """
        leftovers = list(self.incoming.glob("*.part"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def objects(self) -> Iterator[Path]:
        """Yield the path of every whole object, in the order of the digests; other files are not looked at."""
        for directory in sorted(self._objects.iterdir()):
            for path in sorted(directory.iterdir()):
                if _OBJECT_NAME.fullmatch(path.name) and path.name.startswith(directory.name):
                    yield path


class SpoolWriter:
    """One object on its way into the spool. Leaving the `with` block without `commit` removes it."""

    def __init__(self, spool: Spool, meta: bytes) -> None:
        self._spool = spool
        self._digest = hashlib.sha256()
        self._size = 0
        #: Where the bytes lie until they are committed; readable meanwhile.
        self.path = spool.incoming / f"{secrets.token_hex(16)}.part"
        try:
            self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise SpoolError(f"{spool.incoming} takes no file: {error.strerror}") from error
        try:
            self.write(meta)
        except BaseException:
            self.discard()
            raise

    @property
    def size(self) -> int:
        """Bytes written so far, File Meta Information included."""
        return self._size

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append `chunk`. Raises `SpoolError`."""
        self._digest.update(chunk)
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise SpoolError(f"{self._spool.incoming} takes no more data: {error.strerror}") from error
        self._size += len(chunk)

    def commit(self) -> StoredFile:
        """Make the object durable under its digest: data, name and directory entry. Raises `SpoolError`.

        An object that is there already is replaced by its equal: the one there may not be durable yet.
        """
        sha256 = self._digest.hexdigest()
        target = self._spool.path_of(sha256)
        try:
            os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = -1
            self.path.rename(target)
            _sync_directory(target.parent)
        except OSError as error:
            raise SpoolError(f"{target.parent} does not take the object {sha256}: {error.strerror}") from error
        return StoredFile(target, sha256, self._size)

    def discard(self) -> None:
        """Remove what was written, unless it was committed; calling it again does nothing."""
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def _sync_directory(path: Path) -> None:
    """Make the entries of the directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
