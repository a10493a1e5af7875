"""Drawn angiography runs with known truth.

Input: a seeded `numpy.random.Generator`, and whether the vessel is blocked. Output: the stored values of an XA
acquisition, and the truth. A run without frames or too small to show a vessel raises `ValueError`.

All geometry is in fractions of the picture, so the same drawing can be had at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Grey value of an XA background without contrast (12 bits stored).
BACKGROUND_XA = 2600
#: How far the densest contrast lowers it.
CONTRAST_DEPTH_XA = 1500


@dataclass(frozen=True, slots=True)
class VesselRun:
    """One XA acquisition: dark vessels on a light ground (MONOCHROME2, 12 bits stored)."""

    #: uint16, shape (frames, rows, columns).
    pixels: NDArray[np.uint16]
    blocked: bool
    #: 0 plain .. 1 undecidable: how faint the sign is.
    difficulty: float

    @property
    def truth(self) -> str:
        """Return the right answer: "patent" or "blocked"."""
        return "blocked" if self.blocked else "patent"


@dataclass(frozen=True, slots=True)
class _Tube:
    """A stretch of vessel: centre line in fractions, with radius, filling and arrival time at every point."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    radius: NDArray[np.float64]
    filling: NDArray[np.float64]
    arrival: NDArray[np.float64]


def draw_vessel_run(
    rng: np.random.Generator,
    *,
    blocked: bool,
    frames: int = 12,
    size: int = 256,
    subtracted: bool = True,
    difficulty: float | None = None,
) -> VesselRun:
    """Draw a contrast run of one vessel with branches.

    Contrast arrives over the frames, so early frames show less than the run as a whole. A blocked vessel ends in a
    stump; the harder the case, the more collateral flow fills it beyond. A hard patent one has a tight stenosis and
    faint flow beyond it. With `subtracted=False` soft tissue and bones lie over it and frame 1 is free of contrast,
    fit for a mask (PS3.3 C.7.6.10). `difficulty` None draws about one hard case in six.
    """
    if frames < 1 or size < 32:
        raise ValueError(f"a run needs at least 1 frame and 32 pixels a side, not {frames} frames of {size} pixels")
    if difficulty is None:
        difficulty = float(rng.uniform(0.45, 0.95) if rng.random() < 0.16 else rng.uniform(0.0, 0.4))
    thickness, filling, arrival = _project(_draw_tubes(rng, blocked, difficulty), size)
    ground = np.full((size, size), 1.0) if subtracted else _anatomy(rng, size)
    noise = rng.uniform(0.004, 0.03)
    moments = np.linspace(0.0, 1.0, frames) if frames > 1 else np.array([0.7])
    pictures = np.empty((frames, size, size), dtype=np.uint16)
    for number, moment in enumerate(moments):
        rise = np.clip((moment - arrival) / 0.08, 0.0, 1.0)
        washout = np.exp(-np.clip(moment - arrival - 0.45, 0.0, None) * 2.5)
        contrast = thickness * filling * rise * washout
        grain = rng.normal(0.0, noise, (size, size))
        grey = BACKGROUND_XA * (ground + grain) - CONTRAST_DEPTH_XA * contrast
        pictures[number] = np.clip(grey, 0, 4095).astype(np.uint16)
    return VesselRun(pictures, blocked, difficulty)


def _draw_tubes(rng: np.random.Generator, blocked: bool, difficulty: float) -> list[_Tube]:
    """Lay one main vessel across the picture with two to four branches, turned at random."""
    along = np.linspace(0.0, 1.0, 121)
    bend = rng.uniform(-0.12, 0.12) * np.sin(np.pi * along) + rng.uniform(-0.05, 0.05) * np.sin(
        2 * np.pi * along * rng.uniform(0.8, 1.6) + rng.uniform(0, np.pi)
    )
    main_x, main_y = along - 0.5, bend + rng.uniform(-0.1, 0.1)
    radius = rng.uniform(0.024, 0.034) * (1.0 - 0.35 * along)
    site = rng.uniform(0.3, 0.66)
    beyond = along > site
    filling = np.full_like(along, rng.uniform(0.75, 1.0))
    if blocked:
        filling[beyond] *= 0.4 * difficulty if difficulty > 0.42 else 0.0
    elif difficulty > 0.42:
        filling[beyond] *= 1.05 - 0.68 * difficulty
        radius = radius * (1.0 - 0.6 * difficulty * np.exp(-(((along - site) / 0.02) ** 2)))
    arrival = 0.12 + 0.36 * along
    tubes = [_Tube(main_x, main_y, radius, filling, arrival)]
    for start in rng.uniform(0.1, 0.85, int(rng.integers(2, 5))):
        root = int(start * 120)
        reach = rng.uniform(0.25, 0.45)
        angle = rng.choice((-1.0, 1.0)) * rng.uniform(0.45, 1.0)
        step = np.linspace(0.0, 1.0, 60)
        tubes.append(
            _Tube(
                main_x[root] + reach * step * np.cos(angle),
                main_y[root] + reach * step * np.sin(angle) + 0.03 * np.sin(3 * step),
                radius[root] * 0.6 * (1.0 - 0.5 * step),
                np.full_like(step, filling[root] * 0.85),
                arrival[root] + 0.36 * reach * step,
            )
        )
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    # Stretched to the diagonal, so that at any turn the vessel leaves the picture at both ends.
    return [
        _Tube(
            0.5 + 1.45 * (t.x * cos - t.y * sin), 0.5 + 1.45 * (t.x * sin + t.y * cos), t.radius, t.filling, t.arrival
        )
        for t in tubes
    ]


def _project(tubes: list[_Tube], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return per pixel the path length through the vessels (0..1), their filling, and when contrast arrives."""
    thickness = np.zeros((size, size))
    filling = np.zeros((size, size))
    arrival = np.full((size, size), 2.0)
    for tube in tubes:
        widest = tube.radius.max()
        for x, y, radius, fill, moment in zip(tube.x, tube.y, tube.radius, tube.filling, tube.arrival, strict=True):
            reach = radius * size + 1.0
            left, right = max(0, int(x * size - reach)), min(size, int(x * size + reach) + 2)
            top, bottom = max(0, int(y * size - reach)), min(size, int(y * size + reach) + 2)
            if left >= right or top >= bottom:
                continue
            dy = (np.arange(top, bottom) + 0.5) / size - y
            dx = (np.arange(left, right) + 0.5) / size - x
            depth = np.sqrt(np.clip(1.0 - (dy[:, None] ** 2 + dx[None, :] ** 2) / radius**2, 0.0, None))
            depth *= min(1.0, 0.45 + 0.55 * radius / widest)
            here = (slice(top, bottom), slice(left, right))
            # Overlapping vessels: the better filled one is what one sees.
            seen = depth * max(fill, 0.02) > thickness[here] * np.maximum(filling[here], 0.02)
            thickness[here] = np.where(seen, depth, thickness[here])
            filling[here] = np.where(seen, fill, filling[here])
            arrival[here] = np.where(seen, moment, arrival[here])
    return thickness, filling, arrival


def _anatomy(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Draw what lies over a vessel before subtraction: a soft-tissue gradient and a few long bones."""
    y, x = np.mgrid[0:size, 0:size] / size
    ground = 1.0 + 0.12 * (x - 0.5) * rng.uniform(-1, 1) + 0.12 * (y - 0.5) * rng.uniform(-1, 1)
    for _ in range(3):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.35, 0.35)
        distance = np.abs((x - 0.5) * np.sin(angle) - (y - 0.5) * np.cos(angle) - offset)
        ground -= 0.13 * np.clip((0.07 - distance) / 0.02, 0.0, 1.0)
    return np.asarray(ground, dtype=np.float64)
