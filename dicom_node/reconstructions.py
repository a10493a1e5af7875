"""Pictures of several acquisitions or reconstructions in one series -> those of one of them, and which it is.

Input: the placed pictures of one orientation, with their distance along the normal. Output: `Chosen`. It cannot fail:
what nothing tells apart stays together.

Two kinds of attributes tell pictures apart. A reconstruction (kernel, thickness, field, image type, energy, echo,
b-value) is another wherever two of them lie in the same part of the body; one behind the other they are one stack, and
it is said. An acquisition (temporal position, number, time) is another only where the pictures together are no even
stack: a scanner that steps, or that fills every second slice first, gives every step a number of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.planes import Plane
from dicom_node.preference import Candidate, in_order, phase_of_times, why
from dicom_node.spacing import check_steps

#: More values than this are counted and not named.
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class _Trait:
    """An attribute that tells pictures apart, by the name that a person knows."""

    name: str
    value: Callable[[Plane], object]
    #: Whether it is of the acquisition; else it is of the reconstruction.
    of_acquisition: bool = False
    #: Whether what is left out shows the same moment and energy: then nothing is lost.
    same_content: bool = False


_TRAITS = (
    _Trait("image type", lambda plane: "\\".join(plane.image_type)),
    _Trait("kernel", lambda plane: plane.kernel, same_content=True),
    _Trait("slice thickness", lambda plane: _rounded(plane.thickness_mm), same_content=True),
    _Trait("reconstruction diameter", lambda plane: _rounded(plane.diameter_mm), same_content=True),
    _Trait("energy", lambda plane: plane.monoenergetic_kev),
    _Trait("echo time", lambda plane: _rounded(plane.echo_time_ms)),
    _Trait("b-value", lambda plane: plane.b_value),
    _Trait("stack", lambda plane: plane.stack),
    _Trait("temporal position", lambda plane: plane.temporal_position, of_acquisition=True),
    _Trait("acquisition number", lambda plane: plane.acquisition_number, of_acquisition=True),
    _Trait("acquisition time", lambda plane: plane.acquisition_time, of_acquisition=True),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The pictures of one acquisition and reconstruction."""

    members: tuple[int, ...]
    #: Which one was taken and why, one sentence for each attribute that told them apart; empty where there is but one.
    taken: tuple[str, ...]
    problems: tuple[str, ...]
    left_out: tuple[str, ...]


def one_reconstruction(planes: Sequence[Plane], members: Sequence[int], along: Mapping[int, float]) -> Chosen:
    """Return the pictures of one acquisition and reconstruction among `members`.

    Args:
        planes: All pictures of the series.
        members: Indices of those that lie in one orientation.
        along: Distance of each member along the normal, in mm.
    """
    kept, taken, problems, left_out = list(members), [], [], []
    for trait in _TRAITS:
        parts = _parts(planes, kept, trait)
        if len(parts) < 2:
            continue
        if not _tells_apart(trait, list(parts.values()), along):
            if not trait.of_acquisition and trait.name != "image type":
                problems.append(f"{trait.name} changes within the stack: {_listed(parts)}")
            continue
        best, reason = _best(planes, parts, along, trait)
        others = len(kept) - len(parts[best])
        sentence = f"{len(parts)} stacks told apart by {trait.name} ({_listed(parts)}): {_spell(best)} taken, {reason}"
        taken.append(sentence)
        if not trait.same_content:
            problems.append(f"the series holds {sentence}")
        left_out.append(f"{others} image{'' if others == 1 else 's'} of other {trait.name} left out")
        kept = parts[best]
    return Chosen(tuple(kept), tuple(taken), tuple(problems), tuple(left_out))


def _parts(planes: Sequence[Plane], members: Sequence[int], trait: _Trait) -> dict[object, list[int]]:
    parts: dict[object, list[int]] = {}
    for index in members:
        parts.setdefault(trait.value(planes[index]), []).append(index)
    return dict(sorted(parts.items(), key=lambda part: min(planes[index].order for index in part[1])))


def _tells_apart(trait: _Trait, parts: list[list[int]], along: Mapping[int, float]) -> bool:
    """Whether the parts are several stacks rather than pieces of one."""
    if not _overlap(parts, along):
        return False
    if not trait.of_acquisition:
        return True
    together = sorted(along[index] for part in parts for index in part)
    if check_steps(together).regular:
        return False
    # A value that nearly every picture has for itself (times often are) tells nothing apart.
    at_one_place = Counter(round(place, 2) for place in together).most_common(1)[0][1]
    return len(parts) <= max(2, at_one_place) and min(len(part) for part in parts) > 1


def _overlap(parts: list[list[int]], along: Mapping[int, float]) -> bool:
    reached = -math.inf
    for start, end in sorted((min(along[i] for i in part), max(along[i] for i in part)) for part in parts):
        if start <= reached:
            return True
        reached = max(reached, end)
    return False


def _best(
    planes: Sequence[Plane], parts: Mapping[object, list[int]], along: Mapping[int, float], trait: _Trait
) -> tuple[object, str]:
    values = list(parts)
    candidates = [_candidate(planes, parts[value], along, _spell(value)) for value in values]
    order = in_order(candidates)
    best, second = candidates[order[0]], candidates[order[1]]
    if trait.name == "reconstruction diameter":
        # The whole body rather than a detail of it.
        widest = max(range(len(values)), key=lambda index: (float(str(values[index] or 0)), -index))
        return values[widest], "the widest"
    return values[order[0]], why(best, second, candidates)


def _candidate(planes: Sequence[Plane], members: Sequence[int], along: Mapping[int, float], name: str) -> Candidate:
    places = [along[index] for index in members]
    first = min((planes[index] for index in members), key=lambda plane: plane.order)
    return Candidate(
        name=name,
        slices=len({round(place, 2) for place in places}),
        number=first.order[0],
        derived="DERIVED" in first.image_type,
        extent_mm=max(places) - min(places),
        kernel=first.kernel,
        phase=phase_of_times(first.contrast_start_time, first.acquisition_time),
        thickness_mm=first.thickness_mm,
        monoenergetic_kev=first.monoenergetic_kev,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _spell(value: object) -> str:
    return "unknown" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _listed(parts: Mapping[object, list[int]]) -> str:
    shown = [f"{_spell(value)}: {len(part)}" for value, part in parts.items()]
    more = len(shown) - _MOST_NAMED
    return ", ".join(shown[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
