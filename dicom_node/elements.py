"""The data elements that are asked for, out of an encoded data set (PS3.5 7): bytes in, raw values out.

Input: a seekable stream at the start of a data set, its encoding, and the tags wanted. Output: `DataSet`, the raw
values of those tags (and of the wanted tags inside wanted sequences), and where reading stopped. Nothing is decoded, no
value that is not wanted is read, and nothing is kept of pixel data. On failure `ElementError`, naming the tag.

pydicom reads far more, at about ten times the cost and with process-wide warnings; every received instance passes
through here while its sender waits, and the bytes come from strangers.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009
PIXEL_DATA: Final = 0x7FE00010
PIXEL_TAGS: Final = frozenset({FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA})

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_DELIMITATION: Final = 0xFFFEE00D
_SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
#: PS3.5 table 7.1-1: explicit VRs with a 32-bit length after two reserved bytes.
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
#: A wanted value longer than this is not what it claims to be (the longest are lists of text).
_MAX_VALUE_BYTES: Final = 1 << 20
#: How much of the stream is read at a time: the whole header of most objects.
_WINDOW_BYTES: Final = 1 << 15
#: Real objects nest some ten levels deep; the limit is there for objects made to exhaust the stack.
_MAX_DEPTH: Final = 48
#: The wanted sequences have a handful of items; more than this is not kept.
_MAX_ITEMS: Final = 256
#: PerFrameFunctionalGroupsSequence has an item a frame; the first and the last tell enough of all.
_FIRST_AND_LAST_ITEM: Final = frozenset({0x52009230})


class ElementError(ValueError):
    """The data set is cut short or not encoded as DICOM; the message names the tag."""


class Element(NamedTuple):
    """One data element as found: `value` for plain elements, `items` for sequences."""

    vr: str
    value: bytes
    items: tuple[dict[int, Element], ...]


@dataclass(slots=True)
class DataSet:
    """The wanted elements of a data set."""

    elements: dict[int, Element] = field(default_factory=dict)
    little_endian: bool = True
    #: The pixel data element that reading stopped at, or 0: its tag, the offset of its value and its stated length.
    pixel_tag: int = 0
    pixel_offset: int = 0
    pixel_length: int = 0


def tag_name(tag: int) -> str:
    """Return `tag` the way the standard prints it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def read_elements(fp: BinaryIO, end: int, wanted: Container[int], *, explicit_vr: bool, little_endian: bool) -> DataSet:
    """Read the `wanted` elements from `fp`, up to the pixel data or to offset `end`, the size of the stream.

    Explicit or implicit VR is taken from the data itself where it contradicts `explicit_vr`: some senders encode
    otherwise than they negotiated.
    """
    reader = _Reader(fp, end, wanted, little_endian=little_endian)
    return reader.top_level(explicit_vr=explicit_vr)


class _Reader:
    """Walks one stream, forward but for the last of many items; holds what every level of nesting needs."""

    def __init__(self, fp: BinaryIO, end: int, wanted: Container[int], *, little_endian: bool) -> None:
        self._fp = fp
        self._end = end
        self._wanted = wanted
        self._little_endian = little_endian
        order = "<" if little_endian else ">"
        self._implicit = struct.Struct(order + "HHL").unpack_from
        self._explicit = struct.Struct(order + "HH2sH").unpack_from
        self._length = struct.Struct(order + "L").unpack_from
        #: Offset in the stream of what is read next, and the part of the stream in memory: a seek or tell of a file
        #: object is a system call, and a header has hundreds of elements.
        self._position = fp.tell()
        self._window = b""
        self._window_start = self._position

    def top_level(self, *, explicit_vr: bool) -> DataSet:
        found = DataSet(little_endian=self._little_endian)
        if self._position + 8 <= self._end:
            at = self._ahead(8, 0)
            vr = self._window[at + 4 : at + 6]
            explicit_vr = vr in _LONG_VRS or vr in _SHORT_VRS
        while self._position < self._end:
            header = self._header(explicit_vr=explicit_vr)
            if header is None:
                break
            tag, vr, length = header
            if tag in PIXEL_TAGS:
                found.pixel_tag, found.pixel_offset, found.pixel_length = tag, self._position, length
                break
            if tag in self._wanted:
                found.elements[tag] = self._value(tag, vr, length, 0, explicit_vr=explicit_vr)
            else:
                self._skip(tag, vr, length, 0, explicit_vr=explicit_vr)
        return found

    def _ahead(self, count: int, tag: int) -> int:
        """Have the next `count` bytes in the window and return where in it they begin."""
        at = self._position - self._window_start
        if at + count > len(self._window):
            if self._position + count > self._end:
                raise ElementError(f"the data set ends inside {tag_name(tag)}")
            self._fp.seek(self._position)
            self._window = self._fp.read(max(count, _WINDOW_BYTES))
            self._window_start = self._position
            if len(self._window) < count:
                raise ElementError(f"the data set ends inside {tag_name(tag)}")
            return 0
        return at

    def _header(self, *, explicit_vr: bool) -> tuple[int, bytes, int] | None:
        """Return tag, VR (empty where implicit) and length of the next element; None where only padding is left."""
        if self._position + 8 > self._end:
            at = self._ahead(self._end - self._position, 0)
            if self._window[at:].strip(b"\0"):
                raise ElementError(f"the data set ends inside the header of an element, at byte {self._end}")
            self._position = self._end
            return None
        at = self._ahead(8, 0)
        self._position += 8
        group, number, vr, short = self._explicit(self._window, at)
        tag = group << 16 | number
        if explicit_vr and group != 0xFFFE:
            if vr in _SHORT_VRS:
                return tag, vr, short
            if vr in _LONG_VRS or (short == 0 and vr.isalpha() and vr.isupper()):
                # A VR that is unknown here is newer than this code, and those have 32-bit lengths (PS3.5 6.2).
                at = self._ahead(4, tag)
                self._position += 4
                return tag, vr, self._length(self._window, at)[0]
            # Some writers change to implicit VR within a data set; what is no VR must be half of a length.
        return tag, b"", self._implicit(self._window, at)[2]

    def _forward(self, count: int, tag: int) -> None:
        self._position = self._stop(tag, count)

    def _stop(self, tag: int, length: int) -> int:
        """Return the offset at which a value of `length` that begins here ends."""
        if length == UNDEFINED_LENGTH:
            return self._end
        stop = self._position + length
        if stop > self._end:
            raise ElementError(f"the data set ends inside {tag_name(tag)}, {stop - self._end} bytes short")
        return stop

    def _value(self, tag: int, vr: bytes, length: int, depth: int, *, explicit_vr: bool) -> Element:
        if vr == b"SQ" or length == UNDEFINED_LENGTH or (vr in (b"", b"UN") and self._is_item_ahead(length, tag)):
            # UN of undefined length is implicit VR inside, whatever is around it (PS3.5 6.2.2).
            items = self._items(tag, length, depth, explicit_vr=explicit_vr and vr != b"UN", keep=True)
            return Element("SQ", b"", tuple(items))
        name = vr.decode("ascii")
        if length > _MAX_VALUE_BYTES:
            self._forward(length, tag)
            return Element(name, b"", ())
        at = self._ahead(length, tag)
        self._position += length
        return Element(name, self._window[at : at + length], ())

    def _is_item_ahead(self, length: int, tag: int) -> bool:
        """Implicit VR does not say what is a sequence: look whether an item begins here."""
        if length < 8:
            return False
        at = self._ahead(8, tag)
        group, number, _ = self._implicit(self._window, at)
        return bool(group << 16 | number == _ITEM)

    def _skip(self, tag: int, vr: bytes, length: int, depth: int, *, explicit_vr: bool) -> None:
        if length != UNDEFINED_LENGTH:
            self._forward(length, tag)
        else:
            self._items(tag, length, depth, explicit_vr=explicit_vr and vr != b"UN", keep=False)

    def _items(self, tag: int, length: int, depth: int, *, explicit_vr: bool, keep: bool) -> list[dict[int, Element]]:
        """Read (or, without `keep`, pass over) the items of the sequence `tag`, whose value begins here."""
        if depth >= _MAX_DEPTH:
            raise ElementError(f"sequences are nested more than {_MAX_DEPTH} deep at {tag_name(tag)}")
        stop = self._stop(tag, length)
        items: list[dict[int, Element]] = []
        at_most = 1 if tag in _FIRST_AND_LAST_ITEM else _MAX_ITEMS
        last: tuple[int, int] | None = None
        while self._position < stop:
            at = self._ahead(8, tag)
            group, number, item_length = self._implicit(self._window, at)
            self._position += 8
            item_tag = group << 16 | number
            if item_tag == _SEQUENCE_DELIMITATION:
                return [*items, *self._again(tag, last, depth, explicit_vr=explicit_vr)]
            if item_tag != _ITEM:
                raise ElementError(f"{tag_name(tag)} holds {tag_name(item_tag)} where an item should begin")
            if items and tag in _FIRST_AND_LAST_ITEM:
                last = self._position, item_length
            keep = keep and len(items) < at_most
            if not keep and item_length != UNDEFINED_LENGTH:
                self._forward(item_length, tag)
                continue
            item = self._item(tag, item_length, depth + 1, explicit_vr=explicit_vr, keep=keep)
            if keep:
                items.append(item)
        if length == UNDEFINED_LENGTH:
            raise ElementError(f"the data set ends inside {tag_name(tag)}")
        return [*items, *self._again(tag, last, depth, explicit_vr=explicit_vr)]

    def _again(
        self, tag: int, item: tuple[int, int] | None, depth: int, *, explicit_vr: bool
    ) -> Iterator[dict[int, Element]]:
        """Go back to an item that was passed over (its offset and length), read it, and come back."""
        if item is None:
            return
        here = self._position
        self._go_to(item[0])
        yield self._item(tag, item[1], depth + 1, explicit_vr=explicit_vr, keep=True)
        self._go_to(here)

    def _go_to(self, position: int) -> None:
        self._position = self._window_start = position
        self._window = b""

    def _item(self, tag: int, length: int, depth: int, *, explicit_vr: bool, keep: bool) -> dict[int, Element]:
        stop = self._stop(tag, length)
        found: dict[int, Element] = {}
        while self._position < stop:
            header = self._header(explicit_vr=explicit_vr)
            if header is None:
                break
            inner, vr, inner_length = header
            if inner == _ITEM_DELIMITATION:
                return found
            if keep and inner in self._wanted:
                found[inner] = self._value(inner, vr, inner_length, depth, explicit_vr=explicit_vr)
            else:
                self._skip(inner, vr, inner_length, depth, explicit_vr=explicit_vr)
        if length == UNDEFINED_LENGTH:
            raise ElementError(f"the data set ends inside an item of {tag_name(tag)}")
        return found
