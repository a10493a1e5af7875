"""Which series an adapter takes, and why not the others: header facts in, an obstacle in words or nothing out.

Input: an `InstanceHeader`. Output: a sentence that a PACS administrator reads in the explanation of a route, or None.
It cannot fail: what a header does not say is no obstacle here; doubts are for `models.confidence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import UID

from dicom_node.headers import InstanceHeader
from dicom_node.hybrid import named_attenuation_ct, named_nuclear_study

#: What a sender can do about one kind of class that is not accepted.
_RAW: Final = " (raw detector values; let the modality send the image for presentation)"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Which series an adapter takes: every condition must hold. Routing evaluates and explains it."""

    sop_class_uids: frozenset[str]
    modalities: frozenset[str]
    #: Normalised regions (`dicom_node.regions`); empty means any, known or not.
    body_regions: frozenset[str] = frozenset()
    #: Values of ImageType that exclude an instance.
    excluded_image_types: frozenset[str] = frozenset({"LOCALIZER"})
    #: Fewer pictures than this are no use to the adapter: instances, and the frames of those that have several.
    min_instances: int = 1
    #: Children are outside the intended use; an unknown age is routed but held for review.
    min_age_years: float | None = 18
    #: Accepted modalities at the edge of the intended use, and why: their answers are held for review.
    edge_modalities: Mapping[str, str] = field(default_factory=dict)
    #: The same by SOP class.
    edge_sop_class_uids: Mapping[str, str] = field(default_factory=dict)

    def obstacle(self, header: InstanceHeader) -> str | None:
        """Return why this instance is not for the adapter; SOP class first: that header alone cannot be wrong."""
        if header.sop_class_uid not in self.sop_class_uids:
            # The name is what an administrator knows; an unknown (private) class has only its UID.
            name = str(UID(header.sop_class_uid).name)
            return f"SOP class {name or '(none)'} is not accepted{_RAW if 'For Processing' in name else ''}"
        if header.modality not in self.modalities:
            return f"modality {header.modality or '(none)'} is not accepted"
        excluded = self.excluded_image_types & {value.upper() for value in (*header.image_type, *header.frame_type)}
        if excluded:
            return f"image type {', '.join(sorted(excluded))} is not accepted"
        if named := named_attenuation_ct(header):
            return f"a low-dose CT for the attenuation correction of a PET or SPECT ({named}) is not accepted"
        return None

    def doubts(self, header: InstanceHeader) -> tuple[str, ...]:
        """Return what makes an accepted series doubtful by its kind, one sentence each; each one forces review."""
        found: list[str] = []
        edges = (self.edge_modalities.get(header.modality), self.edge_sop_class_uids.get(header.sop_class_uid))
        found.extend(f"at the edge of the intended use: {why}" for why in edges if why)
        if named := named_nuclear_study(header):
            found.append(f"input in doubt: the CT belongs to a PET or SPECT study ({named}) and may be a low-dose one")
        return tuple(found)

    def too_few(self, headers: Sequence[InstanceHeader]) -> str | None:
        """Return why these accepted instances are too few, or None; every frame counts."""
        frames = sum(header.number_of_frames or 1 for header in headers)
        if frames >= self.min_instances:
            return None
        counted = f"{len(headers)} instance{'' if len(headers) == 1 else 's'}"
        if frames > len(headers):
            counted = f"{frames} frames in {counted}"
        return f"{counted}, the adapter needs {self.min_instances}"
