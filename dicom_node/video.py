"""Compressed video, frame by frame: an instance in MPEG-2, MPEG-4 AVC or HEVC in, RGB frames out (PS3.5 8.2.5 - 8.2.8).

Input: the path of an instance whose pixel data are one video stream in fragments. Output: `Video` (what the stream
holds), wanted frames one at a time, and the time of frames. The stream is read out of the file piece by piece and
decoded from the keyframe before a wanted frame; frames nobody asked for are dropped at once, so neither time nor memory
grow with length. Sizes are bounded before the decoder allocates, and only the containers and codecs that the standard
names are opened: a stream is what a sender made it. On failure: `PixelError` naming the instance, the reason and the
remedy.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import MPEGTransferSyntaxes

from dicom_node.fragment_stream import FragmentStream
from dicom_node.notes import note
from dicom_node.pixels import Frame, ImageAttributes, PixelLimits, check_sizes, read_attributes

if TYPE_CHECKING:
    import av

#: Transport and program streams, MP4 (PS3.5 8.2.5 - 8.2.8) and bare streams, as libavformat names them.
_CONTAINERS: Final = "h264,hevc,mpegvideo,mpegts,mpeg,mov,mp4,m4a,3gp,3g2,mj2"
_CODECS: Final = "h264,hevc,mpeg2video,mpeg1video"
#: Recorders count frames by the clock and are off by a few; a stream that lacks more than this share is cut or damaged.
_MOST_MISSING: Final = 0.05
_SEND_AGAIN: Final = "check the original and send the instance again"


@dataclass(frozen=True, slots=True)
class Video:
    """A video instance: its header as claimed, and what its stream holds."""

    image: ImageAttributes
    limits: PixelLimits
    #: Pictures in the stream; the header's NumberOfFrames is `image.frames`.
    frames: int
    #: Size of the stream's pictures; the header's is `image.rows` and `image.columns`.
    rows: int
    columns: int
    #: Frames a second as the stream states or implies it; None where it does not.
    rate: float | None
    #: "h264", "mpeg2video", ... and "mpegts", "h264", ... as libav names them.
    codec: str
    container: str
    #: Time stamps of the frames in the order of display, in the stream's own unit; empty where it has none or they
    #: contradict each other.
    stamps: tuple[int, ...] = ()
    #: Frames (counted from 0) that can be decoded without those before them; off by a few where there are no stamps.
    keyframes: tuple[int, ...] = ()


def is_video(transfer_syntax_uid: str) -> bool:
    """Tell whether pixel data in this transfer syntax are one video stream, not frames of their own."""
    return transfer_syntax_uid in MPEGTransferSyntaxes


def read_video(path: Path, limits: PixelLimits | None = None) -> Video:
    """Read the header of a video instance and count the pictures of its stream; nothing is decoded.

    Raises:
        PixelError: It is no readable DICOM file or no video, claims impossible sizes, or its stream cannot be read.
    """
    limits = limits or PixelLimits()
    image = read_attributes(path)
    if not is_video(image.transfer_syntax):
        raise image.error(f"transfer syntax {image.transfer_syntax.name} is no video", "read it as an image")
    check_sizes(image, limits)
    with _opened(image, limits) as container:
        stream = container.streams.video[0]
        # One packet is one picture; the demuxer ends with an empty one.
        packets = ((packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.size)
        counted = list(itertools.islice(packets, limits.max_frames + 1))
        frames = len(counted)
        stamps, keyframes = _index(counted)
        rate = stream.average_rate or stream.guessed_rate
        video = Video(
            image=image,
            limits=limits,
            frames=frames,
            rows=stream.codec_context.height,
            columns=stream.codec_context.width,
            rate=float(rate) if rate else None,
            codec=stream.codec.name,
            container=container.format.name,
            stamps=stamps,
            keyframes=keyframes,
        )
    if image.frames * (1 - _MOST_MISSING) > frames:
        raise image.error(f"its stream holds {frames} of the {image.frames} frames that the header claims", _SEND_AGAIN)
    if not 1 <= frames <= limits.max_frames:
        found = "more" if frames else "none"
        raise image.error(f"1 to {limits.max_frames} pictures are allowed in a stream, there are {found}", _SEND_AGAIN)
    return video


def read_video_frames(video: Video, indices: Sequence[int]) -> Iterator[Frame]:
    """Yield decoded frames as uint8 (rows, columns, 3), RGB, in ascending order.

    Args:
        video: From `read_video`.
        indices: Which frames, counted from 0 in the order of display.

    Raises:
        PixelError: There is no such frame, or the stream is broken there or before.
    """
    wanted = sorted(set(indices))
    for index in wanted:
        if not 0 <= index < video.frames:
            raise video.image.error(f"it has no frame {index + 1}, only {video.frames}", "ask for one that is there")
    if not wanted:
        return
    while wanted and video.stamps:
        left = len(wanted)
        for picture in _sought(video, _run(video, wanted)):
            yield picture
            wanted = wanted[1:]
        if len(wanted) == left:
            break
    if wanted:
        yield from _in_order(video, wanted)


def keyframe_thumbnails(video: Video, side: int = 32) -> dict[int, NDArray[np.uint8]]:
    """Return a small grey picture of each keyframe, by its index.

    Encoders begin anew where the scene changes, so keyframes show a long video's scenes at a fraction of its cost.

    Raises:
        PixelError: The stream is broken.
    """
    place = {stamp: index for index, stamp in enumerate(video.stamps)}
    found = {}
    with _opened(video.image, video.limits) as container:
        container.streams.video[0].codec_context.skip_frame = "NONKEY"
        # More come out only of a stream that calls others keyframes when it is decoded; they are left out.
        for keyframe, picture in zip(video.keyframes, container.decode(video=0), strict=False):
            if place and picture.pts not in place:
                continue
            index = place[picture.pts] if place and picture.pts is not None else keyframe
            found[index] = np.asarray(
                picture.reformat(width=side, height=side, format="gray").to_ndarray(), dtype=np.uint8
            )
    return found


def frame_times(dataset: Dataset, indices: Sequence[int], rate: float | None = None) -> tuple[float | None, ...]:
    """Return the time of frames in seconds after the first one (PS3.3 C.7.6.5), None where nothing tells.

    FrameTime is asked first, then FrameTimeVector, CineRate, RecommendedDisplayFrameRate, and last the stream's `rate`.
    """
    duration_ms = _number(dataset.get("FrameTime"))
    if duration_ms <= 0 and (vector := dataset.get("FrameTimeVector")):
        starts = list(itertools.accumulate(_number(step) for step in vector))
        return tuple(starts[index] / 1000 if index < len(starts) else None for index in indices)
    if duration_ms <= 0:
        stated = (_number(dataset.get(keyword)) for keyword in ("CineRate", "RecommendedDisplayFrameRate"))
        a_second = next((number for number in stated if number > 0), rate or 0.0)
        duration_ms = 1000 / a_second if a_second > 0 else 0.0
    return tuple(index * duration_ms / 1000 if duration_ms > 0 else None for index in indices)


def _index(packets: Sequence[tuple[int | None, bool]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the frames' time stamps in order, if each has its own, and which frames are keyframes."""
    stamps = sorted({stamp for stamp, _ in packets if stamp is not None})
    if len(stamps) != len(packets):
        # A bare stream has none. Its packets come as they are decoded: a keyframe's place is right but for the few
        # frames that may be shown before it.
        return (), tuple(index for index, (_, is_key) in enumerate(packets) if is_key)
    place = {stamp: index for index, stamp in enumerate(stamps)}
    return tuple(stamps), tuple(sorted(place[stamp] for stamp, is_key in packets if is_key and stamp is not None))


def _run(video: Video, wanted: Sequence[int]) -> Sequence[int]:
    """Return how many of the wanted frames, from the first one, are had by decoding on: neighbours, or of one keyframe.

    Each of them by itself would take all the frames since its keyframe once more.
    """
    starts = [bisect_right(video.keyframes, index) for index in wanted]
    for place in range(1, len(wanted)):
        if wanted[place] != wanted[place - 1] + 1 and starts[place] != starts[place - 1]:
            return wanted[:place]
    return wanted


def _sought(video: Video, run: Sequence[int]) -> Iterator[Frame]:
    """Decode frames from a keyframe before the first; nothing comes where the stream does not lead there."""
    before = [keyframe for keyframe in video.keyframes if keyframe <= run[0]]
    # A transport stream is sought by its bytes and may be entered too late: then a few keyframes earlier once more.
    for keyframe in (*before[-1:], *before[-4:-3], 0):
        found = False
        for frame in _decoded_from(video, keyframe, run):
            found = True
            yield frame
        if found:
            return


def _decoded_from(video: Video, keyframe: int, run: Sequence[int]) -> Iterator[Frame]:
    """Decode on from a keyframe; it ends before the first frame that does not come, or does not come whole."""
    with _opened(video.image, video.limits) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if keyframe:
            try:
                container.seek(video.stamps[keyframe], stream=stream, backward=True)
            except OSError:
                return
        places = iter(run)
        index = next(places)
        for picture in container.decode(stream):
            stamp = video.stamps[index]
            if picture.pts is not None and picture.pts < stamp:
                continue
            # From the beginning the same frame may come out whole.
            if picture.pts != stamp or picture.is_corrupt:
                return
            yield _rgb(video, index, picture)
            following = next(places, None)
            if following is None:
                return
            index = following


def _in_order(video: Video, wanted: Sequence[int]) -> Iterator[Frame]:
    """Decode from the beginning; `wanted` ascends."""
    delivered = 0
    with _opened(video.image, video.limits) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, picture in enumerate(container.decode(video=0)):
            if index != wanted[delivered]:
                continue
            yield _rgb(video, index, picture)
            delivered += 1
            if delivered == len(wanted):
                return
        raise video.image.error(f"frame {wanted[delivered] + 1} of {video.frames} cannot be decoded", _SEND_AGAIN)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if np.isfinite(number) else 0.0


def _rgb(video: Video, index: int, picture: av.VideoFrame) -> Frame:
    if picture.is_corrupt:
        raise video.image.error(f"frame {index + 1} of {video.frames} is damaged", _SEND_AGAIN)
    return np.asarray(picture.to_ndarray(format="rgb24"))


@contextmanager
def _opened(image: ImageAttributes, limits: PixelLimits) -> Iterator[av.container.InputContainer]:
    """Open the stream of an instance; whatever libav finds wrong with it while it is open becomes a `PixelError`."""
    # libav is 60 MB of shared objects: most of what imports this module never meets a video.
    import av

    bounds = {"max_pixels": str(limits.max_frame_bytes // 3), "codec_whitelist": _CODECS}
    try:
        with (
            note(f"instance {image.sop_instance_uid}, {image.transfer_syntax.name}"),
            FragmentStream(image) as data,
            av.open(data, "r", options={"format_whitelist": _CONTAINERS, **bounds}) as container,
        ):
            if not container.streams.video:
                raise image.error("its stream holds no video", _SEND_AGAIN)
            container.streams.video[0].codec_context.options = bounds
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        raise image.error(
            f"its {image.transfer_syntax.name} stream cannot be decoded ({_reason(error)})", _SEND_AGAIN
        ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
