"""Sending by STOW-RS: to Orthanc's DICOMweb plugin, to our own node, and to servers that misbehave."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from dicom_node.dicomweb.origin import DicomWebServer
from dicom_node.dicomweb.stow import store
from dicom_node.http_server import HttpServerError
from dicom_node.scu import Outcome, StoreOutcome
from dicom_node.tls import client_context, server_context
from tests.receiving_node import PYDICOM_FILES, ct_slice, write_file
from tests.scripted_server import scripted_server
from tests.services import Orthanc, free_port, running
from tests.services.process import LOCALHOST
from tests.tls_files import make_tls_files
from tests.web_server import web_server, web_settings


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc with its DICOMweb plugin."""
    with running(Orthanc(tmp_path_factory.mktemp("orthanc"), dicomweb=True)) as service:
        yield service
    service.close()


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return [write_file(ct_slice(f"out {number}"), tmp_path / f"{number}.dcm") for number in range(3)]


def uid(number: int) -> str:
    return str(ct_slice(f"out {number}").SOPInstanceUID)


def item(number: int, **values: int) -> dict[str, object]:
    tags = {"reason": "00081197", "warning": "00081196"}
    numbers = {tags[name]: {"vr": "US", "Value": [code]} for name, code in values.items()}
    return {"00081155": {"vr": "UI", "Value": [uid(number)]}, **numbers}


def send(url: str, files: list[Path], **options: float) -> list[StoreOutcome]:
    return list(store(DicomWebServer(url), files, timeout_s=options.get("timeout_s", 10)))


def test_orthanc_gets_every_object_as_it_is(plugin: Orthanc, slices: list[Path]) -> None:
    files = [*slices, *(PYDICOM_FILES / name for name in ("test-SR.dcm", "JPEG2000.dcm", "examples_ybr_color.dcm"))]
    outcomes = send(plugin.dicomweb_url, files)
    assert [(outcome.path, outcome.klass) for outcome in outcomes] == [(path, Outcome.DELIVERED) for path in files]
    assert plugin.sop_instance_uids() == {outcome.sop_instance_uid for outcome in outcomes}
    kept = {ds.SOPInstanceUID: ds for ds in plugin.datasets()}
    assert kept[uid(0)] == pydicom.dcmread(slices[0])


def test_orthanc_takes_and_gives_over_our_dicomweb(plugin: Orthanc, slices: list[Path], tmp_path: Path) -> None:
    with web_server(web_settings(tmp_path)) as node:
        plugin.clear()
        plugin.upload(slices[0].read_bytes())
        study = ct_slice("out 0").StudyInstanceUID
        plugin.rest("PUT", "/dicom-web/servers/node", json={"Url": node.dicomweb_url + "/", "HasDelete": "0"})
        plugin.rest(
            "POST", "/dicom-web/servers/node/stow", json={"Resources": plugin.instance_ids(), "Synchronous": True}
        )
        assert [entry["0020000D"]["Value"] for entry in node.client().search_for_studies()] == [[study]]
        asked = {"Uri": "/studies", "Arguments": {"PatientID": "P1"}}
        assert study in plugin.rest("POST", "/dicom-web/servers/node/qido", json=asked).text
        for patient in plugin.rest("GET", "/patients").json():
            plugin.rest("DELETE", f"/patients/{patient}")
        plugin.rest(
            "POST", "/dicom-web/servers/node/retrieve", json={"Resources": [{"Study": study}], "Synchronous": True}
        )
        (back,) = plugin.datasets()
        assert back == pydicom.dcmread(slices[0])


def test_a_pacs_that_is_down_says_nothing_about_the_files(slices: list[Path]) -> None:
    outcomes = send(f"http://{LOCALHOST}:{free_port()}/dicom-web", slices)
    assert [(outcome.klass, outcome.is_associated) for outcome in outcomes] == [(Outcome.TRANSIENT, False)] * 3


def test_each_instance_has_the_outcome_that_the_answer_gives_it(slices: list[Path]) -> None:
    answer = {
        "00081199": {"vr": "SQ", "Value": [item(0), item(1, warning=0xB000)]},
        "00081198": {"vr": "SQ", "Value": [item(2, reason=0xA700)]},
    }
    with scripted_server((202, answer)) as server:
        outcomes = send(server.url + "/dicom-web", slices)
    assert [outcome.klass for outcome in outcomes] == [Outcome.DELIVERED, Outcome.WARNING, Outcome.TRANSIENT]
    assert [outcome.status for outcome in outcomes] == [None, 0xB000, 0xA700]
    with scripted_server((409, {"00081198": {"vr": "SQ", "Value": [item(0, reason=0xA900)]}})) as server:
        (outcome,) = send(server.url + "/dicom-web", slices[:1])
    assert outcome.klass is Outcome.PERMANENT
    assert "0xA900" in outcome.message


@pytest.mark.parametrize(
    ("code", "klass", "counts"),
    [
        (200, Outcome.DELIVERED, True),
        (400, Outcome.PERMANENT, True),
        (413, Outcome.PERMANENT, True),
        (503, Outcome.TRANSIENT, True),
        (429, Outcome.TRANSIENT, True),
        (401, Outcome.TRANSIENT, False),
        (404, Outcome.TRANSIENT, False),
        (301, Outcome.TRANSIENT, False),
    ],
)
def test_an_answer_without_a_list_speaks_for_the_one_file(
    slices: list[Path], code: int, klass: Outcome, counts: bool
) -> None:
    with scripted_server((code, b"")) as server:
        (outcome,) = send(server.url + "/dicom-web", slices[:1])
    assert (outcome.klass, outcome.is_associated) == (klass, counts)
    assert code == 200 or str(code) in outcome.comment


def test_one_bad_file_does_not_speak_for_the_others(slices: list[Path]) -> None:
    with scripted_server((400, b""), (200, b""), (400, b""), (200, b"")) as server:
        outcomes = send(server.url + "/dicom-web", slices)
    assert [outcome.klass for outcome in outcomes] == [Outcome.DELIVERED, Outcome.PERMANENT, Outcome.DELIVERED]


def test_a_connection_that_breaks_leaves_each_file_to_be_tried_again(slices: list[Path], tmp_path: Path) -> None:
    with scripted_server(None, (200, b""), None, (200, b"")) as server:
        outcomes = send(server.url + "/dicom-web", slices)
    assert [outcome.klass for outcome in outcomes] == [Outcome.DELIVERED, Outcome.TRANSIENT, Outcome.DELIVERED]
    no_dicom = tmp_path / "text.dcm"
    no_dicom.write_text("no DICOM")
    with scripted_server((200, b"")) as server:
        outcomes = send(server.url + "/dicom-web", [no_dicom, slices[0], tmp_path / "absent.dcm"])
    assert {outcome.path: outcome.klass for outcome in outcomes} == {
        no_dicom: Outcome.PERMANENT,
        slices[0]: Outcome.DELIVERED,
        tmp_path / "absent.dcm": Outcome.PERMANENT,
    }


def test_a_silent_server_costs_the_time_limit_once(slices: list[Path], silent: int) -> None:
    outcomes = send(f"http://{LOCALHOST}:{silent}/dicom-web", slices[:1], timeout_s=0.3)
    assert [outcome.klass for outcome in outcomes] == [Outcome.TRANSIENT]
    assert "time" in outcomes[0].comment


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        yield listener.getsockname()[1]


def test_token_and_certificate_are_shown_and_the_peer_s_is_checked(slices: list[Path], tmp_path: Path) -> None:
    files = make_tls_files(tmp_path)
    ours = client_context(files.ca, files.certificate, files.key)
    with scripted_server((200, b""), tls=server_context(files.certificate, files.key, files.ca)) as server:
        (outcome,) = store(DicomWebServer(server.url + "/dicom-web", token="secret-token", tls=ours), slices[:1])
        assert outcome.is_delivered
        assert server.headers[0]["Authorization"] == "Bearer secret-token"
        (refused,) = store(DicomWebServer(server.url + "/dicom-web"), slices[:1])  # nobody here knows the authority
        assert (refused.klass, refused.is_associated) == (Outcome.TRANSIENT, False)
        assert "certificate" in refused.comment
    assert "secret-token" not in repr(DicomWebServer(server.url + "/dicom-web", token="secret-token"))


@pytest.mark.parametrize(
    "values",
    [{"url": "pacs:8042"}, {"url": "ftp://pacs"}, {"url": "http://u:p@pacs/"}, {"url": "http://pacs:x/"},
     {"url": "http://pacs", "token": "a\r\nb"}, {"url": "http://pacs", "token": "a", "username": "b"}],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused_in_words(values: dict[str, str]) -> None:
    with pytest.raises(HttpServerError, match=r"pacs|http"):
        DicomWebServer(**values)
