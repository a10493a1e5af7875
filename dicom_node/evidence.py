"""Source image -> evidence header: a sanitised copy of what a result must share with its source, never the source.

Input: the path or data set of a source instance. Output: a fresh `Dataset` with the Patient, Study and Clinical Trial
attributes in ISO_IR 192, valid for their value representation. What is invalid (PatientSex '?', a date in year 0, an
age in words) is left empty or out, so that no result inherits a defect; identifiers are kept to the letter, because a
result must file under the same patient and study. On failure `EvidenceError` names the source and the reason.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence as DicomSequence

from dicom_node.stored_text import StoredTexts, text_of
from dicom_node.uids import is_acceptable_uid
from dicom_node.valid_values import plain_text, valid_value

#: Every text this software writes is UTF-8 (PS3.3 C.12.1.1.2).
CHARACTER_SET: Final = "ISO_IR 192"


class EvidenceError(ValueError):
    """A source instance cannot serve as evidence; the message names it and the reason."""


#: Present in every result, empty where unknown (type 2).
_ALWAYS: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
#: Copied where valid (type 3): General Study, Patient, Patient Study.
_WHERE_VALID: Final = (
    *("IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight"),
    *("EthnicGroup", "PatientComments", "PatientBirthTime", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("AdmittingDiagnosesDescription", "Occupation", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
_CODE_SEQUENCES: Final = ("ProcedureCodeSequence", "DeidentificationMethodCodeSequence")
#: Kept for the writers, not copied into a result as they stand.
_ABOUT_THE_SOURCE: Final = (
    *("Modality", "Laterality", "ImageLaterality", "BodyPartExamined", "TimezoneOffsetFromUTC"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
#: Attributes a result takes over (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3, C.7.2.3).
PATIENT_AND_STUDY: Final = ("StudyInstanceUID", *_ALWAYS, *_WHERE_VALID, *_CODE_SEQUENCES)

_OFFSET: Final = re.compile(r"([+-])(\d{2})([0-5]\d)", re.ASCII)


def read_source(source: Path | Dataset) -> Dataset:
    """Return the data set of `source` without its pixels; a data set is passed through. Raises `EvidenceError`."""
    if isinstance(source, Dataset):
        return source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are dealt with one by one below
            return dcmread(source, stop_before_pixels=True, force=True)
    except (OSError, InvalidDicomError, ValueError, EOFError) as error:
        raise EvidenceError(f"{source}: cannot be read as evidence: {error}") from error


def uid_of(source: Dataset, keyword: str) -> str:
    """Return a UID of a data set as it is stored, valid or not; "" where it is absent."""
    return StoredTexts(source).of(keyword)


def evidence_header(source: Path | Dataset) -> Dataset:
    """Return the sanitised header of a source instance. Raises `EvidenceError` where one of its UIDs is missing."""
    found = read_source(source)
    texts = StoredTexts(found)
    header = Dataset()
    header.SpecificCharacterSet = CHARACTER_SET
    name = str(source) if isinstance(source, Path) else "source data set"
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uid = texts.of(keyword)
        if not is_acceptable_uid(uid):
            raise EvidenceError(f"{name}: {keyword} {uid[:80]!r} is not a UID: the instance cannot be referenced")
        _set(header, keyword, uid)
    for keyword in (*_ALWAYS, *_WHERE_VALID, *_ABOUT_THE_SOURCE):
        value = valid_value(keyword, texts.of(keyword))
        if value or keyword in _ALWAYS:
            _set(header, keyword, value)
    for keyword in _CODE_SEQUENCES:
        if concepts := _complete_codes(found, keyword, texts.encodings):
            _set(header, keyword, DicomSequence(concepts))
    _keep_modules_whole(header)
    return header


def copy_patient_and_study(header: Dataset, target: Dataset) -> None:
    """Copy the Patient, Study and Clinical Trial attributes of an evidence header into a result."""
    for keyword in PATIENT_AND_STUDY:
        if keyword in header:
            target.add(header[keyword])


def local_time(moment: datetime, header: Dataset) -> datetime:
    """Return an aware `moment` in the time zone of the source, else in this machine's.

    DA and TM carry no zone of their own: without TimezoneOffsetFromUTC they mean the local time of the site (PS3.3
    C.12.1), so a result written in UTC would seem to be hours older or younger than the images it rests on.
    """
    if moment.tzinfo is None:
        raise EvidenceError(f"the time {moment} has no time zone; give an aware datetime")
    match = _OFFSET.fullmatch(str(header.get("TimezoneOffsetFromUTC", "")))
    if match is None:
        return moment.astimezone()
    minutes = int(match[2]) * 60 + int(match[3])
    return moment.astimezone(timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes)))


def _set(header: Dataset, keyword: str, value: Any) -> None:
    """Add an element as it is: an identifier longer than its VR allows is still the identifier."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise EvidenceError(f"{keyword} is not a DICOM keyword")
    header.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))


def _complete_codes(ds: Dataset, keyword: str, encodings: Sequence[str]) -> list[Dataset]:
    """Return the items of a code sequence that name value, scheme and meaning (PS3.3 8.8); others are of no use."""
    element = ds.get_item(keyword)
    if element is None:
        return []
    try:
        items = ds[keyword].value if isinstance(element, RawDataElement) else element.value
    except (ValueError, KeyError, NotImplementedError, EOFError):
        return []
    found: list[Dataset] = []
    for entry in items if isinstance(items, DicomSequence) else ():
        parts = {key: _text_in(entry, key, encodings) for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")}
        if all(parts.values()) and len(parts["CodeValue"]) <= 16:
            concept = Dataset()
            for key, value in parts.items():
                _set(concept, key, plain_text(value, dictionary_VR(key)))
            found.append(concept)
    return found


def _text_in(entry: Dataset, keyword: str, encodings: Sequence[str]) -> str:
    element = entry.get_item(keyword)
    return "" if element is None else text_of(element.value, encodings)


def _keep_modules_whole(header: Dataset) -> None:
    """Drop conditional groups that the source left incomplete: half a module is an error in every result."""
    trial = [keyword for keyword in header.dir("ClinicalTrial") if keyword in header]
    named = header.get("ClinicalTrialSponsorName") and header.get("ClinicalTrialProtocolID")
    subject = header.get("ClinicalTrialSubjectID") or header.get("ClinicalTrialSubjectReadingID")
    if trial and not (named and subject):
        for keyword in trial:
            delattr(header, keyword)
    elif trial:
        for keyword in ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"):
            if keyword not in header:
                _set(header, keyword, "")
    deidentified = "DeidentificationMethod" in header or "DeidentificationMethodCodeSequence" in header
    if header.get("PatientIdentityRemoved") == "YES" and not deidentified:
        del header.PatientIdentityRemoved
    if header.get("LossyImageCompression") != "01":
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in header:
                delattr(header, keyword)
