"""Header-only reading: a stored DICOM file in, a frozen `InstanceHeader` out, pixels never touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicom_node.codes import Code


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What routing, assembly and the ledger need to know of one SOP instance.

    Values are as found, stripped of padding; an absent or unreadable value is ``""``, ``()`` or ``None``, never a guess.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str = ""
    image_type: tuple[str, ...] = ()
    accession_number: str = ""
    patient_id: str = ""
    patient_name: str = ""
    patient_sex: str = ""
    #: Age at the study in years: PatientAge, else PatientBirthDate against StudyDate; ``None`` where neither is usable.
    patient_age_years: float | None = None
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    series_description: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    protocol_name: str = ""
    body_part_examined: str = ""
    #: AnatomicRegionSequence, top level or in the shared functional groups.
    anatomic_regions: tuple[Code, ...] = ()
    #: ProcedureCodeSequence and RequestedProcedureCodeSequence.
    procedure_codes: tuple[Code, ...] = ()
    #: RequestedProcedurePriority (0040,1003): STAT, HIGH, ROUTINE, MEDIUM, LOW or "".
    requested_procedure_priority: str = ""
    station_name: str = ""
    institution_name: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    convolution_kernel: str = ""
    contrast_bolus_agent: str = ""
    photometric_interpretation: str = ""
    rows: int | None = None
    columns: int | None = None
    number_of_frames: int | None = None
    bits_allocated: int | None = None
    has_pixel_data: bool = False
    frame_of_reference_uid: str = ""
    #: ImagePositionPatient in mm (PS3.3 C.7.6.2.1.1).
    image_position_patient: tuple[float, float, float] | None = None
    #: ImageOrientationPatient, row then column cosines.
    image_orientation_patient: tuple[float, float, float, float, float, float] | None = None
    slice_thickness: float | None = None
    spacing_between_slices: float | None = None
    #: Made by this software: it must never be processed again (no endless loop with an auto-forwarding PACS).
    is_own_result: bool = False


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """A stored instance: its header and where its bytes lie."""

    header: InstanceHeader
    path: Path
