"""Header-only reading: a stored DICOM file in, a frozen `InstanceHeader` out, pixels never touched.

Input: the path of a DICOM file (PS3.10). Output: `InstanceHeader`. What the field gets wrong (absent values, odd ages,
old codes, wrong group lengths) is taken as it is; on failure `HeaderError` names the file and the reason: it is not
DICOM, it ends inside the header, or it lacks one of the four UIDs without which an instance has no place.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dicom_node import header_tags as tags
from dicom_node import header_values as values
from dicom_node.codes import Code
from dicom_node.elements import DataSet, ElementError, read_elements
from dicom_node.file_format import FileFormatError, OpenFile, open_data_set
from dicom_node.header_values import Charset, Elements
from dicom_node.instance_header import InstanceFile, InstanceHeader
from dicom_node.uids import is_acceptable_uid

__all__ = ["OWN_MANUFACTURER", "HeaderDefect", "HeaderError", "InstanceFile", "InstanceHeader", "read_header"]

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


def read_header(path: Path) -> InstanceHeader:
    """Read the header of the DICOM file at `path`. Raises `HeaderError`, and `OSError` where it cannot be opened."""
    try:
        opened = open_data_set(path)
        with opened.fp:
            found = read_elements(
                opened.fp,
                opened.end,
                tags.WANTED,
                explicit_vr=opened.explicit_vr,
                little_endian=opened.little_endian,
            )
    except (FileFormatError, ElementError) as error:
        raise HeaderError(path, str(error)) from error
    identifiers = _identifiers(path, found.elements)
    return _header(opened, found, identifiers)


def _identifiers(path: Path, elements: Elements) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword, (name, tag) in tags.IDENTIFIERS.items():
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
    charset = Charset(elements.get(tags.CHARACTER_SET))
    texts: dict[str, Any] = {name: charset.text(elements.get(tag)) for name, tag in tags.TEXTS.items()}
    words: dict[str, Any] = {name: values.word(elements, tag) for name, tag in tags.WORDS.items()}
    groups = _groups(elements, tags.SHARED_GROUPS)
    # Of the frames only the first is looked at; where it lies says nothing of the others.
    first, last = ({**_groups(elements, tags.PER_FRAME_GROUPS, which), **groups} for which in (0, -1))
    any_frame = first
    numbers: dict[str, Any] = {
        name: values.unsigned(elements, tag, little_endian=found.little_endian)
        for name, tag in (("rows", tags.ROWS), ("columns", tags.COLUMNS), ("bits_allocated", tags.BITS_ALLOCATED))
    }
    # A legacy converted image keeps what has no place of its own in a functional group.
    words["body_part_examined"] = words["body_part_examined"] or values.word(
        any_frame, tags.WORDS["body_part_examined"]
    )
    texts["protocol_name"] = texts["protocol_name"] or charset.text(any_frame.get(tags.TEXTS["protocol_name"]))
    return InstanceHeader(
        transfer_syntax_uid=opened.transfer_syntax_uid,
        image_type=values.words(elements, tags.IMAGE_TYPE),
        patient_age_years=values.age_years(
            values.word(elements, tags.PATIENT_AGE),
            words["patient_birth_date"],
            words["study_date"] or values.word(elements, tags.SERIES_DATE),
        ),
        series_number=values.integer(elements, tags.SERIES_NUMBER),
        instance_number=values.integer(elements, tags.INSTANCE_NUMBER),
        anatomic_regions=values.codes(elements, tags.ANATOMIC_REGION, charset)
        or values.codes(any_frame, tags.ANATOMIC_REGION, charset),
        procedure_codes=_procedure_codes(elements, charset),
        requested_procedure_priority=_priority(elements),
        convolution_kernel=charset.text(elements.get(tags.KERNEL) or any_frame.get(tags.KERNEL)),
        contrast_bolus_agent=_contrast_agent(elements, charset),
        number_of_frames=values.integer(elements, tags.FRAMES),
        has_pixel_data=found.pixel_tag != 0,
        image_position_patient=_triple(
            values.decimals(elements, tags.POSITION) or values.decimals(groups, tags.POSITION)
        ),
        image_orientation_patient=_sextuple(
            values.decimals(elements, tags.ORIENTATION) or values.decimals(groups, tags.ORIENTATION)
        ),
        slice_thickness=_first(
            values.decimal(elements, tags.SLICE_THICKNESS), values.decimal(any_frame, tags.SLICE_THICKNESS)
        ),
        spacing_between_slices=_first(
            values.decimal(elements, tags.SLICE_SPACING), values.decimal(groups, tags.SLICE_SPACING)
        ),
        is_own_result=texts["manufacturer"] == OWN_MANUFACTURER
        or texts["manufacturer_model_name"].startswith(OWN_MANUFACTURER),
        **identifiers,
        **texts,
        **words,
        **numbers,
        **_acquisition(found, any_frame),
        **_frames(first, last),
    )


def _acquisition(found: DataSet, any_frame: Elements) -> dict[str, Any]:
    """Return what tells acquisitions and reconstructions apart, by field."""
    elements, little_endian = found.elements, found.little_endian
    return {
        "acquisition_number": values.integer(elements, tags.ACQUISITION_NUMBER),
        "acquisition_time": values.word(elements, tags.ACQUISITION_DATE_TIME)[8:].partition("+")[0]
        or values.word(elements, tags.ACQUISITION_TIME),
        "contrast_start_time": values.word(elements, tags.CONTRAST_START),
        "temporal_position": values.integer(elements, tags.TEMPORAL_POSITION),
        "reconstruction_diameter": _first(
            values.decimal(elements, tags.RECONSTRUCTION_DIAMETER),
            values.decimal(any_frame, tags.RECONSTRUCTION_DIAMETER),
        ),
        "monoenergetic_kev": values.double(elements, tags.ENERGY, little_endian=little_endian),
        "echo_time": values.decimal(elements, tags.ECHO_TIME),
        "diffusion_b_value": values.double(elements, tags.B_VALUE, little_endian=little_endian),
        "concatenation_uid": values.word(elements, tags.CONCATENATION),
        "in_concatenation_total": values.unsigned(elements, tags.CONCATENATION_TOTAL, little_endian=little_endian),
    }


def _frames(first: Elements, last: Elements) -> dict[str, Any]:
    """Return what the first and the last frame of an enhanced image tell of all, by field."""
    types = [[*values.words(frame, tags.FRAME_TYPE), *values.words(frame, tags.CALCULATION)] for frame in (first, last)]
    return {
        "frame_type": tuple(word for word in types[0] if word in types[1] and word != "NONE"),
        "first_frame_position": _triple(values.decimals(first, tags.POSITION)),
        "last_frame_position": _triple(values.decimals(last, tags.POSITION)),
        "first_frame_orientation": _sextuple(values.decimals(first, tags.ORIENTATION)),
    }


def _groups(elements: Elements, tag: int, which: int = 0) -> Elements:
    """The attributes of the functional groups that `tag` holds (PS3.3 C.7.6.16), of one item, on one level."""
    flat: dict[int, Any] = {}
    for shared in [*values.items(elements, tag)][which:][:1]:
        for macro in tags.GROUP_MACROS:
            for entry in values.items(shared, macro):
                flat.update(entry)
    return flat


def _procedure_codes(elements: Elements, charset: Charset) -> tuple[Code, ...]:
    found = list(values.codes(elements, tags.PROCEDURE_CODE, charset))
    found += values.codes(elements, tags.REQUESTED_PROCEDURE_CODE, charset)
    for request in values.items(elements, tags.REQUEST_ATTRIBUTES):
        found += values.codes(request, tags.REQUESTED_PROCEDURE_CODE, charset)
    return tuple(dict.fromkeys(found))


def _priority(elements: Elements) -> str:
    """RequestedProcedurePriority is a work list attribute; senders that copy it put it on either level."""
    nested = (values.word(request, tags.PRIORITY) for request in values.items(elements, tags.REQUEST_ATTRIBUTES))
    return values.word(elements, tags.PRIORITY) or next((text for text in nested if text), "")


def _contrast_agent(elements: Elements, charset: Charset) -> str:
    agents = (charset.text(entry.get(tags.CODE_MEANING)) for entry in values.items(elements, tags.CONTRAST_SEQUENCE))
    return charset.text(elements.get(tags.CONTRAST_AGENT)) or next((text for text in agents if text), "")


def _first(*candidates: float | None) -> float | None:
    return next((value for value in candidates if value is not None), None)


def _triple(numbers: tuple[float, ...]) -> tuple[float, float, float] | None:
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def _sextuple(numbers: tuple[float, ...]) -> tuple[float, float, float, float, float, float] | None:
    if len(numbers) != 6:
        return None
    return (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5])
