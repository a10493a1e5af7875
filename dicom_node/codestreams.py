"""What a compressed frame says of itself: the head of a codestream in, its sizes and colours out; nothing is decoded.

Input: the bytes of one frame. Output: `Codestream`. A decoder allocates what the codestream claims, not what the DICOM
header does; so the two are compared before a decoder sees it. On failure: `CodestreamError`.

JPEG: ISO/IEC 10918-1 annex B. JPEG-LS: ISO/IEC 14495-1 annex C. JPEG 2000 and HTJ2K: ISO/IEC 15444-1 annexes A and I.
JPEG XL: ISO/IEC 18181-1 annex D (size header) and 18181-2 (boxes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final


class CodestreamError(ValueError):
    """The head of a codestream cannot be read."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """The claims of a codestream."""

    rows: int
    columns: int
    #: Components; None where the head does not tell (JPEG XL).
    samples: int | None = None
    #: Bits a sample; None where the head does not tell.
    precision: int | None = None
    #: Whether samples are signed (JPEG 2000); False where the coding knows no sign.
    is_signed: bool = False
    #: Whether components are named R, G and B (JPEG).
    names_rgb: bool = False
    #: Whether a JFIF marker says that colours are YCbCr (JPEG; ITU-T T.871).
    is_jfif: bool = False
    #: Whether it is lossless JPEG, in which no colour is converted.
    is_lossless: bool = False


#: JPEG markers that begin the header of a frame of its own: baseline, extended, progressive, lossless; the same with
#: arithmetic coding; and JPEG-LS's SOF55.
_JPEG_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB, 0xF7})
#: DHP and the differential frames, which refine another frame.
_JPEG_HIERARCHY: Final = frozenset({0xDE, 0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_MOST_TILES: Final = 65535


def read_jpeg(data: bytes) -> Codestream:
    """Read the frame header of a JPEG or JPEG-LS codestream. Raises `CodestreamError`."""
    if data[:2] != b"\xff\xd8":
        raise CodestreamError("it is no JPEG codestream")
    is_jfif = False
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xE0 and data[start : start + 4] == b"JFIF":
            is_jfif = True
        if marker in _JPEG_HIERARCHY:
            raise CodestreamError("its JPEG codestream is a hierarchy of frames")
        if marker == 0xDA:
            break
        if marker in _JPEG_FRAMES:
            if end - start < 6 + 3 * data[start + 5]:
                break
            precision, rows, columns, samples = struct.unpack_from(">BHHB", data, start)
            names = data[start + 6 : start + 6 + 3 * samples : 3]
            return Codestream(
                rows, columns, samples, precision, False, names in (b"RGB", b"rgb"), is_jfif, marker == 0xC3
            )
    raise CodestreamError("its JPEG codestream has no frame header")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment's parameters."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise CodestreamError("its JPEG codestream has no marker where one should be")
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE:  # fill bytes; markers without parameters
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if end < at + 4 or end > len(data):
            raise CodestreamError("its JPEG codestream ends within its head")
        yield marker, at + 4, end
        at = end


def read_jpeg2000(data: bytes) -> Codestream:
    """Read the SIZ marker segment of a JPEG 2000 or HTJ2K codestream, bare or in a file. Raises `CodestreamError`."""
    at = _box(data, b"jp2c") if data[4:8] == b"jP  " else 0
    if data[at : at + 4] != b"\xff\x4f\xff\x51" or len(data) < at + 45:
        raise CodestreamError("it is no JPEG 2000 codestream")
    x1, y1, x0, y0, tile_x, tile_y, _, _, samples = struct.unpack_from(">8IH", data, at + 8)
    if x1 <= x0 or y1 <= y0 or not tile_x or not tile_y:
        raise CodestreamError("its JPEG 2000 codestream claims an impossible size")
    if -(-x1 // tile_x) * -(-y1 // tile_y) > _MOST_TILES:
        raise CodestreamError(f"its JPEG 2000 codestream claims more than {_MOST_TILES} tiles")
    parts = data[at + 42 : at + 42 + 3 * samples]
    if not samples or len(parts) < 3 * samples:
        raise CodestreamError("its JPEG 2000 codestream ends within its head")
    if set(parts[1::3]) | set(parts[2::3]) != {1} or len(set(parts[::3])) != 1:
        raise CodestreamError("its JPEG 2000 components differ in size or depth")
    return Codestream(y1 - y0, x1 - x0, samples, (parts[0] & 0x7F) + 1, bool(parts[0] & 0x80))


def _box(data: bytes, wanted: bytes) -> int:
    """Return where the content of a box begins (ISO/IEC 15444-1 I.4)."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        if kind == wanted:
            return at + head
        if length < head:
            break
        at += length
    raise CodestreamError(f"its file has no {wanted.decode().strip()} box")


def read_jpeg_xl(data: bytes) -> Codestream:
    """Read the size header of a JPEG XL codestream, bare or in a file. Raises `CodestreamError`."""
    at = 0
    if data[4:8] == b"JXL ":
        try:
            at = _box(data, b"jxlc")
        except CodestreamError:
            at = _box(data, b"jxlp") + 4  # a part begins with its number
    if data[at : at + 2] != b"\xff\x0a":
        raise CodestreamError("it is no JPEG XL codestream")
    take = _bits(data[at + 2 : at + 18])
    if take(1):
        rows = 8 * (take(5) + 1)
        ratio = take(3)
        columns = _across(rows, ratio) if ratio else 8 * (take(5) + 1)
    else:
        rows = take(_JPEG_XL_SIZES[take(2)]) + 1
        ratio = take(3)
        columns = _across(rows, ratio) if ratio else take(_JPEG_XL_SIZES[take(2)]) + 1
    return Codestream(rows, columns)


_JPEG_XL_SIZES: Final = (9, 13, 18, 30)
_JPEG_XL_RATIOS: Final = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def _across(rows: int, ratio: int) -> int:
    across, down = _JPEG_XL_RATIOS[ratio - 1]
    return rows * across // down


def _bits(data: bytes) -> Callable[[int], int]:
    """Return a function that takes so many bits more, least significant first."""
    rest, left = int.from_bytes(data, "little"), 8 * len(data)

    def take(count: int) -> int:
        nonlocal rest, left
        if count > left:
            raise CodestreamError("its JPEG XL codestream ends within its head")
        value = rest & (1 << count) - 1
        rest, left = rest >> count, left - count
        return value

    return take
