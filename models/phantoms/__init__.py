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
from models.phantoms.captions import CaptionedPicture, draw_captioned_picture
from models.phantoms.general import GeneralPicture, Spot, draw_general_picture, draw_spots
from models.phantoms.surgery import SurgicalScene, draw_surgical_scene
from models.phantoms.vessels import VesselRun, draw_vessel_run

__all__ = [
    "ORGANS",
    "SEVERITIES",
    "AbdomenVolume",
    "CaptionedPicture",
    "GeneralPicture",
    "Spot",
    "SurgicalScene",
    "VesselRun",
    "abdomen_truth",
    "draw_abdomen_volume",
    "draw_captioned_picture",
    "draw_general_picture",
    "draw_injuries",
    "draw_spots",
    "draw_surgical_scene",
    "draw_vessel_run",
]
