"""The same report in another SR SOP class, for an archive that does not take the one it was written in. Pure.

Input: a Comprehensive 3D SR of ours and a class with fewer value types. Output: the same content as an object of its
own, with a derived UID that stays the same for the same input. Where the content has what the class does not allow,
there is no such object. Content and relationships: PS3.3 A.35.2.3 (Enhanced SR), A.35.3.3 (Comprehensive SR).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from dicom_node.uids import derive_uid

#: From the richest to the plainest.
REPORT_CLASSES: Final = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
_VALUE_TYPES: Final = frozenset(
    {
        *("TEXT", "CODE", "NUM", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "CONTAINER"),
        *("SCOORD", "TCOORD", "COMPOSITE", "IMAGE", "WAVEFORM"),
    }
)
#: SOP Class and SOP Instance UID.
Reference = tuple[str, str]


def plainer_classes(sop_class_uid: str) -> tuple[UID, ...]:
    """Return the classes that a report of this class can be tried in instead, best first."""
    if sop_class_uid not in REPORT_CLASSES:
        return ()
    return REPORT_CLASSES[REPORT_CLASSES.index(UID(sop_class_uid)) + 1 :]


def in_class(ds: Dataset, sop_class_uid: str, known_as: Mapping[str, Reference] | None = None) -> Dataset | None:
    """Return the report `ds` as an object of another class, or None where its content is not allowed there.

    Args:
        ds: A Comprehensive 3D SR; it is left as it is.
        sop_class_uid: Comprehensive SR or Enhanced SR.
        known_as: SOP Instance UID of a predecessor -> what the archive has in its place.
    """
    if not all(_is_allowed(entry, sop_class_uid) for entry in _content(ds)):
        return None
    other = deepcopy(ds)
    predecessors = list(_rename_predecessors(other, known_as or {}))
    other.SOPClassUID = UID(sop_class_uid)
    other.SOPInstanceUID = UID(derive_uid("in another class", sop_class_uid, str(ds.SOPInstanceUID), *predecessors))
    return other


def _content(ds: Dataset) -> Iterator[Dataset]:
    for entry in ds.get("ContentSequence", ()):
        yield entry
        yield from _content(entry)


def _is_allowed(entry: Dataset, sop_class_uid: str) -> bool:
    """Tell whether a content item may stand in the class: neither has 3D coordinates, Enhanced SR no references."""
    if "ReferencedContentItemIdentifier" in entry:
        return sop_class_uid != EnhancedSRStorage
    return entry.get("ValueType") in _VALUE_TYPES


def _rename_predecessors(ds: Dataset, known_as: Mapping[str, Reference]) -> Iterator[str]:
    """Name the predecessors as the archive knows them; yield their SOP Instance UIDs."""
    for study in ds.get("PredecessorDocumentsSequence", ()):
        for series in study.ReferencedSeriesSequence:
            for reference in series.ReferencedSOPSequence:
                if reference.ReferencedSOPInstanceUID in known_as:
                    uids = known_as[reference.ReferencedSOPInstanceUID]
                    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = map(UID, uids)
                yield str(reference.ReferencedSOPInstanceUID)
