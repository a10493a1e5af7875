"""Decoded frames for the web process: a sandbox for codecs, and a cache of some frames in memory.

Input: a stored instance and the index of a frame. Output: `FrameValues`. Uncompressed frames need no codec and are read
here; all others are decoded in a child process (`dicom_node.sandbox`). Of a video a run of frames is decoded at once.
The cache is bounded by bytes and holds nothing on disk. On failure: `PixelError` or `SandboxError` with the reason and
the remedy, `OSError` where the file is gone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.headers import InstanceFile
from dicom_node.sandbox import Sandbox
from dicom_node.video import is_video
from models.rendering import InputRecord
from worker.model_inputs import png
from worker.rendering import renderer
from worker.settings import RenderingSettings
from worker.web.viewer.arrangement import Arrangement, arrange
from worker.web.viewer.values import FrameValues, Look, read_values

#: Decoded frames that are kept: 250 slices of 512 x 512, or 20 frames of a video in full HD.
_CACHE_BYTES: Final = 128 * 2**20
#: A run of a video's frames is at most so many bytes and so long.
_RUN_BYTES: Final = 48 * 2**20
_RUN_FRAMES: Final = 24
#: Jobs whose model inputs are kept, as PNG, and series of multi-frame images whose order is kept.
_JOBS_KEPT: Final = 8
_PLAIN: Final = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})

_Key = tuple[str, int, Look]


class FrameStore:
    """The frames of one web process."""

    def __init__(self, limits: RenderingSettings, cache_bytes: int = _CACHE_BYTES) -> None:
        """Start nothing yet."""
        self._sandbox = Sandbox(
            memory_bytes=limits.memory_mib * 2**20, limit_s=limits.limit_s, decode_limit_s=limits.limit_s / 4
        )
        self._limits = limits
        self._cache_bytes = cache_bytes
        self._held_bytes = 0
        self._frames: OrderedDict[_Key, FrameValues] = OrderedDict()
        self._arranged: OrderedDict[tuple[str, ...], Arrangement] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = threading.Lock()
        self._inputs: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._drawing = threading.Lock()

    def frame(self, file: InstanceFile, index: int, look: Look = Look.USUAL) -> FrameValues:
        """Return the values of a frame, counted from 0.

        Raises:
            PixelError: It is no image, has no such frame, or cannot be decoded.
            SandboxError: Its decoder crashed or took too long.
            OSError: The file is gone.
        """
        key = (str(file.path), index, look)
        if (held := self._held(key)) is not None:
            return held
        if file.header.transfer_syntax_uid in _PLAIN:
            (read,) = read_values(file.path, [index], look)
            self._hold(key, read)
            return read
        with self._decoding:
            if (held := self._held(key)) is not None:  # another request's run brought it
                return held
            indices = _run(file, index)
            decoded = self._sandbox.call(read_values, file.path, indices, look)
        for place, values in zip(indices, decoded, strict=False):
            self._hold((str(file.path), place, look), values)
        return decoded[0]

    def model_inputs(self, record: InputRecord, files: Sequence[InstanceFile]) -> tuple[bytes, ...]:
        """Return the very images that a model saw, as PNG; all are drawn at once, so the last few jobs' are kept.

        Raises:
            RenderError: An instance is missing or cannot be read any more, or the pixels are not the same.
        """
        with self._drawing:
            if record.digest in self._inputs:
                self._inputs.move_to_end(record.digest)
                return self._inputs[record.digest]
            drawn = tuple(png(image) for image in renderer(self._limits).replay(record, files))
            self._inputs[record.digest] = drawn
            if len(self._inputs) > _JOBS_KEPT:
                self._inputs.popitem(last=False)
            return drawn

    def arrange(self, files: Sequence[InstanceFile]) -> Arrangement:
        """Return the pictures of a series in order; multi-frame files are opened in the sandbox."""
        if all(file.header.number_of_frames is None for file in files):
            return arrange(files)
        # An enhanced image's functional groups take long to read, and never change: files are named by their content.
        key = tuple(str(file.path) for file in files)
        with self._lock:
            known = self._arranged.get(key)
        if known is None:
            known = self._sandbox.call(arrange, tuple(files))
            with self._lock:
                self._arranged[key] = known
                if len(self._arranged) > _JOBS_KEPT:
                    self._arranged.popitem(last=False)
        return known

    def warm_up(self, files: Sequence[InstanceFile]) -> None:
        """Start the sandbox in the background if these files will need it: its start takes longer than a decoder."""
        if any(file.header.transfer_syntax_uid not in _PLAIN for file in files):
            threading.Thread(target=self._sandbox.call, args=(arrange, ()), daemon=True).start()

    def close(self) -> None:
        """End the sandbox."""
        self._sandbox.close()

    def _held(self, key: _Key) -> FrameValues | None:
        with self._lock:
            values = self._frames.get(key)
            if values is not None:
                self._frames.move_to_end(key)
            return values

    def _hold(self, key: _Key, values: FrameValues) -> None:
        with self._lock:
            replaced = self._frames.pop(key, None)
            self._held_bytes += values.size_bytes - (replaced.size_bytes if replaced else 0)
            self._frames[key] = values
            while self._held_bytes > self._cache_bytes:
                self._held_bytes -= self._frames.popitem(last=False)[1].size_bytes


def _run(file: InstanceFile, index: int) -> list[int]:
    """Return the frames to decode at once: of a video those that follow, for each alone costs all since a keyframe."""
    header = file.header
    if not is_video(header.transfer_syntax_uid):
        return [index]
    frame_bytes = 3 * max(1, header.rows or 1) * max(1, header.columns or 1)
    return list(range(index, index + max(1, min(_RUN_FRAMES, _RUN_BYTES // frame_bytes))))
