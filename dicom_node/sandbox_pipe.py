"""Objects through a pipe between two processes that trust one another: pickled, big arrays without a copy (PEP 574).

Input and output: an object and a file descriptor. A message is the number of its parts, their lengths, and the parts:
the pickle first, then the buffers that it refers to. On failure: `PipeClosed`, `PipeTimeout`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import struct
import time
from typing import Any, Final

_F_SETPIPE_SZ: Final = 1031
#: The largest pipe that Linux gives everybody (pipe(7)): fewer turns between the two processes.
_PIPE_BYTES: Final = 1 << 20
_MOST_PARTS: Final = 1 << 20


class PipeClosed(Exception):
    """The other side is gone."""


class PipeTimeout(Exception):
    """The other side took too long."""


def widen(fd: int) -> None:
    """Let a pipe hold more, where the system allows it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)


def send(fd: int, value: Any, deadline: float | None = None) -> None:
    """Write an object. `deadline` is in `time.monotonic`'s seconds, for a descriptor that does not block."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(body), *(buffer.raw() for buffer in buffers)]
    head = struct.pack(f"<I{len(parts)}Q", len(parts), *(len(part) for part in parts))
    for part in (memoryview(head), *parts):
        _write(fd, part, deadline)


def receive(fd: int, deadline: float | None = None, most_bytes: int | None = None) -> Any:
    """Read an object; its arrays may be written to. A message of more than `most_bytes` is taken for a broken peer."""
    (count,) = struct.unpack("<I", _read(fd, 4, deadline))
    if not 1 <= count <= _MOST_PARTS:
        raise PipeClosed("the message is damaged")
    lengths = struct.unpack(f"<{count}Q", _read(fd, 8 * count, deadline))
    if most_bytes is not None and sum(lengths) > most_bytes:
        raise PipeClosed("the message is too long")
    body, *buffers = [_read(fd, length, deadline) for length in lengths]
    return pickle.loads(body, buffers=buffers)  # noqa: S301 - from our own child or parent


def _write(fd: int, data: memoryview, deadline: float | None) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            _wait(fd, select.POLLOUT, deadline)
        except OSError as error:
            raise PipeClosed(str(error)) from error


def _read(fd: int, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        try:
            count = os.readv(fd, [rest])
        except BlockingIOError:
            _wait(fd, select.POLLIN, deadline)
            continue
        except OSError as error:
            raise PipeClosed(str(error)) from error
        if not count:
            raise PipeClosed("the other side is gone")
        rest = rest[count:]
    return data


def _wait(fd: int, event: int, deadline: float | None) -> None:
    poll = select.poll()
    poll.register(fd, event)
    left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    if not poll.poll(left_ms):
        raise PipeTimeout
