"""The pictures of a series and where each lies: one of a single-frame instance, one for each frame of an enhanced one.

Input: headers, or stored instances whose functional groups are then read (PS3.3 C.7.6.16.2, C.8.15.3, C.8.13.5).
Output: `Plane` values. On failure: an instance whose functional groups cannot be read gives pictures that lie nowhere,
and a sentence that says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.headers import InstanceFile, InstanceHeader
from dicom_node.pixels import PixelError, PixelLimits, read_attributes

_FRAME_TYPES: Final = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")


@dataclass(frozen=True, slots=True)
class Plane:
    """One picture: where it lies (PS3.3 C.7.6.2.1.1), and what tells it from others of the series."""

    sop_instance_uid: str
    #: Counted from 0.
    frame: int
    instance_number: int | None
    #: Centre of the first pixel in mm; None where it is not known.
    position: tuple[float, ...] | None
    #: Row then column cosines.
    orientation: tuple[float, ...] | None
    rows: int | None
    columns: int | None
    frame_of_reference_uid: str
    image_type: tuple[str, ...]
    sop_class_uid: str = ""
    modality: str = ""
    kernel: str = ""
    #: Slice thickness and reconstruction diameter in mm.
    thickness_mm: float | None = None
    diameter_mm: float | None = None
    monoenergetic_kev: float | None = None
    echo_time_ms: float | None = None
    b_value: float | None = None
    #: StackID of an enhanced image.
    stack: str = ""
    temporal_position: int | None = None
    acquisition_number: int | None = None
    #: HHMMSS.FFFFFF
    acquisition_time: str = ""
    contrast_start_time: str = ""

    @property
    def is_placed(self) -> bool:
        """Whether position and orientation are there and possible."""
        position, orientation = self.position, self.orientation
        if position is None or len(position) != 3 or not all(map(math.isfinite, position)):
            return False
        return orientation is not None and _normal(orientation) is not None

    @property
    def order(self) -> tuple[float, str, int]:
        """How pictures follow each other where nothing else tells: by number, instance and frame."""
        number = math.inf if self.instance_number is None else self.instance_number
        return number, self.sop_instance_uid, self.frame

    def normal(self) -> NDArray[np.float64]:
        """Return the slice normal, turned so that its largest component is positive. The plane must be placed."""
        normal = None if self.orientation is None else _normal(self.orientation)
        if normal is None:
            raise ValueError(f"instance {self.sop_instance_uid} has no usable ImageOrientationPatient")
        return np.array(normal)

    def along(self, normal: NDArray[np.float64]) -> float:
        """Return the distance from the origin along `normal` in mm. The plane must be placed."""
        if self.position is None:
            raise ValueError(f"instance {self.sop_instance_uid} has no ImagePositionPatient")
        return float(sum(a * b for a, b in zip(self.position, normal.tolist(), strict=True)))


@lru_cache(maxsize=1024)
def _normal(orientation: tuple[float, ...]) -> tuple[float, ...] | None:
    """Return the normal of two cosines, its largest component positive; None where they are no pair of cosines."""
    if len(orientation) != 6 or not all(map(math.isfinite, orientation)):
        return None
    # Two unit vectors at right angles; writers round to six places, some to three.
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths_are_one = all(abs(float(np.linalg.norm(vector)) - 1.0) < 0.01 for vector in (row, column))
    if not lengths_are_one or abs(float(row @ column)) >= 0.01:
        return None
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal) * np.sign(normal[np.argmax(np.abs(normal))])
    return tuple(normal.tolist())


def plane_of_header(header: InstanceHeader) -> Plane:
    """Return the picture of a single-frame instance."""
    return Plane(
        sop_instance_uid=header.sop_instance_uid,
        frame=0,
        instance_number=header.instance_number,
        position=header.image_position_patient,
        orientation=header.image_orientation_patient,
        rows=header.rows,
        columns=header.columns,
        frame_of_reference_uid=header.frame_of_reference_uid,
        image_type=header.image_type,
        sop_class_uid=header.sop_class_uid,
        modality=header.modality,
        kernel=header.convolution_kernel,
        thickness_mm=header.slice_thickness,
        diameter_mm=header.reconstruction_diameter,
        monoenergetic_kev=header.monoenergetic_kev,
        echo_time_ms=header.echo_time,
        b_value=header.diffusion_b_value,
        temporal_position=header.temporal_position,
        acquisition_number=header.acquisition_number,
        acquisition_time=header.acquisition_time,
        contrast_start_time=header.contrast_start_time,
    )


def end_planes(header: InstanceHeader) -> tuple[Plane, ...]:
    """Return the first and the last frame of an enhanced multi-frame image; none where its header does not tell."""
    if header.first_frame_position is None or header.last_frame_position is None:
        return ()
    whole = replace(plane_of_header(header), orientation=header.first_frame_orientation)
    first = replace(whole, position=header.first_frame_position)
    return first, replace(whole, position=header.last_frame_position, frame=(header.number_of_frames or 1) - 1)


def planes_of_file(instance: InstanceFile) -> tuple[tuple[Plane, ...], str]:
    """Return the pictures of a stored instance in the order of its frames, and what is wrong, or ""."""
    header = instance.header
    whole = plane_of_header(header)
    if header.number_of_frames is None or (header.number_of_frames <= 1 and whole.is_placed):
        return (whole,), ""
    try:
        return _planes_of_frames(read_attributes(instance.path).dataset, whole), ""
    except PixelError as error:
        return (whole,), str(error)
    except Exception as error:  # noqa: BLE001 - pydicom raises anything on a damaged sequence
        reason = (
            f"instance {header.sop_instance_uid}: its functional groups cannot be read ({error}); check the original"
        )
        return (whole,), reason


def _planes_of_frames(dataset: Dataset, whole: Plane) -> tuple[Plane, ...]:
    per_frame: Sequence[Dataset] = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared: Sequence[Dataset] = dataset.get("SharedFunctionalGroupsSequence") or []
    claimed = int(dataset.get("NumberOfFrames") or 1)
    if not per_frame:
        # A multi-frame of the time before functional groups: nothing tells its frames apart but their order.
        return tuple(_moved(whole, Dataset(), shared, frame) for frame in range(min(claimed, PixelLimits().max_frames)))
    return tuple(_moved(whole, groups, shared, frame) for frame, groups in enumerate(per_frame[:claimed]))


def _moved(whole: Plane, own: Dataset, shared: Sequence[Dataset], frame: int) -> Plane:
    """Return the plane of one frame: its own functional groups, else the shared ones, else the image's values."""
    levels = (own, *shared[:1])

    def value(macro: str, keyword: str) -> object:
        for level in levels:
            for entry in level.get(macro) or ():
                if (found := entry.get(keyword)) is not None:
                    return found
        return None

    def kept(keyword: str) -> object:
        """Return what a legacy converted image keeps of its classic ones (C.7.6.16.2.25)."""
        own = value("UnassignedPerFrameConvertedAttributesSequence", keyword)
        return value("UnassignedSharedConvertedAttributesSequence", keyword) if own is None else own

    types = {macro: value(macro, "FrameType") for macro in _FRAME_TYPES}
    macro = next((macro for macro, found in types.items() if found), "")
    technique = value(macro, "VolumeBasedCalculationTechnique") if macro else None
    frame_type = (*_words(types.get(macro)), *(word for word in _words(technique) if word != "NONE"))
    kernel = value("CTReconstructionSequence", "ConvolutionKernel") or kept("ConvolutionKernel")
    acquired = str(value("FrameContentSequence", "FrameAcquisitionDateTime") or "")[8:].partition("+")[0]
    return Plane(
        sop_instance_uid=whole.sop_instance_uid,
        frame=frame,
        instance_number=whole.instance_number,
        position=_numbers(value("PlanePositionSequence", "ImagePositionPatient")) or whole.position,
        orientation=_numbers(value("PlaneOrientationSequence", "ImageOrientationPatient")) or whole.orientation,
        rows=whole.rows,
        columns=whole.columns,
        frame_of_reference_uid=whole.frame_of_reference_uid,
        image_type=frame_type or whole.image_type,
        sop_class_uid=whole.sop_class_uid,
        modality=whole.modality,
        kernel="\\".join(_words(kernel)) or whole.kernel,
        thickness_mm=_number(value("PixelMeasuresSequence", "SliceThickness"), whole.thickness_mm),
        diameter_mm=_number(
            value("CTReconstructionSequence", "ReconstructionDiameter") or kept("ReconstructionDiameter"),
            whole.diameter_mm,
        ),
        monoenergetic_kev=whole.monoenergetic_kev,
        echo_time_ms=_number(value("MREchoSequence", "EffectiveEchoTime") or kept("EchoTime"), whole.echo_time_ms),
        b_value=_number(value("MRDiffusionSequence", "DiffusionBValue"), whole.b_value),
        stack=str(value("FrameContentSequence", "StackID") or ""),
        temporal_position=_integer(value("FrameContentSequence", "TemporalPositionIndex"), whole.temporal_position),
        acquisition_number=_integer(value("FrameContentSequence", "FrameAcquisitionNumber"), whole.acquisition_number),
        acquisition_time=acquired or whole.acquisition_time,
        contrast_start_time=whole.contrast_start_time,
    )


def _numbers(found: object) -> tuple[float, ...] | None:
    if found is None or isinstance(found, str) or not isinstance(found, Sequence):
        return None
    return tuple(float(number) for number in found)


def _words(found: object) -> tuple[str, ...]:
    if found is None:
        return ()
    return (found,) if isinstance(found, str) else tuple(str(word) for word in found)  # type: ignore[attr-defined]


def _number(found: object, otherwise: float | None) -> float | None:
    return otherwise if found is None else float(str(found))


def _integer(found: object, otherwise: int | None) -> int | None:
    return otherwise if found is None else int(str(found))
