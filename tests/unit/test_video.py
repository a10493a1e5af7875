"""Video in DICOM: which frames come out, at what time, and what is said of streams that are not what they should be."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import HEVCMP51, MPEG2MPML, MPEG4HP41, ExplicitVRLittleEndian

from dicom_node.pixels import PixelError, PixelLimits
from dicom_node.sandbox import Sandbox, SandboxTimeout
from dicom_node.video import frame_times, is_video, read_video, read_video_frames
from tests import dicom_validators, sandboxed
from worker.demo.phantom_video import write_video

every_coding = pytest.mark.parametrize("coding", [MPEG4HP41, MPEG2MPML, HEVCMP51], ids=["h264", "mpeg2", "hevc"])


def brightening(frames: int = 50) -> NDArray[np.uint8]:
    """Return frames whose red value is five times their index: a decoded frame tells which one it is."""
    red = np.arange(frames, dtype=np.uint8)[:, None, None] * 5
    picture = np.stack([red, np.full_like(red, 100), 255 - red], axis=-1)
    return np.ascontiguousarray(np.broadcast_to(picture, (frames, 96, 128, 3)))


def indices_seen(frames: Any) -> list[int]:
    return [round(float(frame[..., 0].mean()) / 5 + 0.1) for frame in frames]


def rewritten(path: Path, **changes: Any) -> Path:
    ds = dcmread(path)
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


def stream_of(path: Path) -> tuple[int, int]:
    """Return where the first fragment's bytes lie in the file: start, end."""
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff") + 20
    return at + 8, at + 8 + struct.unpack("<I", data[at + 4 : at + 8])[0]


@every_coding
def test_the_wanted_frames_come_out_and_no_others(coding: str, tmp_path: Path) -> None:
    video = read_video(write_video(tmp_path, brightening(), coding=coding))
    assert (video.frames, video.image.frames, video.rate) == (50, 50, 25.0)
    frames = list(read_video_frames(video, [43, 6, 18, 31]))
    assert indices_seen(frames) == [6, 18, 31, 43]
    assert {(frame.shape, frame.dtype) for frame in frames} == {((96, 128, 3), np.dtype(np.uint8))}
    assert list(read_video_frames(video, [])) == []


@pytest.mark.parametrize("coding", [MPEG4HP41, MPEG2MPML], ids=["h264", "mpeg2"])
def test_the_phantom_is_a_video_that_the_validator_accepts(coding: str, tmp_path: Path) -> None:
    path = write_video(tmp_path, brightening(), coding=coding)
    # dicom3tools 1.00 of 2022 takes HEVC's transfer syntaxes for uncompressed ones.
    assert is_video(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
    assert dicom_validators.dciodvfy(path).errors == ()


def test_a_stream_in_many_fragments_is_one_stream(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (12, 96, 128, 3)).astype(np.uint8)
    path = write_video(tmp_path, noise)
    start, end = stream_of(path)
    assert end - start == 65536, "the phantom should need more than one fragment"
    whole = list(read_video_frames(read_video(path), [5, 11]))
    stream = b"".join(_fragments(path))
    small = [stream[at : at + 1000] for at in range(0, len(stream), 1000)]
    again = list(read_video_frames(read_video(_with_fragments(path, small)), [5, 11]))
    assert all(np.array_equal(one, other) for one, other in zip(whole, again, strict=True))


def _fragments(path: Path) -> list[bytes]:
    from pydicom.encaps import generate_fragments

    return list(generate_fragments(dcmread(path).PixelData))[1:]


def _with_fragments(path: Path, fragments: list[bytes]) -> Path:
    ds = dcmread(path)
    ds.PixelData = encapsulate(fragments, has_bot=False)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_streams_in_containers_are_read(container: str, tmp_path: Path) -> None:
    path = write_video(tmp_path, brightening())
    repacked = _in_container(b"".join(_fragments(path)), container)
    video = read_video(_with_fragments(path, [repacked + b"\0" * (len(repacked) % 2)]))
    assert video.frames == 50
    assert container in video.container
    assert indices_seen(read_video_frames(video, [6, 43])) == [6, 43]


def _in_container(stream: bytes, container: str) -> bytes:
    import io

    import av

    buffer = io.BytesIO()
    with av.open(io.BytesIO(stream), format="h264") as bare, av.open(buffer, "w", format=container) as packed:
        target = packed.add_stream_from_template(bare.streams.video[0])
        for number, packet in enumerate(packet for packet in bare.demux(video=0) if packet.size):
            packet.pts = packet.dts = number * 48000
            packet.stream = target
            packed.mux(packet)
    return buffer.getvalue()


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """160 frames of 480 x 640 are 147 MB in full; the reading process must stay far below."""
    shades = np.arange(160, dtype=np.uint8)[:, None, None, None]
    path = write_video(tmp_path, np.broadcast_to(shades, (160, 480, 640, 3)), coding=MPEG2MPML)
    code = (
        "import resource, sys; from pathlib import Path; from dicom_node.video import *; import av\n"
        "v = read_video(Path(sys.argv[1])); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert len(list(read_video_frames(v, [100, 159]))) == 2\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 70 * 1024, "KiB"


def test_a_hostile_stream_cannot_hang_the_caller(tmp_path: Path) -> None:
    """A stream that is decoded for ever, here for longer than it may, is ended with its process."""
    shades = np.arange(60, dtype=np.uint8)[:, None, None, None]
    path = write_video(tmp_path, np.broadcast_to(shades, (60, 480, 640, 3)), sop_instance_uid="1.2.3.4")
    with Sandbox(limit_s=4) as sandbox:
        sandbox.call(sandboxed.video_again_and_again, path, 1)  # loads the decoder
        with pytest.raises(SandboxTimeout, match=r"longer than the 4 s .*\(instance 1\.2\.3\.4, MPEG-4 AVC"):
            sandbox.call(sandboxed.video_again_and_again, path, 10**6)
        assert sandbox.call(sandboxed.doubled, np.ones(1)) == 2


def test_importing_the_module_loads_no_decoder() -> None:
    code = "import sys, dicom_node.video, models.adapters.cataract_surgery.adapter; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path, brightening())
    path.write_bytes(path.read_bytes()[: stream_of(path)[1] - 500])
    with pytest.raises(PixelError, match="truncated; send the instance again"):
        read_video(path)


@every_coding
def test_a_stream_cut_short_within_whole_fragments_is_refused(coding: str, tmp_path: Path) -> None:
    path = write_video(tmp_path, brightening(), coding=coding)
    stream = b"".join(_fragments(path))
    half = stream[: len(stream) // 4 * 2]
    with pytest.raises(PixelError, match=r"holds \d+ of the 50 frames that the header claims"):
        read_video(_with_fragments(path, [half]))


@pytest.mark.parametrize("what", ["noise", "zeros", "playlist"])
def test_a_stream_that_is_no_video_is_refused_with_reason_and_remedy(what: str, tmp_path: Path) -> None:
    path = write_video(tmp_path, brightening(), sop_instance_uid="1.2.3.4")
    streams = {
        "noise": np.random.default_rng(5).bytes(20000),
        "zeros": bytes(20000),
        # A container that would make the decoder open other files.
        "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n" * 2,
    }
    with pytest.raises(PixelError, match=r"1\.2\.3\.4.*; check the original and send the instance again"):
        read_video(_with_fragments(path, [streams[what]]))


def test_other_codecs_than_the_standards_are_not_opened(tmp_path: Path) -> None:
    import io

    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj420p"
        for frame in brightening(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    path = _with_fragments(write_video(tmp_path, brightening(10)), [buffer.getvalue() + b"\0" * (buffer.tell() % 2)])
    with pytest.raises(PixelError, match="cannot be decoded"):
        list(read_video_frames(read_video(path), [2]))


def test_claims_beyond_the_limits_are_refused_before_decoding(tmp_path: Path) -> None:
    path = write_video(tmp_path, brightening(10))
    with pytest.raises(PixelError, match="limit of 100 a side"):
        read_video(path, PixelLimits(max_side=100))
    with pytest.raises(PixelError, match="limit is 1 to 5"):
        read_video(path, PixelLimits(max_frames=5))
    with pytest.raises(PixelError, match="1 to 5 pictures are allowed"):
        read_video(rewritten(path, NumberOfFrames=5), PixelLimits(max_frames=5))


def test_a_stream_larger_than_its_header_says_is_not_allocated(tmp_path: Path) -> None:
    path = rewritten(write_video(tmp_path, brightening(10)), Rows=8, Columns=8)
    with pytest.raises(PixelError, match="cannot be decoded"):
        list(read_video_frames(read_video(path, PixelLimits(max_frame_bytes=1000)), [2]))


def test_what_is_no_video_and_frames_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path, brightening(10))
    with pytest.raises(PixelError, match="it has no frame 11, only 10"):
        list(read_video_frames(read_video(path), [10]))
    ds = dcmread(path)
    del ds.PixelData
    ds.save_as(path)
    with pytest.raises(PixelError, match="no encapsulated pixel data"):
        read_video(path)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path)
    with pytest.raises(PixelError, match="is no video"):
        read_video(path)
    assert is_video(HEVCMP51)
    assert not is_video(ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("header", "rate", "times"),
    [
        ({"FrameTime": "40"}, 30.0, (0.0, 0.2, 2.0)),
        ({"FrameTimeVector": ["0", *["100"] * 50]}, None, (0.0, 0.5, 5.0)),
        ({"CineRate": "50"}, 30.0, (0.0, 0.1, 1.0)),
        ({"RecommendedDisplayFrameRate": "10"}, 30.0, (0.0, 0.5, 5.0)),
        ({"FrameTime": "0"}, 25.0, (0.0, 0.2, 2.0)),
        ({"FrameTimeVector": ["0", "100"]}, None, (0.0, None, None)),
        ({}, None, (None, None, None)),
    ],
)
def test_the_time_of_a_frame_is_the_headers_else_the_streams(
    header: dict[str, Any], rate: float | None, times: tuple[float | None, ...]
) -> None:
    ds = Dataset()
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    assert frame_times(ds, [0, 5, 50], rate) == pytest.approx(times)
