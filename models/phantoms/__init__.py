"""Drawn patients with known truth, for the stand-in's training, the demo and the tests.

Nothing here is anybody's image. The same generator state draws the same pixels, at any size: all geometry is in
fractions of the picture. numpy only.
"""

from models.phantoms.abdomen import (
    ORGANS,
    SEVERITIES,
    AbdomenVolume,
    abdomen_truth,
    draw_abdomen_volume,
    draw_injuries,
)
from models.phantoms.vessels import VesselRun, draw_vessel_run

__all__ = [
    "ORGANS",
    "SEVERITIES",
    "AbdomenVolume",
    "VesselRun",
    "abdomen_truth",
    "draw_abdomen_volume",
    "draw_injuries",
    "draw_vessel_run",
]
