"""The child's side of `dicom_node.sandbox`: named functions in, results and exceptions out, until the parent is gone.

Started by `Sandbox` with two pipes, a shared page and a memory limit. It ends when the pipe closes, and by an alarm
whose default action the kernel carries out, whatever C code is doing. On failure the parent sees how it died.
"""

from __future__ import annotations

import importlib
import mmap
import os
import pickle
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from functools import reduce
from typing import Any, Final

from dicom_node.notes import NOTE_BYTES, note, set_left_out
from dicom_node.sandbox_errors import SandboxError
from dicom_node.sandbox_pipe import PipeClosed, receive, send

#: The parent kills first; the alarm is for a child whose parent is gone.
_GRACE_S: Final = 2.0


def main() -> None:
    """Serve calls until the parent closes its end."""
    ask, answer, page_fd, memory_bytes = (int(argument) for argument in sys.argv[2:6])
    page = mmap.mmap(page_fd, NOTE_BYTES)
    os.close(page_fd)
    note.page = page
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    send(answer, "ready")
    while True:
        try:
            module, name, args, kwargs, limits, avoided = receive(ask)
        except PipeClosed:
            os._exit(0)
        page[0] = 1
        limit_s, note.decode_limit_s = limits
        note.deadline = time.monotonic() + limit_s + _GRACE_S
        signal.setitimer(signal.ITIMER_REAL, limit_s + _GRACE_S)
        set_left_out(avoided)
        reply = _answer(module, name, args, kwargs)
        try:
            _reply(answer, reply)
        except PipeClosed:
            os._exit(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        del args, kwargs, reply


def load_modules(names: Sequence[str]) -> None:
    """Import modules, for a call that comes later: it then need not wait for them."""
    for name in names:
        importlib.import_module(name)


def _answer(module: str, name: str, args: Any, kwargs: Any) -> tuple[str, Any]:
    try:
        function = reduce(getattr, name.split("."), importlib.import_module(module))
        return "result", function(*args, **kwargs)  # type: ignore[operator]
    except MemoryError:
        return "memory", ""
    except BaseException as error:  # noqa: BLE001 - a process edge: whatever it is crosses over
        return "exception", _fit_to_cross(error)


def _fit_to_cross(error: BaseException) -> BaseException:
    """Return the exception itself where the parent can unpickle it, else one that tells of it."""
    error.add_note("In the child process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - classes fail in their own ways at being pickled
        return SandboxError(f"{type(error).__name__}: {error}", "this is a defect, report it")
    return error


def _reply(answer: int, reply: tuple[str, Any]) -> None:
    try:
        send(answer, reply)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        send(answer, ("exception", SandboxError(f"its result cannot be pickled ({error})", "this is a defect")))
    except MemoryError:
        send(answer, ("memory", ""))
