"""Whether a stored instance has all the pixel data it promises, without decoding any.

Input: the path of a DICOM file. Output: the reason why its pixel data is incomplete, or "". On failure `HeaderError` as
in `headers`. Such a file is received and kept: the sender has nothing better, and the job can say what is wrong.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from dicom_node import header_values as values
from dicom_node.elements import UNDEFINED_LENGTH, DataSet, ElementError, read_elements
from dicom_node.file_format import FileFormatError, open_data_set
from dicom_node.headers import HeaderError

_ROWS, _COLUMNS, _SAMPLES, _BITS, _FRAMES = 0x00280010, 0x00280011, 0x00280002, 0x00280100, 0x00280008
_PHOTOMETRIC: Final = 0x00280004


def is_truncated(path: Path) -> bool:
    """Whether the pixel data of the file at `path` is incomplete; a file without pixel data is complete."""
    return truncation_reason(path) != ""


def truncation_reason(path: Path) -> str:
    """Return why the pixel data of the file at `path` is incomplete, "" where it is complete or there is none.

    Native pixel data is held against Rows, Columns, Samples per Pixel, Bits Allocated and Number of Frames;
    encapsulated pixel data must end with a sequence delimiter (PS3.5 A.4). Raises `HeaderError` and `OSError`.
    """
    wanted = {_ROWS, _COLUMNS, _SAMPLES, _BITS, _FRAMES, _PHOTOMETRIC}
    try:
        opened = open_data_set(path)
        with opened.fp:
            found = read_elements(
                opened.fp, opened.end, wanted, explicit_vr=opened.explicit_vr, little_endian=opened.little_endian
            )
            if not found.pixel_tag:
                return ""
            if found.pixel_length == UNDEFINED_LENGTH:
                return _encapsulated(opened.fp, found.pixel_offset, opened.end)
            return _native(found, opened.end)
    except (FileFormatError, ElementError) as error:
        raise HeaderError(path, str(error)) from error


def _native(found: DataSet, end: int) -> str:
    present = end - found.pixel_offset
    if present < found.pixel_length:
        return f"the pixel data is cut short: {present} of {found.pixel_length} bytes are there"
    expected = _expected_bytes(found)
    if found.pixel_length < expected:
        return f"the pixel data has {found.pixel_length} bytes where its attributes call for {expected}"
    return ""


def _expected_bytes(found: DataSet) -> int:
    """The length of native pixel data (PS3.3 C.7.6.3, PS3.5 8.1); 0 where an attribute is absent."""

    def number(tag: int) -> int | None:
        return values.unsigned(found.elements, tag, little_endian=found.little_endian)

    rows, columns, bits = number(_ROWS), number(_COLUMNS), number(_BITS)
    if rows is None or columns is None or bits is None:
        return 0
    samples = number(_SAMPLES) or 1
    frames = values.integer(found.elements, _FRAMES) or 1
    count = rows * columns * samples * max(frames, 1)
    if values.word(found.elements, _PHOTOMETRIC) == "YBR_FULL_422":
        count = count * 2 // 3
    return (count * bits + 7) // 8


def _encapsulated(fp: BinaryIO, offset: int, end: int) -> str:
    """Step over the fragments without reading them. Encapsulated syntaxes are all little endian."""
    fp.seek(offset)
    fragments = 0
    while len(header := fp.read(8)) == 8:
        group, number, length = struct.unpack("<HHL", header)
        if (group, number) == (0xFFFE, 0xE0DD):
            # The first item is the Basic Offset Table, which may be the only one: then there is no image.
            return "" if fragments > 1 else "the encapsulated pixel data holds no fragment"
        if (group, number) != (0xFFFE, 0xE000):
            return f"the encapsulated pixel data is damaged after {fragments} items"
        if fp.tell() + length > end:
            return f"the encapsulated pixel data ends inside item {fragments + 1}"
        fp.seek(length, 1)
        fragments += 1
    return f"the encapsulated pixel data ends after {fragments} items without a sequence delimiter"
