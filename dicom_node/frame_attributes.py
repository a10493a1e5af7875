"""Attributes of one frame: from its functional groups where the image has them, else from the image's own header.

Input: a data set, a keyword (or group and element) and a frame's index (counted from 0). Output: items, numbers and
texts, read leniently: what is absent, empty or unreadable is none. Nothing fails here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

#: An attribute's keyword, or its group and element where those vary (overlays).
Key = str | tuple[int, int]

#: What pydicom raises where bytes are no value of the VR that they claim.
_UNREADABLE: Final = (
    *(ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError),
    *(struct.error, BytesLengthException),
)


def value(dataset: Dataset, key: Key) -> Any:
    """Return an element's value; None where it is absent or its bytes are no value of its VR.

    pydicom turns bytes into values when they are first asked for, and raises then.
    """
    try:
        return dataset[key].value if key in dataset else None
    except _UNREADABLE:
        return None


def items(dataset: Dataset, key: Key) -> list[Dataset]:
    """Return the items of a sequence; none where the element is no sequence."""
    found = value(dataset, key)
    return list(found) if isinstance(found, DicomSequence) else []


def functional_group_items(dataset: Dataset, keyword: str, index: int) -> Sequence[Dataset]:
    """Return a functional group macro's items for a frame (PS3.3 C.7.6.16): its own, else the shared ones."""
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = items(dataset, "SharedFunctionalGroupsSequence")
    for groups in (per_frame[index : index + 1], shared[:1]):
        for group in groups:
            if found := items(group, keyword):
                return found
    return []


def functional_group(dataset: Dataset, keyword: str, index: int) -> Dataset | None:
    """Return the first item of a functional group macro for a frame, or None."""
    return next(iter(functional_group_items(dataset, keyword, index)), None)


def frame_value(dataset: Dataset, group: str, keyword: str, index: int) -> Any:
    """Return an attribute of a frame: from its functional group, else from the image's own header; None if in neither.

    Args:
        dataset: The image.
        group: Keyword of the macro's sequence, e.g. "FramePixelDataPropertiesSequence".
        keyword: Keyword of the attribute, which has the same name in both places.
        index: Which frame, counted from 0.
    """
    found = functional_group(dataset, group, index)
    return value(dataset if found is None or keyword not in found else found, keyword)


def number(dataset: Dataset, key: Key, default: float) -> float:
    """Return the first finite number of an element, or the default."""
    return next(iter(numbers(dataset, key)), default)


def numbers(dataset: Dataset, key: Key) -> list[float]:
    """Return the numbers of an element; nothing where it is empty, unreadable, or one of them is not finite."""
    try:
        found = [float(one) for one in _several(value(dataset, key))]
    except (TypeError, ValueError, OverflowError):
        return []
    return found if all(map(math.isfinite, found)) else []


def whole_numbers(dataset: Dataset, key: Key) -> list[int]:
    """Return the integers of an element; nothing where it is empty, unreadable, or one of them is no integer."""
    found = numbers(dataset, key)
    return [int(one) for one in found] if all(one.is_integer() for one in found) else []


def text(dataset: Dataset, key: Key) -> str:
    """Return an element's only or first text without padding; "" where there is none."""
    return next(iter(texts(dataset, key)), "")


def texts(dataset: Dataset, key: Key) -> list[str]:
    """Return the texts of a multi-valued element."""
    return [str(one).strip(" \0") for one in _several(value(dataset, key)) if not isinstance(one, (bytes, Dataset))]


def _several(found: Any) -> Sequence[Any]:
    if found is None or found == "":
        return []
    return list(found) if isinstance(found, (MultiValue, list, tuple)) else [found]
