"""Functions that tests call inside a `Sandbox`: good ones, and every way of going wrong."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dicom_node.notes import left_out, note

PICTURE = np.zeros(6_000_000, np.uint8)


def doubled(values: NDArray[Any], *, offset: int = 0) -> NDArray[Any]:
    return values * 2 + offset


def picture() -> NDArray[np.uint8]:
    return PICTURE


def loaded_modules() -> set[str]:
    return set(sys.modules)


def fail(what: str) -> NoReturn:
    raise KeyError(what)


class Awkward(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_awkwardly() -> NoReturn:
    raise Awkward(1, 2)


def give_a_lambda() -> Any:
    return lambda: 1


def read_address_0() -> None:
    with note("reading address 0"):
        ctypes.string_at(0)


def match_for_ever() -> None:
    with note("matching for ever"):
        re.match(r"(a|aa)+$", "a" * 100 + "b")


def wait_for_ever() -> None:
    while True:
        signal.pause()


def work(seconds: float) -> None:
    """Use up so much processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "slow"


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_rendering(_files: object) -> NoReturn:
    kill_oneself()
    raise AssertionError("it lives")


def kill_oneself_once(mark: Path) -> str:
    """Be killed in the middle of decoding, as when memory runs out; the next time go on."""
    with note("decoding 1.2.3.4", "1.2.3.4", "imagecodecs"):
        if not mark.exists():
            mark.touch()
            kill_oneself()
    return " ".join(left_out("1.2.3.4")) or "with every decoder"


def eat_memory() -> int:
    return sum(int(np.ones(512 * 2**20, np.uint8)[-1]) + len(eaten) for eaten in [bytearray(2**30)])


def eat_memory_with_malloc() -> None:
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    while True:
        ctypes.memset(malloc(ctypes.c_size_t(64 * 2**20)), 1, 64 * 2**20)


def decode(path: Path, indices: list[int] | None = None) -> tuple[NDArray[Any], tuple[str, ...]]:
    from dicom_node.pixels import FrameReader, read_image

    reader = FrameReader(read_image(path))
    frames = list(reader.frames(indices))
    return np.array(frames), reader.decoders


def decode_with_broken(path: Path, faults: dict[str, str]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Decode while some decoders of RLE crash, hang or raise."""
    from dicom_node.decoders import SYNTAXES

    decoders = SYNTAXES["1.2.840.10008.1.2.5"].decoders
    whole = dict(decoders)
    try:
        for name, fault in faults.items():
            decoders[name] = _FAULTS[fault]
        return decode(path)
    finally:
        decoders.update(whole)


def video_again_and_again(path: Path, times: int) -> None:
    from dicom_node.video import read_video, read_video_frames

    video = read_video(path)
    for _ in range(times):
        list(read_video_frames(video, [video.frames - 1]))


def read_everything(path: Path, most_frames: int) -> tuple[int, int]:
    """Read up to so many frames of an image or a video; return how many there were, and the process's peak in KiB."""
    from dicom_node.pixels import FrameReader, read_attributes, read_image
    from dicom_node.video import is_video, read_video, read_video_frames

    if is_video(read_attributes(path).transfer_syntax):
        video = read_video(path)
        count = sum(1 for _ in read_video_frames(video, range(min(video.frames, most_frames))))
    else:
        image = read_image(path)
        count = sum(1 for _ in FrameReader(image).frames(range(min(image.frames, most_frames))))
    return count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _crash(*_: object) -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError("it should have crashed")


def _hang(*_: object) -> NoReturn:
    re.match(r"(a|aa)+$", "a" * 100 + "b")
    time.sleep(60)
    raise AssertionError("it should have hung")


def _raise(*_: object) -> NoReturn:
    raise ValueError("no such colour")


_FAULTS = {"crash": _crash, "hang": _hang, "raise": _raise}
