"""Angiography runs of a vessel of known absorption over a structured ground.

Input: how the detector writes intensities, and what the Mask Module says. Output: files in which dciodvfy finds no
error (PS3.3 A.14), and the absorption that is the right answer. The physics is Beer's law: intensity falls with
exp(-absorption), and absorptions of ground and vessel add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from tests.phantoms.elements import dataset
from worker.demo.phantom_studies import write_xa_run

SIZE: Final = (72, 88)
#: Stored steps per unit of absorption of the detectors that write logarithms.
LOG_STEPS: Final = 4000.0
_FULL_INTENSITY: Final = 60000.0


@dataclass(frozen=True, slots=True)
class Detector:
    """How intensities become stored values."""

    #: PixelIntensityRelationship: LIN, LOG or DISP.
    relationship: str = "LIN"
    #: PixelIntensityRelationshipSign: 1 higher values are more intensity, -1 less; 0 leaves it out.
    sign: int = 1
    photometric: str = "MONOCHROME2"

    def stored(self, absorption: NDArray[np.float64]) -> NDArray[np.uint16]:
        """Return what the detector writes behind an absorber."""
        if self.relationship == "LIN":
            values = _FULL_INTENSITY * np.exp(-absorption)
        else:
            values = 50000.0 - LOG_STEPS * absorption
        return np.round(65535.0 - values if self.sign < 0 else values).astype(np.uint16)


def ground(down: float = 0.0, right: float = 0.0) -> NDArray[np.float64]:
    """Return the absorption of ribs over a gradient of soft tissue, moved by parts of a pixel."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float64)
    y, x = y - down, x - right
    ribs = 0.35 * (1 + np.sin(y / 3.1 + x / 17.0))
    return np.asarray(0.4 + 0.004 * x + ribs + 0.25 * np.exp(-((x - 60) ** 2 + (y - 20) ** 2) / 90))


def vessel(filling: float = 1.0) -> NDArray[np.float64]:
    """Return the absorption of the vessel, 0 beside it: 0.3 where it is thickest and wholly filled."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float64)
    distance = np.abs(y - 36 - 8 * np.sin(x / 14)) / 4
    return np.asarray(0.3 * filling * np.sqrt(np.clip(1 - distance**2, 0, None)))


def run(fillings: Sequence[float], detector: Detector, moves: Mapping[int, tuple[float, float]] | None = None) -> Any:
    """Return the frames of a run: uint16, (frames, rows, columns).

    Args:
        fillings: How full the vessel is in each frame, 0..1.
        detector: What writes them.
        moves: Where the ground lies in a frame (counted from 0) if not where it was: rows down, columns to the right.
    """
    places = moves or {}
    absorptions = [ground(*places.get(number, (0, 0))) + vessel(filling) for number, filling in enumerate(fillings)]
    return np.stack([detector.stored(absorption) for absorption in absorptions])


def write_dsa(folder: Path, frames: NDArray[np.uint16], detector: Detector, *masks: Mapping[str, Any]) -> Path:
    """Write a classic XA run with the given items of MaskSubtractionSequence, to be subtracted if there are any."""
    path = write_xa_run(folder, frames, photometric=detector.photometric)
    ds = dcmread(path)
    ds.PixelIntensityRelationship = detector.relationship
    if detector.relationship == "LOG":
        # XA in logarithms says how to get back to intensities (C.8.7.1.1.2).
        ds.ModalityLUTSequence = [dataset(LUTDescriptor=[2, 0, 16], ModalityLUTType="US", LUTData=[0, 65535])]
        for keyword in ("LUTDescriptor", "LUTData"):
            ds.ModalityLUTSequence[0][keyword].VR = "US"
    if detector.sign:
        ds.PixelIntensityRelationshipSign = detector.sign
    if masks:
        ds.MaskSubtractionSequence = [dataset(**mask) for mask in masks]
        ds.RecommendedViewingMode = "SUB"
    ds.save_as(path, enforce_file_format=True)
    return path
