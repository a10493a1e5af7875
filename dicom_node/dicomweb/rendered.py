"""A stored frame -> a picture file for a browser (PS3.18 10.4.1.1.4, 8.3.5): JPEG or PNG.

Input: a path, a frame, and what the client wishes. Output: the bytes of a picture, shown as the header says (its first
window or VOI LUT) or in the window that was asked for, with square pixels. It decodes, so it belongs into a sandbox. On
failure: `PixelError`; `WishError` for a wish that cannot be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from dicom_node.dicomweb.frames import check_indices, checked_attributes, frame_of
from dicom_node.display import Window, colours, header_shading, is_colour, shade
from dicom_node.pixel_aspect import square_size
from dicom_node.video import is_video

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
#: What a rendering can be asked for (PS3.18 8.3.5.1).
PARAMETERS: Final = ("window", "viewport", "quality")
#: What a thumbnail fits into, in pixels.
THUMBNAIL_SIDE: Final = 256
_MOST_SIDE: Final = 8192
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


class WishError(ValueError):
    """A parameter of a rendering cannot be used; the message names it and says how to write it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a frame shall be shown."""

    media_type: str = JPEG
    window: Window | None = None
    #: Width and height that the picture fits into, in pixels.
    viewport: tuple[int, int] | None = None
    #: Left, top, width and height of the part that is shown, in pixels of the frame; None shows all.
    region: tuple[float, float, float, float] | None = None
    #: Of JPEG, 1 to 100.
    quality: int = 90


def read_wish(parameters: Mapping[str, str], media_type: str) -> Wish:
    """Read the parameters of a rendering (PS3.18 8.3.5.1). Raises `WishError`."""
    window, viewport_text, quality_text = (parameters.get(name, "") for name in PARAMETERS)
    viewport, region = _viewport(viewport_text)
    quality = quality_text or "90"
    if not (quality.isascii() and quality.isdigit() and 1 <= int(quality[:4]) <= 100):
        raise WishError(f"quality: {quality[:40]!r} is no number from 1 to 100")
    for name in ("annotation", "iccprofile"):
        if parameters.get(name, "no") != "no":
            raise WishError(f"{name}: nothing is added to a picture here; leave it out")
    return Wish(media_type, _window(window), viewport, region, int(quality))


def render(path: Path, index: int, wish: Wish) -> bytes:
    """Return the picture file of a frame, counted from 0. Raises `PixelError`."""
    image = checked_attributes(path)
    check_indices(image, [index])
    frame = frame_of(image, index)
    if is_video(image.transfer_syntax) or is_colour(image):
        pixels = frame if is_video(image.transfer_syntax) else colours(image, frame)
    else:
        pixels = shade(image, frame, wish.window or header_shading(image, index), index)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if wish.region is not None:
        left, top, width, height = wish.region
        picture = picture.crop((round(left), round(top), round(left + width), round(top + height)))
    square = square_size(image, index)
    if square is not None:
        across, down = square.columns / image.columns, square.rows / image.rows
        picture = picture.resize((max(1, round(picture.width * across)), max(1, round(picture.height * down))))
    if wish.viewport is not None:
        factor = min(wish.viewport[0] / picture.width, wish.viewport[1] / picture.height)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    encoded = BytesIO()
    if wish.media_type == PNG:
        picture.save(encoded, format="PNG")
    else:
        picture.save(encoded, format="JPEG", quality=wish.quality)
    return encoded.getvalue()


def _window(text: str) -> Window | None:
    if not text:
        return None
    parts = text.split(",")
    function = _FUNCTIONS.get(parts[2].strip().lower()) if len(parts) == 3 else "LINEAR"
    numbers = _numbers(parts[:2])
    if function is None or len(parts) not in (2, 3) or numbers is None or len(numbers) != 2:
        raise WishError(f"window: {text[:80]!r}; write CENTER,WIDTH,FUNCTION with one of {', '.join(_FUNCTIONS)}")
    if (numbers[1] < 1 and function == "LINEAR") or numbers[1] <= 0:
        raise WishError(f"window: a width of {numbers[1]:g} shows nothing; it is at least 1")
    return Window(numbers[0], numbers[1], function, "request")


def _viewport(text: str) -> tuple[tuple[int, int] | None, tuple[float, float, float, float] | None]:
    if not text:
        return None, None
    parts = [part.strip() for part in text.split(",")]
    numbers = _numbers(parts[:2] + [part or "0" for part in parts[2:]])
    is_known = numbers is not None and len(numbers) in (2, 6)
    if numbers is None or not is_known or not all(1 <= side <= _MOST_SIDE for side in numbers[:2]):
        raise WishError(
            f"viewport: {text[:80]!r}; write WIDTH,HEIGHT or WIDTH,HEIGHT,LEFT,TOP,WIDTH,HEIGHT in pixels, the first "
            f"two from 1 to {_MOST_SIDE}"
        )
    size = (round(numbers[0]), round(numbers[1]))
    if len(numbers) == 2:
        return size, None
    left, top, width, height = numbers[2:]
    if min(left, top) < 0 or min(width, height) < 1 or max(left, top, width, height) > 65535:
        raise WishError(f"viewport: {text[:80]!r} shows no part of the frame; flipping is not done here")
    return size, (left, top, width, height)


def _numbers(parts: list[str]) -> list[float] | None:
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
