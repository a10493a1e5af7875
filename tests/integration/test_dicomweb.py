"""The store over DICOMweb, as dicomweb-client and plain HTTP ask for it, over a real connection."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.dataset import Dataset
from requests import HTTPError

from dicom_node.spool import Spool
from tests.receiving_node import PYDICOM_FILES, ct_slice, write_file
from tests.web_server import WebServer, web_server, web_settings
from worker.db.records import Instance, Job, Result, Series, Study
from worker.demo.phantom_video import write_video
from worker.states import JobState
from worker.web.dicomweb.answers import object_url

JPEG2000 = "1.2.840.10008.1.2.4.91"
EXPLICIT = "1.2.840.10008.1.2.1"
HTTP = httpx.Client(trust_env=False, timeout=30)


def slices() -> list[Dataset]:
    """Two series of three slices, of two patients' studies."""
    made = []
    for study, patient, name, date in (
        ("1.2.3.1", "P1", "Müller^Jörg", "20240105"),
        ("1.2.3.2", "P2", "Smith^Ann", "20240220"),
    ):
        for number in range(1, 4):
            ds = ct_slice(
                f"{study}.{number}",
                StudyInstanceUID=study,
                SeriesInstanceUID=f"{study}.7",
                SpecificCharacterSet="ISO_IR 192",
                PatientID=patient,
                PatientName=name,
                PatientBirthDate="19700101",
                StudyDate=date,
                StudyTime="101500",
                StudyID="S1",
                AccessionNumber=f"ACC-{patient}",
                ReferringPhysicianName="Ref^Doc",
                SeriesNumber=7,
                InstanceNumber=number,
                WindowCenter=30000,
                WindowWidth=60000,
            )
            made.append(as_file(ds))
    return made


def as_file(ds: Dataset) -> Dataset:
    """Give a data set what a file has: dicomweb-client sends data sets as they are."""
    ds.preamble = b"\0" * 128
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


@pytest.fixture(scope="module", autouse=True)
def connections_closed() -> Iterator[None]:
    """Close what the client keeps open."""
    yield
    HTTP.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A server with the slices and a few awkward objects, sent by dicomweb-client."""
    settings = web_settings(tmp_path_factory.mktemp("web"), cors_origins=["https://viewer.example"])
    with web_server(settings) as served:
        client = served.client()
        client.store_instances(slices())
        for name in ("JPEG2000.dcm", "ExplVR_BigEnd.dcm", "examples_ybr_color.dcm", "test-SR.dcm", "liver_1frame.dcm"):
            client.store_instances([read(name)])
        yield served


@pytest.fixture
def client(server: WebServer) -> DICOMwebClient:
    return server.client()


def read(name: str) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(PYDICOM_FILES / name)


def value(entry: dict[str, dict[str, object]], tag: str) -> object:
    values = entry[tag].get("Value", [None])
    assert isinstance(values, list)
    return values[0]


def place(ds: Dataset) -> tuple[str, str, str]:
    return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)


# Queries


@pytest.mark.parametrize(
    ("filters", "studies"),
    [
        ({"PatientID": "P1"}, ["1.2.3.1"]),
        ({"PatientName": "m?ller*"}, ["1.2.3.1"]),
        ({"PatientName": "SMITH^ANN"}, ["1.2.3.2"]),
        ({"StudyDate": "20240101-20240131"}, ["1.2.3.1"]),
        ({"StudyDate": "20240201-", "AccessionNumber": "ACC-*"}, ["1.2.3.2"]),
        ({"00080020": "-20240110", "ReferringPhysicianName": "ref*"}, ["1.2.3.1"]),
        ({"StudyInstanceUID": "1.2.3.2,1.2.3.1,1.2.3.9", "ModalitiesInStudy": "CT"}, ["1.2.3.2", "1.2.3.1"]),
        ({"StudyTime": "1000-1030", "StudyID": "S1", "PatientBirthDate": "19700101"}, ["1.2.3.2", "1.2.3.1"]),
        ({"PatientName": "[a-z]*"}, []),
        ({"AccessionNumber": "acc-p1"}, []),
    ],
)
def test_studies_are_found_by_their_keys(client: DICOMwebClient, filters: dict[str, str], studies: list[str]) -> None:
    assert [value(found, "0020000D") for found in client.search_for_studies(search_filters=filters)] == studies


def test_a_study_says_what_a_viewer_lists(server: WebServer) -> None:
    answer = HTTP.get(f"{server.dicomweb_url}/studies", params={"PatientID": "P1", "includefield": "StudyDescription"})
    assert answer.headers["content-type"] == "application/dicom+json"
    (found,) = answer.json()
    assert value(found, "00100010") == {"Alphabetic": "Müller^Jörg"}
    assert value(found, "00080061") == "CT"
    assert (value(found, "00201206"), value(found, "00201208")) == (1, 3)
    assert value(found, "00080005") == "ISO_IR 192"
    assert value(found, "00100030") == "19700101"
    assert HTTP.get(str(value(found, "00081190")) + "/metadata").status_code == 200


def test_series_and_instances_are_found_within_a_study_and_over_all(client: DICOMwebClient) -> None:
    (series,) = client.search_for_series("1.2.3.1", search_filters={"SeriesNumber": "7"})
    assert value(series, "00201209") == 3
    instances = client.search_for_instances("1.2.3.1", "1.2.3.1.7", fields=["PatientID"])
    assert [value(one, "00200013") for one in instances] == [1, 2, 3]
    assert {value(one, "00100020") for one in instances} == {"P1"}
    assert [value(one, "00280010") for one in client.search_for_instances("1.2.3.1")] == [16, 16, 16]
    everywhere = client.search_for_instances(search_filters={"InstanceNumber": "2", "PatientID": "P*"})
    assert sorted(str(value(one, "0020000D")) for one in everywhere) == ["1.2.3.1", "1.2.3.2"]
    sop_instance_uid = str(value(instances[0], "00080018"))
    (one,) = client.search_for_instances(search_filters={"SOPInstanceUID": sop_instance_uid})
    assert value(one, "00080018") == sop_instance_uid
    assert client.search_for_series(search_filters={"SeriesInstanceUID": "1.2.3.2.7"})


def test_limit_and_offset_cut_and_an_empty_answer_is_204(server: WebServer) -> None:
    url = f"{server.dicomweb_url}/studies"
    everything = HTTP.get(url).json()
    assert len(everything) == 7
    pages = [HTTP.get(url, params={"limit": 3, "offset": offset}) for offset in (0, 3, 6, 9)]
    assert [entry for page in pages[:3] for entry in page.json()] == everything
    assert pages[3].status_code == 204


def test_fuzzy_matching_is_refused_in_words(server: WebServer) -> None:
    answer = HTTP.get(f"{server.dicomweb_url}/studies", params={"PatientName": "Smith^Ann", "fuzzymatching": "true"})
    assert len(answer.json()) == 1
    assert answer.headers["warning"].startswith("299 ")
    assert "fuzzymatching" in answer.headers["warning"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("PatienID=P1", "PatienID"),
        ("SOPInstanceUID=1.2", "SOPInstanceUID"),  # no key of a study
        ("StudyDate=yesterday", "YYYYMMDD"),
        ("StudyInstanceUID=1.2,abc", "abc"),
        ("limit=-1", "limit"),
        ("includefield=Nonsense", "Nonsense"),
        ("PatientID=P1&PatientID=P2", "twice"),
        ("fuzzymatching=perhaps", "fuzzymatching"),
    ],
)
def test_what_cannot_be_asked_is_an_error_that_names_it(server: WebServer, query: str, word: str) -> None:
    answer = HTTP.get(f"{server.dicomweb_url}/studies?{query}")
    assert answer.status_code == 400
    assert word in answer.json()["detail"]


def test_queries_and_objects_come_from_postgresql_too(tmp_path: Path, postgres_url: str) -> None:
    with web_server(web_settings(tmp_path, postgres_url)) as served:
        client = served.client()
        client.store_instances(slices())
        found = client.search_for_studies(search_filters={"PatientID": "P?", "StudyDate": "20240101-20240131"})
        assert [value(entry, "0020000D") for entry in found] == ["1.2.3.1"]
        sop_instance_uid = str(slices()[4].SOPInstanceUID)
        (one,) = client.search_for_instances(search_filters={"SOPInstanceUID": sop_instance_uid})
        assert value(one, "0020000D") == "1.2.3.2"
        assert len(client.search_for_instances(limit=2, search_filters={"SeriesInstanceUID": "1.2.3.1.7"})) == 2
        assert len(client.retrieve_study("1.2.3.2")) == 3


# Whole objects and metadata


def test_an_instance_comes_back_as_it_was_sent(client: DICOMwebClient) -> None:
    sent = read("JPEG2000.dcm")
    got = client.retrieve_instance(*place(sent), media_types=(("application/dicom", "*"),))
    assert got.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID == JPEG2000
    assert got.PixelData == sent.PixelData
    assert got == sent


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "ExplVR_BigEnd.dcm", "examples_ybr_color.dcm", "liver_1frame.dcm"])
def test_the_default_is_explicit_little_endian_with_the_same_pixels(client: DICOMwebClient, name: str) -> None:
    sent = read(name)
    got = client.retrieve_instance(*place(sent), media_types=("application/dicom",))
    assert got.file_meta.TransferSyntaxUID == EXPLICIT
    assert got.PatientName == sent.PatientName
    np.testing.assert_array_equal(got.pixel_array, sent.pixel_array)


def test_series_and_study_come_whole(client: DICOMwebClient) -> None:
    wanted = {str(ds.SOPInstanceUID) for ds in slices()[:3]}
    assert {str(ds.SOPInstanceUID) for ds in client.retrieve_series("1.2.3.1", "1.2.3.1.7")} == wanted
    assert {str(ds.SOPInstanceUID) for ds in client.iter_study("1.2.3.1")} == wanted


def test_metadata_have_addresses_in_place_of_bulk_data(client: DICOMwebClient) -> None:
    first = slices()[0]
    found = client.retrieve_study_metadata("1.2.3.1")
    assert len(found) == 3
    (pixels,) = client.retrieve_bulkdata(found[0]["7FE00010"]["BulkDataURI"])
    assert pixels == first.PixelData
    assert Dataset.from_json(found[0], bulk_data_uri_handler=lambda _tag, _vr, _uri: b"").Rows == 16
    sr = read("test-SR.dcm")
    tree = client.retrieve_instance_metadata(*place(sr))
    assert value(tree, "00080060") == "SR"
    assert "7FE00010" not in tree


def test_what_the_client_does_not_take_is_406(server: WebServer) -> None:
    address = "/".join(
        f"{kind}/{uid}"
        for kind, uid in zip(("studies", "series", "instances"), place(read("JPEG2000.dcm")), strict=True)
    )
    for path, accept in (
        ("", "image/png"),
        ("", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80'),
        ("/metadata", "application/dicom+xml"),
        ("/frames/1", "image/jls"),
        ("/rendered", "video/mp4"),
    ):
        answer = HTTP.get(f"{server.dicomweb_url}/{address}{path}", headers={"Accept": accept})
        assert answer.status_code == 406, (path, answer.text)
        assert "there is" in answer.json()["detail"]


def test_the_most_wanted_of_several_media_types_is_sent(server: WebServer) -> None:
    study, series, instance = place(read("JPEG2000.dcm"))
    url = f"{server.dicomweb_url}/studies/{study}/series/{series}/instances/{instance}"
    unknown = "application/dicom;transfer-syntax=1.2.840.10008.1.2.4.80"
    accept = f"{unknown}, application/dicom;q=0.2, application/dicom;transfer-syntax=*;q=0.8"
    answer = HTTP.get(url, headers={"Accept": accept})
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={JPEG2000}"
    assert pydicom.dcmread(BytesIO(answer.content)).file_meta.TransferSyntaxUID == JPEG2000


def test_what_is_not_there_is_404_and_no_uid_is_400(server: WebServer) -> None:
    for path in ("1.2.3.99", "1.2.3.99/metadata", "1.2.3.1/series/1.2.3.8", "1.2.3.1/thumbnail/x"):
        assert HTTP.get(f"{server.dicomweb_url}/studies/{path}").status_code == 404
    assert HTTP.get(f"{server.dicomweb_url}/studies/..%2F..%2Fetc").status_code in (400, 404)
    assert HTTP.get(f"{server.dicomweb_url}/studies/abc/metadata").status_code == 400


# Frames and pictures


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "liver_1frame.dcm", "JPEG2000.dcm", "ExplVR_BigEnd.dcm"])
def test_frames_are_the_pixels(client: DICOMwebClient, name: str) -> None:
    sent = read(name)
    frames = int(sent.get("NumberOfFrames", 1))
    wanted = [1] if frames == 1 else [frames, 1]
    got = client.retrieve_instance_frames(
        *place(sent), frame_numbers=wanted, media_types=(("application/octet-stream", EXPLICIT),)
    )
    pixels = sent.pixel_array if frames > 1 else sent.pixel_array[np.newaxis]
    for number, data in zip(wanted, got, strict=True):
        expected = pixels[number - 1]
        if sent.BitsAllocated == 1:
            np.testing.assert_array_equal(
                np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: expected.size], expected.ravel()
            )
        else:
            assert data == expected.astype(expected.dtype.newbyteorder("<")).tobytes()


def test_frames_come_as_stored_where_the_client_takes_that(server: WebServer, client: DICOMwebClient) -> None:
    sent = read("JPEG2000.dcm")
    stored = next(pydicom.encaps.generate_frames(sent.PixelData, number_of_frames=1))
    (frame,) = client.retrieve_instance_frames(*place(sent), frame_numbers=[1], media_types=(("image/jp2", JPEG2000),))
    assert frame == stored
    study, series, instance = place(sent)
    url = f"{server.dicomweb_url}/studies/{study}/series/{series}/instances/{instance}/frames/1"
    answer = HTTP.get(url, headers={"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'})
    assert f"application/octet-stream; transfer-syntax={JPEG2000}".encode() in answer.content
    assert stored in answer.content
    single = HTTP.get(url, headers={"Accept": "image/jp2"})
    assert single.content == stored
    for wrong, code in (("0", 404), ("2", 404), ("x", 400), ("1,,2", 400)):
        assert HTTP.get(url.removesuffix("1") + wrong).status_code == code


def test_a_rendered_frame_is_shown_in_its_window_or_the_one_asked_for(client: DICOMwebClient) -> None:
    first = slices()[0]
    png = client.retrieve_instance_rendered(*place(first), media_types=("image/png",))
    with Image.open(BytesIO(png)) as picture:
        shown = np.asarray(picture)
    expected = np.clip((first.pixel_array.astype(float) - 29999.5) / 59999 + 0.5, 0, 1) * 255
    assert np.abs(shown - expected).max() <= 1
    black = client.retrieve_instance_rendered(
        *place(first), media_types=("image/png",), params={"window": "70000,2,linear", "viewport": "32,32"}
    )
    with Image.open(BytesIO(black)) as picture:
        assert picture.size == (32, 32)
        assert not np.asarray(picture).any()


def test_colour_frames_are_rendered_by_number_and_thumbnails_are_small(
    server: WebServer, client: DICOMwebClient
) -> None:
    sent = read("examples_ybr_color.dcm")
    jpeg = client.retrieve_instance_frames_rendered(*place(sent), frame_numbers=[3], media_types=("image/jpeg",))
    with Image.open(BytesIO(jpeg)) as picture:
        assert picture.size == (sent.Columns, sent.Rows)
    study = f"{server.dicomweb_url}/studies/{sent.StudyInstanceUID}"
    for url in (study, f"{study}/series/{sent.SeriesInstanceUID}"):
        answer = HTTP.get(f"{url}/thumbnail")
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(BytesIO(answer.content)) as picture:
            assert max(picture.size) == 256
    report = read("test-SR.dcm")
    with pytest.raises(HTTPError, match="406"):
        client.retrieve_instance_rendered(*place(report))
    url = f"{study}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}/rendered"
    for wrong in ("window=1", "window=1,0,linear", "viewport=0,5", "quality=0", "annotation=patient"):
        assert HTTP.get(f"{url}?{wrong}").status_code == 400


def test_a_video_is_sent_as_it_is_and_shown_frame_by_frame(
    server: WebServer, client: DICOMwebClient, tmp_path: Path
) -> None:
    frames = np.array([np.full((64, 96, 3), level, np.uint8) for level in (20, 90, 160, 230)] * 3)
    sent = pydicom.dcmread(write_video(tmp_path, frames))
    client.store_instances([sent])
    address = object_url(server.dicomweb_url, *place(sent))
    whole = HTTP.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert pydicom.dcmread(BytesIO(whole.content)) == sent
    assert HTTP.get(address, headers={"Accept": 'multipart/related; type="application/dicom"'}).status_code == 406
    stream = HTTP.get(f"{address}/bulkdata/7FE00010", headers={"Accept": "video/*"})
    assert stream.headers["content-type"].startswith("video/")
    assert stream.content in sent.PixelData
    for number, level in ((1, 20), (6, 90), (12, 230)):
        png = HTTP.get(f"{address}/frames/{number}/rendered", headers={"Accept": "image/png"})
        with Image.open(BytesIO(png.content)) as picture:
            assert abs(np.asarray(picture).mean() - level) < 12


def test_pixels_that_cannot_be_decoded_are_an_answer_and_harm_nobody(server: WebServer, client: DICOMwebClient) -> None:
    broken = read("JPEG2000.dcm")
    broken.SOPInstanceUID = broken.file_meta.MediaStorageSOPInstanceUID = "1.2.3.55"
    data = bytearray(broken.PixelData)
    data[60:400] = b"\xff" * 340
    broken.PixelData = bytes(data)
    client.store_instances([broken])
    address = object_url(server.dicomweb_url, *place(broken))
    for path, accept in (
        ("/frames/1/rendered", "image/png"),
        ("/thumbnail", "image/jpeg"),
        ("/frames/1", 'multipart/related; type="application/octet-stream"'),
        ("", "application/dicom"),
    ):
        answer = HTTP.get(address + path, headers={"Accept": accept})
        assert answer.status_code == 406, path
        assert "cannot be decoded" in answer.json()["detail"]
    stored = HTTP.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert pydicom.dcmread(BytesIO(stored.content)).PixelData == broken.PixelData
    # Of several objects one fails while the others are on their way: the answer breaks off and is no whole one.
    with pytest.raises(httpx.RemoteProtocolError):
        HTTP.get(address.split("/instances")[0], headers={"Accept": 'multipart/related; type="application/dicom"'})


# Who may ask


def test_only_named_origins_may_use_it_from_a_browser(server: WebServer) -> None:
    def allowed(origin: str, path: str = "/dicom-web/studies") -> str | None:
        return HTTP.get(server.url + path, headers={"Origin": origin}).headers.get("access-control-allow-origin")

    assert allowed("https://viewer.example") == "https://viewer.example"
    assert allowed("https://other.example") is None
    assert allowed("https://viewer.example", "/api/studies") is None
    assert HTTP.get(f"{server.dicomweb_url}/studies", headers={"Host": "evil.example"}).status_code == 400


# Results


def test_released_results_are_shown_and_held_ones_are_not(tmp_path: Path) -> None:
    settings = web_settings(tmp_path)
    spool = Spool(settings.data_dir / "spool")
    with web_server(settings) as served:
        served.client().store_instances(slices()[:1])
        states = {"2.1": JobState.RELEASED, "2.2": JobState.HELD, "2.3": JobState.REJECTED, "2.4": JobState.SUPERSEDED}
        with served.database.writing() as session:
            study, series = session.query(Study).one(), session.query(Series).one()
            for uid, state in states.items():
                made = ct_slice(uid, StudyInstanceUID="1.2.3.1", SeriesInstanceUID="1.2.3.1.8", SOPInstanceUID=uid)
                file = spool.put_bytes(write_file(made, tmp_path / "result.dcm").read_bytes())
                job = Job(study=study, series=series, adapter=uid, unit_uid="1", revision=1, state=state)
                result = Result(
                    sop_instance_uid=uid,
                    sop_class_uid=made.SOPClassUID,
                    kind="sc",
                    digest=file.sha256,
                    path=str(file.path),
                )
                job.results.append(result)
                session.add(job)
        client = served.client()
        assert {str(ds.SOPInstanceUID) for ds in client.retrieve_series("1.2.3.1", "1.2.3.1.8")} == {"2.1"}
        assert [value(one, "00201209") for one in client.search_for_series("1.2.3.1")] == [1, 1]
        assert [value(one, "00201208") for one in client.search_for_studies()] == [2]
        for held in ("2.2", "2.3", "2.4"):
            with pytest.raises(HTTPError, match="404"):
                client.retrieve_instance("1.2.3.1", "1.2.3.1.8", held)
        # A PACS that sends results back makes no second copy of them.
        client.store_instances([client.retrieve_instance("1.2.3.1", "1.2.3.1.8", "2.1")])
        assert [value(one, "00201209") for one in client.search_for_series("1.2.3.1")] == [1, 1]
        with served.database.reading() as session:
            assert session.query(Instance).count() == 2
