"""Work with bytes of strangers in a process of its own: a function and arguments in, its result out, or its exception.

Input: a function that a module defines, and arguments that can be pickled. Output: what it returns. The child process
is kept from call to call. A codec that crashes, hangs or eats memory ends the child and not the caller; the next call
starts another. It is a barrier against accidents, not a prison: a child that is taken over can answer what it likes.

What runs inside says what it is doing (`dicom_node.notes`); a crash names the last note. Where that note names a
decoder, the call is repeated and told to leave that decoder out for that instance. A child that was killed from
outside is replaced once, and nothing is blamed. On failure: the function's own
exception, or `SandboxError` with the reason and the remedy.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

from dicom_node.notes import NOTE_BYTES
from dicom_node.sandbox_errors import (
    SandboxCrashed,
    SandboxError,
    SandboxKilled,
    SandboxMemoryError,
    SandboxNotStarted,
    SandboxTimeout,
)
from dicom_node.sandbox_pipe import PipeClosed, PipeTimeout, receive, send, widen

__all__ = [
    "Sandbox",
    "SandboxCrashed",
    "SandboxError",
    "SandboxKilled",
    "SandboxMemoryError",
    "SandboxNotStarted",
    "SandboxTimeout",
]

P = ParamSpec("P")
T = TypeVar("T")

_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from dicom_node.sandbox_child import main; main()"
)
#: Time to start an interpreter on a busy machine.
_START_S: Final = 60.0
#: How often a call is repeated without a decoder that crashed or hung: no syntax has more than four decoders.
_MOST_REPEATS: Final = 3
#: A codec does not die of these: the kernel's out-of-memory killer sends the first, people and systems the others.
_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
#: Instances whose bad decoders are remembered.
_REMEMBERED: Final = 256
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class _Child:
    """One child process, its two pipes and the page of memory in which it notes what it is doing."""

    def __init__(self, memory_bytes: int) -> None:
        with tempfile.TemporaryFile() as page:
            page.truncate(NOTE_BYTES)
            self.page = mmap.mmap(page.fileno(), NOTE_BYTES)
            ask_read, self.ask = os.pipe()
            self.answer, answer_write = os.pipe()
            theirs = (ask_read, answer_write, page.fileno())
            arguments = [json.dumps([path or str(Path.cwd()) for path in sys.path]), *map(str, theirs)]
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _BOOT, *arguments, str(memory_bytes)],
                    pass_fds=theirs,
                    stdin=subprocess.DEVNULL,
                    # Codecs print a line for every byte that displeases them.
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | _ENVIRONMENT,
                    start_new_session=True,
                )
            except OSError:
                os.close(self.ask)
                os.close(self.answer)
                raise
            finally:
                os.close(ask_read)
                os.close(answer_write)
        for fd in (self.ask, self.answer):
            os.set_blocking(fd, False)
            widen(fd)

    def noted(self) -> tuple[str, str, str]:
        """Return what it noted last: text, instance, decoder."""
        text = bytes(self.page[1:]).split(b"\0", 1)[0]
        try:
            doing, instance, decoder = json.loads(text) if text else ("", "", "")
        except ValueError:  # it died while it wrote
            return "", "", ""
        return str(doing), str(instance), str(decoder)

    def end(self) -> int:
        """Kill it if it lives, and return its exit status."""
        for fd in (self.ask, self.answer):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.ask = self.answer = -1
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        status = self.process.wait()
        self.page.close()
        return status


class Sandbox:
    """Calls functions in a child process with limits of memory and time."""

    def __init__(
        self, *, memory_bytes: int = 4 * 2**30, limit_s: float = 120.0, decode_limit_s: float | None = None
    ) -> None:
        """Start nothing yet.

        Args:
            memory_bytes: Private memory that the child may have in all (RLIMIT_DATA).
            limit_s: How long one call may take. A call that is repeated without a decoder gets as long again.
            decode_limit_s: How long one decoder may take for one frame; as long as the call if None.
        """
        self._memory_bytes = memory_bytes
        self._limit_s = limit_s
        self._decode_limit_s = limit_s if decode_limit_s is None else min(decode_limit_s, limit_s)
        self._child: _Child | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._left_out: dict[str, list[str]] = {}

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `function(*args, **kwargs)` returns in the child.

        Raises:
            SandboxError: The child crashed, took too long or needed too much memory, or what it should take or give
                cannot be pickled.
            Exception: Whatever the function raises.
        """
        if "<" in function.__qualname__ or function.__module__ == "__main__":
            raise SandboxError(
                f"{function.__module__}.{function.__qualname__} cannot be found by another process",
                "define the function at the top of a module",
            )
        with self._lock:
            killed = False
            for repeat in range(_MOST_REPEATS + 1):
                try:
                    return cast(T, self._once(function, args, kwargs))
                except SandboxKilled:
                    if killed or repeat == _MOST_REPEATS:
                        raise
                    killed = True
                except (SandboxCrashed, SandboxTimeout):
                    if repeat == _MOST_REPEATS or not self._leave_out_culprit():
                        raise
        raise AssertionError("the last turn returns or raises")

    def close(self) -> None:
        """End the child; a later call would start another."""
        if self._child is None:
            return
        child, self._child = self._child, None
        if self._owner == os.getpid():
            child.end()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self.close()

    def __del__(self) -> None:
        """End the child with its owner."""
        if getattr(self, "_child", None) is not None:
            self.close()

    def _once(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._culprit: tuple[str, str] | None = None
        for _ in range(2):
            child = self._running()
            deadline = time.monotonic() + self._limit_s
            child.page[0:2] = b"\0\0"
            try:
                left_out = {instance: tuple(names) for instance, names in self._left_out.items()}
                work = (
                    function.__module__,
                    function.__qualname__,
                    args,
                    kwargs,
                    (self._limit_s, self._decode_limit_s),
                    left_out,
                )
                send(child.ask, work, deadline)
                kind, value = receive(child.answer, deadline, self._memory_bytes)
                break
            except PipeTimeout:
                raise self._timeout(self._end_and_blame()[1]) from None
            except PipeClosed as closed:
                began = child.page[0] != 0
                crash = self._crash()
                if began:
                    raise crash from closed
                # It had died before it was asked, as when somebody kills it between two calls.
        else:
            raise crash
        if kind == "result":
            return value
        if kind == "memory":
            self.close()
            raise SandboxMemoryError(
                f"it needs more than the {self._memory_bytes // 2**20} MiB of memory that it may have",
                "check the original, or allow more memory",
                value,
            )
        raise value

    def _running(self) -> _Child:
        if self._child is not None and self._owner != os.getpid():
            self._child = None  # a fork's copy of its parent's child
        if self._child is not None and self._child.process.poll() is not None:
            self.close()
        self._owner = os.getpid()
        if self._child is None:
            self._child = self._started()
        return self._child

    def _started(self) -> _Child:
        remedy = "try again, and look at the memory limit, the system's free memory and processes, and the installation"
        try:
            child = _Child(self._memory_bytes)
        except OSError as error:
            raise SandboxNotStarted(f"a child process cannot be started ({error})", remedy) from error
        try:
            receive(child.answer, time.monotonic() + _START_S, 1 << 16)
        except (PipeClosed, PipeTimeout) as error:
            raise SandboxNotStarted(f"the child process did not start (status {child.end()})", remedy) from error
        return child

    def _timeout(self, doing: str) -> SandboxTimeout:
        limit_s = self._decode_limit_s if self._culprit else self._limit_s
        reason = f"it took longer than the {limit_s:g} s that it may take"
        return SandboxTimeout(reason, "check the original, or allow more time", doing)

    def _crash(self) -> SandboxError:
        status, doing = self._end_and_blame()
        if status == -signal.SIGALRM:
            return self._timeout(doing)
        if -status in _FROM_OUTSIDE:
            self._culprit = None
            reason = f"the process that worked on it was killed from outside ({signal.Signals(-status).name})"
            return SandboxKilled(reason, "try again, and see in the system's log whether memory ran out", doing)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return SandboxCrashed(f"the process that worked on it {how}", "check the original", doing)

    def _end_and_blame(self) -> tuple[int, str]:
        child = cast(_Child, self._child)
        self._child = None
        # Give a child that is dying its own end: its status tells how it died.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(0.05)
        doing, instance, decoder = child.noted()
        self._culprit = (instance, decoder) if decoder else None
        return child.end(), doing

    def _leave_out_culprit(self) -> bool:
        if self._culprit is None:
            return False
        instance, decoder = self._culprit
        names = self._left_out.pop(instance, [])
        if decoder in names:
            return False
        self._left_out[instance] = [*names, decoder]
        while len(self._left_out) > _REMEMBERED:
            del self._left_out[next(iter(self._left_out))]
        return True
