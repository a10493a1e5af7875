"""Where compressed frames lie in a file: an image in, the bytes of one frame out (PS3.5 A.4).

Input: `ImageAttributes` of an encapsulated transfer syntax and its open file. Output: the codestream of a frame. The
Extended or Basic Offset Table is used where it is true; else the heads of all fragments are walked, whose values stay
on disk. Where fragments outnumber frames and no table parts them, a frame begins where a codestream begins. On failure:
`PixelError`.
"""

from __future__ import annotations

import itertools
import struct
from typing import BinaryIO, Final, NamedTuple

from pydicom.uid import RLELossless

from dicom_node.elements import UNDEFINED_LENGTH
from dicom_node.image_attributes import ImageAttributes, PixelLimits, pixel_element

_ITEM: Final = b"\xfe\xff\x00\xe0"
_END: Final = b"\xfe\xff\xdd\xe0"
#: Far above what a frame is cut into; a file of nothing but empty fragments is stopped here.
_MOST_FRAGMENTS: Final = 1_000_000
#: How a JPEG, JPEG-LS, JPEG 2000 (bare, in a file) and JPEG XL (bare, in a file) codestream begins.
_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP", b"\xff\x0a", b"\0\0\0\x0cJXL")
_SEND_AGAIN: Final = "check the original and send the instance again"


class _Fragment(NamedTuple):
    #: Where in the file its value begins.
    at: int
    length: int


class EncapsulatedFrames:
    """The codestreams of an image's frames."""

    def __init__(self, image: ImageAttributes, file: BinaryIO, limits: PixelLimits) -> None:
        self._image = image
        self._limits = limits
        element = pixel_element(image, file)
        if element.length != UNDEFINED_LENGTH:
            raise image.error("its compressed pixel data are not in fragments", _SEND_AGAIN)
        head = _item_at(file, element.value_at)
        if head is None:
            raise image.error("its compressed pixel data do not begin with an offset table", _SEND_AGAIN)
        self._first_at = head.at + head.length
        #: How many frames the fragments make, where that was counted.
        self._held = 0
        self._frames = self._by_extended_table(file) or self._by_basic_table(file, head) or self._by_walking(file)

    @property
    def surplus(self) -> str:
        """What the element holds beyond what the header claims, in words; '' where it holds nothing more."""
        claimed = self._image.frames
        if self._held <= claimed:
            return ""
        return f"hold {self._held} frames, the header claims {claimed}: the header may be wrong"

    def read(self, file: BinaryIO, index: int) -> bytes:
        """Return the codestream of a frame, counted from 0. Raises `PixelError` where it is not whole."""
        image = self._image
        if index >= len(self._frames):
            raise image.error(
                f"frame {index + 1} cannot be decoded (its pixel data are truncated: they hold {len(self._frames)} of "
                f"{image.frames} frames)",
                _SEND_AGAIN,
            )
        fragments = self._frames[index]
        size = sum(fragment.length for fragment in fragments)
        if size > self._limits.max_frame_bytes:
            raise image.error(
                f"frame {index + 1} takes {size} bytes compressed, the limit is {self._limits.max_frame_bytes}",
                "check the original",
            )
        parts = []
        for fragment in fragments:
            file.seek(fragment.at)
            parts.append(file.read(fragment.length))
        data = b"".join(parts)
        if len(data) < size:
            raise image.error(f"frame {index + 1} cannot be decoded (its pixel data are truncated)", _SEND_AGAIN)
        return data

    def _by_extended_table(self, file: BinaryIO) -> list[list[_Fragment]]:
        """Extended Offset Table: one fragment a frame (PS3.3 C.7.6.3.1.8)."""
        ds = self._image.dataset
        tables = [bytes(ds.get(keyword) or b"") for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
        size = 8 * self._image.frames
        if any(len(table) < size for table in tables):
            return []
        offsets, lengths = (struct.unpack(f"<{self._image.frames}Q", table[:size]) for table in tables)
        frames = []
        for offset, length in zip(offsets, lengths, strict=True):
            found = _item_at(file, self._first_at + offset) if offset < 2**62 else None
            if found is None or not 0 < length <= found.length:
                return []  # a table that lies; walking finds the truth
            frames.append([_Fragment(found.at, length)])
        return frames

    def _by_basic_table(self, file: BinaryIO, table: _Fragment) -> list[list[_Fragment]]:
        """Basic Offset Table: frame n is the fragments from its offset to the next one's (PS3.5 A.4)."""
        if table.length != 4 * self._image.frames:
            return []
        file.seek(table.at)
        data = file.read(table.length)
        if len(data) < table.length:
            return []
        offsets = struct.unpack(f"<{self._image.frames}I", data)
        if offsets[0] != 0 or any(a >= b for a, b in itertools.pairwise(offsets)):
            return []
        fragments = self._walk(file)
        starts = {fragment.at - 8 - self._first_at: place for place, fragment in enumerate(fragments)}
        if any(offset not in starts for offset in offsets):
            return []
        places = [starts[offset] for offset in offsets] + [len(fragments)]
        return [fragments[a:b] for a, b in itertools.pairwise(places)]

    def _by_walking(self, file: BinaryIO) -> list[list[_Fragment]]:
        fragments, wanted = self._walk(file), self._image.frames
        is_rle = self._image.transfer_syntax == RLELossless  # a frame is one fragment (PS3.5 G.2)
        if len(fragments) > wanted:
            self._held = len(fragments) if is_rle else sum(_begins_frame(file, fragment) for fragment in fragments)
        if wanted == 1:
            return [fragments] if fragments else []
        if len(fragments) <= wanted or is_rle:
            return [[fragment] for fragment in fragments]
        frames: list[list[_Fragment]] = []
        for fragment in fragments:
            if _begins_frame(file, fragment) or not frames:
                frames.append([])
            frames[-1].append(fragment)
        return frames

    def _walk(self, file: BinaryIO) -> list[_Fragment]:
        """Return the fragments as far as they can be followed."""
        fragments: list[_Fragment] = []
        at = self._first_at
        while (found := _item_at(file, at)) is not None:
            fragments.append(found)
            at = found.at + found.length
            if len(fragments) > _MOST_FRAGMENTS:
                raise self._image.error(f"its pixel data are in more than {_MOST_FRAGMENTS} fragments", _SEND_AGAIN)
        return fragments


def _item_at(file: BinaryIO, offset: int) -> _Fragment | None:
    file.seek(offset)
    head = file.read(8)
    if len(head) < 8 or head[:4] != _ITEM:
        return None
    length = struct.unpack("<I", head[4:])[0]
    return None if length == UNDEFINED_LENGTH else _Fragment(offset + 8, length)


def _begins_frame(file: BinaryIO, fragment: _Fragment) -> bool:
    file.seek(fragment.at)
    return file.read(min(8, fragment.length)).startswith(_BEGINNINGS)
