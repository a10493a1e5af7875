"""Destinations by STOW-RS have the same outbox as others: what is due arrives, waits, or is a dead letter."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from typer.testing import CliRunner

from tests.integration.hospital import Hospital, hospital_with, released
from tests.scripted_server import scripted_server
from tests.services import Orthanc, free_port, running
from tests.services.process import LOCALHOST
from tests.web_server import web_server, web_settings
from worker.cli import app
from worker.confirmation import confirm
from worker.db.columns import utc_now
from worker.db.records import Delivery
from worker.delivery import deliver
from worker.settings import SettingsError, StowDestination, load_settings


def archive(url: str, **options: Any) -> StowDestination:
    return StowDestination(kind="stow", name="pacs", url=f"{url}/dicom-web", **options)


def states(hospital: Hospital, job_id: str) -> list[str]:
    return [row.state.value for row in hospital.deliveries(job_id)]


def send_what_is_due(hospital: Hospital) -> None:
    with hospital.db.writing() as session:
        for row in session.query(Delivery):
            row.not_before = utc_now() - timedelta(seconds=1)
    deliver(hospital.db, hospital.settings, "pacs")


def instance(uid: str, **values: int) -> dict[str, object]:
    """Return an entry of a Store Instances Response (PS3.18 I.2)."""
    tags = {"reason": "00081197", "warning": "00081196"}
    numbers = {tags[name]: {"vr": "US", "Value": [code]} for name, code in values.items()}
    return {"00081155": {"vr": "UI", "Value": [uid]}, **numbers}


def test_a_node_of_ours_gets_what_waited_while_it_was_down_and_is_asked_for_it(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "node").mkdir()
    there = web_settings(tmp_path / "node")
    target = archive(f"http://{LOCALHOST}:{there.web.port}", confirm="find")
    with hospital_with(tmp_path, sqlite_url, target) as hospital:
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        rows = hospital.deliveries(job_id)
        assert [(row.state.value, row.attempts) for row in rows] == [("pending", 0)] * 2
        assert "refused" in (rows[0].last_error or "")
        with web_server(there) as node:
            send_what_is_due(hospital)
            assert states(hospital, job_id) == ["delivered"] * 2
            confirm(hospital.db, hospital.settings, "pacs")
            stored = {entry["00080018"]["Value"][0] for entry in node.client().search_for_instances()}
        assert states(hospital, job_id) == ["confirmed"] * 2
        assert stored == {result.sop_instance_uid for result in hospital.results(job_id)}


def test_a_server_that_does_not_let_us_in_pauses_the_destination_and_costs_nothing(
    tmp_path: Path, sqlite_url: str
) -> None:
    with scripted_server((401, b""), (200, b"")) as server:
        target = archive(server.url, username="node", password="wrong-password")
        with hospital_with(tmp_path, sqlite_url, target, batch=1, retry_after_s=10, retry_at_most_s=10) as hospital:
            job_id = released(hospital)
            assert deliver(hospital.db, hospital.settings, "pacs") is False, "what is left must wait too"
            first, second = hospital.deliveries(job_id)
            assert (first.state.value, first.attempts, second.state.value) == ("pending", 0, "pending")
            assert "401" in (first.last_error or "")
            assert "wrong-password" not in (first.last_error or "")
            assert second.not_before > utc_now()
            assert len(server.requests) == 1
            send_what_is_due(hospital)
            send_what_is_due(hospital)
            assert states(hospital, job_id) == ["delivered"] * 2


def test_one_refused_object_is_a_dead_letter_and_the_other_arrives(tmp_path: Path, database_url: str) -> None:
    with scripted_server((202, {})) as server, hospital_with(tmp_path, database_url, archive(server.url)) as hospital:
        job_id = released(hospital)
        report, capture = [result.sop_instance_uid for result in hospital.results(job_id)]
        server.answers[:] = [
            (
                202,
                {
                    "00081198": {"vr": "SQ", "Value": [instance(report, reason=0xA900)]},
                    "00081199": {"vr": "SQ", "Value": [instance(capture, warning=0xB000)]},
                },
            )
        ]
        deliver(hospital.db, hospital.settings, "pacs")
        dead, arrived = hospital.deliveries(job_id)
        assert (dead.state.value, dead.attempts, arrived.state.value) == ("dead", 1, "delivered")
        assert "0xA900" in (dead.last_error or "")
        assert "0xB000 coercion" in (arrived.last_error or "")


@pytest.mark.parametrize("answer", [None, (503, b"")])
def test_a_server_that_breaks_off_or_is_busy_gets_each_object_later(
    tmp_path: Path, sqlite_url: str, answer: Any
) -> None:
    with (
        scripted_server(answer, answer, answer, (200, b"")) as server,
        hospital_with(tmp_path, sqlite_url, archive(server.url)) as hospital,
    ):
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        assert [(row.state.value, row.attempts) for row in hospital.deliveries(job_id)] == [("pending", 0)] * 2
        send_what_is_due(hospital)
        assert states(hospital, job_id) == ["delivered"] * 2


def test_what_the_server_does_not_find_is_sent_again(tmp_path: Path, sqlite_url: str) -> None:
    with scripted_server((200, b"")) as server:
        target = archive(server.url, confirm="find")
        options = {"confirm_asks": 1, "confirm_resends": 1, "confirm_after_s": 60}
        with hospital_with(tmp_path, sqlite_url, target, **options) as hospital:
            job_id = released(hospital)
            deliver(hospital.db, hospital.settings, "pacs")
            server.answers[:] = [(204, b"")]
            confirm(hospital.db, hospital.settings, "pacs")
            assert states(hospital, job_id) == ["pending"] * 2
            assert server.requests[-1].startswith("GET /dicom-web/studies/")
            assert "does not find it by QIDO-RS" in (hospital.deliveries(job_id)[0].last_error or "")


def doctor(folder: Path, url: str) -> tuple[str, str]:
    file = folder / "worker.yaml"
    file.write_text(
        f"data_dir: {folder}\nengine: {{kind: standin}}\ndicom: {{port: {free_port()}}}\nweb: {{port: {free_port()}}}\n"
        f"destinations: [{{kind: stow, name: cloud, url: {url}, token: a-secret-token}}]\n"
    )
    answer = CliRunner().invoke(app, ["doctor", "--json", "--config", str(file)])
    assert "a-secret-token" not in answer.output
    shown = CliRunner().invoke(app, ["settings", "--config", str(file)])
    assert "a-secret-token" not in shown.output
    (found,) = (check for check in json.loads(answer.output)["checks"] if check["check"] == "destination cloud")
    return found["state"], found["message"]


def test_doctor_looks_whether_the_server_answers_and_nobody_prints_its_token(tmp_path: Path) -> None:
    with scripted_server((204, b""), (401, b""), (404, b"")) as server:
        assert doctor(tmp_path, server.url)[0] == "ok"
        assert server.headers[0]["Authorization"] == "Bearer a-secret-token"
        state, message = doctor(tmp_path, server.url)
        assert (state, "token" in message) == ("failed", True)
        assert "no DICOMweb server under this path" in doctor(tmp_path, server.url)[1]
    assert doctor(tmp_path, server.url)[0] == "failed"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("kind: fax, name: p", "destinations.0: `kind` is none of the kinds of destination: dicom, stow"),
        ("kind: stow, name: p, token: a-secret", "destinations.0.url: Field required"),
        ("kind: stow, name: p, token: [a-secret], url: 'http://h'", "destinations.0.token"),
        ("kind: stow, name: p, url: 'ftp://h', token: a-secret", "destinations.0: 'ftp://h' is no address"),
        ("kind: stow, name: p, url: 'http://h', token: a-secret, username: u", "give one of them"),
        ("kind: stow, name: p, url: 'http://h', host: h, token: a-secret", "destinations.0.host: unknown setting"),
    ],
)
def test_a_mistake_is_named_without_the_secret(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(f"destinations: [{{{text}}}]\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert named in str(caught.value)
    assert "a-secret" not in str(caught.value)


@contextmanager
def half_deaf() -> Iterator[tuple[str, socket.socket]]:
    """A server that takes connections and reads nothing, until a test reads some of it and hangs up."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        yield f"http://{LOCALHOST}:{listener.getsockname()[1]}", listener


def test_a_silent_server_is_asked_later(tmp_path: Path, sqlite_url: str) -> None:
    with half_deaf() as (url, _), hospital_with(tmp_path, sqlite_url, archive(url), timeout_s=0.3) as hospital:
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        assert [(row.state.value, row.attempts) for row in hospital.deliveries(job_id)] == [("pending", 0)] * 2
        assert "does not answer in time" in (hospital.deliveries(job_id)[0].last_error or "")


def test_a_connection_dropped_in_the_middle_of_an_object_loses_nothing(tmp_path: Path, sqlite_url: str) -> None:
    def hang_up() -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.close()

    with half_deaf() as (url, listener), hospital_with(tmp_path, sqlite_url, archive(url)) as hospital:
        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        job_id = released(hospital)
        deliver(hospital.db, hospital.settings, "pacs")
        assert [(row.state.value, row.attempts) for row in hospital.deliveries(job_id)] == [("pending", 0)] * 2
        port = listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        listener.close()
        with scripted_server((200, b""), port=port) as server:
            send_what_is_due(hospital)
            assert states(hospital, job_id) == ["delivered"] * 2
            assert len(server.requests) == 1


def test_results_arrive_in_orthanc_by_dicomweb(tmp_path: Path, sqlite_url: str, service_folder: Any) -> None:
    with service_folder("orthanc") as folder:
        orthanc = Orthanc(folder, dicomweb=True)
        with running(orthanc):
            target = archive(orthanc.http_url, confirm="find")
            with hospital_with(tmp_path, sqlite_url, target) as hospital:
                job_id = released(hospital)
                deliver(hospital.db, hospital.settings, "pacs")
                confirm(hospital.db, hospital.settings, "pacs")
                assert states(hospital, job_id) == ["confirmed"] * 2
                written = {result.sop_instance_uid: pydicom.dcmread(result.path) for result in hospital.results(job_id)}
                assert {ds.SOPInstanceUID: ds for ds in orthanc.datasets()} == written
        orthanc.close()
