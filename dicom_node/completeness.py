"""Is an object complete by itself? DICOM has no "study finished"; this is its strongest sign (pure, no clock)."""

from __future__ import annotations

from dicom_node.headers import InstanceHeader

#: Image classes whose instances are slices: only together do they make what was acquired (PS3.4 B.5).
SLICE_SOP_CLASS_UIDS = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
        "1.2.840.10008.5.1.4.1.1.128",  # Positron Emission Tomography Image Storage
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose Storage
    }
)


def is_complete_by_itself(header: InstanceHeader) -> bool:
    """Return whether this one instance is all there is: a run, a video, an enhanced volume, a still, a document.

    A part of a concatenation (PS3.3 C.7.6.16.1) is not.
    """
    if header.concatenation_uid and header.in_concatenation_total != 1:
        return False
    return header.sop_class_uid not in SLICE_SOP_CLASS_UIDS or (header.number_of_frames or 1) > 1
