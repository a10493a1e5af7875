"""What is being done, noted where it survives a crash: by decoders for the parent of a `dicom_node.sandbox`.

Input: `note("instance 1.2.3 frame 4 with gdcm")` around a piece of work. Output: in a sandbox's child, the text in
memory that its parent reads when the child has died; elsewhere nothing. The parent's answer is `left_out`: the decoders
that must not be asked again about an instance. Nothing here fails.
"""

from __future__ import annotations

import json
import mmap
import signal
import time
from typing import Final, Self

NOTE_BYTES: Final = 4096


class note:
    """Say what is being done, for whoever must explain a crash. Outside a sandbox it does nothing."""

    __slots__ = ("_before", "_limited", "_text")
    #: In a child: the memory that its parent reads after a crash.
    page: mmap.mmap | None = None
    #: In a child: how long one decoder may take for one frame, and when the call must end, by `time.monotonic`.
    decode_limit_s: float = 0.0
    deadline: float = 0.0

    def __init__(self, doing: str, instance: str = "", decoder: str = "") -> None:
        """Take what to say.

        Args:
            doing: For people: "instance 1.2.3 frame 4 with gdcm".
            instance: SOP Instance UID of what is being decoded.
            decoder: Who is decoding; to be left out for this instance where it crashes or hangs.
        """
        self._limited = bool(decoder)
        self._text = json.dumps([doing, instance, decoder]).encode() if note.page is not None else b""

    def __enter__(self) -> Self:
        """Say it."""
        if note.page is not None:
            self._before = note.page[1:]
            text = self._text[: NOTE_BYTES - 2] + b"\0"
            note.page[1 : len(text) + 1] = text
            if self._limited:
                _set_alarm(min(note.decode_limit_s, note.deadline - time.monotonic()))
        return self

    def __exit__(self, *_: object) -> None:
        """Take it back."""
        if note.page is not None:
            note.page[1:] = self._before
            if self._limited:
                _set_alarm(note.deadline - time.monotonic())


def _set_alarm(after_s: float) -> None:
    """Have the kernel end this process by SIGALRM, whatever C code is doing then."""
    signal.setitimer(signal.ITIMER_REAL, max(0.001, after_s))


#: In a child: instance -> decoders that crashed or hung on it. Set for each call.
_avoided: dict[str, tuple[str, ...]] = {}


def left_out(sop_instance_uid: str) -> tuple[str, ...]:
    """Return the decoders that must not be asked about an instance: they have crashed or hung on it."""
    return _avoided.get(sop_instance_uid, ())


def set_left_out(avoided: dict[str, tuple[str, ...]]) -> None:
    """Set what `left_out` returns; the child does so for each call."""
    _avoided.clear()
    _avoided.update(avoided)
