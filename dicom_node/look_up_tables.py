"""Look-up tables of the header: modality, VOI and palette (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5, C.7.9.2).

Input: the descriptor and the data of a table as they are stored. Output: a `LookUpTable`. On failure: `ValueError`,
where the descriptor is no descriptor, entries are missing, or a segmented table cannot be expanded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.frame_attributes import value, whole_numbers

#: A table can have no more entries, whatever its segments repeat (an entry count of 0 means as many).
_MOST_ENTRIES: Final = 2**16


@dataclass(frozen=True, slots=True)
class LookUpTable:
    """Entries for consecutive input values; what lies before the first or after the last gets that one's entry."""

    #: The input value that the first entry is for.
    first: int
    #: uint16, (entries,).
    entries: NDArray[np.uint16]
    #: Significant bits of an entry: the largest possible one is 2**bits - 1.
    bits: int

    def look_up(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Return the entries for input values of any shape; fractions are rounded first."""
        places = np.rint(values) if values.dtype.kind == "f" else values.astype(np.int64)
        places = np.clip(places - self.first, 0, len(self.entries) - 1).astype(np.intp)
        return np.asarray(self.entries[places], dtype=np.uint16)


def read_look_up_table(
    dataset: Dataset, name: str, *, little_endian: bool, signed: bool, descriptor: str = "LUTDescriptor"
) -> LookUpTable:
    """Read a table.

    Args:
        dataset: The item or image that holds it.
        name: Keyword of its data: "LUTData", or a palette's (also a segmented one's).
        little_endian: Byte order of the transfer syntax.
        signed: Whether input values can be negative; the descriptor's second value is then signed.
        descriptor: Keyword of its descriptor.

    Raises:
        ValueError: The table is broken; the message says how.
    """
    described = whole_numbers(dataset, descriptor)
    if len(described) != 3:
        raise ValueError(f"{descriptor} is {value(dataset, descriptor)!r}, not three integers")
    # Writers and readers mix up US and SS here: the count is never negative, the first value as the input is.
    count = described[0] % 2**16 or _MOST_ENTRIES
    first = described[1] % 2**16
    if signed and first >= 2**15:
        first -= 2**16
    bits = described[2]
    if not 1 <= bits <= 16:
        raise ValueError(f"{descriptor} names {bits} bits per entry")
    if name.startswith("Segmented"):
        entries = _expanded(_words(_bytes(dataset, name), little_endian, 1 if bits <= 8 else 2), bits, little_endian)
    else:
        entries = _unpacked(dataset, name, count, bits, little_endian)
    if len(entries) < count:
        raise ValueError(f"{name} has {len(entries)} of the {count} entries that {descriptor} claims")
    entries = entries[:count]
    # Some descriptors name too few bits; an entry cannot be larger than the largest.
    return LookUpTable(first, entries, max(bits, int(entries.max()).bit_length()))


def _unpacked(dataset: Dataset, name: str, count: int, bits: int, little_endian: bool) -> NDArray[np.uint16]:
    if not isinstance(value(dataset, name), (bytes, bytearray)):
        # US or SS: pydicom has read the numbers; as SS, large entries came out negative.
        return np.asarray([one % 2**16 for one in whole_numbers(dataset, name)], dtype=np.uint16)
    data = _bytes(dataset, name)
    # 8-bit entries come two to a word (C.7.6.3.1.6), or each in a word of its own.
    packed = bits <= 8 and len(data) < 2 * count
    return _words(data, little_endian, 1 if packed else 2, swapped=packed and not little_endian)


def _bytes(dataset: Dataset, name: str) -> bytes:
    data = value(dataset, name)
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"{name} is missing or holds no bytes")  # noqa: TRY004 - the header is wrong, not the caller
    return bytes(data)


def _words(data: bytes, little_endian: bool, size: int, *, swapped: bool = False) -> NDArray[np.uint16]:
    whole = data[: len(data) // 2 * 2]
    if size == 1:
        # In big endian the first entry of a word is its low byte, which is stored last.
        return (
            np.frombuffer(whole, dtype=">u2").byteswap().view(np.uint8).astype(np.uint16)
            if swapped
            else (np.frombuffer(whole, dtype=np.uint8).astype(np.uint16))
        )
    return np.frombuffer(whole, dtype="<u2" if little_endian else ">u2").astype(np.uint16)


def _expanded(data: NDArray[np.uint16], bits: int, little_endian: bool) -> NDArray[np.uint16]:
    """Expand a segmented table (C.7.9.2)."""
    entries: list[int] = []
    _expand(data.tolist(), 0, None, entries, wide=bits > 8, little_endian=little_endian)
    return np.asarray(entries, dtype=np.uint16)


def _expand(
    data: Sequence[int], place: int, segments: int | None, entries: list[int], *, wide: bool, little_endian: bool
) -> None:
    """Append the entries of so many segments (all if None) from a place on; a segment may refer back to others."""
    # A single trailing zero pads the table to an even length.
    while place + 1 < len(data) and segments != 0:
        kind, length = data[place], data[place + 1]
        place += 2
        if kind == 0:
            entries.extend(data[place : place + length])
            place += length
        elif kind == 1 and entries and place < len(data):
            start, end = entries[-1], data[place]
            entries.extend(round(start + (end - start) * step / length) for step in range(1, length + 1))
            place += 1
        elif kind == 2 and entries and segments is None:
            words = data[place : place + (2 if wide else 4)]
            _expand(data, _offset(words, wide, little_endian), length, entries, wide=wide, little_endian=little_endian)
            place += len(words)
        else:
            raise ValueError(f"its segmented table has a segment of kind {kind} where none can be")
        if len(entries) > _MOST_ENTRIES:
            raise ValueError(f"its segmented table has more than {_MOST_ENTRIES} entries")
        segments = None if segments is None else segments - 1


def _offset(words: Sequence[int], wide: bool, little_endian: bool) -> int:
    """Return the place that an indirect segment's byte offset refers to, whose low half comes first (C.7.9.2.3)."""
    if len(words) != (2 if wide else 4):
        raise ValueError("its segmented table ends within an indirect segment")
    if wide:
        return (words[0] | words[1] << 16) // 2
    return (
        int.from_bytes(words, "little")
        if little_endian
        else (words[0] << 8 | words[1] | words[2] << 24 | words[3] << 16)
    )
