"""What this software keeps of the header of one SOP instance, as a value: to JSON and back.

Input and output: `InstanceHeader`, and `InstanceFile` with the place of its bytes. `dicom_node.headers` reads them from
files. It cannot fail: what JSON of another version lacks has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dicom_node.codes import Code


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What routing, assembly and the ledger need to know of one SOP instance.

    Values are as found, stripped of padding; an absent or unreadable value is ``""``, ``()`` or ``None``,
    never a guess.
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
    #: Who gave the ID: the same one from another issuer is another person's.
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_sex: str = ""
    patient_birth_date: str = ""
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
    #: What tells several acquisitions or reconstructions in one series apart; see `dicom_node.reconstructions`.
    acquisition_number: int | None = None
    #: HHMMSS.FFFFFF of AcquisitionDateTime, else AcquisitionTime.
    acquisition_time: str = ""
    #: ContrastBolusStartTime, HHMMSS.FFFFFF.
    contrast_start_time: str = ""
    temporal_position: int | None = None
    #: In mm.
    reconstruction_diameter: float | None = None
    #: MonoenergeticEnergyEquivalent in keV, of a virtual monochromatic image.
    monoenergetic_kev: float | None = None
    #: In ms.
    echo_time: float | None = None
    #: In s/mm2.
    diffusion_b_value: float | None = None
    #: Of an enhanced multi-frame image: the words of FrameType and the technique of calculation (C.8.16.1) that its
    #: first and last frame share, their positions, and the orientation of the first.
    frame_type: tuple[str, ...] = ()
    first_frame_position: tuple[float, float, float] | None = None
    last_frame_position: tuple[float, float, float] | None = None
    first_frame_orientation: tuple[float, float, float, float, float, float] | None = None
    #: Instances with the same one are one image, cut in pieces (PS3.3 C.7.6.16.1).
    concatenation_uid: str = ""
    in_concatenation_total: int | None = None
    #: Made by this software: it must never be processed again (no endless loop with an auto-forwarding PACS).
    is_own_result: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, from which `from_json` makes an equal header."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InstanceHeader:
        """Make the header that `to_json` described. Unknown keys are ignored, absent ones take the default."""
        known = {entry.name: data[entry.name] for entry in fields(cls) if entry.name in data}
        for name in ("anatomic_regions", "procedure_codes"):
            known[name] = tuple(Code(**code) for code in known.get(name, ()))
        for name in (
            *("image_type", "image_position_patient", "image_orientation_patient", "frame_type"),
            *("first_frame_position", "last_frame_position", "first_frame_orientation"),
        ):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """A stored instance: its header and where its bytes lie."""

    header: InstanceHeader
    path: Path
