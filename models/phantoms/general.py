"""Drawn pictures of seven kinds (CT, MR, X-ray, ultrasound, fundus, pathology, endoscopy) with known spots on them.

Input: a seeded `numpy.random.Generator`, the kind of picture, and which spots lie on it. Output: RGB, and the truth for
every kind of question that can be asked: what is there, where, how many, how wide, in a sentence. An unknown kind or
spot, too many spots, or a picture too small, raises `ValueError`.

All geometry is in fractions of the picture. Each kind of picture has its own ground, one kind of dark spot and one kind
of bright spot, named as the field names what looks like it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: DICOM modality -> the names of its dark and its bright spots.
SPOTS: Mapping[str, tuple[str, str]] = {
    "CT": ("cyst", "calcification"),
    "MR": ("infarct", "tumor"),
    "DX": ("cavity", "nodule"),
    "US": ("cyst", "mass"),
    "OP": ("hemorrhage", "exudate"),
    "SM": ("lymphocyte", "adipocyte"),
    "ES": ("ulcer", "polyp"),
}
GENERAL_MODALITIES = tuple(SPOTS)
#: What each kind of picture is called in a sentence.
PICTURE_NAMES: Mapping[str, str] = {
    "CT": "CT image",
    "MR": "MR image",
    "DX": "X-ray",
    "US": "ultrasound image",
    "OP": "fundus photograph",
    "SM": "pathology image",
    "ES": "endoscopy image",
}
MOST_SPOTS = 4
#: All pictures are taken to be this wide, so that a spot has a diameter in millimetres.
PICTURE_WIDTH_MM = 100.0

#: Spots lie on a grid of this many places a side, near the middle, so that none touches another.
_PLACES = 3
_PITCH = 0.225
_DIAMETER = (0.12, 0.2)
_WIDEST_ALONE = 0.36

_Colour = tuple[int, int, int]
#: Modality -> colours of the ground, of dark spots and of bright spots.
_COLOURS: Mapping[str, tuple[_Colour, _Colour, _Colour]] = {
    "CT": ((120, 120, 120), (35, 35, 35), (250, 250, 250)),
    "MR": ((105, 105, 105), (15, 15, 15), (235, 235, 235)),
    "DX": ((135, 135, 135), (40, 40, 40), (245, 245, 245)),
    "US": ((110, 110, 110), (8, 8, 8), (240, 240, 240)),
    "OP": ((205, 105, 45), (105, 10, 10), (250, 240, 120)),
    "SM": ((225, 165, 200), (80, 35, 130), (255, 250, 255)),
    "ES": ((205, 110, 100), (90, 25, 30), (250, 205, 190)),
}


@dataclass(frozen=True, slots=True)
class Spot:
    """One round spot."""

    #: One of `SPOTS[modality]`.
    name: str
    #: Left, top, right, bottom, in fractions of the picture.
    box: tuple[float, float, float, float]

    @property
    def diameter_mm(self) -> float:
        """Return how wide the spot is, in millimetres."""
        return (self.box[2] - self.box[0]) * PICTURE_WIDTH_MM


@dataclass(frozen=True, slots=True)
class GeneralPicture:
    """One picture with none to four spots."""

    #: uint8, shape (rows, columns, 3), RGB.
    pixels: NDArray[np.uint8]
    modality: str
    #: From top to bottom, in a row from left to right.
    spots: tuple[Spot, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is there, each kind once, the dark kind first."""
        return tuple(name for name in SPOTS[self.modality] if any(spot.name == name for spot in self.spots))

    @property
    def widest_mm(self) -> float:
        """Return the diameter of the widest spot, in millimetres; 0 without any."""
        return max((spot.diameter_mm for spot in self.spots), default=0.0)

    @property
    def report(self) -> str:
        """Return the right report in English."""
        opening = f"The {PICTURE_NAMES[self.modality]} shows"
        if not self.spots:
            dark, bright = SPOTS[self.modality]
            return f"{opening} no {dark} and no {bright}."
        counted = []
        for name in self.names:
            number = sum(spot.name == name for spot in self.spots)
            counted.append(f"{('one', 'two', 'three', 'four')[number - 1]} {name}{'' if number == 1 else 's'}")
        return f"{opening} {' and '.join(counted)}."


def draw_spots(rng: np.random.Generator, modality: str) -> tuple[str, ...]:
    """Draw what lies on a picture: often nothing or one spot, up to four, of one kind or of both."""
    count = int(rng.choice(MOST_SPOTS + 1, p=(0.2, 0.28, 0.2, 0.16, 0.16)))
    dark_share = rng.choice((0.0, 1.0, 0.5))
    return tuple(SPOTS[modality][int(rng.random() >= dark_share)] for _ in range(count))


def draw_general_picture(
    rng: np.random.Generator, *, modality: str, spots: Sequence[str] = (), size: int = 256
) -> GeneralPicture:
    """Draw one picture with these spots (names of `SPOTS[modality]`); one alone can be much wider than several."""
    if modality not in SPOTS or not set(spots) <= set(SPOTS[modality]):
        raise ValueError(f"cannot draw {list(spots)} on {modality!r}: {dict(SPOTS)}")
    if len(spots) > MOST_SPOTS or size < 64:
        raise ValueError(
            f"a picture has at most {MOST_SPOTS} spots and at least 64 pixels a side, not {len(spots)} on {size}"
        )
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    picture = _ground(rng, modality, x, y)
    placed = []
    for name, place in zip(spots, sorted(rng.permutation(_PLACES**2)[: len(spots)]), strict=True):
        row, column = divmod(int(place), _PLACES)
        diameter = rng.uniform(_DIAMETER[0], _WIDEST_ALONE if len(spots) == 1 else _DIAMETER[1])
        left = 0.5 + (column - 1) * _PITCH - diameter / 2 + rng.uniform(-0.01, 0.01)
        top = 0.5 + (row - 1) * _PITCH - diameter / 2 + rng.uniform(-0.01, 0.01)
        box = (left, top, left + diameter, top + diameter)
        inside = np.hypot(x - left - diameter / 2, y - top - diameter / 2) < diameter / 2
        picture[inside] = _COLOURS[modality][1 + SPOTS[modality].index(name)]
        placed.append(Spot(name, (float(box[0]), float(box[1]), float(box[2]), float(box[3]))))
    picture = picture * rng.uniform(0.92, 1.06) + rng.normal(0.0, rng.uniform(2.0, 7.0), picture.shape)
    return GeneralPicture(np.clip(picture, 0, 255).astype(np.uint8), modality, tuple(placed))


def _ground(
    rng: np.random.Generator, modality: str, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Paint what this kind of picture looks like without any spot."""
    picture = np.zeros((*x.shape, 3))
    colour = np.array(_COLOURS[modality][0], dtype=np.float64)
    dx, dy = x - 0.5, y - 0.5
    distance = np.hypot(dx, dy)
    if modality == "CT":
        depth = (dx / 0.48) ** 2 + (dy / 0.44) ** 2
        picture[depth < 1] = 60
        picture[depth < 0.85] = colour
        picture[np.hypot(dx, dy - 0.37) < 0.05] = 230
    elif modality == "MR":
        depth = (dx / 0.42) ** 2 + (dy / 0.47) ** 2
        picture[depth < 1] = 200
        picture[depth < 0.88] = 10
        picture[depth < 0.8] = colour
        picture += (12 * np.sin(40 * dx) * np.sin(40 * dy) * (depth < 0.8))[..., None]
    elif modality == "DX":
        picture[:] = colour
        picture -= (30 * (np.sin(y * 45 + rng.uniform(0, 6)) > 0.5))[..., None]
    elif modality == "US":
        fan = (np.abs(dx) < 0.28 + 0.25 * y) & (np.hypot(dx, y + 0.1) < 1.05)
        speckle = rng.normal(0.0, 22.0, x.shape)
        picture[fan] = colour
        picture += (speckle * fan)[..., None]
    elif modality == "OP":
        picture[distance < 0.49] = colour
        vessel = np.abs(dy - 0.42 * np.sin(2.2 * (dx + 0.45)) * rng.choice((-1.0, 1.0))) < 0.012
        picture[vessel & (distance < 0.49)] = (150, 45, 25)
        picture[np.hypot(dx + 0.41, dy) < 0.06] = (250, 210, 150)
    elif modality == "SM":
        picture[:] = colour
        wave = np.sin(55 * x + rng.uniform(0, 6)) * np.sin(55 * y + rng.uniform(0, 6))
        picture += wave[..., None] * np.array((14.0, 26.0, 10.0))
    else:
        picture[:] = colour
        picture *= np.clip(1.25 - 1.1 * distance, 0.3, 1.1)[..., None]
        picture[np.abs(distance - 0.47) < 0.012] *= 0.7
    return picture
