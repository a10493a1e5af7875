"""A series of slices -> an ordered stack with its geometry, and in words what is wrong with it (PS3.3 C.7.6.2).

Input: the headers (`geometry`, for assembly) or the stored instances (`slice_stack`, for rendering) of one series; the
frames of enhanced multi-frame instances are slices like any other. Output: `Geometry` or `SliceStack`. Slices are
sorted by ImagePositionPatient along the slice normal, which is the patient's own whichever way the patient lies;
localizers, pages, reformatted images, other orientations, other matrix sizes, other reconstructions and duplicates are
left out and said so. It does not fail: a stack whose geometry is unknown is ordered by number, and its problems say so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.headers import InstanceFile, InstanceHeader
from dicom_node.image_kinds import ImageKind, kind_of
from dicom_node.planes import Plane, plane_of_header, planes_of_file
from dicom_node.reconstructions import one_reconstruction
from dicom_node.spacing import check_steps

#: Slices whose normals differ by more than this are not of one stack (cosine of 1 degree).
_PARALLEL_COS = math.cos(math.radians(1.0))
#: Positions nearer than this are one position.
_SAME_POSITION_MM = 0.01
#: A tilt below this is rounding.
_TILT_DEGREES = 0.5


@dataclass(frozen=True, slots=True)
class Geometry:
    """What headers alone tell of a series' geometry."""

    #: At least three slices, regularly spaced, without gaps: nothing is missing between the first and the last.
    complete: bool
    #: Slices in the stack, without what is left out.
    slices: int
    #: Usual distance between neighbours in mm; None where it cannot be told.
    spacing_mm: float | None
    #: What is wrong, one sentence each.
    problems: tuple[str, ...]
    #: Where the first slice lies along the normal, and how far it is to the last, in mm; None where it cannot be told.
    from_mm: float | None = None
    extent_mm: float | None = None
    #: "axial", "coronal", "sagittal", "oblique", or "" where unknown.
    orientation: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """One picture of a stack: a single-frame instance, or one frame of a multi-frame one."""

    instance: InstanceFile
    #: Which frame of the instance, counted from 0; 0 of a single-frame instance.
    frame: int = 0

    @property
    def header(self) -> InstanceHeader:
        """The instance's header."""
        return self.instance.header


@dataclass(frozen=True, slots=True)
class SliceStack:
    """The slices of one stack, ordered along the slice normal.

    The order ascends in the patient coordinate that the normal points along most (PS3.3 C.7.6.2.1.1: x to the left,
    y to the back, z to the head), so an axial stack begins at the feet.
    """

    slices: tuple[Slice, ...]
    #: Distance of each slice along the normal in mm, ascending; empty where the geometry is unknown.
    positions_mm: tuple[float, ...]
    spacing_mm: float | None
    #: "axial", "coronal", "sagittal", "oblique", or "" where unknown.
    orientation: str
    #: Angle between the slice normal and the direction in which the slices follow each other, in degrees.
    tilt_degrees: float
    #: True where nothing is missing between the first slice and the last.
    complete: bool
    #: What is wrong, one sentence each.
    problems: tuple[str, ...]
    #: What was left out and why, one sentence each; leaving out a localizer is no problem.
    left_out: tuple[str, ...]
    #: Which of several acquisitions or reconstructions was taken and why, one sentence each; empty where there is one.
    taken: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what is known of the stack, JSON-ready; the slices by SOP Instance UID and frame (counted from 1)."""
        return {
            "slices": [[shown.header.sop_instance_uid, shown.frame + 1] for shown in self.slices],
            "positions_mm": list(self.positions_mm),
            "spacing_mm": self.spacing_mm,
            "orientation": self.orientation,
            "tilt_degrees": self.tilt_degrees,
            "complete": self.complete,
            "problems": list(self.problems),
            "left_out": list(self.left_out),
            "taken": list(self.taken),
        }


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """Indices into the given planes, in order, with what was found on the way."""

    order: tuple[int, ...]
    positions_mm: tuple[float, ...]
    spacing_mm: float | None
    orientation: str
    tilt_degrees: float
    complete: bool
    problems: tuple[str, ...]
    left_out: tuple[str, ...]
    taken: tuple[str, ...] = ()


def geometry(headers: Sequence[InstanceHeader]) -> Geometry:
    """Tell from headers whether a series is geometrically complete: at least 3 slices, regular spacing, no gaps.

    A series whose tail is yet to come looks complete too. Of multi-frame instances headers do not tell the geometry.
    """
    return geometry_of([plane_of_header(header) for header in headers])


def geometry_of(planes: Sequence[Plane]) -> Geometry:
    """Tell from pictures whether they are a complete stack, and where it lies; see `geometry`."""
    found = _arrange(planes)
    at = found.positions_mm
    start, extent = (at[0], at[-1] - at[0]) if at else (None, None)
    return Geometry(
        found.complete, len(found.order), found.spacing_mm, found.problems, start, extent, found.orientation
    )


def slice_stack(instances: Sequence[InstanceFile]) -> SliceStack:
    """Return a series as one stack in `SliceStack`'s order; multi-frame instances are read, without their pixels."""
    planes: list[Plane] = []
    slices: list[Slice] = []
    unread: list[str] = []
    for instance in instances:
        found, problem = planes_of_file(instance)
        planes.extend(found)
        slices.extend(Slice(instance, plane.frame) for plane in found)
        if problem:
            unread.append(problem)
    arranged = _arrange(planes)
    return SliceStack(
        slices=tuple(slices[index] for index in arranged.order),
        positions_mm=arranged.positions_mm,
        spacing_mm=arranged.spacing_mm,
        orientation=arranged.orientation,
        tilt_degrees=arranged.tilt_degrees,
        complete=arranged.complete and not unread,
        problems=(*arranged.problems, *unread),
        left_out=arranged.left_out,
        taken=arranged.taken,
    )


def _arrange(planes: Sequence[Plane]) -> _Arrangement:
    left_out: list[str] = []
    problems: list[str] = []
    chosen = _slices_only(planes, left_out)
    placed = [index for index in chosen if planes[index].is_placed]
    if not placed:
        return _by_number(planes, chosen, left_out)
    if missing := len(chosen) - len(placed):
        problems.append(f"{_count(missing, 'slice')} without position or orientation left out")
    placed = _main_group(planes, placed, problems, left_out)
    normal = planes[placed[0]].normal()
    along = {index: planes[index].along(normal) for index in placed}
    placed = _without_copies(planes, placed, left_out)
    one = one_reconstruction(planes, placed, along)
    problems.extend(one.problems)
    left_out.extend(one.left_out)
    ordered = sorted(one.members, key=lambda index: (round(along[index], 4), planes[index].order))
    ordered = _one_at_each_place(ordered, along, problems, left_out)
    positions = [along[index] for index in ordered]
    steps = check_steps(positions)
    problems.extend(steps.problems)
    tilt = _tilt_degrees(planes, ordered, normal)
    if tilt > _TILT_DEGREES:
        problems.append(f"gantry tilt of {tilt:.1f} degrees: the slices are shown as acquired, not straightened")
    return _Arrangement(
        order=tuple(ordered),
        positions_mm=tuple(round(position, 3) for position in positions),
        spacing_mm=steps.usual_mm,
        orientation=_orientation(normal),
        tilt_degrees=tilt,
        complete=steps.regular and len(ordered) >= 3 and not missing,
        problems=tuple(problems),
        left_out=tuple(left_out),
        taken=one.taken,
    )


def _slices_only(planes: Sequence[Plane], left_out: list[str]) -> list[int]:
    """Leave out localizers and pages always, reformatted images and projections where slices remain."""
    kinds = [kind_of(plane.sop_class_uid, plane.image_type) for plane in planes]
    wanted = {ImageKind.SLICE}
    if ImageKind.SLICE not in kinds:
        wanted = {ImageKind.REFORMATTED} if ImageKind.REFORMATTED in kinds else {ImageKind.PROJECTION}
    others = Counter(kind for kind in kinds if kind not in wanted)
    for kind in ImageKind:
        if others[kind]:
            left_out.append(f"{_count(others[kind], kind.value)} left out")
    return [index for index, kind in enumerate(kinds) if kind in wanted]


def _by_number(planes: Sequence[Plane], chosen: list[int], left_out: list[str]) -> _Arrangement:
    """Order slices of unknown geometry; never complete."""
    problems = ("no slice carries a position and orientation: ordered by InstanceNumber",) if chosen else ()
    order = tuple(sorted(chosen, key=lambda index: planes[index].order))
    return _Arrangement(order, (), None, "", 0.0, False, problems, tuple(left_out))


def _main_group(planes: Sequence[Plane], placed: list[int], problems: list[str], left_out: list[str]) -> list[int]:
    """Keep the largest group of parallel slices with one matrix size and one frame of reference."""
    groups: list[tuple[NDArray[np.float64], list[int]]] = []
    for index in sorted(placed, key=lambda index: planes[index].order):
        normal = planes[index].normal()
        for first, group in groups:
            if abs(float(normal @ first)) >= _PARALLEL_COS:
                group.append(index)
                break
        else:
            groups.append((normal, [index]))
    main = max((group for _, group in groups), key=len)
    if len(groups) > 1:
        others = len(placed) - len(main)
        problems.append(f"mixed orientation: {_count(others, 'slice')} in {_count(len(groups) - 1, 'other plane')}")
        left_out.append(f"{_count(others, 'slice')} of other orientation left out")
    kinds = Counter(_matrix(planes[index]) for index in main)
    usual, share = kinds.most_common(1)[0]
    if share < len(main):
        others = len(main) - share
        problems.append("mixed matrix size or frame of reference in the series")
        left_out.append(f"{_count(others, 'slice')} of other matrix size or frame of reference left out")
    return [index for index in main if _matrix(planes[index]) == usual]


def _without_copies(planes: Sequence[Plane], placed: list[int], left_out: list[str]) -> list[int]:
    """Keep each picture once: the same instance twice is no problem."""
    once = {(planes[index].sop_instance_uid, planes[index].frame): index for index in reversed(placed)}
    kept = [index for index in placed if once[planes[index].sop_instance_uid, planes[index].frame] == index]
    if same := len(placed) - len(kept):
        left_out.append(f"{_count(same, 'duplicate')} left out")
    return kept


def _one_at_each_place(
    ordered: list[int], along: Mapping[int, float], problems: list[str], left_out: list[str]
) -> list[int]:
    """Keep the first of the pictures at one position, where nothing in their headers tells them apart."""
    kept: list[int] = []
    for index in ordered:
        if not kept or along[index] - along[kept[-1]] >= _SAME_POSITION_MM:
            kept.append(index)
    if further := len(ordered) - len(kept):
        problems.append(
            f"{_count(further, 'further image')} at positions already taken: the series holds several phases or "
            "reconstructions that no attribute tells apart, the one with the lowest InstanceNumber is used"
        )
        left_out.append(f"{_count(further, 'image')} at positions already taken left out")
    return kept


def _tilt_degrees(planes: Sequence[Plane], ordered: list[int], normal: NDArray[np.float64]) -> float:
    if len(ordered) < 2:
        return 0.0
    way = np.subtract(planes[ordered[-1]].position, planes[ordered[0]].position)  # type: ignore[arg-type]
    length = float(np.linalg.norm(way))
    if length < _SAME_POSITION_MM:
        return 0.0
    return round(math.degrees(math.acos(min(1.0, abs(float(way @ normal)) / length))), 2)


def _matrix(plane: Plane) -> tuple[int | None, int | None, str]:
    return plane.rows, plane.columns, plane.frame_of_reference_uid


def _orientation(normal: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(normal)))
    # Within 20 degrees of an axis a radiologist still calls it by that plane's name.
    if abs(float(normal[axis])) < math.cos(math.radians(20)):
        return "oblique"
    return ("sagittal", "coronal", "axial")[axis]


def _count(number: int, what: str) -> str:
    name, bracket, rest = what.partition(" (")
    return f"{number} {name}{'' if number == 1 else 's'}{bracket}{rest}"
