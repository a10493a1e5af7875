"""The series of one study -> which of them shows abdominal soft tissue best, and why the others do not.

Input: the headers of each series, and its stack where it has been read. Output: `RankedSeries`, the preferred first.
It cannot fail: a series of which nothing is known comes after those of which something good is. What is compared, and
in which order, stands in `dicom_node.preference`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dicom_node.headers import InstanceHeader
from dicom_node.image_kinds import ImageKind, kind_of
from dicom_node.kernels import Sharpness, sharpness
from dicom_node.planes import end_planes
from dicom_node.preference import Candidate, in_order, phase_of_texts, phase_of_times, why
from dicom_node.volumes import Geometry, SliceStack, geometry, geometry_of

#: One series shows what another does where it reaches over this share of it.
_SHOWN_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class RankedSeries:
    """One series of a study, with its place among the others."""

    series_instance_uid: str
    #: What is known of it.
    candidate: Candidate
    #: Why the series before it in the order is better, in words; "" of the preferred one.
    beaten_by: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the series and the reason, JSON-ready."""
        return {
            "series_instance_uid": self.series_instance_uid,
            "beaten_by": self.beaten_by,
            **self.candidate.to_json(),
        }


def rank_series(
    series: Mapping[str, Sequence[InstanceHeader]], stacks: Mapping[str, SliceStack] | None = None
) -> tuple[RankedSeries, ...]:
    """Return the series of a study in order of preference for reading soft tissue on axial CT.

    Args:
        series: The headers of each series by Series Instance UID, at least one each; the order does not matter.
        stacks: The stacks of those that were read; of the others the geometry is told from headers.
    """
    stacks = stacks or {}
    uids = sorted(uid for uid, headers in series.items() if headers)
    candidates = [candidate_of(series[uid], stacks.get(uid)) for uid in uids]
    order = in_order(candidates)
    return tuple(
        RankedSeries(
            uids[index],
            candidates[index],
            "" if place == 0 else _reason(candidates[order[0]], candidates[index], candidates),
        )
        for place, index in enumerate(order)
    )


def set_aside(series: Mapping[str, Sequence[InstanceHeader]]) -> dict[str, str]:
    """Return by Series Instance UID which series need not be looked at, and why: another shows the same, and better.

    Args:
        series: The headers of each series of one study, at least one each.
    """
    kept: list[str] = []
    reasons: dict[str, str] = {}
    for one in rank_series(series):
        uid = one.series_instance_uid
        better = next((known for known in kept if covers(series[known], series[uid])), None)
        if better is None:
            kept.append(uid)
        else:
            reasons[uid] = rank_series({better: series[better], uid: series[uid]})[1].beaten_by
    return reasons


def covers(better: Sequence[InstanceHeader], worse: Sequence[InstanceHeader]) -> bool:
    """Return whether the better series shows what the worse one does, as far as headers tell.

    They have one frame of reference, and along their normal the better one reaches over most of the worse one. A worse
    one that is not axial where the better one is counts as shown. False where it cannot be told.
    """
    references = {header.frame_of_reference_uid for header in (*better, *worse)}
    if len(references) != 1 or "" in references:
        return False
    first, second = reach(better), reach(worse)
    if first.orientation != second.orientation:
        return first.orientation == "axial" and second.orientation != ""
    if None in (first.from_mm, first.extent_mm, second.from_mm, second.extent_mm):
        return False
    return _share_shown(first, second) >= _SHOWN_SHARE


def _share_shown(better: Geometry, worse: Geometry) -> float:
    start, end = worse.from_mm or 0.0, (worse.from_mm or 0.0) + (worse.extent_mm or 0.0)
    from_mm, to_mm = better.from_mm or 0.0, (better.from_mm or 0.0) + (better.extent_mm or 0.0)
    return max(0.0, min(end, to_mm) - max(start, from_mm)) / max(end - start, 1e-6)


def candidate_of(headers: Sequence[InstanceHeader], stack: SliceStack | None = None) -> Candidate:
    """Return what is known of a series by the headers of its instances (at least one), and its stack if it was read."""
    kinds = [kind_of(header.sop_class_uid, (*header.image_type, *header.frame_type)) for header in headers]
    slices = [header for header, kind in zip(headers, kinds, strict=True) if kind is ImageKind.SLICE]
    shown = slices or list(headers)
    if stack is not None and stack.slices:
        shown = list(dict.fromkeys(one.header for one in stack.slices))
    first = min(shown, key=lambda header: math.inf if header.instance_number is None else header.instance_number)
    count, spacing, complete, orientation, extent = _shape(shown, stack)
    kernel = _kernel(shown)
    thickness = max((mm for mm in (_usual_thickness(shown), spacing) if mm is not None), default=None)
    number = math.inf if first.series_number is None else float(first.series_number)
    return Candidate(
        name=_name(number, thickness, kernel, first),
        slices=count,
        number=number,
        derived=not slices or {"DERIVED", "SECONDARY"} <= {word.upper() for word in first.image_type},
        orientation=orientation,
        extent_mm=extent,
        complete=complete,
        kernel=kernel,
        phase=phase_of_texts(first.series_description)
        or phase_of_times(first.contrast_start_time, first.acquisition_time),
        thickness_mm=thickness,
        monoenergetic_kev=first.monoenergetic_kev,
    )


def _shape(
    shown: Sequence[InstanceHeader], stack: SliceStack | None
) -> tuple[int, float | None, bool | None, str, float | None]:
    """Return slices, spacing, whether they are complete, orientation and extent; None and "" where not known."""
    if stack is not None:
        extent = stack.positions_mm[-1] - stack.positions_mm[0] if stack.positions_mm else None
        return len(stack.slices), stack.spacing_mm, stack.complete, stack.orientation, extent
    frames = sum(header.number_of_frames or 1 for header in shown)
    if frames > len(shown):
        found = reach(shown)
        return frames, shown[0].spacing_between_slices, None, found.orientation, found.extent_mm
    found = geometry(shown)
    return found.slices, found.spacing_mm, found.complete, found.orientation, found.extent_mm


def reach(headers: Sequence[InstanceHeader]) -> Geometry:
    """Return where a series lies and how far it reaches, as far as headers tell (`volumes.geometry`).

    An enhanced multi-frame image tells where its first and last frame are: between them lie the others.
    """
    frames = [header for header in headers if (header.number_of_frames or 1) > 1]
    if not frames:
        return geometry(headers)
    ends = [plane for header in frames for plane in end_planes(header)]
    if len(ends) < 2 * len(frames) or not all(plane.is_placed for plane in ends):
        return Geometry(False, sum(header.number_of_frames or 1 for header in frames), None, ())
    found = geometry_of(ends)
    return replace(found, complete=False, slices=sum(header.number_of_frames or 1 for header in frames), problems=())


def _kernel(shown: Sequence[InstanceHeader]) -> str:
    """Return the kernel of the series; of several the softest, which is the one that a stack takes."""
    softness = (Sharpness.SOFT, Sharpness.UNKNOWN, Sharpness.SHARP)
    kernels = Counter(header.convolution_kernel for header in shown)
    return min(kernels, key=lambda kernel: (softness.index(sharpness(kernel)), -kernels[kernel], kernel))


def _usual_thickness(shown: Sequence[InstanceHeader]) -> float | None:
    known = Counter(header.slice_thickness for header in shown if header.slice_thickness)
    return known.most_common(1)[0][0] if known else None


def _name(number: float, thickness: float | None, kernel: str, header: InstanceHeader) -> str:
    facts = [f"{thickness:.1f} mm" if thickness is not None else "", kernel]
    described = ", ".join(fact for fact in facts if fact) or "nothing known"
    known = header.series_instance_uid if math.isinf(number) else f"{number:.0f}"
    return f"series {known} ({described})"


def _reason(better: Candidate, other: Candidate, among: Sequence[Candidate]) -> str:
    return f"{better.name} is preferred because of {why(better, other, among)}"
