"""multipart/related (RFC 2387, RFC 2046 5.1), both ways, piece by piece: no part is ever held whole.

Input: pieces of a body, cut anywhere; or parts to be sent. Output: `Part`, `bytes` and `END` in turn; or the bytes
around parts. On failure: `MultipartError`, where the body is not multipart or its heads are longer than any real one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

_MOST_HEAD_BYTES: Final = 16384
#: RFC 2046 5.1.1 allows 70 characters; Orthanc writes 73.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")


class MultipartError(ValueError):
    """The body is not what its Content-Type says; the message says how."""


class PartEnd(Enum):
    """The end of a part."""

    END = auto()


END: Final = PartEnd.END


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a part: its header fields, names in lower case."""

    headers: Mapping[str, str] = field(default_factory=dict)


class _State(Enum):
    #: Before the first boundary.
    PREAMBLE = auto()
    #: After a boundary: either two hyphens or the end of the line.
    BOUNDARY = auto()
    HEAD = auto()
    BODY = auto()
    EPILOGUE = auto()


class MultipartReader:
    """Takes a body piece by piece and tells its parts."""

    def __init__(self, boundary: str) -> None:
        """Read parts that this boundary separates. Raises `MultipartError` where it can be none."""
        if _BOUNDARY.fullmatch(boundary) is None:
            raise MultipartError(f"{boundary[:100]!r} cannot be a boundary (RFC 2046 5.1.1)")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # The line end belongs to the boundary; the first boundary may stand at the very beginning.
        self._buffer = bytearray(b"\r\n")
        self._state = _State.PREAMBLE

    @property
    def is_complete(self) -> bool:
        """Whether the closing boundary has come."""
        return self._state is _State.EPILOGUE

    def feed(self, piece: bytes) -> Iterator[Part | bytes | PartEnd]:
        """Yield what this piece brings: parts that begin, their contents, and their ends. Raises `MultipartError`."""
        self._buffer += piece
        while True:
            if self._state in (_State.PREAMBLE, _State.BODY):
                at = self._buffer.find(self._delimiter)
                content = self._take(max(0, len(self._buffer) - len(self._delimiter) + 1) if at < 0 else at)
                if content and self._state is _State.BODY:
                    yield content
                if at < 0:
                    return
                self._take(len(self._delimiter))
                if self._state is _State.BODY:
                    yield END
                self._state = _State.BOUNDARY
            elif self._state is _State.BOUNDARY:
                if not self._after_boundary():
                    return
            elif self._state is _State.HEAD:
                part = self._head()
                if part is None:
                    return
                self._state = _State.BODY
                yield part
            else:
                self._buffer.clear()
                return

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _after_boundary(self) -> bool:
        """Read what follows a boundary; return whether enough of it is there."""
        if self._buffer.startswith(b"--"):
            self._state = _State.EPILOGUE
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _MOST_HEAD_BYTES:
                raise MultipartError("a boundary line does not end")
            return False
        if self._buffer[:end].strip(b" \t"):
            raise MultipartError("a boundary is followed by something else on its line")
        # The line end stays: a part without header fields begins with an empty line.
        self._state = _State.HEAD
        return True

    def _head(self) -> Part | None:
        start = self._buffer.find(b"\r\n")
        end = self._buffer.find(b"\r\n\r\n", start)
        if max(end, 0) > _MOST_HEAD_BYTES or (end < 0 and len(self._buffer) > _MOST_HEAD_BYTES):
            raise MultipartError(f"the header fields of a part take more than {_MOST_HEAD_BYTES} bytes")
        if end < 0:
            return None
        lines = self._take(end + 4)[start:end].decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in filter(None, lines):
            name, colon, value = line.partition(":")
            if not colon:
                raise MultipartError("a header field of a part has no colon")
            headers[name.strip().lower()] = value.strip()
        return Part(headers)


def new_boundary() -> str:
    """Return a boundary that no content has in it."""
    return secrets.token_hex(20)


def part_head(boundary: str, content_type: str, location: str = "") -> bytes:
    """Return what comes before the content of a part."""
    lines = ["", f"--{boundary}", f"Content-Type: {content_type}"]
    if location:
        lines.append(f"Content-Location: {location}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def closing(boundary: str) -> bytes:
    """Return what comes after the last part."""
    return f"\r\n--{boundary}--\r\n".encode("latin-1")
