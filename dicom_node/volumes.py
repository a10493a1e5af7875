"""A series of slices -> an ordered stack with its geometry, and in words what is wrong with it (PS3.3 C.7.6.2).

Input: the headers (`geometry`, for assembly) or the stored instances (`slice_stack`, for rendering) of one series.
Output: `Geometry` or `SliceStack`. Slices are sorted by ImagePositionPatient along the slice normal; localizers, other
orientations, other matrix sizes and duplicates are left out and said so. It does not fail: a stack whose geometry is
unknown is ordered by InstanceNumber, and its problems say that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.headers import InstanceFile, InstanceHeader

#: Slices whose normals differ by more than this are not of one stack (cosine of 1 degree).
_PARALLEL_COS = math.cos(math.radians(1.0))
#: Positions nearer than this are one position.
_SAME_POSITION_MM = 0.01
#: A step this much longer than the usual one is a gap: at least half a slice is missing.
_GAP_FACTOR = 1.5
#: Steps within this share of the usual one are regular; reconstructions round positions to 0.1 mm.
_STEP_TOLERANCE = 0.1
_ROUNDING_MM = 0.11
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


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """Indices into the given headers, in order, with what was found on the way."""

    order: tuple[int, ...]
    positions_mm: tuple[float, ...]
    spacing_mm: float | None
    orientation: str
    tilt_degrees: float
    complete: bool
    problems: tuple[str, ...]
    left_out: tuple[str, ...]


def geometry(headers: Sequence[InstanceHeader]) -> Geometry:
    """Tell from headers whether a series is geometrically complete: at least 3 slices, regular spacing, no gaps.

    A series whose tail has not arrived yet looks complete too: combine this with the association's release.
    """
    found = _arrange(headers)
    return Geometry(found.complete, len(found.order), found.spacing_mm, found.problems)


def slice_stack(instances: Sequence[InstanceFile]) -> SliceStack:
    """Return the instances of a series as one ordered stack; see `SliceStack` for the order."""
    found = _arrange([instance.header for instance in instances])
    return SliceStack(
        slices=tuple(Slice(instances[index]) for index in found.order),
        positions_mm=found.positions_mm,
        spacing_mm=found.spacing_mm,
        orientation=found.orientation,
        tilt_degrees=found.tilt_degrees,
        complete=found.complete,
        problems=found.problems,
        left_out=found.left_out,
    )


def _arrange(headers: Sequence[InstanceHeader]) -> _Arrangement:
    left_out: list[str] = []
    problems: list[str] = []
    chosen = _without_localizers(headers, left_out)
    placed = [index for index in chosen if _is_placed(headers[index])]
    if not placed:
        return _by_instance_number(headers, chosen, left_out)
    if missing := len(chosen) - len(placed):
        problems.append(f"{_count(missing, 'slice')} without position or orientation left out")
    placed = _main_group(headers, placed, problems, left_out)
    normal = _normal(headers[placed[0]])
    ordered = sorted(placed, key=lambda index: (_along(headers[index], normal), _rank(headers[index])))
    ordered = _without_duplicates(headers, ordered, normal, problems, left_out)
    positions = [_along(headers[index], normal) for index in ordered]
    spacing, regular = _check_steps(positions, problems)
    tilt = _tilt_degrees(headers, ordered, normal)
    if tilt > _TILT_DEGREES:
        problems.append(f"gantry tilt of {tilt:.1f} degrees: the slices are shown as acquired, not straightened")
    return _Arrangement(
        order=tuple(ordered),
        positions_mm=tuple(round(position, 3) for position in positions),
        spacing_mm=spacing,
        orientation=_orientation(normal),
        tilt_degrees=tilt,
        complete=regular and len(ordered) >= 3 and not missing,
        problems=tuple(problems),
        left_out=tuple(left_out),
    )


def _without_localizers(headers: Sequence[InstanceHeader], left_out: list[str]) -> list[int]:
    localizers = {index for index, header in enumerate(headers) if "LOCALIZER" in header.image_type}
    if localizers:
        left_out.append(f"{_count(len(localizers), 'localizer')} left out")
    return [index for index in range(len(headers)) if index not in localizers]


def _by_instance_number(headers: Sequence[InstanceHeader], chosen: list[int], left_out: list[str]) -> _Arrangement:
    """Order slices of unknown geometry; never complete."""
    problems = ("no slice carries a position and orientation: ordered by InstanceNumber",) if chosen else ()
    order = tuple(sorted(chosen, key=lambda index: _rank(headers[index])))
    return _Arrangement(order, (), None, "", 0.0, False, problems, tuple(left_out))


def _main_group(
    headers: Sequence[InstanceHeader], placed: list[int], problems: list[str], left_out: list[str]
) -> list[int]:
    """Keep the largest group of parallel slices with one matrix size and one frame of reference."""
    groups: list[list[int]] = []
    for index in placed:
        for group in groups:
            if abs(float(_normal(headers[index]) @ _normal(headers[group[0]]))) >= _PARALLEL_COS:
                group.append(index)
                break
        else:
            groups.append([index])
    main = max(groups, key=len)
    if len(groups) > 1:
        others = len(placed) - len(main)
        problems.append(f"mixed orientation: {_count(others, 'slice')} in {_count(len(groups) - 1, 'other plane')}")
        left_out.append(f"{_count(others, 'slice')} of other orientation left out")
    kinds = Counter(_kind(headers[index]) for index in main)
    usual, share = kinds.most_common(1)[0]
    if share < len(main):
        others = len(main) - share
        problems.append("mixed matrix size or frame of reference in the series")
        left_out.append(f"{_count(others, 'slice')} of other matrix size or frame of reference left out")
    return [index for index in main if _kind(headers[index]) == usual]


def _without_duplicates(
    headers: Sequence[InstanceHeader],
    ordered: list[int],
    normal: NDArray[np.float64],
    problems: list[str],
    left_out: list[str],
) -> list[int]:
    """Keep the first of the slices at one position; the same UID twice is no problem, two images at one place are."""
    kept: list[int] = []
    same_image = other_image = 0
    for index in ordered:
        if kept and _along(headers[index], normal) - _along(headers[kept[-1]], normal) < _SAME_POSITION_MM:
            if headers[index].sop_instance_uid == headers[kept[-1]].sop_instance_uid:
                same_image += 1
            else:
                other_image += 1
        else:
            kept.append(index)
    if same_image:
        left_out.append(f"{_count(same_image, 'duplicate')} left out")
    if other_image:
        problems.append(
            f"{_count(other_image, 'further image')} at positions already taken: the series holds several phases or "
            "reconstructions, the one with the lowest InstanceNumber is used"
        )
        left_out.append(f"{_count(other_image, 'image')} at positions already taken left out")
    return kept


def _check_steps(positions: list[float], problems: list[str]) -> tuple[float | None, bool]:
    """Return the usual step in mm and whether all steps are alike; say where they are not."""
    if len(positions) < 2:
        return None, False
    steps = np.diff(positions)
    usual = float(np.median(steps))
    if usual <= 0:  # only where rounding leaves nothing of the distances
        return None, False
    gaps = [number for number, step in enumerate(steps, 1) if step > _GAP_FACTOR * usual]
    for number in gaps[:5]:
        problems.append(f"gap of {steps[number - 1]:.1f} mm after slice {number} (expected {usual:.1f} mm)")
    if len(gaps) > 5:
        problems.append(f"{len(gaps) - 5} more gaps")
    rest = [float(step) for step in steps if step <= _GAP_FACTOR * usual]
    uneven = max(abs(step - usual) for step in rest) > max(_STEP_TOLERANCE * usual, _ROUNDING_MM)
    if uneven:
        problems.append(f"mixed spacing: {min(rest):.1f} to {max(rest):.1f} mm between slices")
    return round(usual, 3), not gaps and not uneven


def _tilt_degrees(headers: Sequence[InstanceHeader], ordered: list[int], normal: NDArray[np.float64]) -> float:
    if len(ordered) < 2:
        return 0.0
    way = _position(headers[ordered[-1]]) - _position(headers[ordered[0]])
    length = float(np.linalg.norm(way))
    if length < _SAME_POSITION_MM:
        return 0.0
    return round(math.degrees(math.acos(min(1.0, abs(float(way @ normal)) / length))), 2)


def _is_placed(header: InstanceHeader) -> bool:
    orientation, position = header.image_orientation_patient, header.image_position_patient
    if orientation is None or position is None or not np.all(np.isfinite([*orientation, *position])):
        return False
    # Two unit vectors at right angles; writers round to six places, some to three.
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths_are_one = all(abs(float(np.linalg.norm(vector)) - 1.0) < 0.01 for vector in (row, column))
    return lengths_are_one and abs(float(row @ column)) < 0.01


def _normal(header: InstanceHeader) -> NDArray[np.float64]:
    """Return the slice normal, turned so that its largest component is positive."""
    orientation = header.image_orientation_patient
    if orientation is None:
        raise ValueError(f"instance {header.sop_instance_uid} has no ImageOrientationPatient")
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal * np.sign(normal[np.argmax(np.abs(normal))]), dtype=np.float64)


def _position(header: InstanceHeader) -> NDArray[np.float64]:
    return np.asarray(header.image_position_patient, dtype=np.float64)


def _along(header: InstanceHeader, normal: NDArray[np.float64]) -> float:
    return float(_position(header) @ normal)


def _kind(header: InstanceHeader) -> tuple[int | None, int | None, str]:
    return header.rows, header.columns, header.frame_of_reference_uid


def _rank(header: InstanceHeader) -> tuple[float, str]:
    number = math.inf if header.instance_number is None else header.instance_number
    return number, header.sop_instance_uid


def _orientation(normal: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(normal)))
    # Within 20 degrees of an axis a radiologist still calls it by that plane's name.
    if abs(float(normal[axis])) < math.cos(math.radians(20)):
        return "oblique"
    return ("sagittal", "coronal", "axial")[axis]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
