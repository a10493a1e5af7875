"""A report as an SR document: what a PACS, a radiologist and the next program find in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom.sr as hd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.headers import read_header
from dicom_node.marking import RESEARCH_STATEMENT, STANDIN_WARNING
from dicom_node.report import Narrative, Person, Region, Report
from dicom_node.results import ResultError, check_result, write_dicom
from dicom_node.sr import SrError, build_sr
from dicom_node.uids import IMPLEMENTATION_CLASS_UID
from tests.sample_reports import DATA_STORE, REVIEWER, TEST_FILES, awkward_headers, frames_of
from tests.sample_reports import trauma_report as trauma
from tests.sample_reports import vessel_report as vessel

CT = TEST_FILES / "CT_small.dcm"
MULTI_FRAME = TEST_FILES / "examples_ybr_color.dcm"
UIDS: dict[str, Any] = {"sop_instance_uid": "2.25.101", "series_instance_uid": "2.25.102", "series_number": 9001}
AWKWARD = awkward_headers()


def built(report: Report, source: Path | Dataset = CT, **options: Any) -> Dataset:
    """Return the document as another program reads it."""
    data = write_dicom(build_sr(report, [source], **{**UIDS, **options}))
    check_result(data, report, verified=options.get("verifying") is not None)
    return dcmread(BytesIO(data))


def texts(node: Dataset) -> list[tuple[str, str]]:
    """Return (heading, text) of every TEXT item."""
    own = [(node.ConceptNameCodeSequence[0].CodeMeaning, node.TextValue)] if "TextValue" in node else []
    return own + [pair for child in node.get("ContentSequence", ()) for pair in texts(child)]


def groups(ds: Dataset) -> list[Any]:
    """Return the measurement groups as highdicom understands them."""
    document = hd.Comprehensive3DSR.from_dataset(ds)
    found: list[Any] = document.content.get_image_measurement_groups()
    return found


@pytest.mark.parametrize(
    ("answer", "value"),
    [("blocked", codes.PRESENT), ("patent", codes.ABSENT), ("undetermined", codes.UNDETERMINED)],
)
def test_vessel_occlusion_is_present_absent_or_undetermined(answer: str, value: codes.Code) -> None:
    (group,) = groups(built(vessel([frames_of(CT)], answer)))
    assert group.finding_type.value == codes.OCCLUSION.value
    assert group.finding_sites[0].value.value == codes.BLOOD_VESSEL.value
    answers = {entry.name.value: entry.value.value for entry in group.get_qualitative_evaluations()}
    assert answers[codes.PRESENCE_OF_PROPERTY.value] == value.value
    (probability,) = group.get_measurements()
    assert (probability.name.value, float(probability.value)) == (codes.PROBABILITY.value, 0.93)


def test_a_region_is_a_closed_outline_on_its_frame() -> None:
    source = frames_of(MULTI_FRAME, 3)
    outline = ((1.5, 2.0), (30.0, 2.0), (30.0, 40.0), (1.5, 40.0))
    plain = vessel([source])
    found = replace(plain.findings[0], region=Region(source, outline, 240, 320, "nodule"))
    ds = built(replace(plain, findings=(found,)), MULTI_FRAME)
    (group,) = hd.Comprehensive3DSR.from_dataset(ds).content.get_planar_roi_measurement_groups()
    assert group.roi.graphic_type.value == "POLYLINE"
    assert group.roi.value.tolist() == [*map(list, outline), list(outline[0])]
    (image,) = group.roi.ContentSequence
    assert image.referenced_sop_instance_uid == source.sop_instance_uid
    assert image.referenced_frame_numbers == [3]
    assert [float(m.value) for m in group.get_measurements()] == [0.93]


def test_a_region_on_an_image_that_is_no_source_is_refused() -> None:
    plain = vessel([frames_of(CT)])
    region = Region(frames_of(MULTI_FRAME, 3), ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)), 240, 320, "nodule")
    with pytest.raises(SrError, match="not among the sources"):
        built(replace(plain, findings=(replace(plain.findings[0], region=region),)))


def test_frames_of_the_run_are_referenced() -> None:
    (group,) = groups(built(vessel([frames_of(MULTI_FRAME, 3, 7, 12)]), MULTI_FRAME))
    (image,) = group.source_images
    assert image.referenced_sop_instance_uid == frames_of(MULTI_FRAME).sop_instance_uid
    assert image.referenced_frame_numbers == [3, 7, 12]


def test_every_trauma_finding_is_a_group_and_every_text_is_there() -> None:
    ds = built(trauma([frames_of(CT)]))
    assert [group.tracking_identifier for group in groups(ds)] == ["abdominal-trauma", "liver", "bleeding"]
    assert len({group.tracking_uid for group in groups(ds)}) == 3
    said = texts(ds)
    assert ("Injury description", "Laceration of segment VII,\n3 cm deep, ≥ 1 cm from the capsule") in said
    assert ("Differential Diagnosis/Impression", "Contusion; subcapsular haematoma") in said
    assert ("Summary", "Moderate injury of liver, probability 0.71 (uncalibrated)") in said


def test_private_concepts_are_declared_and_only_where_used() -> None:
    (scheme,) = built(trauma([frames_of(CT)])).CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == codes.PRIVATE_SCHEME
    assert "CodingSchemeIdentificationSequence" not in built(vessel([frames_of(CT)]))


def test_unverified_result_says_so_and_names_the_algorithm() -> None:
    report = vessel([frames_of(CT)])
    ds = built(report)
    assert (ds.VerificationFlag, ds.PreliminaryFlag, ds.CompletionFlag) == ("UNVERIFIED", "PRELIMINARY", "COMPLETE")
    assert "VerifyingObserverSequence" not in ds
    (equipment,) = ds.ContributingEquipmentSequence
    assert equipment.DeviceUID == report.algorithm.device_uid
    assert (equipment.Manufacturer, equipment.ManufacturerModelName) == ("s0close", "dsa_patency")
    (group,) = groups(ds)
    parameters = [text for heading, text in texts(group[0]) if heading == "Algorithm Parameters"]
    assert tuple(parameters) == report.algorithm.parameters


def test_research_use_is_always_said_and_stand_in_only_of_the_stand_in() -> None:
    real, standin = (built(vessel([frames_of(CT)], is_standin=flag)) for flag in (False, True))
    for ds in (real, standin):
        assert RESEARCH_STATEMENT in dict.fromkeys(text for _, text in texts(ds))
    assert STANDIN_WARNING in {text for _, text in texts(standin)}
    assert standin.SeriesDescription.startswith(STANDIN_WARNING)
    assert STANDIN_WARNING not in real.SeriesDescription
    assert STANDIN_WARNING not in {text for _, text in texts(real)}


def test_signed_successor_names_the_person_and_its_predecessor() -> None:
    report = vessel([frames_of(CT)])
    first = built(report)
    signed_at = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    options = {"sop_instance_uid": "2.25.103", "verifying": REVIEWER, "verified_at": signed_at}
    ds = built(report, predecessor=first, **options)
    assert (ds.VerificationFlag, ds.PreliminaryFlag) == ("VERIFIED", "FINAL")
    (observer,) = ds.VerifyingObserverSequence
    assert (str(observer.VerifyingObserverName), observer.VerifyingOrganization) == (REVIEWER.name, "St. Anna Hospital")
    assert observer.VerificationDateTime == "20260302080000.000000+0000"
    reference = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert [g.tracking_uid for g in groups(ds)] == [g.tracking_uid for g in groups(first)]


def test_edited_successor_is_the_persons_and_still_names_the_device() -> None:
    report = vessel([frames_of(CT)], "patent")
    ds = built(report, predecessor=built(report), sop_instance_uid="2.25.104", verifying=REVIEWER, edited=True)
    observers = hd.Comprehensive3DSR.from_dataset(ds).content.get_observer_contexts()
    assert [observer.observer_type.meaning for observer in observers] == ["Person", "Device"]
    assert "Algorithm Name" not in {heading for heading, _ in texts(ds)}


def test_superseding_result_is_unverified_and_has_a_predecessor() -> None:
    report = vessel([frames_of(CT)])
    ds = built(report, predecessor=built(report), sop_instance_uid="2.25.105")
    assert ds.VerificationFlag == "UNVERIFIED"
    assert len(ds.PredecessorDocumentsSequence) == 1


def test_same_report_gives_the_same_bytes() -> None:
    report = trauma([frames_of(CT)])
    first, second = (write_dicom(build_sr(report, [source], **UIDS)) for source in (CT, dcmread(CT)))
    assert first == second
    header = dcmread(BytesIO(first))
    assert header.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    # the source declares -0500, and 12:30 UTC is 07:30 there
    assert (header.ContentDate, header.ContentTime) == ("20260301", "073015.250000")
    assert (header.InstanceCreationTime, header.SeriesTime) == ("073015.250000", "073015.250000")


def test_result_is_recognised_as_our_own(tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(write_dicom(build_sr(vessel([frames_of(CT)]), [CT], **UIDS)))
    assert read_header(path).is_own_result


@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_odd_header_still_gives_a_document_of_the_same_study(name: str) -> None:
    source = AWKWARD[name]
    ds = built(vessel([frames_of(source)]), source)
    assert ds.StudyInstanceUID == source.StudyInstanceUID
    assert ds.SpecificCharacterSet == "ISO_IR 192"


def test_retired_sop_class_can_be_a_source() -> None:
    source = DATA_STORE / "US1_UNCR.dcm"
    assert built(vessel([frames_of(source)]), source).PatientSex == "M"


def test_control_characters_of_a_model_do_not_reach_the_document() -> None:
    report = replace(vessel([frames_of(CT)]), narratives=(Narrative(codes.IMPRESSION, "clot\x00\x1b[31m here\r\n"),))
    assert ("Impression", "clot[31m here") in texts(built(report))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"findings": ()}, "no finding"),
        ({"sources": ()}, "no source"),
        ({"headline": " "}, "no headline"),
        ({"sources": (replace(frames_of(CT), sop_instance_uid="2.25.9"),)}, r"not among the sources, first 2\.25\.9"),
    ],
)
def test_report_that_cannot_be_written_is_refused_with_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SrError, match=message):
        build_sr(replace(vessel([frames_of(CT)]), **change), [CT], **UIDS)


@pytest.mark.parametrize("person", [Person("", "Hospital"), Person("Ota^Hanako", " ")])
def test_nobody_signs_without_name_and_organisation(person: Person) -> None:
    with pytest.raises(SrError, match="name and an organisation"):
        build_sr(vessel([frames_of(CT)]), [CT], **UIDS, verifying=person)


def test_sources_of_two_studies_are_refused() -> None:
    other = dcmread(CT, stop_before_pixels=True)
    other.StudyInstanceUID = "2.25.77"
    with pytest.raises(SrError, match="2 studies"):
        build_sr(vessel([frames_of(CT)]), [CT, other], **UIDS)


def _without(keyword: str) -> bytes:
    document = build_sr(vessel([frames_of(CT)], is_standin=True), [CT], **UIDS)
    delattr(document, keyword)
    return write_dicom(document)


@pytest.mark.parametrize(
    "keyword", ["VerificationFlag", "CurrentRequestedProcedureEvidenceSequence", "ContentSequence", "PatientID"]
)
def test_document_that_lacks_something_does_not_pass_the_check(keyword: str) -> None:
    with pytest.raises(ResultError):
        check_result(_without(keyword), vessel([frames_of(CT)], is_standin=True))


def test_check_compares_with_the_report() -> None:
    report = vessel([frames_of(CT)], is_standin=True)
    data = write_dicom(build_sr(report, [CT], **UIDS))
    check_result(data, report)
    with pytest.raises(ResultError, match="1 findings instead of 3"):
        check_result(data, replace(report, findings=trauma([frames_of(CT)]).findings))
    with pytest.raises(ResultError, match="VERIFIED"):
        check_result(data, report, verified=True)
    with pytest.raises(ResultError, match="headline"):
        check_result(data, replace(report, headline="Vessel patent"))
    with pytest.raises(ResultError, match="source instance"):
        check_result(data, replace(report, sources=(replace(frames_of(CT), sop_instance_uid="2.25.9"),)))
    with pytest.raises(ResultError, match="STAND-IN"):
        real = write_dicom(build_sr(vessel([frames_of(CT)]), [CT], **UIDS))
        check_result(real, report)
    with pytest.raises(ResultError, match="read back"):
        check_result(data[:3000], report)
