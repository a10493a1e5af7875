"""Reading headers: what the field writes is taken, what is no instance is refused with file and reason."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.codes import Code
from dicom_node.file_format import file_meta
from dicom_node.headers import OWN_MANUFACTURER, HeaderDefect, HeaderError, InstanceHeader, read_header
from dicom_node.truncation import is_truncated, truncation_reason
from tests.receiving_node import PYDICOM_FILES, ct_slice, encoded, write_file

#: Files of pydicom that hold a whole instance, of every transfer syntax it has.
WHOLE = sorted(
    path
    for path in PYDICOM_FILES.glob("*.dcm")
    if path.name
    not in {
        "JPEGLSNearLossless_08.dcm",
        "JPEGLSNearLossless_16.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_jls_lossy_sample.dcm",
        "ExplVR_BigEndNoMeta.dcm",
        "ExplVR_LitEndNoMeta.dcm",
        "UN_sequence.dcm",
        "empty_charset_LEI.dcm",
        "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
        "no_meta.dcm",
        "no_meta_group_length.dcm",
        "priv_SQ.dcm",
        "rtplan_truncated.dcm",
        "rtstruct.dcm",
        "bad_sequence.dcm",
        "OT-PAL-8-face.dcm",
    }
)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    entry = Dataset()
    entry.CodeValue, entry.CodingSchemeDesignator, entry.CodeMeaning = value, scheme, meaning
    return entry


def _header(tmp_path: Path, ds: Dataset) -> InstanceHeader:
    return read_header(write_file(ds, tmp_path / "instance.dcm"))


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_header_agrees_with_pydicom(path: Path) -> None:
    header, ds = read_header(path), pydicom.dcmread(path)
    for keyword, value in (
        ("SOPClassUID", header.sop_class_uid),
        ("SOPInstanceUID", header.sop_instance_uid),
        ("StudyInstanceUID", header.study_instance_uid),
        ("SeriesInstanceUID", header.series_instance_uid),
        ("Modality", header.modality),
        ("PatientID", header.patient_id),
        ("PatientName", header.patient_name),
        ("StudyDescription", header.study_description),
        ("BodyPartExamined", header.body_part_examined),
        ("Manufacturer", header.manufacturer),
        ("PhotometricInterpretation", header.photometric_interpretation),
    ):
        assert value == str(ds.get(keyword) or "").strip(), keyword
    assert (header.rows, header.columns) == (ds.get("Rows"), ds.get("Columns"))
    assert header.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID
    assert header.has_pixel_data == any(key in ds for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))


@pytest.mark.parametrize("path", WHOLE[:5], ids=lambda path: path.name)
def test_json_gives_an_equal_header(path: Path) -> None:
    header = read_header(path)
    assert InstanceHeader.from_json(json.loads(json.dumps(header.to_json()))) == header


def test_json_of_another_release_is_read() -> None:
    header = read_header(PYDICOM_FILES / "CT_small.dcm")
    data = header.to_json() | {"unknown": 1}
    del data["modality"]
    assert InstanceHeader.from_json(data).modality == ""


@pytest.mark.parametrize(
    ("changes", "defect", "reason"),
    [
        ({"StudyInstanceUID": None}, HeaderDefect.MISSING_IDENTIFIER, "StudyInstanceUID is missing"),
        ({"SeriesInstanceUID": ""}, HeaderDefect.MISSING_IDENTIFIER, "SeriesInstanceUID is missing"),
        ({"StudyInstanceUID": "../x"}, HeaderDefect.INVALID_IDENTIFIER, "StudyInstanceUID '../x' is not a UID"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_instance_without_its_place_is_refused(
    tmp_path: Path, changes: dict[str, Any], defect: HeaderDefect, reason: str
) -> None:
    with pytest.raises(HeaderError, match=r"instance\.dcm") as caught:
        _header(tmp_path, ct_slice("x", **changes))
    assert (caught.value.defect, caught.value.reason[: len(reason)]) == (defect, reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"just text", "not a DICOM file"),
        (bytes(128) + b"DICM", "no TransferSyntaxUID"),
        (file_meta("1.2", "1.2", "1.2.840.10008.1.2.1")[:200], "ends inside the File Meta"),
        (file_meta("1.2", "1.2", DeflatedExplicitVRLittleEndian) + b"\xff\xff\xff", "inflated"),
    ],
)
def test_what_is_no_dicom_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "odd.dcm"
    path.write_bytes(content)
    with pytest.raises(HeaderError, match=f"odd.dcm.*{reason}"):
        read_header(path)


def test_absent_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.dcm")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_or_damaged_headers_never_give_anything_but_a_header_error(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"])
    )
    content = bytearray((PYDICOM_FILES / name).read_bytes()[:8000])
    del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 5))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content)
    try:
        read_header(path)
        truncation_reason(path)
    except HeaderError as error:
        assert "damaged.dcm" in str(error)


def test_header_cut_within_an_element_is_refused_and_cut_pixels_are_not(tmp_path: Path) -> None:
    whole = file_meta("1.2", "1.2", "1.2.840.10008.1.2.1") + encoded(ct_slice("cut"))
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[:600])
    with pytest.raises(HeaderError, match="the data set ends inside"):
        read_header(path)
    path.write_bytes(whole[:-10])
    assert read_header(path).has_pixel_data
    assert is_truncated(path)


def test_sequences_nested_to_exhaust_the_stack_are_refused(tmp_path: Path) -> None:
    nested = struct.pack("<HH2sHL", 0x0008, 0x1032, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    path = tmp_path / "deep.dcm"
    path.write_bytes(file_meta("1.2", "1.2", "1.2.840.10008.1.2.1") + nested * 50_000)
    with pytest.raises(HeaderError, match="nested"):
        read_header(path)


@pytest.mark.parametrize(
    ("attributes", "years"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "014D"}, 14 / 365.25),
        ({"PatientAge": "000Y", "PatientBirthDate": "20200101", "StudyDate": "20200701"}, 182 / 365.25),
        ({"PatientAge": "OLD", "PatientBirthDate": "19800101", "StudyDate": "20200101"}, 40),
        ({"PatientBirthDate": "1980.01.01", "StudyDate": "20200101"}, 40),
        ({"PatientBirthDate": "00000101", "StudyDate": "20200101"}, None),
        ({"PatientBirthDate": "20210101", "StudyDate": "20200101"}, None),
        ({"PatientBirthDate": "19800101"}, None),
        ({"PatientAge": "999Y"}, None),
        ({}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_age(tmp_path: Path, attributes: dict[str, Any], years: float | None) -> None:
    age = _header(tmp_path, ct_slice("age", **attributes)).patient_age_years
    assert age == (pytest.approx(years, abs=0.01) if years is not None else None)


def test_codes_are_kept_as_found(tmp_path: Path) -> None:
    old, srt = _code("T-D4000", "SNM3", "Abdomen"), _code("T-62000", "SRT", "Liver")
    request = Dataset()
    request.RequestedProcedureCodeSequence = Sequence([_code("P5", "99LOCAL", "CT Abdomen")])
    request.RequestedProcedurePriority = "STAT"
    long = Dataset()
    long.LongCodeValue, long.CodingSchemeDesignator, long.CodeMeaning = "1234567890123456789", "SCT", "Long"
    ds = ct_slice(
        "codes",
        AnatomicRegionSequence=Sequence([old, srt]),
        ProcedureCodeSequence=Sequence([long]),
        RequestAttributesSequence=Sequence([request]),
    )
    header = _header(tmp_path, ds)
    assert header.anatomic_regions == (Code("T-D4000", "SNM3", "Abdomen"), Code("T-62000", "SRT", "Liver"))
    assert header.procedure_codes == (Code("1234567890123456789", "SCT", "Long"), Code("P5", "99LOCAL", "CT Abdomen"))
    assert header.requested_procedure_priority == "STAT"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_shared_functional_groups_of_an_enhanced_object(tmp_path: Path, syntax: str) -> None:
    anatomy, measures, orientation, shared = Dataset(), Dataset(), Dataset(), Dataset()
    anatomy.AnatomicRegionSequence = Sequence([_code("818981001", "SCT", "Abdomen")])
    measures.SliceThickness, measures.SpacingBetweenSlices = "2.5", "2"
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.FrameAnatomySequence = Sequence([anatomy])
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    ds = ct_slice("enhanced", SharedFunctionalGroupsSequence=Sequence([shared]), NumberOfFrames="1")
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    if syntax == ExplicitVRBigEndian:
        ds["PixelData"].VR = "OW"
    header = _header(tmp_path, ds)
    assert header.anatomic_regions == (Code("818981001", "SCT", "Abdomen"),)
    assert (header.slice_thickness, header.spacing_between_slices) == (2.5, 2)
    assert header.image_orientation_patient == (1, 0, 0, 0, 1, 0)
    assert (header.rows, header.number_of_frames, header.has_pixel_data) == (16, 1, True)


def test_text_is_read_in_its_character_set(tmp_path: Path) -> None:
    for charset, name in (
        ("ISO_IR 192", "Ünïcode^Ω"),
        ("ISO_IR 144", "\u041b\u044e\u043a"),
        ("ISO_IR 100", "Buc^Jérôme"),
    ):
        ds = ct_slice("text", SpecificCharacterSet=charset, PatientName=name)
        assert _header(tmp_path, ds).patient_name == name


def test_unknown_character_set_and_odd_numbers_are_no_reason_to_refuse(tmp_path: Path) -> None:
    raw = encoded(ct_slice("odd", PatientName="A^B", InstanceNumber="17", SliceThickness="2.5"))
    raw = raw.replace(b"IS\2\0" + b"17", b"IS\2\0" + b"1A").replace(b"DS\4\0" + b"2.5 ", b"DS\4\0" + b"nan ")
    charset = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", 8) + b"NONSENSE"
    path = tmp_path / "odd.dcm"
    path.write_bytes(file_meta("1.2", "1.2", "1.2.840.10008.1.2.1") + charset + raw)
    header = read_header(path)
    assert (header.patient_name, header.instance_number, header.slice_thickness) == ("A^B", None, None)


def test_pixel_data_of_an_icon_is_not_the_instance_s(tmp_path: Path) -> None:
    icon = Dataset()
    icon.PixelData = b"\0\0"
    icon["PixelData"].VR = "OB"
    ds = ct_slice("icon", PixelData=None, IconImageSequence=Sequence([icon]))
    for syntax in ("1.2.840.10008.1.2.1", DeflatedExplicitVRLittleEndian):
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        assert not _header(tmp_path, ds).has_pixel_data


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({"Manufacturer": OWN_MANUFACTURER}, True),
        ({"ManufacturerModelName": OWN_MANUFACTURER + " 0.1"}, True),
        ({"Manufacturer": "GE"}, False),
        ({}, False),
    ],
)
def test_own_results_are_known(tmp_path: Path, changes: dict[str, Any], own: bool) -> None:
    assert _header(tmp_path, ct_slice("own", **changes)).is_own_result is own


def test_truncation_is_found_without_decoding(tmp_path: Path) -> None:
    assert is_truncated(PYDICOM_FILES / "MR_truncated.dcm")
    for name in ("CT_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"):
        assert truncation_reason(PYDICOM_FILES / name) == "", name
    compressed = (PYDICOM_FILES / "MR_small_RLE.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(compressed[:-2000])
    assert "inside item" in truncation_reason(path)
    assert "call for" in truncation_reason(write_file(ct_slice("few", PixelData=b"\0" * 100), path))
    assert truncation_reason(write_file(ct_slice("none", PixelData=None), path)) == ""


def test_deflated_data_set_that_inflates_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.file_format.MAX_INFLATED_BYTES", 10_000_000)
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(engine.compress(bytes(1_000_000)) for _ in range(100)) + engine.flush()
    path = tmp_path / "bomb.dcm"
    path.write_bytes(file_meta("1.2", "1.2", DeflatedExplicitVRLittleEndian) + bomb)
    with pytest.raises(HeaderError, match="inflates to more than"):
        read_header(path)


def test_a_deflated_data_set_is_read_in_little_memory_however_much_it_inflates_to(tmp_path: Path) -> None:
    size = 64 * 2**20
    head = encoded(ct_slice("large", PixelData=None, Rows=16, Columns=16))
    head += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, size)
    engine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    path = tmp_path / "large.dcm"
    data = engine.compress(head) + b"".join(engine.compress(bytes(2**20)) for _ in range(size // 2**20))
    path.write_bytes(file_meta("1.2", "1.2", DeflatedExplicitVRLittleEndian) + data + engine.flush())
    tracemalloc.start()
    try:
        header = read_header(path)
        reason = truncation_reason(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (header.has_pixel_data, header.modality, reason) == (True, "CT", "")
    assert most < 4 * 2**20
