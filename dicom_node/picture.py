"""Key image + report -> the picture a person sees: the image on top, a banner with the answer and its warnings below.

Input: an RGB image and a `Report`. Output: an RGB array that needs no viewer to be understood: nothing on it is cut,
and it names no patient. Nothing fails here but an array of another form (`PictureError`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.marking import (
    RESEARCH_STATEMENT,
    STANDIN_WARNING,
    UNCALIBRATED_STATEMENT,
    clean_text,
    probability_of,
    statements_of,
)
from dicom_node.report import Person, Region, Report, probability_text

Color = tuple[int, int, int]
RgbArray = NDArray[np.uint8]

#: Narrower pictures stand on a canvas of this width, in pixels, or the text would be cramped.
MIN_WIDTH: Final = 640
#: Longer sides are scaled down: a key image shows the answer, it does not replace the source.
MAX_SIDE: Final = 2048
#: Smaller images (what a model sees may be 112 pixels wide) are enlarged by a whole factor up to about this size.
_LEGIBLE_SIDE: Final = 512

_BLACK: Final[Color] = (0, 0, 0)
_PANEL: Final[Color] = (20, 25, 31)
_WHITE: Final[Color] = (244, 247, 250)
_GREY: Final[Color] = (178, 188, 199)
_AMBER: Final[Color] = (255, 193, 64)
_GREEN: Final[Color] = (110, 214, 154)
_LOUD: Final[Color] = (214, 0, 86)
_CYAN: Final[Color] = (64, 224, 255)


class PictureError(ValueError):
    """The image cannot be drawn; the message names its form and the form it should have."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A paragraph of the banner; `scale` is relative to the base font, `boldness` the stroke relative to the size."""

    text: str
    color: Color
    scale: float = 1.0
    boldness: float = 0.0


def render_picture(
    image: RgbArray,
    report: Report,
    *,
    caption: str = "",
    reviewer: Person | None = None,
    edited: bool = False,
    regions: Sequence[Region] = (),
) -> RgbArray:
    """Return `image` (uint8, rows x columns x 3, RGB) with the banner below it, in the same form.

    `caption` says what is shown ("Frame 12"). `reviewer` replaces "unverified" by who reviewed. `regions` are outlined
    on the image, which may be a scaled copy of theirs, with their labels. Raises `PictureError`.
    """
    shown = _sized(image)
    _outline(shown, regions)
    width = max(MIN_WIDTH, shown.width)
    base = max(17, round(width / 42))
    strip = (
        _paragraphs([_Line(STANDIN_WARNING, _WHITE, 1.25, 0.025)], width, base) if report.algorithm.is_standin else []
    )
    lines = _paragraphs(_lines(report, caption, reviewer, edited=edited), width, base)
    strip_height = sum(height for _, _, height in strip) + base if strip else 0
    accent = max(3, base // 6)
    height = shown.height + strip_height + accent + sum(height for _, _, height in lines) + 2 * base
    canvas = Image.new("RGB", (width, height), _BLACK)
    canvas.paste(shown, ((width - shown.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    top = shown.height
    if strip:
        draw.rectangle((0, top, width, top + strip_height - 1), fill=_LOUD)
        _write(draw, strip, base, top + base // 2)
        top += strip_height
    draw.rectangle((0, top, width, height), fill=_PANEL)
    draw.rectangle((0, top, width, top + accent - 1), fill=_GREEN if reviewer else _AMBER)
    _write(draw, lines, base, top + accent + base)
    return np.asarray(canvas, dtype=np.uint8)


def verification_line(reviewer: Person | None, *, edited: bool) -> str:
    """Return the line that says how far the result was checked."""
    if reviewer is None:
        return "NOT FOR DIAGNOSIS - UNVERIFIED AI RESULT"
    name = " ".join(reversed([part for part in reviewer.name.split("=")[0].split("^")[:2] if part]))
    verb = "Reviewed and edited" if edited else "Reviewed"
    return f"NOT FOR DIAGNOSIS - AI RESULT. {verb} by {name}, {reviewer.organization}"


def probability_line(report: Report) -> str:
    """Return the probability as a line, or '' where there is none or the headline says it all."""
    probability = probability_of(report)
    headline = report.headline.casefold()
    if probability is None or ("probability" in headline and (report.calibrated or "uncalibrated" in headline)):
        return ""
    return f"Probability {probability_text(probability)}" + ("" if report.calibrated else " (uncalibrated)")


def _lines(report: Report, caption: str, reviewer: Person | None, *, edited: bool) -> list[_Line]:
    answered = report.answered_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    shown_above = {STANDIN_WARNING, RESEARCH_STATEMENT, UNCALIBRATED_STATEMENT}
    statements = [sentence for sentence in statements_of(report) if sentence not in shown_above]
    lines = [
        _Line(clean_text(report.headline), _WHITE, 1.45, 0.018),
        _Line(probability_line(report), _WHITE, 1.1),
        _Line(verification_line(reviewer, edited=edited), _GREEN if reviewer else _AMBER, 1.0, 0.012),
        _Line(f"{report.title}, version {report.algorithm.version}", _GREY),
        _Line(", ".join(part for part in (f"Answered {answered}", caption) if part), _GREY),
        *(_Line(sentence, _GREY, 0.85) for sentence in (*statements, RESEARCH_STATEMENT)),
    ]
    return [line for line in lines if line.text]


def _sized(image: RgbArray) -> Image.Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise PictureError(
            f"the image has shape {image.shape} and type {image.dtype}; needed: uint8, rows x columns x 3"
        )
    picture = Image.fromarray(np.ascontiguousarray(image))
    longest = max(picture.size)
    factor = MAX_SIDE / longest if longest > MAX_SIDE else max(1, round(_LEGIBLE_SIDE / longest))
    if factor == 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _outline(picture: Image.Image, regions: Sequence[Region]) -> None:
    """Draw each region's outline and label on the picture; a dark rim keeps both legible on any ground."""
    draw = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 300))
    font = _font(max(13, round(max(picture.size) / 40)))
    for region in regions:
        across, down = picture.width / region.columns, picture.height / region.rows
        points = [(column * across, row * down) for column, row in region.outline]
        for color, wide in ((_BLACK, width + 2), (_CYAN, width)):
            draw.line([*points, points[0]], fill=color, width=wide)
        label = _drawable(region.label)
        # Above the region, or inside it at the picture's upper edge; never beyond the picture to the right.
        left = max(0.0, min(min(x for x, _ in points), picture.width - font.getlength(label) - 2 * width))
        top = min(y for _, y in points) - font.size * 1.3
        place = (left + width, top if top >= 0 else top + font.size * 1.3 + 2 * width)
        draw.text(place, label, fill=_CYAN, font=font, stroke_width=2, stroke_fill=_BLACK)


def _paragraphs(lines: list[_Line], width: int, base: int) -> list[tuple[_Line, str, int]]:
    """Wrap every line; return (style, text of one row, height of the row in pixels)."""
    rows = []
    for line in lines:
        size = round(base * line.scale)
        wrapped = list(_wrapped(_drawable(line.text), _font(size), width - 2 * base))
        for number, text in enumerate(wrapped):
            gap = 0.55 if number == len(wrapped) - 1 else 0.3
            rows.append((line, text, round(size * (1 + gap))))
    return rows


def _write(draw: ImageDraw.ImageDraw, rows: list[tuple[_Line, str, int]], left: int, top: int) -> None:
    for line, text, height in rows:
        size = round(left * line.scale)
        stroke = size * line.boldness
        draw.text((left, top), text, fill=line.color, font=_font(size), stroke_width=stroke, stroke_fill=line.color)
        top += height


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[str]:
    """Break at spaces; a word longer than the line is broken where it must be."""
    row = ""
    for word in text.split():
        candidate = f"{row} {word}" if row else word
        if font.getlength(candidate) <= width:
            row = candidate
            continue
        if row:
            yield row
        while font.getlength(word) > width:
            fits = max(1, next(n for n in range(len(word), 0, -1) if n == 1 or font.getlength(word[:n]) <= width))
            yield word[:fits]
            word = word[fits:]
        row = word
    if row:
        yield row


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise PictureError("Pillow was built without FreeType and cannot scale text; install its wheel from PyPI")
    return font


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    font = _font(20)
    if character.isspace():
        return True
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


def _drawable(text: str) -> str:
    """Replace what the font cannot draw: by its letter without the accent where there is one, else by '?'."""
    return "".join(character if _has_glyph(character) else _plain(character) for character in text)


def _plain(character: str) -> str:
    bare = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    return bare if bare and all(_has_glyph(part) for part in bare) else "?"
