"""Header-only reading: a stored DICOM file in, a frozen `InstanceHeader` out, pixels never touched.

Input: the path of a DICOM file (PS3.10). Output: `InstanceHeader`. What the field gets wrong (absent values, odd ages,
old codes, wrong group lengths) is taken as it is; on failure `HeaderError` names the file and the reason: it is not
DICOM, it ends inside the header, or it lacks one of the four UIDs without which an instance has no place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dicom_node import header_values as values
from dicom_node.codes import Code
from dicom_node.elements import DataSet, ElementError, read_elements
from dicom_node.file_format import FileFormatError, OpenFile, open_data_set
from dicom_node.header_values import Charset, Elements
from dicom_node.uids import is_acceptable_uid

#: Manufacturer (0008,0070) of everything this software writes.
OWN_MANUFACTURER: Final = "dicom-worker"


class HeaderDefect(StrEnum):
    """What is wrong with a file that gives no header."""

    #: Not DICOM, or cut short inside the header.
    UNREADABLE = "unreadable"
    #: One of the four identifying UIDs is absent or empty.
    MISSING_IDENTIFIER = "missing identifier"
    #: One of the four identifying UIDs is not a UID.
    INVALID_IDENTIFIER = "invalid identifier"


class HeaderError(ValueError):
    """The file gives no header; the message names the file and the reason."""

    def __init__(self, path: Path, reason: str, defect: HeaderDefect = HeaderDefect.UNREADABLE) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.defect = defect


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

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, from which `from_json` makes an equal header."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InstanceHeader:
        """Make the header that `to_json` described. Unknown keys are ignored, absent ones take the default."""
        known = {entry.name: data[entry.name] for entry in fields(cls) if entry.name in data}
        for name in ("anatomic_regions", "procedure_codes"):
            known[name] = tuple(Code(**code) for code in known.get(name, ()))
        for name in ("image_type", "image_position_patient", "image_orientation_patient"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """A stored instance: its header and where its bytes lie."""

    header: InstanceHeader
    path: Path


_CHARACTER_SET: Final = 0x00080005
_ANATOMIC_REGION: Final = 0x00082218
_PROCEDURE_CODE: Final = 0x00081032
_REQUESTED_PROCEDURE_CODE: Final = 0x00321064
_REQUEST_ATTRIBUTES: Final = 0x00400275
_SHARED_GROUPS: Final = 0x52009229
_PATIENT_AGE, _BIRTH_DATE, _STUDY_DATE, _SERIES_DATE = 0x00101010, 0x00100030, 0x00080020, 0x00080021
_PRIORITY, _ROWS, _COLUMNS, _BITS_ALLOCATED, _FRAMES = 0x00401003, 0x00280010, 0x00280011, 0x00280100, 0x00280008
_SERIES_NUMBER, _INSTANCE_NUMBER, _IMAGE_TYPE = 0x00200011, 0x00200013, 0x00080008
_POSITION, _ORIENTATION, _SLICE_THICKNESS, _SLICE_SPACING = 0x00200032, 0x00200037, 0x00180050, 0x00180088
_KERNEL, _CONTRAST_AGENT, _CONTRAST_SEQUENCE, _CODE_MEANING = 0x00181210, 0x00180010, 0x00180012, 0x00080104

_IDENTIFIERS: Final = {
    "SOPClassUID": ("sop_class_uid", 0x00080016),
    "SOPInstanceUID": ("sop_instance_uid", 0x00080018),
    "StudyInstanceUID": ("study_instance_uid", 0x0020000D),
    "SeriesInstanceUID": ("series_instance_uid", 0x0020000E),
}
#: Values of the default repertoire (CS, DA, TM, UI), by field name.
_WORDS: Final = {
    "modality": 0x00080060,
    "patient_sex": 0x00100040,
    "study_date": _STUDY_DATE,
    "study_time": 0x00080030,
    "body_part_examined": 0x00180015,
    "photometric_interpretation": 0x00280004,
    "frame_of_reference_uid": 0x00200052,
}
#: Values in the character set of the data set (SH, LO, PN), by field name.
_TEXTS: Final = {
    "accession_number": 0x00080050,
    "patient_id": 0x00100020,
    "patient_name": 0x00100010,
    "study_description": 0x00081030,
    "series_description": 0x0008103E,
    "protocol_name": 0x00181030,
    "station_name": 0x00081010,
    "institution_name": 0x00080080,
    "manufacturer": 0x00080070,
    "manufacturer_model_name": 0x00081090,
}
#: Frame anatomy, plane position and orientation, pixel measures, CT reconstruction (PS3.3 C.7.6.16.2, C.8.15.3.8).
_GROUP_MACROS: Final = (0x00209071, 0x00209113, 0x00209116, 0x00289110, 0x00189314)
_WANTED: Final = frozenset(
    {tag for _, tag in _IDENTIFIERS.values()}
    | set(_WORDS.values())
    | set(_TEXTS.values())
    | set(_GROUP_MACROS)
    | {_CHARACTER_SET, _ANATOMIC_REGION, _PROCEDURE_CODE, _REQUESTED_PROCEDURE_CODE, _REQUEST_ATTRIBUTES}
    | {_SHARED_GROUPS, _PATIENT_AGE, _BIRTH_DATE, _SERIES_DATE, _PRIORITY, _ROWS, _COLUMNS, _BITS_ALLOCATED, _FRAMES}
    | {_SERIES_NUMBER, _INSTANCE_NUMBER, _IMAGE_TYPE, _POSITION, _ORIENTATION, _SLICE_THICKNESS, _SLICE_SPACING}
    | {_KERNEL, _CONTRAST_AGENT, _CONTRAST_SEQUENCE, _CODE_MEANING, 0x00080100, 0x00080102, 0x00080119, 0x00080120}
)


def read_header(path: Path) -> InstanceHeader:
    """Read the header of the DICOM file at `path`. Raises `HeaderError`, and `OSError` where it cannot be opened."""
    try:
        opened = open_data_set(path)
        with opened.fp:
            found = read_elements(
                opened.fp,
                opened.end,
                _WANTED,
                explicit_vr=opened.explicit_vr,
                little_endian=opened.little_endian,
            )
    except (FileFormatError, ElementError) as error:
        raise HeaderError(path, str(error)) from error
    identifiers = _identifiers(path, found.elements)
    return _header(opened, found, identifiers)


def _identifiers(path: Path, elements: Elements) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword, (name, tag) in _IDENTIFIERS.items():
        uid = values.word(elements, tag)
        if not uid:
            raise HeaderError(path, f"{keyword} is missing", HeaderDefect.MISSING_IDENTIFIER)
        if not is_acceptable_uid(uid):
            reason = f"{keyword} {uid[:80]!r} is not a UID (PS3.5 9.1: digits and dots, at most 64 characters)"
            raise HeaderError(path, reason, HeaderDefect.INVALID_IDENTIFIER)
        found[name] = uid
    return found


def _header(opened: OpenFile, found: DataSet, identifiers: dict[str, Any]) -> InstanceHeader:
    elements = found.elements
    charset = Charset(elements.get(_CHARACTER_SET))
    texts: dict[str, Any] = {name: charset.text(elements.get(tag)) for name, tag in _TEXTS.items()}
    words: dict[str, Any] = {name: values.word(elements, tag) for name, tag in _WORDS.items()}
    groups = _shared_groups(elements)
    numbers: dict[str, Any] = {
        name: values.unsigned(elements, tag, little_endian=found.little_endian)
        for name, tag in (("rows", _ROWS), ("columns", _COLUMNS), ("bits_allocated", _BITS_ALLOCATED))
    }
    return InstanceHeader(
        transfer_syntax_uid=opened.transfer_syntax_uid,
        image_type=values.words(elements, _IMAGE_TYPE),
        patient_age_years=values.age_years(
            values.word(elements, _PATIENT_AGE),
            values.word(elements, _BIRTH_DATE),
            words["study_date"] or values.word(elements, _SERIES_DATE),
        ),
        series_number=values.integer(elements, _SERIES_NUMBER),
        instance_number=values.integer(elements, _INSTANCE_NUMBER),
        anatomic_regions=values.codes(elements, _ANATOMIC_REGION, charset)
        or values.codes(groups, _ANATOMIC_REGION, charset),
        procedure_codes=_procedure_codes(elements, charset),
        requested_procedure_priority=_priority(elements),
        convolution_kernel=charset.text(elements.get(_KERNEL) or groups.get(_KERNEL)),
        contrast_bolus_agent=_contrast_agent(elements, charset),
        number_of_frames=values.integer(elements, _FRAMES),
        has_pixel_data=found.pixel_tag != 0,
        image_position_patient=_triple(values.decimals(elements, _POSITION) or values.decimals(groups, _POSITION)),
        image_orientation_patient=_sextuple(
            values.decimals(elements, _ORIENTATION) or values.decimals(groups, _ORIENTATION)
        ),
        slice_thickness=_first(values.decimal(elements, _SLICE_THICKNESS), values.decimal(groups, _SLICE_THICKNESS)),
        spacing_between_slices=_first(values.decimal(elements, _SLICE_SPACING), values.decimal(groups, _SLICE_SPACING)),
        is_own_result=texts["manufacturer"] == OWN_MANUFACTURER
        or texts["manufacturer_model_name"].startswith(OWN_MANUFACTURER),
        **identifiers,
        **texts,
        **words,
        **numbers,
    )


def _shared_groups(elements: Elements) -> Elements:
    """The attributes of the shared functional groups (PS3.3 C.7.6.16), which hold for every frame, on one level."""
    flat: dict[int, Any] = {}
    for shared in values.items(elements, _SHARED_GROUPS):
        for macro in _GROUP_MACROS:
            for entry in values.items(shared, macro):
                flat.update(entry)
    return flat


def _procedure_codes(elements: Elements, charset: Charset) -> tuple[Code, ...]:
    found = list(values.codes(elements, _PROCEDURE_CODE, charset))
    found += values.codes(elements, _REQUESTED_PROCEDURE_CODE, charset)
    for request in values.items(elements, _REQUEST_ATTRIBUTES):
        found += values.codes(request, _REQUESTED_PROCEDURE_CODE, charset)
    return tuple(dict.fromkeys(found))


def _priority(elements: Elements) -> str:
    """RequestedProcedurePriority is a work list attribute; senders that copy it put it on either level."""
    nested = (values.word(request, _PRIORITY) for request in values.items(elements, _REQUEST_ATTRIBUTES))
    return values.word(elements, _PRIORITY) or next((text for text in nested if text), "")


def _contrast_agent(elements: Elements, charset: Charset) -> str:
    agents = (charset.text(entry.get(_CODE_MEANING)) for entry in values.items(elements, _CONTRAST_SEQUENCE))
    return charset.text(elements.get(_CONTRAST_AGENT)) or next((text for text in agents if text), "")


def _first(*candidates: float | None) -> float | None:
    return next((value for value in candidates if value is not None), None)


def _triple(numbers: tuple[float, ...]) -> tuple[float, float, float] | None:
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def _sextuple(numbers: tuple[float, ...]) -> tuple[float, float, float, float, float, float] | None:
    if len(numbers) != 6:
        return None
    return (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5])
