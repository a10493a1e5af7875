"""Five thousand broken files through the decoders: each is read or refused with a reason, in bounded work and memory.

The base files are small and of every coding; each mutation is made from its number, so that a failure can be repeated
by that number alone. Work is processor time: how long a file waits for a busy machine is not its fault. What hangs
without working is ended by the sandbox's own limits, and counts as a failure here.
"""

from __future__ import annotations

import collections
import contextlib
import resource
import struct
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import imagecodecs
import numpy as np
import psutil
import pytest
from pydicom.uid import (
    HEVCMP51,
    MPEG2MPML,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_node.pixels import PixelError
from dicom_node.sandbox import Sandbox, SandboxCrashed, SandboxError, SandboxTimeout
from tests import sandboxed
from tests.phantoms.images import JPEG, LOSSLESS, dcmtk, smooth, write_image
from worker.demo.phantom_studies import write_ct_series, write_xa_run
from worker.demo.phantom_video import write_video

FILES: Final = 5000
#: Processor seconds that a file may cost, all attempts at it together.
MOST_S: Final = 5.0
#: How long one decoder may take for a frame: some never end on truncated JPEG-LS, and the next one says what is wrong.
DECODE_S: Final = 1.0
#: What no call comes near, however busy the machine is: only a hang does.
HANGS_S: Final = 90.0
MOST_BYTES: Final = 2**30
SEED: Final = 20261122

#: Group and element of what a sender can lie about: Samples to PixelRepresentation, frames, and the pixel data itself.
_CLAIMS: Final = (
    *((0x0028, element) for element in (2, 4, 6, 8, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103)),
    (0x0002, 0x0010),
    (0x7FE0, 0x0010),
)
_EXTREMES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("bases")
    grey = np.stack([smooth((48, 40), 12, seed=seed) for seed in range(3)])
    signed = np.stack([smooth((48, 40), 12, seed=seed, signed=True) for seed in range(3)])
    colour = np.stack([smooth((48, 40, 3), 8, seed=seed) for seed in range(2)])
    path = folder / "image.dcm"
    found: list[bytes] = []

    def keep(written: Path) -> None:
        found.append(written.read_bytes())

    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        keep(write_image(path, grey, syntax, BitsStored=12))
        keep(write_image(path, colour, syntax))
    for syntax, encode in LOSSLESS.items():
        keep(write_image(path, signed, syntax, [encode(frame) for frame in signed], BitsStored=12))
        keep(write_image(path, colour, syntax, [encode(frame) for frame in colour], table="none", fragments=2))
    baseline = [bytes(imagecodecs.jpeg8_encode(frame, 90)) for frame in colour]
    keep(write_image(path, colour, JPEG + "50", baseline, PhotometricInterpretation="YBR_FULL_422"))
    extended = [bytes(imagecodecs.jpeg8_encode(frame, 90, bitspersample=12)) for frame in grey]
    keep(write_image(path, grey, JPEG + "51", extended, table="extended", BitsStored=12))
    keep(dcmtk("dcmcjpeg", write_image(path, grey, BitsStored=12), folder / "progressive.dcm", "+ep"))
    keep(dcmtk("dcmcjpls", write_image(path, grey, BitsStored=12), folder / "near.dcm", "+en"))
    keep(write_ct_series(folder, np.zeros((1, 32, 32), np.int16))[0])
    keep(write_xa_run(folder, grey.astype(np.uint16), transfer_syntax=RLELossless))
    shades = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None] * 20, (12, 96, 128, 3))
    for coding in (MPEG2MPML, MPEG4HP41, HEVCMP51):
        keep(write_video(folder, np.ascontiguousarray(shades), coding=coding))
    return found


def flip(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, at: int, rng: np.random.Generator) -> None:
    size = int(rng.choice([1, 2, 4]))
    extreme = int(rng.choice(_EXTREMES)) & (1 << 8 * size) - 1
    data[at : at + size] = extreme.to_bytes(size, rng.choice(["little", "big"]))  # type: ignore[arg-type]


def delete(data: bytearray, at: int, rng: np.random.Generator) -> None:
    del data[at : at + int(rng.integers(1, 64))]


def double(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at:at] = data[at : at + int(rng.integers(1, 256))]


def insert(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at:at] = rng.bytes(int(rng.integers(1, 32)))


def truncate(data: bytearray, at: int, _rng: np.random.Generator) -> None:
    del data[max(at, 200) :]


_CHANGES: Final[tuple[Callable[[bytearray, int, np.random.Generator], None], ...]] = (
    *(flip, overwrite) * 3,
    delete,
    double,
    insert,
    truncate,
)


def lie(data: bytearray, rng: np.random.Generator) -> None:
    """Set what a header element says, or a length, to something else."""
    group, element = _CLAIMS[int(rng.integers(len(_CLAIMS)))]
    for order in "<>":
        at = data.find(struct.pack(f"{order}HH", group, element))
        if at >= 0:
            overwrite(data, min(at + int(rng.choice([4, 6, 8, 12])), len(data) - 5), rng)
            return


def mutated(bases: list[bytes], number: int) -> bytes:
    rng = np.random.default_rng((SEED, number))
    data = bytearray(bases[number % len(bases)])
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        pixels = max(data.rfind(b"\xe0\x7f\x10\x00"), 0)
        if kind < 0.3:
            lie(data, rng)
            continue
        low, high = (pixels, len(data)) if kind < 0.75 else (132, max(pixels, 140))
        at = int(rng.integers(low, max(low + 1, min(high, low + 64) if rng.random() < 0.4 else high)))
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        change(data, min(at, len(data) - 1), rng)
    return bytes(data)


def _start(sandbox: Sandbox, path: Path, whole: bytes) -> None:
    """Let the child load its modules: that is no file's fault."""
    path.write_bytes(whole)
    sandbox.call(sandboxed.read_everything, path, 1)


def _work_s() -> float:
    """Return the processor seconds of this process's children so far: of those that ended, and of those that live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def test_work_is_told_of_a_child_that_lives_and_of_one_that_was_ended() -> None:
    with Sandbox(limit_s=HANGS_S) as sandbox:
        sandbox.call(sandboxed.work, 0.0)
        before = _work_s()
        sandbox.call(sandboxed.work, 0.3)
        assert _work_s() - before > 0.25
    assert _work_s() - before > 0.25


@pytest.mark.parametrize("name", ["match_for_ever", "wait_for_ever"])
def test_a_hang_is_ended_by_the_limit_and_told_from_a_refusal(name: str) -> None:
    with Sandbox(limit_s=1) as sandbox, pytest.raises(SandboxTimeout, match="longer than the 1 s that it may take"):
        sandbox.call(getattr(sandboxed, name))
        pytest.fail("it came back")


def test_a_codec_that_hangs_in_every_decoder_is_ended_and_the_file_refused(tmp_path: Path) -> None:
    path = write_xa_run(tmp_path, np.zeros((1, 32, 32), np.uint16), transfer_syntax=RLELossless)
    with Sandbox(limit_s=HANGS_S, decode_limit_s=1) as sandbox:
        sandbox.call(sandboxed.read_everything, path, 1)
        with pytest.raises(PixelError, match="it crashed or hung"):
            sandbox.call(sandboxed.decode_with_broken, path, {"imagecodecs": "hang", "pydicom": "hang"})


def test_no_broken_file_crashes_hangs_or_fills_the_memory(bases: list[bytes], tmp_path: Path) -> None:
    # In a process whose only child is the sandbox's: servers of other tests work, too.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        seen, told = alone.submit(put_through, bases, tmp_path / "mutated.dcm").result()
    print(told)
    # Many are refused and many still read: neither the mutations nor the checks are idle.
    assert seen["read"] > FILES // 10
    assert seen["PixelError"] > FILES // 4
    assert seen[SandboxCrashed.__name__] < FILES // 100


def put_through(bases: list[bytes], path: Path) -> tuple[collections.Counter[str], str]:
    """Read every mutated file; return how many came to which end, and the costs in words."""
    seen: collections.Counter[str] = collections.Counter()
    hardest, peak_kib = (0.0, 0), 0
    with Sandbox(memory_bytes=MOST_BYTES, limit_s=HANGS_S, decode_limit_s=DECODE_S) as sandbox:
        _start(sandbox, path, bases[0])
        done_s = _work_s()
        for number in range(FILES):
            path.write_bytes(mutated(bases, number))
            try:
                _, kib = sandbox.call(sandboxed.read_everything, path, 8)
                peak_kib = max(peak_kib, kib)
                seen["read"] += 1
            except (PixelError, SandboxError) as error:
                assert error.reason, number
                assert error.remedy, number
                assert not isinstance(error, SandboxTimeout), f"{number}: {error}"
                seen[type(error).__name__] += 1
            before_s, done_s = done_s, _work_s()
            hardest = max(hardest, (done_s - before_s, number))
            assert hardest[0] < MOST_S, f"file {number} took {hardest[0]:.1f} s of work"
    assert peak_kib * 1024 < MOST_BYTES
    costs = f"hardest file {hardest[1]}: {hardest[0]:.2f} s, peak of the child {peak_kib // 1024} MiB"
    return seen, f"{dict(seen)}; {costs}"
