"""Lines -> the end of a file, by one thread at a time, so that a disk that hangs holds nobody up for long.

Input: lines, from any thread, and the function that appends them. Output: the lines in their order, and for each caller
whether its own are on the disk. On failure (no room, no rights, or no answer within `PATIENCE_S`) the log says so, and
the lines wait here in memory, with as many as `MOST_KEPT`, until one can be written again or the process ends; lines
that are kept elsewhere do not wait here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

#: Lines of one process that wait for room, of about 1 KiB each; of more the oldest are lost.
MOST_KEPT: Final = 20_000
#: Seconds that anybody waits for the disk; once it has not answered so long, nobody waits until it does.
PATIENCE_S: Final = 3.0
#: Seconds after which a thread with nothing to write ends.
_IDLE_S: Final = 10.0


@dataclass(slots=True, eq=False)
class _Line:
    """A line on its way."""

    text: bytes
    #: Waits here where it cannot be written.
    is_kept: bool
    #: None until the disk has answered.
    is_written: bool | None = None


class LineWriter:
    """Appends the lines of one process to the files of one folder, in a thread that ends when it has been idle."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, for the log; nothing is opened."""
        self._folder = folder
        self._changed = threading.Condition()
        self._waiting: deque[_Line] = deque()
        self._in_hand = 0
        self._thread: threading.Thread | None = None
        self._is_asked = self._hangs = False
        self._reason = ""

    @property
    def waiting(self) -> int:
        """How many lines are not written yet."""
        with self._changed:
            return len(self._waiting) + self._in_hand

    def write(self, texts: Sequence[bytes], append: Callable[[bytes], None], *, keep: bool) -> bool:
        """Append lines, after those that could not be written before.

        Args:
            texts: The lines, with their line breaks; none to try again what waits.
            append: Puts bytes at the end of the file and on the disk; raises `OSError`.
            keep: Whether they wait here where they cannot be written now.

        Returns:
            Whether they are on the disk; of none, whether nothing waits any more.
        """
        lines = [_Line(text, keep) for text in texts]
        with self._changed:
            self._waiting.extend(lines)
            lost = max(len(self._waiting) - MOST_KEPT, 0)
            for _ in range(lost):
                self._waiting.popleft()
            self._ask(append)
            if not self._hangs and not self._changed.wait_for(lambda: self._is_through(lines), PATIENCE_S):
                self._hangs, self._reason = True, f"the disk has not answered for {PATIENCE_S:g} s"
            if all(line.is_written for line in lines) and (lines or not self.waiting):
                return True
            self._waiting = deque(line for line in self._waiting if line.is_kept or line not in lines)
            waiting, reason = self.waiting, self._reason
        where = "in memory until they can, and lost if this ends" if keep else "in the database until they can"
        log.error(
            f"audit messages cannot be written; they are kept {where}",
            action="audit",
            folder=str(self._folder),
            waiting=waiting,
            lost=lost,
            reason=reason,
        )
        return False

    def _is_through(self, lines: list[_Line]) -> bool:
        return all(line.is_written is not None for line in lines) if lines else not (self._is_asked or self._in_hand)

    def _ask(self, append: Callable[[bytes], None]) -> None:
        """Have everything written that waits."""
        self._append = append
        if not self._waiting:
            return
        self._is_asked = True
        self._changed.notify_all()
        if self._thread is None or not self._thread.is_alive():  # a fork has none of its parent's threads
            self._thread = threading.Thread(target=self._work, name="audit lines", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread is to be had: it is written here, however long that takes
                self._thread = None
                self._write_what_waits()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._is_asked, _IDLE_S):
                    self._thread = None
                    return
            self._write_what_waits()

    def _write_what_waits(self) -> None:
        with self._changed:
            lines, append = list(self._waiting), self._append
            self._waiting.clear()
            self._in_hand, self._is_asked = len(lines), False
        reason = _why_not(append, b"".join(line.text for line in lines))
        with self._changed:
            for line in lines:
                line.is_written = not reason
            if reason:
                self._waiting.extendleft(line for line in reversed(lines) if line.is_kept)
            self._in_hand, self._hangs, self._reason = 0, False, reason
            self._changed.notify_all()


def _why_not(append: Callable[[bytes], None], text: bytes) -> str:
    """Append; return why that could not be done."""
    try:
        append(text)
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # noqa: BLE001 - the thread's edge: were it to end here, others would wait for it
        return repr(error)
    return ""
