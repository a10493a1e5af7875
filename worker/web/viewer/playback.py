"""A video's frames in runs, each of which goes on where the one before it ended.

Input: an opened video and the first and last frame of a run. Output: decoded frames. Many streams can only be decoded
from their beginning: if each run began there, playing would take longer with every second. So the last video's decoder
is kept where it stands, in a process that does one thing at a time (the sandbox's). On failure: `PixelError`.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from typing import Any

from dicom_node.pixels import Frame
from dicom_node.video import Video, read_video_frames


class Playback:
    """One decoder, kept where it stands."""

    def __init__(self) -> None:
        self._video: Video | None = None
        self._at = 0
        self._frames: Generator[Frame, Any, Any] | None = None

    def run(self, video: Video, first: int, count: int) -> list[Frame]:
        """Return up to `count` frames from `first` on, counted from 0; fewer at the end of the video.

        Raises:
            PixelError: There is no such frame, or the stream is broken there.
        """
        if video is not self._video or first != self._at or self._frames is None:
            self._begin(video, first)
        try:
            frames = list(islice(self._frames or (), count))
        except Exception:
            self.close()
            raise
        self._at = first + len(frames)
        return frames

    def close(self) -> None:
        """Give up the decoder."""
        if self._frames is not None:
            self._frames.close()
        self._video = self._frames = None

    def _begin(self, video: Video, first: int) -> None:
        self.close()
        self._video = video
        wanted = range(first, video.frames) if first < video.frames else [first]
        self._frames = _frames(video, wanted)


def _frames(video: Video, wanted: Any) -> Generator[Frame, Any, Any]:
    yield from read_video_frames(video, wanted)
