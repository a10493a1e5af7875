"""The elements that an instance's header is made of: their tags, by field of `dicom_node.headers.InstanceHeader`.

Input: none. Output: tables and tags (PS3.6 chapter 6).
"""

from __future__ import annotations

from typing import Final

CHARACTER_SET: Final = 0x00080005
ANATOMIC_REGION: Final = 0x00082218
PROCEDURE_CODE: Final = 0x00081032
REQUESTED_PROCEDURE_CODE: Final = 0x00321064
REQUEST_ATTRIBUTES: Final = 0x00400275
SHARED_GROUPS: Final = 0x52009229
PATIENT_AGE, BIRTH_DATE, STUDY_DATE, SERIES_DATE = 0x00101010, 0x00100030, 0x00080020, 0x00080021
PRIORITY, ROWS, COLUMNS, BITS_ALLOCATED, FRAMES = 0x00401003, 0x00280010, 0x00280011, 0x00280100, 0x00280008
SERIES_NUMBER, INSTANCE_NUMBER, IMAGE_TYPE = 0x00200011, 0x00200013, 0x00080008
POSITION, ORIENTATION, SLICE_THICKNESS, SLICE_SPACING = 0x00200032, 0x00200037, 0x00180050, 0x00180088
PER_FRAME_GROUPS: Final = 0x52009230
ACQUISITION_NUMBER, ACQUISITION_TIME, ACQUISITION_DATE_TIME = 0x00200012, 0x00080032, 0x0008002A
CONTRAST_START, TEMPORAL_POSITION, ECHO_TIME, B_VALUE = 0x00181042, 0x00200100, 0x00180081, 0x00189087
ENERGY, BODY_PART, PROTOCOL = 0x0018937C, 0x00180015, 0x00181030
RECONSTRUCTION_DIAMETER, CONCATENATION, CONCATENATION_TOTAL = 0x00181100, 0x00209161, 0x00209163
KERNEL, CONTRAST_AGENT, CONTRAST_SEQUENCE, CODE_MEANING = 0x00181210, 0x00180010, 0x00180012, 0x00080104

IDENTIFIERS: Final = {
    "SOPClassUID": ("sop_class_uid", 0x00080016),
    "SOPInstanceUID": ("sop_instance_uid", 0x00080018),
    "StudyInstanceUID": ("study_instance_uid", 0x0020000D),
    "SeriesInstanceUID": ("series_instance_uid", 0x0020000E),
}
#: Values of the default repertoire (CS, DA, TM, UI), by field name.
WORDS: Final = {
    "modality": 0x00080060,
    "patient_sex": 0x00100040,
    "patient_birth_date": BIRTH_DATE,
    "study_date": STUDY_DATE,
    "study_time": 0x00080030,
    "body_part_examined": BODY_PART,
    "photometric_interpretation": 0x00280004,
    "frame_of_reference_uid": 0x00200052,
}
#: Values in the character set of the data set (SH, LO, PN), by field name.
TEXTS: Final = {
    "accession_number": 0x00080050,
    "patient_id": 0x00100020,
    "issuer_of_patient_id": 0x00100021,
    "patient_name": 0x00100010,
    "study_description": 0x00081030,
    "series_description": 0x0008103E,
    "protocol_name": PROTOCOL,
    "station_name": 0x00081010,
    "institution_name": 0x00080080,
    "manufacturer": 0x00080070,
    "manufacturer_model_name": 0x00081090,
}
FRAME_TYPE, CALCULATION = 0x00089007, 0x00089207
#: Frame anatomy, plane position and orientation, pixel measures, CT reconstruction, the types of CT, MR and PET frames
#: (PS3.3 C.7.6.16.2, C.8.15.3), and what a legacy converted image keeps of its classic ones, for all frames and for
#: each (C.7.6.16.2.25).
GROUP_MACROS: Final = (
    *(0x00209071, 0x00209113, 0x00209116, 0x00289110, 0x00189314),
    *(0x00189329, 0x00189226, 0x00189751, 0x00209170, 0x00209171),
)
WANTED: Final = frozenset(
    {tag for _, tag in IDENTIFIERS.values()}
    | set(WORDS.values())
    | set(TEXTS.values())
    | set(GROUP_MACROS)
    | {CHARACTER_SET, ANATOMIC_REGION, PROCEDURE_CODE, REQUESTED_PROCEDURE_CODE, REQUEST_ATTRIBUTES}
    | {SHARED_GROUPS, PATIENT_AGE, SERIES_DATE, PRIORITY, ROWS, COLUMNS, BITS_ALLOCATED, FRAMES}
    | {SERIES_NUMBER, INSTANCE_NUMBER, IMAGE_TYPE, POSITION, ORIENTATION, SLICE_THICKNESS, SLICE_SPACING}
    | {ACQUISITION_NUMBER, ACQUISITION_TIME, ACQUISITION_DATE_TIME, CONTRAST_START, TEMPORAL_POSITION, ECHO_TIME}
    | {B_VALUE, ENERGY, RECONSTRUCTION_DIAMETER, CONCATENATION, CONCATENATION_TOTAL, PER_FRAME_GROUPS}
    | {FRAME_TYPE, CALCULATION}
    | {KERNEL, CONTRAST_AGENT, CONTRAST_SEQUENCE, CODE_MEANING, 0x00080100, 0x00080102, 0x00080119, 0x00080120}
)
