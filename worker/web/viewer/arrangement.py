"""The stored instances of a series -> its pictures in the order in which they are scrolled through.

Input: instances as the database knows them. Output: an `Arrangement`. Slices come in the project's own order
(`dicom_node.volumes`: along the slice normal, an axial stack from the feet up), so that "slice 14" means the same here
as in an answer; what that leaves out follows behind. Runs, videos and single images come by InstanceNumber and frame.
Of single-frame instances no file is opened. It does not fail: what cannot be read is one picture, and its loading says
why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node.frame_attributes import number
from dicom_node.headers import InstanceFile
from dicom_node.pixels import PixelError, read_attributes
from dicom_node.planes import Plane, plane_of_header, planes_of_file
from dicom_node.video import frame_times, is_video, read_video
from dicom_node.volumes import slice_stack

#: Modalities whose instances are slices of one volume.
_STACKED: Final = frozenset({"CT", "MR", "PT"})
#: Pictures a second where nothing tells: slow enough to see each slice.
USUAL_RATE: Final = 12.0
#: No browser shows more; a header that asks for more is taken at this.
_HIGHEST_RATE: Final = 60.0
_LETTERS: Final = (("R", "L"), ("A", "P"), ("F", "H"))
#: A direction cosine below this does not get a letter.
_OBLIQUE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture."""

    sop_instance_uid: str
    #: Counted from 0.
    frame: int
    #: Distance along the slice normal in mm.
    position_mm: float | None = None
    #: Letters of the patient's directions at the left, top, right and bottom edge.
    edges: tuple[str, str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The pictures of a series, in order."""

    shown: tuple[Shown, ...]
    #: How many of them, from the first one, are slices of one stack; 0 where there is none.
    in_stack: int
    #: Pictures a second for cine; None where they do not follow each other in time.
    rate: float | None
    #: What is wrong with the stack, one sentence each.
    problems: tuple[str, ...] = ()


def arrange(files: Sequence[InstanceFile]) -> Arrangement:
    """Return the pictures of a series; see the module for the order."""
    every = [plane for file in files for plane in _pictures(file)]
    rate = next((found for file in files if (found := _rate(file))), None)
    if all(file.header.modality in _STACKED for file in files) and len(every) > 1:
        stack = slice_stack(files)
        order = [(one.header.sop_instance_uid, one.frame) for one in stack.slices]
        positions = dict(zip(order, stack.positions_mm, strict=False))
        problems, in_stack = stack.problems, len(order)
    else:
        order, positions, problems, in_stack = [], {}, (), 0
    by_key = {(plane.sop_instance_uid, plane.frame): plane for plane in every}
    others = sorted((by_key[key] for key in by_key.keys() - set(order)), key=lambda plane: plane.order)
    wanted = [by_key[key] for key in order] + others
    return Arrangement(
        shown=tuple(
            Shown(
                plane.sop_instance_uid,
                plane.frame,
                positions.get((plane.sop_instance_uid, plane.frame)),
                edge_letters(plane.orientation),
            )
            for plane in wanted
        ),
        in_stack=in_stack,
        rate=rate,
        problems=tuple(problems),
    )


@lru_cache(maxsize=256)
def edge_letters(orientation: tuple[float, ...] | None) -> tuple[str, str, str, str] | None:
    """Return the letters at the left, top, right and bottom edge: A, P, L, R, H, F, two where the plane is oblique.

    Args:
        orientation: Row then column cosines (PS3.3 C.7.6.2.1.1); x grows to the left, y to the back, z to the head.
    """
    if orientation is None or len(orientation) != 6:
        return None
    row, column = orientation[:3], orientation[3:]
    return _towards(row, -1), _towards(column, -1), _towards(row, 1), _towards(column, 1)


def _towards(direction: Sequence[float], sign: int) -> str:
    axes = sorted(range(3), key=lambda axis: -abs(direction[axis]))[:2]
    return "".join(_LETTERS[axis][sign * direction[axis] > 0] for axis in axes if abs(direction[axis]) > _OBLIQUE)


def _pictures(file: InstanceFile) -> tuple[Plane, ...]:
    if is_video(file.header.transfer_syntax_uid):
        plane = plane_of_header(file.header)
        count = _video_frames(file.path, file.header.number_of_frames)
        return tuple(replace(plane, frame=frame) for frame in range(count))
    return planes_of_file(file)[0]


def _video_frames(path: Path, claimed: int | None) -> int:
    try:
        return read_video(path).frames
    except (PixelError, OSError):
        return max(1, claimed or 1)


def _rate(file: InstanceFile) -> float | None:
    """Return the pictures a second of a multi-frame instance (PS3.3 C.7.6.5): as recommended, else as acquired."""
    header = file.header
    video = is_video(header.transfer_syntax_uid)
    if not video and (header.number_of_frames or 1) < 2:
        return None
    try:
        dataset: Dataset = read_attributes(file.path).dataset
        stream_rate = read_video(file.path).rate if video else None
    except (PixelError, OSError):
        return None
    recommended = number(dataset, "RecommendedDisplayFrameRate", 0.0)
    if recommended <= 0:
        first, second = frame_times(dataset, [0, 1], stream_rate)
        step = (second or 0.0) - (first or 0.0)
        recommended = 1 / step if step > 0 else 0.0
    if recommended <= 0:
        return None if header.modality in _STACKED else USUAL_RATE
    return min(round(recommended, 3), _HIGHEST_RATE)


def to_json(arrangement: Arrangement, numbers: dict[str, int]) -> dict[str, Any]:
    """Return the arrangement with instances by their number in the database: no UID leaves in an address."""
    edges = list(dict.fromkeys(one.edges for one in arrangement.shown if one.edges is not None))
    frames = [
        [
            numbers[one.sop_instance_uid],
            one.frame + 1,
            one.position_mm,
            None if one.edges is None else edges.index(one.edges),
        ]
        for one in arrangement.shown
    ]
    return {
        "frames": frames,
        "edges": edges,
        "in_stack": arrangement.in_stack,
        "rate": arrangement.rate,
        "problems": list(arrangement.problems),
    }
