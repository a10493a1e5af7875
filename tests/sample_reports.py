"""Reports as the adapters make them, written by hand, and the source images they rest on (real ones and phantoms)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import data_store
import numpy as np
import pydicom.data
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node import codes
from dicom_node.evidence import read_source, uid_of
from dicom_node.report import (
    Algorithm,
    Evaluation,
    Measurement,
    Narrative,
    Person,
    Report,
    ReportedFinding,
    SourceFrames,
)

TEST_FILES: Final = Path(pydicom.data.__file__).parent / "test_files"
CHARSET_FILES: Final = Path(pydicom.data.__file__).parent / "charset_files"
DATA_STORE: Final = Path(data_store.__file__).parent / "data"

ANSWERED_AT: Final = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)
REVIEWER: Final = Person("Ōta^Hanako", "St. Anna Hospital")
_PRESENCE: Final = {"blocked": codes.PRESENT, "patent": codes.ABSENT, "undetermined": codes.UNDETERMINED}


def frames_of(source: Path | Dataset, *frame_numbers: int) -> SourceFrames:
    """Name a source instance, or frames of it."""
    ds = read_source(source)
    uids = [uid_of(ds, keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")]
    return SourceFrames(*uids, frame_numbers=frame_numbers)


def algorithm(name: str = "dsa_patency", *, is_standin: bool = False) -> Algorithm:
    """An algorithm with parameters as a job records them."""
    return Algorithm(
        name=name,
        version="1.0",
        manufacturer="s0close",
        device_uid="2.25.329800735698586629295641978511506172918",
        parameters=("base=google/medgemma-1.5-4b-it", "base_revision=main", "engine=transformers"),
        is_standin=is_standin,
    )


def vessel_report(
    sources: Sequence[SourceFrames], answer: str = "blocked", *, is_standin: bool = False, probability: float = 0.93
) -> Report:
    """What the DSA adapter says: one occlusion, present, absent or undetermined."""
    return Report(
        title="Vessel patency on angiography",
        findings=(
            ReportedFinding(
                tracking_id="vessel-occlusion",
                finding_type=codes.OCCLUSION,
                sites=(codes.BLOOD_VESSEL,),
                evaluations=(Evaluation(codes.PRESENCE_OF_PROPERTY, _PRESENCE[answer]),),
                measurements=(Measurement(codes.PROBABILITY, probability, codes.NO_UNITS),),
                sources=tuple(sources),
            ),
        ),
        narratives=(Narrative(codes.IMPRESSION, f"Vessel {answer}."),),
        algorithm=algorithm(is_standin=is_standin),
        statements=("A blocked vessel can be missed; the whole run must be read by a physician.",),
        sources=tuple(sources),
        headline=f"Vessel {answer}, probability {probability:.2f} (uncalibrated)",
        answered_at=ANSWERED_AT,
    )


def trauma_report(sources: Sequence[SourceFrames]) -> Report:
    """What the trauma adapter says: the abdomen as a whole, an injured liver, and the rest in words."""
    present = Evaluation(codes.PRESENCE_OF_PROPERTY, codes.PRESENT)
    return Report(
        title="Abdominal trauma on CT",
        findings=(
            ReportedFinding(
                tracking_id="abdominal-trauma",
                finding_type=codes.TRAUMATIC_INJURY,
                sites=(codes.ABDOMEN,),
                evaluations=(present, Evaluation(codes.SEVERITY, codes.MODERATE)),
                measurements=(Measurement(codes.PROBABILITY, 0.71, codes.NO_UNITS),),
                sources=tuple(sources),
            ),
            ReportedFinding("liver", codes.LACERATION, (codes.LIVER,), (present,)),
            ReportedFinding("bleeding", codes.ACTIVE_EXTRAVASATION, (codes.ABDOMEN,), (present,)),
        ),
        narratives=(
            Narrative(codes.IMPRESSION, "Moderate injury of the liver."),
            Narrative(codes.INJURY_DESCRIPTION, "Laceration of segment VII,\n3 cm deep, ≥ 1 cm from the capsule"),
            Narrative(codes.DIFFERENTIAL_DIAGNOSIS, "Contusion; subcapsular haematoma"),
        ),
        algorithm=algorithm("abdominal_trauma", is_standin=True),
        statements=("Subtle bowel injury is a known weakness.",),
        sources=tuple(sources),
        headline="Moderate injury of liver, probability 0.71 (uncalibrated)",
        answered_at=ANSWERED_AT,
    )


def grey_image(rows: int, columns: int) -> NDArray[np.uint8]:
    """An RGB image, brighter to the lower right."""
    ramp = np.add.outer(np.linspace(40, 120, rows), np.linspace(0, 100, columns)).astype(np.uint8)
    return np.repeat(ramp[:, :, None], 3, axis=2)


def awkward_headers() -> dict[str, Dataset]:
    """Headers as they occur in the field and break writers, by what is odd about them."""
    changes: dict[str, dict[str, str | None]] = {
        "sex question mark": {"PatientSex": "?"},
        "sex zeros": {"PatientSex": "0000"},
        "birth date in year 0": {"PatientBirthDate": "00000101"},
        "study date in words": {"StudyDate": "yesterday", "StudyTime": "noon"},
        "empty character set": {"SpecificCharacterSet": ""},
        "unknown character set": {"SpecificCharacterSet": "ISO_IR 999"},
        "missing patient id": {"PatientID": None, "PatientName": None, "PatientSex": None, "StudyID": None},
        "age without unit": {"PatientAge": "45", "PatientWeight": "heavy", "PatientSize": "0"},
        "name without caret": {"PatientName": "Smith"},
        "name with five groups": {"PatientName": "A^B=C^D=E^F=G^H"},
        "accession number of 20 characters": {"AccessionNumber": "ACC-2026-000001-REV2"},
        "no instance number": {"InstanceNumber": "", "SeriesNumber": "", "Manufacturer": None},
    }
    headers = {}
    for name, values in changes.items():
        ds = pydicom.dcmread(TEST_FILES / "CT_small.dcm", stop_before_pixels=True)
        for keyword, value in values.items():
            ds.pop(keyword, None)
            if value is not None:
                ds[keyword] = as_stored(keyword, value)
        headers[name] = ds
    return headers


def as_stored(keyword: str, value: str) -> RawDataElement:
    """An element as it is read from a file: bytes, valid or not."""
    tag = Tag(keyword)
    return RawDataElement(tag, dictionary_VR(tag), len(value), value.encode(), 0, False, True)
