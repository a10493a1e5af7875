"""Data sets as DICOM JSON (PS3.18 F): a stored file or a data set in, a JSON-ready dictionary out.

Input: a path, or a pydicom data set. Output: the DICOM JSON model; long binary values are named by URI, pixels always
are. What a sender wrote badly costs that element and not the whole object: it is left without a value. On failure:
`PixelError` (of `read_attributes`) where the file is no readable DICOM.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from dicom_node.image_attributes import PixelError, pixel_element, read_attributes

#: Binary values up to this size stand in the JSON itself.
INLINE_BYTES: Final = 1024
PIXEL_TAG: Final = "7FE00010"
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW", "US or OW", "US or SS or OW"})
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
#: pydicom warns of what it puts right, and what it would print are values; filters are the whole process's, and
#: making JSON is bound to one core anyway.
_ONE_AT_A_TIME: Final = threading.RLock()

#: Makes the URI of a bulk value from its place: tags and item numbers, joined by slashes.
BulkUri = Callable[[str], str]


def read_dataset(path: Path) -> Dataset:
    """Return a stored object's data set up to the pixels. Raises `PixelError`."""
    with _ONE_AT_A_TIME:
        return read_attributes(path).dataset


def metadata(path: Path, bulk_uri: BulkUri) -> dict[str, Any]:
    """Return the DICOM JSON of a stored object, with the URI of its pixels where it has any. Raises `PixelError`."""
    with _ONE_AT_A_TIME:
        image = read_attributes(path)
        made = to_json(image.dataset, bulk_uri)
    try:
        with image.open() as file:
            element = pixel_element(image, file)
    except PixelError:
        return made
    tag = {"FloatPixelData": "7FE00008", "DoubleFloatPixelData": "7FE00009"}.get(element.keyword, PIXEL_TAG)
    made[tag] = {"vr": element.vr, "BulkDataURI": bulk_uri(tag)}
    return made


def to_json(dataset: Dataset, bulk_uri: BulkUri | None = None) -> dict[str, Any]:
    """Return a data set in the DICOM JSON model.

    Args:
        dataset: What to show; group 2 is no part of it.
        bulk_uri: Names binary values beyond `INLINE_BYTES`; without it all stand in the JSON.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = _level(dataset, bulk_uri, "")
    if "00080005" in made:  # the JSON itself is UTF-8 (PS3.18 F.2.2)
        made["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return made


def pick(dataset: Dataset, tags: Iterable[int]) -> Dataset:
    """Return a data set of those of the tags that the data set has."""
    found = Dataset()
    for tag in sorted(set(tags)):
        if (element := element_at(dataset, (Tag(tag),))) is not None:
            found.add(element)
    return found


def element_at(dataset: Dataset, path: tuple[BaseTag | int, ...]) -> DataElement | None:
    """Return the element at a path of tags and item numbers (counted from 0); None where there is no readable one."""
    level: Any = dataset
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for place in path[:-1]:
                level = level[place] if isinstance(level, DicomSequence) else level[place].value
            element = level[path[-1]]
        except Exception:  # noqa: BLE001 - bytes of strangers fail in their own ways when they are asked for
            return None
        return element if isinstance(element, DataElement) else None


def plain_element(keyword: str, vr: str, value: Any) -> DataElement:
    """Return an element of a value as found, however long or odd it is."""
    return DataElement(keyword_tag(keyword), vr, value, validation_mode=config.IGNORE)


def keyword_tag(keyword: str) -> BaseTag:
    """Return the tag of a standard attribute."""
    return Tag(keyword)


def _level(dataset: Dataset, bulk_uri: BulkUri | None, place: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for tag in sorted(dataset.keys()):
        if tag.group == 2 or tag.element == 0:
            continue
        name = f"{tag:08X}"
        made[name] = _element(dataset, tag, bulk_uri, f"{place}{name}")
    return made


def _element(dataset: Dataset, tag: BaseTag, bulk_uri: BulkUri | None, place: str) -> dict[str, Any]:
    try:
        element = dataset[tag]
    except Exception:  # noqa: BLE001 - what cannot be read is there without a value
        return {"vr": "UN"}
    if isinstance(element.value, DicomSequence):
        items = [_level(entry, bulk_uri, f"{place}/{number}/") for number, entry in enumerate(element.value)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    vr = str(element.VR)
    if (
        vr in _BINARY
        and bulk_uri is not None
        and isinstance(element.value, bytes)
        and len(element.value) > INLINE_BYTES
    ):
        return {"vr": _one_vr(vr), "BulkDataURI": bulk_uri(place)}
    try:
        made = element.to_json_dict(None, 0)
    except Exception:  # noqa: BLE001 - a number that is none, a name in no known alphabet, ...
        return {"vr": _one_vr(vr)}
    made["vr"] = _one_vr(vr)
    if "Value" in made:
        made["Value"] = [_value(value) for value in made["Value"]]
    return made


def _one_vr(vr: str) -> str:
    return vr.rsplit(" ", 1)[-1] if " " in vr else vr


def _value(value: Any) -> Any:
    """JSON has neither infinity nor an empty string among values (PS3.18 F.2.3 and F.2.5)."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return None if value == "" else value
