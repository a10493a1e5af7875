"""Headers with bytes changed, cut out or run wild: every value is shown, or refused with a reason, and nothing else."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from dicom_node.display import colours, header_shading, header_window, is_colour, shade
from dicom_node.mask_module import plan_subtraction
from dicom_node.overlays import overlay_mask, overlays
from dicom_node.picture_areas import burned_in_annotation, shutter_mask, ultrasound_box
from dicom_node.pixel_aspect import square_size
from dicom_node.pixels import ImageAttributes, PixelError, read_frame, read_image
from dicom_node.subtraction import Subtractor
from tests.phantoms.angiography import Detector, run, write_dsa
from tests.phantoms.enhanced_xa import write_enhanced_xa
from tests.phantoms.pictures import (
    ultrasound_frames,
    write_film_with_voi_luts,
    write_palette_picture,
    write_ultrasound_cine,
)

MUTANTS_OF_EACH = 40
LIN = Detector("LIN")
FRAMES = run((0.0, 0.5, 1.0), LIN)
AVERAGE = {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1, 2], "MaskSubPixelShift": [0.5, 0.5]}
PALETTE = np.arange(64 * 3, dtype=np.uint16).reshape(64, 3)
#: What decides how pixels are to be shown, in every kind of header.
WRITERS = {
    "dsa": lambda folder: write_dsa(folder, FRAMES, LIN, {**AVERAGE, "ApplicableFrameRange": [1, 3]}),
    "enhanced": lambda folder: write_enhanced_xa(folder, FRAMES, LIN, AVERAGE, shifts={2: [(1, 0.5, 0.5)]}),
    "film": lambda folder: write_film_with_voi_luts(folder, range(4096)),
    "cine": lambda folder: write_ultrasound_cine(folder, ultrasound_frames(1)),
    "palette": lambda folder: write_palette_picture(
        folder, np.arange(64, dtype=np.uint8).reshape(8, 8), PALETTE, segmented=[0, 1, 0, 1, 63, 65535]
    ),
    "overlay": lambda folder: Path(str(get_testdata_file("examples_overlay.dcm", download=False))),
    "modality LUT": lambda folder: Path(str(get_testdata_file("mlut_18.dcm", download=False))),
}


def mutant(rng: random.Random, content: bytes, header_ends_at: int) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        place, way = rng.randrange(132, header_ends_at + 8), rng.random()
        if way < 0.5:
            changed[place] = rng.randrange(256)
        elif way < 0.7:
            changed[place] = rng.choice(b"0123456789\\ .-+eE\0\xff")
        elif way < 0.85:
            changed[place : place + 2] = rng.choice([b"\0\0", b"\xff\xff", b"\x01\0", b"\0\x80"])
        else:
            del changed[place : place + rng.randrange(1, 5)]
    return bytes(changed)


def show(image: ImageAttributes) -> None:
    """Do all that can be done to an image's values."""
    frame = read_frame(image)
    for index in {0, image.frames - 1}:
        if is_colour(image):
            colours(image, frame)
        else:
            shade(image, frame, header_shading(image, index), index, padding=shutter_mask(image, index))
            shade(image, frame, None, index)
            header_window(image, 1, index)
        square_size(image, index)
        for overlay in overlays(image):
            overlay_mask(image, overlay, index)
        plan, _ = plan_subtraction(image, index)
        if plan is not None:
            Subtractor(image).subtract(plan)
    ultrasound_box(image)
    burned_in_annotation(image)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_mutated_header_is_shown_or_refused(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path)
    content, header_ends_at = path.read_bytes(), read_image(path).pixel_data_at
    show(read_image(path))
    rng = random.Random(kind)
    shown = refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what it puts right
        for number in range(MUTANTS_OF_EACH):
            file = tmp_path / f"{number}.mutant"
            file.write_bytes(mutant(rng, content, header_ends_at))
            try:
                show(read_image(file))
                shown += 1
            except PixelError as refusal:
                assert refusal.reason
                assert refusal.remedy
                refused += 1
    assert shown
    assert refused
