"""STOW-RS in: what is taken, what is refused and how it is said; nothing is lost and nothing half is kept."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import func, select

from dicom_node.dicomweb.multipart import closing, new_boundary, part_head
from dicom_node.spool import Spool
from tests.receiving_node import ct_slice, receiving_node, write_file
from tests.services import dcmtk
from tests.services.process import LOCALHOST
from tests.web_server import WebServer, web_server, web_settings
from worker.db.records import Association, Instance, Series
from worker.node import reconcile
from worker.settings import DiskSettings
from worker.states import InstanceState

HTTP = httpx.Client(trust_env=False, timeout=30)
BOUNDARY = new_boundary()
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@pytest.fixture(scope="module", autouse=True)
def connections_closed() -> Iterator[None]:
    """Close what the client keeps open."""
    yield
    HTTP.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    with web_server(web_settings(tmp_path, largest_instance_mib=1)) as served:
        yield served


def file_of(ds: Dataset, folder: Path) -> bytes:
    return write_file(ds, folder / "sent.dcm").read_bytes()


def body(files: Sequence[bytes], content_type: str = "application/dicom") -> bytes:
    return b"".join(part_head(BOUNDARY, content_type) + file for file in files) + closing(BOUNDARY)


def post(server: WebServer, content: bytes, path: str = "/studies") -> httpx.Response:
    return HTTP.post(server.dicomweb_url + path, content=content, headers={"Content-Type": CONTENT_TYPE})


def named(answer: httpx.Response, tag: str) -> dict[str, Any]:
    """SOP Instance UID -> item of a sequence of the answer."""
    return {item["00081155"]["Value"][0]: item for item in answer.json().get(tag, {}).get("Value", [])}


def stored(server: WebServer) -> list[Path]:
    return list(Spool(server.settings.data_dir / "spool").objects())


def test_stored_instances_are_named_with_their_addresses_and_recorded(server: WebServer, tmp_path: Path) -> None:
    files = [file_of(ct_slice(str(number)), tmp_path) for number in range(3)]
    answer = post(server, body(files))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    items = named(answer, "00081199")
    assert len(items) == 3
    for uid, item in items.items():
        got = HTTP.get(item["00081190"]["Value"][0], headers={"Accept": "application/dicom"})
        assert pydicom.dcmread(BytesIO(got.content)).SOPInstanceUID == uid
    with server.database.reading() as session:
        association = session.scalars(select(Association)).one()
        assert association.released
        assert association.calling_ae_title == "STOW-RS"
        rows = session.scalars(select(Instance)).all()
        assert {row.association_id for row in rows} == {association.id}
        assert session.scalars(select(Series)).one().due_at is not None  # assembly is on its way


def test_some_refused_is_202_and_all_refused_is_409_with_the_reason(server: WebServer, tmp_path: Path) -> None:
    good = file_of(ct_slice("good"), tmp_path)
    renamed = ct_slice("renamed")
    liar = file_of(renamed, tmp_path).replace(renamed.SOPInstanceUID.encode(), b"2" * len(renamed.SOPInstanceUID), 1)
    other = ct_slice("other", StudyInstanceUID="1.2.3.99")
    answer = post(server, body([good, file_of(other, tmp_path)]), f"/studies/{ct_slice('good').StudyInstanceUID}")
    assert answer.status_code == 202
    assert len(named(answer, "00081199")) == 1
    assert named(answer, "00081198")[other.SOPInstanceUID]["00081197"]["Value"] == [0xA900]
    answer = post(server, body([b"no DICOM at all", liar, good[:200]]))
    assert answer.status_code == 409
    assert "00081199" not in answer.json()
    assert [item["00081197"]["Value"] for item in answer.json()["0008119A"]["Value"]] == [[0xC000], [0xC000]]
    assert len(stored(server)) == 1
    assert not list((server.settings.data_dir / "spool" / "incoming-web").iterdir())


def test_an_instance_beyond_the_limit_is_refused_and_the_next_one_taken(server: WebServer, tmp_path: Path) -> None:
    large = file_of(ct_slice("large", rows=1024), tmp_path)
    assert post(server, body([large])).status_code == 503
    answer = post(server, body([large, file_of(ct_slice("small"), tmp_path)]))
    assert answer.status_code == 202
    assert named(answer, "00081198")[ct_slice("large").SOPInstanceUID]["00081197"]["Value"] == [0xA700]
    assert len(stored(server)) == 1


def test_room_that_is_kept_free_is_not_given_to_what_is_stored(tmp_path: Path) -> None:
    settings = web_settings(tmp_path)
    settings = settings.model_copy(update={"disk": DiskSettings(keep_free_gib=1e6)})
    with web_server(settings) as full:
        answer = post(full, body([file_of(ct_slice("0"), tmp_path)]))
        assert answer.status_code == 503
        assert named(answer, "00081198")[ct_slice("0").SOPInstanceUID]["00081197"]["Value"] == [0xA700]
        assert stored(full) == []


def test_the_same_instance_again_is_one_and_other_content_is_a_conflict(server: WebServer, tmp_path: Path) -> None:
    one, other = (file_of(ct_slice("one", PatientID=patient), tmp_path) for patient in ("P1", "P2"))
    for content in (one, one, other):
        assert post(server, body([content])).status_code == 200
    with server.database.reading() as session:
        states = session.scalars(select(Instance.state).order_by(Instance.id)).all()
    assert states == [InstanceState.STORED, InstanceState.CONFLICT]
    found = HTTP.get(f"{server.dicomweb_url}/instances", params={"includefield": "PatientID"}).json()
    assert [entry["00100020"]["Value"] for entry in found] == [["P1"]]


def test_it_is_the_same_file_as_by_c_store(server: WebServer, tmp_path: Path) -> None:
    path = write_file(ct_slice("both"), tmp_path / "both.dcm")
    with receiving_node(tmp_path / "spool") as node:
        subprocess.run([dcmtk("storescu"), "-aec", "DICOMWORKER", LOCALHOST, str(node.port), str(path)], check=True)
        (by_c_store,) = node.objects()
    assert post(server, body([path.read_bytes()])).status_code == 200
    (by_stow,) = stored(server)
    assert by_stow.name == by_c_store.name


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("application/dicom", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', 415),
        ("multipart/form-data; boundary=x", 415),
        ('multipart/related; type="application/dicom"', 400),
        ("nonsense", 415),
        ('multipart/related; type="application/dicom"; boundary="' + "x" * 300 + '"', 400),
    ],
)
def test_a_body_of_another_kind_is_refused(server: WebServer, content_type: str, code: int) -> None:
    answer = HTTP.post(f"{server.dicomweb_url}/studies", content=b"x", headers={"Content-Type": content_type})
    assert answer.status_code == code
    assert answer.json()["detail"]


def test_a_body_that_breaks_off_keeps_what_was_whole(server: WebServer, tmp_path: Path) -> None:
    files = [file_of(ct_slice(str(number)), tmp_path) for number in range(2)]
    whole = body(files)
    answer = post(server, whole[:-300])
    assert answer.status_code == 202
    assert set(named(answer, "00081199")) == {ct_slice("0").SOPInstanceUID}
    assert post(server, b"").status_code == 400
    assert post(server, whole[:100]).status_code == 400
    with server.database.reading() as session:
        assert session.scalar(select(func.count(Instance.id))) == 1
        assert not session.scalars(select(Association)).one().released


def test_a_client_that_goes_away_leaves_nothing_half(server: WebServer, tmp_path: Path) -> None:
    whole = body([file_of(ct_slice("0"), tmp_path)])
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n"
    with socket.create_connection((LOCALHOST, server.settings.web.port)) as sock:
        sock.sendall(f"{head}Content-Length: {len(whole)}\r\n\r\n".encode() + whole[:-200])
    answer = post(server, whole)
    assert answer.status_code == 200
    assert not list((server.settings.data_dir / "spool" / "incoming-web").iterdir())
    assert len(stored(server)) == 1


def test_a_node_that_starts_meanwhile_flags_nothing_as_missing(server: WebServer, tmp_path: Path) -> None:
    class SpoolWithArrival(Spool):
        """A store into which an instance comes by STOW-RS while the node looks through it."""

        def objects(self) -> Iterator[Path]:
            yield from super().objects()
            assert post(server, body([file_of(ct_slice("late"), tmp_path)])).status_code == 200

    adopted, missing = reconcile(server.database, SpoolWithArrival(server.settings.data_dir / "spool"), 10)
    assert (adopted, missing) == (0, 0)
    with server.database.reading() as session:
        assert session.scalars(select(Instance.state)).all() == [InstanceState.STORED]


def test_an_instance_that_the_database_does_not_take_is_not_acknowledged(server: WebServer, tmp_path: Path) -> None:
    with server.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE instances RENAME TO elsewhere")
        connection.commit()
    answer = post(server, body([file_of(ct_slice("0"), tmp_path)]))
    assert answer.status_code == 503
    assert named(answer, "00081198")[ct_slice("0").SOPInstanceUID]["00081197"]["Value"] == [0xA700]
    with server.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO instances")
        connection.commit()
    assert post(server, body([file_of(ct_slice("0"), tmp_path)])).status_code == 200
