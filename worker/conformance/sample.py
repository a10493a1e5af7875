"""One result of each kind, made by the code that makes them all, for the statement to read off what results are like.

Input: none. Output: data sets, the same each time. Nothing here is anybody's image.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypedDict

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_node import codes
from dicom_node.capture import build_capture, captured
from dicom_node.encapsulated_pdf import build_encapsulated_pdf
from dicom_node.key_objects import build_key_objects, build_rejection_note
from dicom_node.multiframe_capture import KeyImage, build_multiframe_capture
from dicom_node.placement import Placement
from dicom_node.presentation import build_presentations
from dicom_node.report import (
    Algorithm,
    Evaluation,
    Measurement,
    Narrative,
    Person,
    Region,
    Report,
    ReportedFinding,
    SourceFrames,
)
from dicom_node.sr import build_sr
from dicom_node.uids import derive_uid
from worker.result_kinds import REJECTION, ResultKind

_SIDE: Final = 64
_AT: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
_REVIEWER: Final = Person("Reviewer^Ada", "Hospital")


def results() -> Mapping[str, Dataset]:
    """Return kind of result -> one of that kind; the report is signed and stands in the place of an earlier one."""
    source = _source()
    frames = SourceFrames(str(source.SOPClassUID), str(source.SOPInstanceUID), str(source.SeriesInstanceUID))
    report = _report(frames)
    image = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    first = build_sr(report, [source], **_places("first"))
    page = captured(image, report, (frames,), reviewer=None, edited=False)
    made: dict[str, Dataset] = {
        ResultKind.SR: build_sr(
            report, [source], predecessor=first, verifying=_REVIEWER, verified_at=_AT, edited=True, **_places("sr")
        ),
        ResultKind.SC: build_capture(image, report, source, shown=(frames,), instance_number=1, **_places("sc")),
        ResultKind.SC_MULTI: build_multiframe_capture([KeyImage(image, frames)], report, source, _place("sc-multi")),
        ResultKind.KO: build_key_objects(report, source, [frames], _place("ko")),
        ResultKind.PR: build_presentations(report, [source], [frames], lambda _number: _place("pr"))[0],
        ResultKind.PDF: build_encapsulated_pdf(report, source, [page], _place("pdf")),
    }
    rejected = [made[ResultKind.SR], made[ResultKind.SC]]
    made[REJECTION] = build_rejection_note(
        rejected, codes.REJECTED_FOR_QUALITY, _REVIEWER, "wrong", _place(REJECTION), _AT
    )
    return made


def _places(name: str) -> _Places:
    place = _place(name)
    return {
        "sop_instance_uid": place.sop_instance_uid,
        "series_instance_uid": place.series_instance_uid,
        "series_number": place.series_number,
    }


class _Places(TypedDict):
    sop_instance_uid: str
    series_instance_uid: str
    series_number: int


def _place(name: str) -> Placement:
    return Placement(derive_uid("sample", name), derive_uid("sample series", name), 1)


def _report(frames: SourceFrames) -> Report:
    box = Region(frames, ((10.0, 10.0), (40.0, 10.0), (40.0, 40.0), (10.0, 40.0)), _SIDE, _SIDE, "box")
    finding = ReportedFinding(
        "finding",
        codes.TRAUMATIC_INJURY,
        (codes.LIVER,),
        (Evaluation(codes.PRESENCE_OF_PROPERTY, codes.PRESENT), Evaluation(codes.INJURY_GRADE, codes.MODERATE)),
        (Measurement(codes.PROBABILITY, 0.9, codes.NO_UNITS),),
        (frames,),
        box,
    )
    return Report(
        title="Sample",
        findings=(finding,),
        narratives=(Narrative(codes.IMPRESSION, "Injury."),),
        algorithm=Algorithm("sample", "1", "maker", derive_uid("sample device"), ("engine=sample",)),
        statements=(),
        sources=(frames,),
        headline="Injury",
        answered_at=_AT,
    )


def _source() -> Dataset:
    """A CT slice whose header says all that results take over."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, derive_uid("sample", "source")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("sample study"), derive_uid("sample", "series")
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Sample^Ada", "1", "19700101", "F"
    ds.PatientAge, ds.PatientSize, ds.PatientWeight = "056Y", "1.7", "70"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260101", "120000", "1", "1"
    ds.StudyDescription, ds.ReferringPhysicianName, ds.TimezoneOffsetFromUTC = "CT", "", "+0000"
    ds.ClinicalTrialSponsorName, ds.ClinicalTrialProtocolID = "sponsor", "protocol"
    ds.ClinicalTrialSubjectID, ds.ClinicalTrialTimePointID = "subject", "time point"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", 1, 1
    ds.Rows = ds.Columns = _SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored = 1, "MONOCHROME2", 16, 12
    ds.HighBit, ds.PixelRepresentation, ds.PixelSpacing = 11, 0, [0.8, 0.8]
    ds.RescaleIntercept, ds.RescaleSlope, ds.WindowCenter, ds.WindowWidth = -1024, 1, 50, 400
    return ds
