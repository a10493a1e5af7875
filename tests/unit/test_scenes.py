"""Long videos: frames come out wherever they lie, and those that are taken stand for the scenes of the video."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import HEVCMP51, MPEG2MPML, MPEG4HP41

from dicom_node import video as module
from dicom_node.headers import InstanceFile, read_header
from dicom_node.scenes import representative_frames, scenes
from dicom_node.video import keyframe_thumbnails, read_video, read_video_frames
from models.adapter import adapters
from worker.demo.phantom_video import write_video

RNG = np.random.default_rng(11)
VIEWS = [np.kron(RNG.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(4)]


def scene(view: int, frames: int) -> NDArray[np.uint8]:
    """Return one view in which something small moves."""
    shown = np.repeat(VIEWS[view][None], frames, axis=0)
    for index in range(frames):
        shown[index, 40:56, 2 * index % 100 : 2 * index % 100 + 16] = 255
    return shown


def black(frames: int) -> NDArray[np.uint8]:
    return np.zeros((frames, 96, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize("coding", [MPEG4HP41, MPEG2MPML, HEVCMP51], ids=["h264", "mpeg2", "hevc"])
def test_frames_from_the_middle_are_those_of_a_run_from_the_beginning(coding: str, tmp_path: Path) -> None:
    frames = np.concatenate([scene(0, 40), scene(1, 40), scene(2, 40)])
    video = read_video(write_video(tmp_path, frames, coding=coding))
    wanted = [0, 24, 25, 26, 59, 80, 119]
    from_the_beginning = list(module._in_order(video, wanted))
    for one, other in zip(read_video_frames(video, wanted), from_the_beginning, strict=True):
        assert np.array_equal(one, other)


def in_container(frames: NDArray[np.uint8], container: str) -> bytes:
    """Return frames as H.264 with B-frames and a keyframe every 20 frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as packed:
        stream = packed.add_stream("libx264", rate=25, options={"bf": "2", "g": "20", "sc_threshold": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            packed.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        packed.mux(stream.encode(None))
    data = buffer.getvalue()
    return data + b"\0" * (len(data) % 2)


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_in_a_container_frames_are_sought_and_are_the_same(
    container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.concatenate([scene(0, 40), scene(1, 40), scene(2, 40)])
    path = write_video(tmp_path, frames)
    ds = dcmread(path)
    ds.PixelData = encapsulate([in_container(frames, container)], has_bot=False)
    ds.save_as(path)
    video = read_video(path)
    assert len(video.stamps) == 120
    assert video.keyframes == (0, 20, 40, 60, 80, 100)
    wanted = [1, 19, 20, 21, 59, 100, 119]
    from_the_beginning = list(module._in_order(video, wanted))
    # Each is sought from a keyframe before it: hardly anything is decoded for the last one.
    monkeypatch.setattr(module, "_in_order", lambda *_: pytest.fail("nothing was sought"))
    for one, other in zip(read_video_frames(video, wanted), from_the_beginning, strict=True):
        assert np.array_equal(one, other)
    assert set(keyframe_thumbnails(video)) == set(video.keyframes)


def test_frames_are_taken_of_each_long_scene_and_none_of_the_dark(tmp_path: Path) -> None:
    cut = np.concatenate([black(25), scene(0, 50), scene(1, 75), black(25), scene(2, 25), scene(3, 100)])
    path = write_video(tmp_path, cut)
    instance = InstanceFile(read_header(path), path)
    seen = adapters()["cataract_surgery"].render([instance])
    # Four parts of 75 frames: the view after the dark, the second view, the third beside the dark, the last.
    shown = [number - 1 for number in seen.record["frames_shown"]]
    views = [0, 1, 2, 3]
    starts, ends = [25, 75, 175, 200], [75, 150, 200, 300]
    assert all(starts[view] <= at < ends[view] for at, view in zip(shown, views, strict=True)), shown
    assert seen.record["scenes"] >= 5
    assert min(image.std() for image in seen.images) > 20
    assert seen.record["times_s"] == [round(at / 25, 3) for at in shown]


def test_keyframes_are_shown_small(tmp_path: Path) -> None:
    video = read_video(write_video(tmp_path, np.concatenate([scene(0, 30), scene(1, 30)])))
    small = keyframe_thumbnails(video)
    assert set(small) == set(video.keyframes)
    assert {picture.shape for picture in small.values()} <= {(32, 32)}


@given(st.integers(1, 3000), st.integers(1, 8), st.lists(st.integers(0, 255), max_size=20))
def test_frames_are_always_of_the_video_and_ascend(frames: int, wanted: int, shades: list[int]) -> None:
    keyframes = {
        index * frames // max(1, len(shades)): np.full((4, 4), shade, dtype=np.uint8)
        for index, shade in enumerate(shades)
    }
    found = scenes(keyframes, frames)
    assert [one.first for one in found] == [0, *[one.end for one in found[:-1]]]
    assert found[-1].end == frames
    chosen = representative_frames(found, frames, wanted)
    assert list(chosen) == sorted(set(chosen))
    assert 1 <= len(chosen) <= wanted
    assert all(0 <= index < frames for index in chosen)


@pytest.mark.parametrize(
    ("frames", "chosen"),
    [(1, (0,)), (3, (0, 1, 2)), (4, (0, 1, 2, 3)), (15000, (1875, 5625, 9375, 13125))],
)
def test_without_keyframes_the_middle_of_equal_parts_is_taken(frames: int, chosen: tuple[int, ...]) -> None:
    assert representative_frames(scenes({}, frames), frames, 4) == chosen
