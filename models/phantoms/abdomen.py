"""Drawn abdominal CT volumes with known injuries.

Input: a seeded `numpy.random.Generator`, and the injured organs with their severity. Output: Hounsfield units in an
axial stack, and the truth in the five fields of the trauma adapter's answer. An unknown organ or severity, or a
volume too small to hold an injury, raises `ValueError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORGANS = ("liver", "spleen", "kidney", "bowel")
SEVERITIES = ("none", "mild", "moderate", "severe")

AIR_HU, FAT_HU, MUSCLE_HU, BONE_HU, AORTA_HU = -1000.0, -95.0, 55.0, 420.0, 260.0
CLOT_HU, ACTIVE_BLEEDING_HU = 22.0, 330.0

#: Radius of a laceration in half picture widths: lowest and highest drawn.
_LESION_RADIUS = {"mild": (0.085, 0.11), "moderate": (0.145, 0.175), "severe": (0.22, 0.26)}

#: Share of a lesion's radius filled by escaping contrast.
_POOL_SHARE = {"mild": 0.0, "moderate": 0.45, "severe": 0.6}

_BLEEDING = {
    "none": "no bleeding seen",
    "mild": "small hematoma, no active bleeding",
    "moderate": "contrast pooling, active bleeding",
    "severe": "large contrast pooling, massive active bleeding",
}
_DIFFERENTIAL = {
    "none": ["no acute injury"],
    "mild": ["laceration", "contusion"],
    "moderate": ["laceration", "pseudoaneurysm"],
    "severe": ["laceration", "vascular injury"],
}

#: Centre and radii as (x, y, z): x and y in half picture widths from the middle, z in volume heights from the head end.
_Ellipsoid = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class AbdomenVolume:
    """An axial CT volume, head end first, the patient's right on the left of the picture."""

    #: int16, shape (slices, rows, columns), Hounsfield units.
    hounsfield: NDArray[np.int16]
    pixel_spacing_mm: float
    slice_spacing_mm: float
    #: The five fields of the trauma adapter's answer.
    truth: dict[str, Any]
    #: Injured organ -> middle and half height of its lesion, in slices.
    lesions: dict[str, tuple[float, float]]


def abdomen_truth(injuries: Mapping[str, str]) -> dict[str, Any]:
    """Return the right answer for these injuries (organ -> severity), organs in the order of `ORGANS`."""
    organs = [organ for organ in ORGANS if organ in injuries]
    worst = max((injuries[organ] for organ in organs), key=SEVERITIES.index, default="none")
    named = [f"{organ} injury" for organ in organs]
    return {
        "injury_pattern": " and ".join(named) if named else "no solid organ injury",
        "organs_involved": organs,
        "bleeding_description": _BLEEDING[worst],
        "severity_estimate": worst,
        "differential_diagnosis": list(_DIFFERENTIAL[worst]),
    }


def draw_injuries(rng: np.random.Generator) -> dict[str, str]:
    """Draw what a patient has: one in four nothing, one in six two organs, of differing severity."""
    chance = rng.random()
    count = 0 if chance < 0.25 else 2 if chance > 0.84 else 1
    organs = rng.permutation(ORGANS)[:count]
    return {str(organ): str(rng.choice(SEVERITIES[1:])) for organ in organs}


def draw_abdomen_volume(
    rng: np.random.Generator,
    *,
    injuries: Mapping[str, str],
    slices: int = 40,
    size: int = 256,
    subtle: bool | None = None,
) -> AbdomenVolume:
    """Draw a contrast-enhanced upper abdomen: organ -> severity in `injuries`, empty for an uninjured patient.

    A laceration is a dark gap in the organ; from moderate on, contrast escapes into it and pools bright. `subtle`
    lesions differ little from the organ around them; None draws about one such case in eight.
    """
    for organ, severity in injuries.items():
        if organ not in ORGANS or severity not in SEVERITIES[1:]:
            raise ValueError(f"cannot draw a {severity} injury of the {organ}: organs are {ORGANS}, {SEVERITIES[1:]}")
    if slices < 10 or size < 32:
        raise ValueError(f"a volume needs at least 10 slices of 32 pixels, not {slices} slices of {size} pixels")
    if subtle is None:
        subtle = bool(rng.random() < 0.12)
    volume = np.full((slices, size, size), AIR_HU, dtype=np.float32)
    organs = _draw_patient(volume, rng)
    lesions = {
        organ: _draw_lesion(volume, rng, organs[organ], severity, subtle) for organ, severity in injuries.items()
    }
    volume += rng.normal(0.0, rng.uniform(6.0, 16.0), volume.shape).astype(np.float32)
    return AbdomenVolume(
        np.clip(volume, -1024, 3000).astype(np.int16),
        pixel_spacing_mm=round(400.0 / size, 4),
        slice_spacing_mm=round(240.0 / slices, 4),
        truth=abdomen_truth(injuries),
        lesions=lesions,
    )


def _draw_patient(volume: NDArray[np.float32], rng: np.random.Generator) -> dict[str, _Ellipsoid]:
    """Fill the volume with an uninjured patient; return where an injury of each organ has room."""
    girth = rng.uniform(0.92, 1.04)
    height = (0.5, 9.0)

    def put(x: float, y: float, z: float, rx: float, ry: float, rz: float, hounsfield: float) -> _Ellipsoid:
        shake = rng.uniform(-0.025, 0.025, 2)
        swell = girth * rng.uniform(0.94, 1.06)
        where: _Ellipsoid = (
            (x * girth + shake[0], y * girth + shake[1], z + shake[0] * 0.5),
            (rx * swell, ry * swell, rz),
        )
        _fill(volume, where, hounsfield)
        return where

    put(0.0, 0.0, height[0], 0.90, 0.68, height[1], MUSCLE_HU)
    put(0.0, 0.0, height[0], 0.83, 0.60, height[1], FAT_HU)
    put(0.0, 0.48, height[0], 0.33, 0.15, height[1], MUSCLE_HU)
    put(0.0, 0.40, height[0], 0.12, 0.12, height[1], BONE_HU)
    put(0.03, 0.20, height[0], 0.055, 0.055, height[1], AORTA_HU)
    liver = put(-0.42, -0.12, 0.42, 0.36, 0.36, 0.33, rng.uniform(105, 125))
    spleen = put(0.60, 0.02, 0.40, 0.19, 0.27, 0.28, rng.uniform(120, 140))
    kidneys = [
        put(side * 0.38, 0.33, 0.58, 0.13, 0.16, 0.27, kidney_hu)
        for side, kidney_hu in ((-1.0, rng.uniform(165, 190)), (1.0, rng.uniform(165, 190)))
    ]
    loops = [
        put(x, y, 0.62, 0.10, 0.09, 0.36, rng.uniform(30, 60))
        for x, y in ((0.12, -0.38), (0.33, -0.30), (0.08, -0.14), (0.30, -0.08))
    ]
    return {
        "liver": liver,
        "spleen": spleen,
        "kidney": kidneys[int(rng.integers(2))],
        "bowel": loops[int(rng.integers(len(loops)))],
    }


def _draw_lesion(
    volume: NDArray[np.float32], rng: np.random.Generator, organ: _Ellipsoid, severity: str, subtle: bool
) -> tuple[float, float]:
    """Tear an organ: a dark ellipsoid near its middle, with bright contrast pooling in it where it bleeds.

    Returns the middle and half height of the lesion, in slices.
    """
    (x, y, z), (rx, ry, rz) = organ
    radius = float(rng.uniform(*_LESION_RADIUS[severity]))
    offset = rng.uniform(-1.0, 1.0, 3) * np.clip(np.array((rx, ry, rz)) - radius, 0.0, 0.2) * 0.8
    centre = (x + offset[0], y + offset[1], z + offset[2])
    stretch = rng.uniform(0.88, 1.12)
    lesion = (centre, (radius * stretch, radius / stretch, radius * 0.8))
    _fill(volume, lesion, rng.uniform(45, 75) if subtle else CLOT_HU)
    pool = _POOL_SHARE[severity] * (0.7 if subtle else 1.0)
    if pool:
        _fill(volume, (centre, (radius * pool, radius * pool, radius * pool * 0.8)), ACTIVE_BLEEDING_HU)
    return float(centre[2]) * len(volume) - 0.5, radius * 0.8 * len(volume)


def _fill(volume: NDArray[np.float32], where: _Ellipsoid, hounsfield: float) -> None:
    """Set the voxels inside an ellipsoid; only its bounding box is looked at."""
    slices, size, _ = volume.shape
    (x, y, z), (rx, ry, rz) = where

    def span(middle: float, radius: float, length: int) -> tuple[slice, NDArray[np.float64]]:
        low, high = max(0, int((middle - radius) * length)), min(length, int((middle + radius) * length) + 2)
        low = min(low, length)
        return slice(low, max(low, high)), ((np.arange(low, max(low, high)) + 0.5) / length - middle) / radius

    x_span, dx = span((x + 1) / 2, rx / 2, size)
    y_span, dy = span((y + 1) / 2, ry / 2, size)
    z_span, dz = span(z, rz, slices)
    inside = dz[:, None, None] ** 2 + dy[None, :, None] ** 2 + dx[None, None, :] ** 2 <= 1.0
    volume[z_span, y_span, x_span][inside] = hounsfield
