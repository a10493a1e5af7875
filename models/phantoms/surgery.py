"""Drawn scenes of cataract surgery through the microscope, with known truth.

Input: a seeded `numpy.random.Generator`, the phase, and whether the instrument works where it should. Output: RGB
pictures of one eye, a little moved from frame to frame, and the truth. An unknown phase, no frames, or a picture too
small to show an instrument raises `ValueError`.

Each phase has its own instrument and its own look of the pupil. The phases are those of Cataract-1K that can be drawn
with few strokes (Ghamsarian et al. 2024, doi:10.1038/s41597-024-03193-4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Phase -> the instrument that is in the eye.
INSTRUMENTS = {
    "incision": "keratome",
    "capsulorhexis": "capsulorhexis forceps",
    "phacoemulsification": "phaco tip",
    "irrigation and aspiration": "irrigation-aspiration tip",
    "lens implantation": "lens injector",
}
PHASES = tuple(INSTRUMENTS)

_Colour = tuple[int, int, int]
_SCLERA: _Colour = (225, 205, 195)
_PUPIL: dict[str, _Colour] = {
    "incision": (60, 30, 30),
    "capsulorhexis": (120, 70, 40),
    "phacoemulsification": (190, 140, 70),
    "irrigation and aspiration": (110, 20, 15),
    "lens implantation": (60, 20, 40),
}
_METAL: dict[str, _Colour] = {
    "incision": (235, 240, 245),
    "capsulorhexis": (150, 160, 170),
    "phacoemulsification": (70, 110, 200),
    "irrigation and aspiration": (245, 235, 120),
    "lens implantation": (60, 170, 90),
}
#: Half width of the shaft, in picture widths.
_HALF_WIDTH = {
    "incision": 0.055,
    "capsulorhexis": 0.016,
    "phacoemulsification": 0.042,
    "irrigation and aspiration": 0.024,
    "lens implantation": 0.07,
}
_PUPIL_RADIUS = 0.21


@dataclass(frozen=True, slots=True)
class SurgicalScene:
    """Frames of one moment of an operation."""

    #: uint8, shape (frames, rows, columns, 3), RGB.
    pixels: NDArray[np.uint8]
    phase: str
    #: False where the instrument's tip is at the edge of the pupil, on the iris.
    safe: bool

    @property
    def instrument(self) -> str:
        """Return the name of the instrument in the eye."""
        return INSTRUMENTS[self.phase]


def draw_surgical_scene(
    rng: np.random.Generator, *, phase: str, safe: bool, frames: int = 1, size: int = 256
) -> SurgicalScene:
    """Draw an eye under the microscope with one instrument in it.

    In a safe scene the tip is near the middle of the pupil; in an unsafe one it is at the pupil's edge, over the iris.
    """
    if phase not in INSTRUMENTS:
        raise ValueError(f"cannot draw the phase {phase!r}: phases are {', '.join(PHASES)}")
    if frames < 1 or size < 64:
        raise ValueError(f"a scene needs at least 1 frame and 64 pixels a side, not {frames} frames of {size} pixels")
    eye = _Eye(
        middle=0.5 + rng.uniform(-0.06, 0.06, 2),
        iris=np.array([(70, 110, 150), (110, 80, 50), (90, 120, 80)][int(rng.integers(3))]) + rng.integers(-12, 13, 3),
        radius=_PUPIL_RADIUS * rng.uniform(0.92, 1.08),
        angle=rng.uniform(0.0, 2 * np.pi),
        reach=rng.uniform(0.0, 0.35) if safe else rng.uniform(1.15, 1.4),
    )
    light, noise = rng.uniform(0.85, 1.1), rng.uniform(2.0, 8.0)
    pictures = np.empty((frames, size, size, 3), dtype=np.uint8)
    for number in range(frames):
        picture = _draw_eye(size, eye, phase, rng.uniform(-0.012, 0.012, 2))
        picture = picture * light + rng.normal(0.0, noise, picture.shape)
        pictures[number] = np.clip(picture, 0, 255).astype(np.uint8)
    return SurgicalScene(pictures, phase, safe)


@dataclass(frozen=True, slots=True)
class _Eye:
    """Where the eye and the instrument are, in picture widths; `reach` is the tip's distance in pupil radii."""

    middle: NDArray[np.float64]
    iris: NDArray[np.float64]
    radius: float
    angle: float
    reach: float


def _draw_eye(size: int, eye: _Eye, phase: str, moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """Paint sclera, iris, pupil, what the phase does to the pupil, and the instrument, in this order."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    dx, dy = x - eye.middle[0], y - eye.middle[1]
    distance = np.hypot(dx, dy)
    picture = np.empty((size, size, 3))
    picture[:] = _SCLERA
    picture[distance < 2.0 * eye.radius] = eye.iris
    picture[distance < eye.radius] = _PUPIL[phase]
    if phase == "capsulorhexis":
        picture[np.abs(distance - 0.65 * eye.radius) < 0.012] = (230, 190, 120)
    elif phase == "phacoemulsification":
        # The nucleus is cracked in four.
        cracks = (np.minimum(np.abs(dx), np.abs(dy)) < 0.014) & (distance < 0.85 * eye.radius)
        picture[cracks] = (70, 40, 20)
    elif phase == "lens implantation":
        picture[np.abs(distance - 0.72 * eye.radius) < 0.02] = (190, 220, 250)
    _draw_instrument(picture, eye, phase, x - moved[0], y - moved[1])
    return picture


def _draw_instrument(
    picture: NDArray[np.float64], eye: _Eye, phase: str, x: NDArray[np.float64], y: NDArray[np.float64]
) -> None:
    """Paint a shaft from outside the picture to the tip; the forceps have two of them."""
    # Unit vector from the tip back along the shaft; the tip lies on the same side of the pupil.
    back = np.array([np.cos(eye.angle), np.sin(eye.angle)])
    tip = eye.middle + back * eye.reach * eye.radius
    along = (x - tip[0]) * back[0] + (y - tip[1]) * back[1]
    across = -(x - tip[0]) * back[1] + (y - tip[1]) * back[0]
    half = _HALF_WIDTH[phase]
    if phase == "incision":
        # A blade: it widens from its point.
        inside = (along > 0) & (np.abs(across) < np.minimum(half, 0.6 * along))
    elif phase == "capsulorhexis":
        opening = np.minimum(0.04, 0.012 + 0.2 * np.clip(along, 0.0, None))
        inside = (along > 0) & (np.abs(np.abs(across) - opening) < half)
    else:
        inside = (along > 0) & (np.abs(across) < half)
    picture[inside] = _METAL[phase]
    if phase == "irrigation and aspiration":
        # The port near the tip.
        picture[np.hypot(along - 0.03, across) < 0.013] = (20, 20, 20)
