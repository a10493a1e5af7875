"""Attributes of one frame: from its functional groups where the image has them, else from the image's own header.

Input: a data set and a frame's index (counted from 0). Output: the item of a functional group macro (PS3.3 C.7.6.16),
and numbers read leniently: what is absent, empty or unreadable is no number. Nothing fails here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue


def functional_group_items(dataset: Dataset, keyword: str, index: int) -> Sequence[Dataset]:
    """Return a functional group macro's items for a frame: its own, else the shared ones; none where there are none."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[index : index + 1], shared[:1]):
        for group in groups:
            if group.get(keyword):
                return list(group[keyword].value)
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
    return dataset.get(keyword) if found is None or keyword not in found else found.get(keyword)


def number(dataset: Dataset, keyword: str, default: float) -> float:
    """Return the first finite number of an element, or the default."""
    return next(iter(numbers(dataset.get(keyword))), default)


def numbers(value: Any) -> list[float]:
    """Return the finite numbers of a single- or multi-valued element; nothing where it is empty or unreadable."""
    if value is None or value == "":
        return []
    several: Iterable[Any] = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    try:
        found = [float(one) for one in several]
    except (TypeError, ValueError):
        return []
    return found if all(np.isfinite(found)) else []


def whole_numbers(value: Any) -> list[int]:
    """Return the integers of an element; nothing where it is empty, unreadable, or one of them is no integer."""
    found = numbers(value)
    return [int(one) for one in found] if all(one.is_integer() for one in found) else []
