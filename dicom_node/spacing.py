"""Positions of slices along their normal -> their usual distance, and whether any is missing or out of step.

Input: positions in mm, ascending. Output: `Steps`. It cannot fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: A step this much longer than the usual one is a gap: at least half a slice is missing.
_GAP_FACTOR = 1.5
#: Steps within this share of the usual one are regular; reconstructions round positions to 0.1 mm.
_STEP_TOLERANCE = 0.1
_ROUNDING_MM = 0.11
#: More gaps than this are counted and not listed.
_MOST_LISTED = 5


@dataclass(frozen=True, slots=True)
class Steps:
    """The distances between neighbouring slices."""

    #: The median in mm; None where there are fewer than two positions.
    usual_mm: float | None
    #: No gap, and every step like the usual one.
    regular: bool
    #: What is wrong, one sentence each.
    problems: tuple[str, ...] = ()


def check_steps(positions: Sequence[float]) -> Steps:
    """Return the usual step and whether all steps are alike; say where they are not."""
    if len(positions) < 2:
        return Steps(None, regular=False)
    steps = np.diff(positions)
    usual = float(np.median(steps))
    if usual <= 0:  # only where rounding leaves nothing of the distances
        return Steps(None, regular=False)
    gaps = [number for number, step in enumerate(steps, 1) if step > _GAP_FACTOR * usual]
    problems = [
        f"gap of {steps[number - 1]:.1f} mm after slice {number} (expected {usual:.1f} mm)"
        for number in gaps[:_MOST_LISTED]
    ]
    if len(gaps) > _MOST_LISTED:
        problems.append(f"{len(gaps) - _MOST_LISTED} more gaps")
    rest = [float(step) for step in steps if step <= _GAP_FACTOR * usual]
    uneven = max(abs(step - usual) for step in rest) > max(_STEP_TOLERANCE * usual, _ROUNDING_MM)
    if uneven:
        problems.append(f"mixed spacing: {min(rest):.1f} to {max(rest):.1f} mm between slices")
    return Steps(round(usual, 3), regular=not gaps and not uneven, problems=tuple(problems))
