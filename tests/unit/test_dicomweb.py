"""DICOMweb's parts without a server: multipart, Accept, JSON, matching, and files on their way in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node import status
from dicom_node.dicomweb.dicom_json import metadata, to_json
from dicom_node.dicomweb.intake import Intake, IntakeError
from dicom_node.dicomweb.matching import Level, QueryError, matches_all, parse_query
from dicom_node.dicomweb.media_types import MediaTypeError, parse_accept
from dicom_node.dicomweb.multipart import END, MultipartError, MultipartReader, Part, closing, part_head
from dicom_node.image_attributes import PixelError
from dicom_node.spool import Spool
from tests.receiving_node import PYDICOM_FILES, ct_slice, write_file

CONTENTS = [b"", b"\r\n--x", b"--bound\r\n", b"\r\n--boun", b"a" * 40 + b"\r\n", bytes(range(256))]
WHOLE = (
    b"ignored\r\n"
    + b"".join(part_head("bound", "application/dicom") + content for content in CONTENTS)
    + closing("bound")
    + b"after it"
)


def parts_of(pieces: list[bytes], boundary: str = "bound") -> tuple[list[tuple[str, bytes]], bool]:
    reader = MultipartReader(boundary)
    found: list[tuple[str, bytes]] = []
    open_parts = 0
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, Part):
                found.append((event.headers.get("content-type", ""), b""))
                open_parts += 1
            elif event is END:
                open_parts -= 1
            else:
                found[-1] = (found[-1][0], found[-1][1] + event)
    assert open_parts == 0 or not reader.is_complete
    return found, reader.is_complete


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_parts_are_the_same_wherever_the_body_is_cut(size: int) -> None:
    found, is_complete = parts_of([WHOLE[at : at + size] for at in range(0, len(WHOLE), size)])
    assert is_complete
    assert found == [("application/dicom", content) for content in CONTENTS]


@given(st.lists(st.binary(max_size=60), max_size=4), st.data())
@settings(max_examples=40)
def test_any_content_comes_out_as_it_went_in(contents: list[bytes], data: st.DataObject) -> None:
    boundary = "b0undary-that-no-content-has"
    whole = b"".join(part_head(boundary, "x/y") + content for content in contents) + closing(boundary)
    cut = data.draw(st.integers(0, len(whole)))
    assert parts_of([whole[:cut], whole[cut:]], boundary) == ([("x/y", content) for content in contents], True)


@pytest.mark.parametrize(
    "body",
    [
        b"--bound and more\r\n\r\n",
        b"--bound\r\nno colon\r\n\r\n",
        b"--bound\r\nx: " + b"y" * 20_000,
        b"--bound" + b" " * 20_000,
    ],
)
def test_a_body_that_is_not_multipart_is_an_error(body: bytes) -> None:
    with pytest.raises(MultipartError):
        parts_of([body])


def test_a_part_may_have_no_header_fields() -> None:
    assert parts_of([b"--bound\r\n\r\ncontent\r\n--bound--"]) == ([("", b"content")], True)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["*/*"]),
        ("image/png;q=0.5, image/jpeg", ["image/jpeg", "image/png"]),
        ('multipart/related; type="application/dicom"; transfer-syntax=*;q=0.1, */*;q=0', ["application/dicom"]),
        ('multipart/related; type="a/b\\"c, d/e"', ['a/b"c, d/e']),
        ("multipart/related", ["*/*"]),
    ],
)
def test_the_accept_header_is_read_in_order_of_weight(text: str, names: list[str]) -> None:
    assert [wanted.content for wanted in parse_accept(text)] == names


@pytest.mark.parametrize("text", ["nonsense", "image/png image/jpeg", "a/b, ,", "a/b;q", 'a/b; c="d'])
def test_an_accept_header_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(MediaTypeError):
        parse_accept(text)


def patient(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("key", "wanted", "there", "is_match"),
    [
        ("PatientName", "yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PatientName", "山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PatientName", "Yamada", "Yamada^Tarou", False),
        ("PatientName", "Yamada^Tarou", "Yamada^Tarou^^", True),
        ("PatientID", "a[b]?", "a[b]c", True),
        ("PatientID", "a[b]?", "abc", False),
        ("PatientID", "A1", "a1", False),
        ("PatientID", "*", "", True),
        ("StudyDate", "20240101-20240131", "20240131", True),
        ("StudyDate", "20240101-20240131", "20240201", False),
        ("StudyTime", "1015", "101559.5", True),
        ("StudyTime", "10-1015", "101559.5", True),
        ("StudyTime", "10:00-", "0959", False),
        ("StudyDescription", "*CT?HEAD", "low dose CT HEAD", True),
        ("StudyDescription", "x", "", False),
    ],
)
def test_matching_is_the_standard_s(key: str, wanted: str, there: str, is_match: bool) -> None:
    query = parse_query([(key, wanted)], Level.STUDY)
    assert matches_all(query.keys, patient(**{key: there})) is is_match


def test_a_key_inside_a_sequence_is_found_in_any_item() -> None:
    ds = patient(RequestAttributesSequence=[patient(RequestedProcedureID="A"), patient(RequestedProcedureID="B")])
    for name in ("RequestAttributesSequence.RequestedProcedureID", "00400275.00401001"):
        assert matches_all(parse_query([(name, "B")], Level.SERIES).keys, ds)
        assert not matches_all(parse_query([(name, "C")], Level.SERIES).keys, ds)
    with pytest.raises(QueryError, match="RequestedProcedureID"):
        parse_query([("RequestedProcedureID", "B")], Level.SERIES)


def test_every_file_of_pydicom_is_valid_json_or_an_error_that_is_ours() -> None:
    made = 0
    for path in sorted(PYDICOM_FILES.glob("*.dcm"))[::4]:
        try:
            text = json.dumps(metadata(path, lambda place: f"uri/{place}"), allow_nan=False)
        except PixelError:
            continue
        made += 1
        assert "PixelData" not in text
        for tag, element in json.loads(text).items():
            assert len(tag) == 8
            assert len(element["vr"]) == 2
    assert made > 15


def test_what_json_has_no_number_for_is_text_and_empty_values_are_null() -> None:
    ds = patient(OtherPatientIDs=["a", "", "b"])
    ds.RecommendedDisplayFrameRateInFloat = math.nan
    made = to_json(ds)
    assert made["00101000"]["Value"] == ["a", None, "b"]
    assert made["00089459"]["Value"] == ["NaN"]


def test_long_values_inside_sequences_have_an_address_of_their_own() -> None:
    inner = patient(EncapsulatedDocument=b"x" * 5000)
    made = to_json(patient(RequestAttributesSequence=[patient(), inner]), lambda place: place)
    assert made["00400275"]["Value"][1]["00420011"] == {"vr": "OB", "BulkDataURI": "00400275/1/00420011"}


@pytest.mark.parametrize("size", [1, 13, 131, 4096])
def test_a_file_is_taken_wherever_its_pieces_are_cut(tmp_path: Path, size: int) -> None:
    ds = ct_slice("cut")
    data = write_file(ds, tmp_path / "cut.dcm").read_bytes()
    spool = Spool(tmp_path / "spool")
    intake = Intake(spool, 1 << 20)
    for at in range(0, len(data), size):
        intake.write(data[at : at + size])
    taken = intake.finish(ds.StudyInstanceUID)
    assert pydicom.dcmread(taken.stored.path) == ds
    assert taken.header.sop_instance_uid == ds.SOPInstanceUID
    assert not list(spool.incoming.iterdir())


@given(st.data())
@settings(max_examples=40)
def test_a_damaged_head_is_refused_or_taken_whole_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(HEAD_FILE)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(128, 360))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(100, len(whole))) :]
    spool = SPOOLS.setdefault("one", Spool(tmp_path_factory.mktemp("damaged")))
    intake = Intake(spool, 1 << 20)
    intake.write(bytes(whole))
    try:
        taken = intake.finish()
    except IntakeError as error:
        assert status.status_class(error.code) is status.StatusClass.FAILURE
    else:
        assert taken.stored.path.exists()
    assert not list(spool.incoming.iterdir())


SPOOLS: dict[str, Spool] = {}
HEAD_FILE = (PYDICOM_FILES / "CT_small.dcm").read_bytes()[:2000]
