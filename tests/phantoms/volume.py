"""A volume whose content is known in millimetres: a body of water in air, and in it a thin rod that climbs.

Input: points in the patient coordinate system (PS3.3 C.7.6.2.1.1). Output: Hounsfield units. The rod goes to the
patient's left as it goes to the head, so one slice's picture tells where the slice lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

ROWS = COLUMNS = 64
PIXEL_MM = 4.0
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: The rod's axis runs through this point, along this direction (not of unit length), this thick.
ROD_AT, ROD_ALONG, ROD_RADIUS_MM = np.array([10.0, -20.0, 0.0]), np.array([0.5, 0.0, 1.0]), 7.0
ROD_HU, BODY_HU, AIR_HU = 1000, 40, -1000
_BODY_RADIUS_MM = 110.0


@dataclass(frozen=True, slots=True)
class PhantomPlane:
    """Where one slice lies."""

    #: Centre of the first pixel, in mm.
    position: tuple[float, float, float]
    #: Row then column cosines.
    orientation: tuple[float, float, float, float, float, float] = AXIAL

    def points(self) -> Points:
        """Return the pixel centres in mm, (rows, columns, 3) (PS3.3 equation C.7.6.2.1-1)."""
        along_row, along_column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        columns = np.arange(COLUMNS)[None, :, None] * PIXEL_MM * along_row
        rows = np.arange(ROWS)[:, None, None] * PIXEL_MM * along_column
        points: Points = np.array(self.position) + columns + rows
        return points

    def hounsfield(self) -> NDArray[np.int16]:
        """Return the slice's picture, (rows, columns)."""
        points = self.points()
        values = np.full(points.shape[:2], AIR_HU, dtype=np.int16)
        values[np.hypot(points[..., 0], points[..., 1]) < _BODY_RADIUS_MM] = BODY_HU
        away = points[..., :2] - ROD_AT[:2] - points[..., 2:] * ROD_ALONG[:2]
        values[np.linalg.norm(away, axis=-1) < ROD_RADIUS_MM] = ROD_HU
        return values


def axial_planes(
    count: int = 20,
    spacing: float = 5.0,
    *,
    tilt_degrees: float = 0.0,
    orientation: tuple[float, float, float, float, float, float] = AXIAL,
) -> list[PhantomPlane]:
    """Return slices around the origin, feet first: a tilted gantry turns the slices while the table goes straight."""
    tilt = np.radians(tilt_degrees)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    across = np.array([0.0, 0.0, 1.0])
    column = column * np.cos(tilt) + across * np.sin(tilt)
    planes = []
    for number in range(count):
        centre = np.array([0.0, 0.0, (number - (count - 1) / 2) * spacing])
        corner = centre - row * PIXEL_MM * (COLUMNS - 1) / 2 - column * PIXEL_MM * (ROWS - 1) / 2
        x, y, z = (round(float(value), 6) for value in corner)
        cosines = tuple(round(float(value), 8) for value in (*row, *column))
        planes.append(PhantomPlane((x, y, z), cosines))  # type: ignore[arg-type]
    return planes


def rod_height_mm(plane: PhantomPlane, picture: NDArray[np.int16]) -> float:
    """Return at which z the rod is seen, told from the picture alone: how far to the left it has come.

    Raises:
        ValueError: The picture shows no rod.
    """
    bright = picture >= ROD_HU
    if not bright.any():
        raise ValueError("the picture shows no rod")
    x = float(plane.points()[bright][:, 0].mean())
    return float((x - ROD_AT[0]) / ROD_ALONG[0])
