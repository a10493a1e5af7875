"""What a result takes from its source: the patient and study to the letter, and no defect."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.evidence import EvidenceError, evidence_header, local_time
from tests.sample_reports import CHARSET_FILES, TEST_FILES, awkward_headers

AWKWARD = awkward_headers()


@pytest.mark.parametrize(
    ("name", "keyword", "expected"),
    [
        ("sex question mark", "PatientSex", ""),
        ("sex zeros", "PatientSex", ""),
        ("birth date in year 0", "PatientBirthDate", ""),
        ("study date in words", "StudyDate", ""),
        ("study date in words", "StudyTime", ""),
        ("missing patient id", "PatientID", ""),
        ("missing patient id", "PatientName", ""),
        ("name without caret", "PatientName", "Smith"),
        ("name with five groups", "PatientName", "A^B=C^D=E^F"),
        ("accession number of 20 characters", "AccessionNumber", "ACC-2026-000001-REV2"),
    ],
)
def test_odd_value_is_emptied_and_identifier_is_kept(name: str, keyword: str, expected: str) -> None:
    assert str(evidence_header(AWKWARD[name])[keyword].value or "") == expected


@pytest.mark.parametrize("keyword", ["PatientAge", "PatientWeight", "PatientSize"])
def test_odd_optional_value_is_left_out(keyword: str) -> None:
    assert keyword not in evidence_header(AWKWARD["age without unit"])


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("chrH31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32.dcm", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrI2.dcm", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrRuss.dcm", "Люкceмбypг"),  # noqa: RUF001 - as it stands in the file
        ("chrGreek.dcm", "Διονυσιος"),
        ("chrArab.dcm", "قباني^لنزار"),
        ("chrX1.dcm", "Wang^XiaoDong=王^小東"),
        ("chrX2.dcm", "Wang^XiaoDong=王^小东"),
        ("chrGerm.dcm", "Äneas^Rüdiger"),
    ],
)
def test_names_of_any_script_become_utf8(file: str, name: str) -> None:
    header = evidence_header(CHARSET_FILES / file)
    assert header.SpecificCharacterSet == "ISO_IR 192"
    assert str(header.PatientName) == name


def test_the_source_is_not_changed() -> None:
    source = AWKWARD["sex question mark"]
    before = source.to_json(suppress_invalid_tags=True)
    evidence_header(source)
    assert source.to_json(suppress_invalid_tags=True) == before
    assert source.PatientSex == "?"


def test_read_data_set_and_path_give_the_same_header() -> None:
    path = TEST_FILES / "CT_small.dcm"
    read = dcmread(path)
    for element in read:
        assert element is not None  # converts every value, as a user of the data set may have done
    assert evidence_header(read) == evidence_header(path)


def test_missing_study_uid_is_named() -> None:
    source = dcmread(TEST_FILES / "CT_small.dcm", stop_before_pixels=True)
    del source.StudyInstanceUID
    with pytest.raises(EvidenceError, match="StudyInstanceUID"):
        evidence_header(source)


def test_file_that_is_no_dicom_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing of interest")
    with pytest.raises(EvidenceError, match=r"notes\.txt"):
        evidence_header(path)
    with pytest.raises(EvidenceError, match=r"absent\.dcm"):
        evidence_header(tmp_path / "absent.dcm")


def test_half_a_clinical_trial_module_is_dropped() -> None:
    source = dcmread(TEST_FILES / "CT_small.dcm", stop_before_pixels=True)
    source.ClinicalTrialProtocolID = "P-1"
    assert "ClinicalTrialProtocolID" not in evidence_header(source)
    source.ClinicalTrialSponsorName = "Sponsor"
    source.ClinicalTrialSubjectID = "S-1"
    whole = evidence_header(source)
    assert (whole.ClinicalTrialProtocolID, whole.ClinicalTrialSiteID) == ("P-1", "")


def test_procedure_codes_are_kept_where_complete() -> None:
    source = dcmread(TEST_FILES / "CT_small.dcm", stop_before_pixels=True)
    whole, half = Dataset(), Dataset()
    whole.CodeValue, whole.CodingSchemeDesignator, whole.CodeMeaning = "77477000", "SCT", "Computed tomography"
    half.CodeValue = "1"
    source.ProcedureCodeSequence = [half, whole]
    kept = evidence_header(source).ProcedureCodeSequence
    assert [entry.CodeValue for entry in kept] == ["77477000"]


def test_time_is_told_in_the_zone_of_the_source() -> None:
    header = Dataset()
    header.TimezoneOffsetFromUTC = "-0330"
    assert local_time(datetime(2026, 1, 1, 2, 0, tzinfo=UTC), header).strftime("%Y%m%d %H%M") == "20251231 2230"


def test_time_without_zone_is_refused() -> None:
    with pytest.raises(EvidenceError, match="time zone"):
        local_time(datetime(2026, 1, 1), Dataset())  # noqa: DTZ001 - the very thing that is refused
