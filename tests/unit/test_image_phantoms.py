"""The drawn images that stand for what no real sample may be shipped: dciodvfy finds no error in any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.dicom_validators import dciodvfy
from tests.phantoms.angiography import Detector, run, write_dsa
from tests.phantoms.enhanced_xa import write_enhanced_xa
from tests.phantoms.pictures import (
    ultrasound_frames,
    write_film_with_voi_luts,
    write_palette_picture,
    write_ultrasound_cine,
)
from worker.demo.phantom_pictures import write_fundus_photograph

PLACES = np.arange(64, dtype=np.uint8).reshape(8, 8)
PALETTE = np.linspace(0, 65535, 64 * 3).astype(np.uint16).reshape(64, 3)
AVERAGE = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1, 2]}
INTERVAL = {"MaskOperation": "TID", "TIDOffset": 2, "ApplicableFrameRange": [3, 4]}
SHIFTED = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1], "MaskSubPixelShift": [0.5, -0.25]}


def dsa(detector: Detector, *masks: dict[str, object]) -> Callable[[Path], Path]:
    return lambda folder: write_dsa(folder, run([0, 0, 0.5, 1], detector), detector, *masks)


def enhanced(detector: Detector, *masks: dict[str, object]) -> Callable[[Path], Path]:
    shifts = {2: [(1, 0.5, 0.25)]}
    return lambda folder: write_enhanced_xa(folder, run([0, 0, 0.5, 1], detector), detector, *masks, shifts=shifts)


@pytest.mark.parametrize(
    "write",
    [
        dsa(Detector("LIN"), AVERAGE),
        dsa(Detector("LOG", 0), INTERVAL),
        dsa(Detector("DISP", -1), SHIFTED),
        enhanced(Detector("LIN"), AVERAGE),
        enhanced(Detector("LOG", -1, "MONOCHROME1"), AVERAGE),
        lambda folder: write_enhanced_xa(folder, run([0, 1], Detector("DISP")), Detector("DISP"), to_log=range(1024)),
        lambda folder: write_fundus_photograph(folder, np.full((31, 33, 3), (200, 90, 40), dtype=np.uint8)),
        lambda folder: write_film_with_voi_luts(folder, range(4096), range(4095, -1, -1)),
        lambda folder: write_film_with_voi_luts(folder, range(4096), photometric="MONOCHROME1"),
        lambda folder: write_ultrasound_cine(folder, ultrasound_frames()),
        lambda folder: write_palette_picture(folder, PLACES, PALETTE),
        lambda folder: write_palette_picture(folder, PLACES, PALETTE, segmented=[0, 1, 0, 1, 63, 65535]),
    ],
)
def test_the_phantom_is_valid_dicom(write: Callable[[Path], Path], tmp_path: Path) -> None:
    assert dciodvfy(write(tmp_path)).errors == ()
