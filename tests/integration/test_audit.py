"""The audit trail: what is told of which request, command and association, and that a log server gets all of it."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from lxml import etree
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from dicom_node.dicomweb.multipart import closing, new_boundary, part_head
from tests import services
from tests.audit_schema import checked, messages, told
from tests.integration.hospital import at_once
from tests.ledger_rows import HELD_JOB, HELD_PAGE, HELD_STUDY, RELEASED_STUDY, fill_ledger
from tests.people import PASSWORD, browser_of, csrf_of, log_in, quick_hashes, token_of
from tests.receiving_node import ct_slice, write_file
from tests.tls_files import TlsFiles, make_tls_files
from tests.web_server import web_settings
from worker.audit import events, trail
from worker.audit.forwarding import Forwarder
from worker.audit.movements import record_sent
from worker.audit.trail import AuditTrail
from worker.audit_settings import SyslogSettings
from worker.cli import app as cli
from worker.db.records import Delivery, Study
from worker.people import accounts, tokens
from worker.roles import Role
from worker.settings import Settings
from worker.web import auditing
from worker.web.app import create_app

HELD = f"{HELD_STUDY},P-ACC-2"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    """The application with a filled ledger and the viewer Vera."""
    settings = web_settings(tmp_path, login="required")
    fill_ledger(settings)
    made = create_app(settings)
    with quick_hashes(), made.state.database.writing() as session:
        accounts.add(session, "vera", Role.VIEWER, person_name="Rubin^Vera", password=PASSWORD)
    with quick_hashes(), TestClient(made):
        yield made


def said(app: FastAPI) -> list[str]:
    return [told(message) for message in messages(app.state.audit.folder)]


# The pages


def test_what_a_person_does_at_the_pages_is_told_once(app: FastAPI) -> None:
    browser = browser_of(app)
    log_in(browser, "vera", "a wrong password")
    log_in(browser, "vera")
    for address in (HELD_PAGE, HELD_PAGE, "/results/2.png", "/api/studies", "/studies/9", "/account"):
        browser.get(address)
    token = csrf_of(browser)
    browser.post("/search", data={"csrf_token": token, "q": "P-ACC"})
    browser.get("/people")
    browser.post("/logout", data={"csrf_token": token})
    assert said(app) == [
        "User Authentication / Login failed by vera about ",
        "User Authentication / Login by vera about ",
        f"DICOM Instances Accessed by vera about {HELD}",
        f"DICOM Instances Accessed by vera about {HELD}",
        "Query by vera about /api/studies",
        "Query by vera about /search",
        "Security Alert / Use of Restricted Function failed by vera about /people",
        "User Authentication / Logout by vera about ",
    ]


def test_who_ends_another_session_is_told_with_where_it_was(app: FastAPI) -> None:
    elsewhere, browser = browser_of(app), browser_of(app)
    log_in(elsewhere, "vera")
    log_in(browser, "vera")
    theirs = browser.get("/account").text.split('name="session_id" value="')[1].split('"')[0]
    data = {"csrf_token": csrf_of(browser), "session_id": theirs}
    assert browser.post("/account/sessions/end", data=data).status_code == 200
    assert browser.post("/account/sessions/end", data=data).status_code == 404  # ends nothing, is told once
    assert said(app)[2:] == ["User Authentication / Logout by vera about "]
    last = messages(app.state.audit.folder)[-1]
    assert "opened from testclient" in last.findtext("EventIdentification/EventOutcomeDescription")


def test_a_decision_tells_what_was_on_the_screen_as_far_as_that_is_known(app: FastAPI) -> None:
    with quick_hashes(), app.state.database.writing() as session:
        accounts.add(session, "marie", Role.REVIEWER, person_name="Curie^Marie", organization="City", password=PASSWORD)
    browser = browser_of(app)
    log_in(browser, "marie")
    case = browser.get(f"/api/review/{HELD_JOB}").json()
    form = {"csrf_token": csrf_of(browser), "seen": case["seen"], "reason": "motion"}

    def on_screen() -> tuple[str, str]:
        (study,) = messages(app.state.audit.folder)[-1].xpath(
            "ParticipantObjectIdentification[ParticipantObjectDetail]"
        )
        details = {
            one.get("type"): b64decode(one.get("value")).decode() for one in study.iter("ParticipantObjectDetail")
        }
        return details["images on screen"], details["answer on screen"]

    for looked, told_of in (({}, "unknown"), ({"looked": "0"}, "0 of 0")):
        assert browser.post(f"/cases/{HELD_JOB}/reject", data=form | looked, follow_redirects=False).status_code == 303
        assert on_screen() == (told_of, f"revision {case['revision']}")
        browser.post(f"/cases/{HELD_JOB}/undo", data=form)


def test_a_case_tells_of_the_studies_beside_it(app: FastAPI) -> None:
    with app.state.database.writing() as session:
        for study in session.query(Study):
            study.patient_id, study.issuer_of_patient_id, study.patient_birth_date = "P-ACC-2", "", ""
        others = sorted(study.study_instance_uid for study in session.query(Study))
    others.remove(HELD_STUDY)
    browser = browser_of(app)
    log_in(browser, "vera")
    for _ in range(2):
        browser.get(f"/cases/{HELD_JOB}")
    (looked,) = said(app)[1:]
    begin, *about, patient = looked.split(" about ")[1].split(",")
    assert (begin, sorted(about), patient) == (HELD_STUDY, others, "P-ACC-2")
    assert others


def test_trying_accession_numbers_at_the_rules_is_told(app: FastAPI) -> None:
    browser = browser_of(app)
    log_in(browser, "vera")
    token = csrf_of(browser)
    for number, status_code in (("ACC-2", 303), ("ACC-99", 404)):
        data = {"csrf_token": token, "q": number}
        answer = browser.post("/operations/rules/explain", data=data, follow_redirects=False)
        assert answer.status_code == status_code
    browser.get("/operations/rules")
    assert said(app)[1:] == ["Query by vera about /operations/rules/explain"] * 2
    assert "ACC-99" in query_of(messages(app.state.audit.folder)[-1])


def query_of(message: etree._Element) -> str:
    """What was searched for."""
    return b64decode(message.findtext(".//ParticipantObjectQuery")).decode()


def test_a_look_for_what_is_not_here_is_told_as_a_query(app: FastAPI) -> None:
    """That a query was issued is recorded, whatever its answer (PS3.15 A.5.3.10): nobody tries numbers unseen."""
    headers = {"Authorization": f"Bearer {token_of(app, Role.REVIEWER, 'machine')}"}
    browser = browser_of(app)
    places = (
        *("/api/studies/P-ACC-77", "/api/studies/P-ACC-77", "/api/studies/P-ACC-77/routes"),
        *("/dicom-web/studies/1.2.3/metadata", f"/dicom-web/studies/{HELD_STUDY}/series/1.2.3"),
    )
    for place in places:
        assert browser.get(place, headers=headers).status_code == 404, place
    for place in (f"/api/review/{'0' * 32}", "/cases/nothing", "/studies/77"):  # our own numbers tell of nobody
        assert browser.get(place, headers=headers).status_code == 404
    assert browser.get("/dicom-web/studies/1.2.4/series", headers=headers).status_code in (200, 204)
    assert said(app) == [
        "Query by token:machine about /api/studies/{reference}",
        "Query by token:machine about /api/studies/{reference}/routes",
        "Query by token:machine about /dicom-web/studies/{study}/metadata",
        "Query by token:machine about /dicom-web/studies/{study}/series/{series}",
        "Query by token:machine about /dicom-web/studies/{study}/series",
    ]
    queries = [
        query for message in messages(app.state.audit.folder) for query in message.iter("ParticipantObjectQuery")
    ]
    asked = [base64.b64decode(query.text or "").decode() for query in queries]
    assert asked == ["reference=P-ACC-77"] * 2 + ["study=1.2.3", f"study={HELD_STUDY}\nseries=1.2.3", "study=1.2.4"]


def test_a_replay_of_rules_is_told_as_a_query(app: FastAPI) -> None:
    browser = browser_of(app)
    browser.headers["Authorization"] = f"Bearer {token_of(app, Role.REVIEWER, 'machine')}"
    begun = browser.post("/api/rules/replays", json={"rules": "[]", "days": 30}).json()["id"]
    for address in (f"/api/rules/replays/{begun}", f"/operations/rules/replays/{begun}"):
        for _ in range(2):
            assert browser.get(address).status_code == 200
    assert said(app) == [
        "Query by token:machine about /api/rules/replays",
        "Query by token:machine about /operations/rules/replays",
    ]


def test_a_search_for_nothing_is_none(app: FastAPI) -> None:
    headers = {"Authorization": f"Bearer {token_of(app, Role.VIEWER, 'viewer')}"}
    browser_of(app).get("/search", headers=headers, follow_redirects=False)
    browser_of(app).post("/search", headers=headers, follow_redirects=False, data={"q": " "})
    assert said(app) == []


def test_a_role_that_may_not_is_told_and_nobody_unknown_is(app: FastAPI) -> None:
    nobody = browser_of(app)
    assert nobody.get(HELD_PAGE).status_code == 401
    headers = {"Authorization": f"Bearer {token_of(app, Role.VIEWER, 'viewer')}"}
    assert nobody.post("/dicom-web/studies", headers=headers).status_code == 403
    assert nobody.get("/dicom-web/studies", headers=headers, params={"PatientID": "P-9"}).status_code == 204
    assert nobody.get("/people", headers=headers).status_code == 403
    assert nobody.get("/api/tokens", headers=headers).status_code == 403
    assert said(app) == [
        "Security Alert / Use of Restricted Function failed by token:viewer about /dicom-web",
        "Query by token:viewer about /dicom-web/studies",
        "Security Alert / Use of Restricted Function failed by token:viewer about /people",
        "Security Alert / Use of Restricted Function failed by token:viewer about /api/tokens",
    ]


def test_who_acts_by_a_token_in_their_name_is_told_so(app: FastAPI) -> None:
    with app.state.database.writing() as session:
        token = tokens.add(session, "her viewer", Role.VIEWER, 1, accounts.get(session, "vera"))
    browser_of(app).get(HELD_PAGE, headers={"Authorization": f"Bearer {token}"})
    (message,) = messages(app.state.audit.folder)
    assert next(who.get("UserName") for who in message.iter("ActiveParticipant")) == "Rubin^Vera by token her viewer"


def test_a_decision_is_told_even_where_the_database_goes_away_behind_it(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_away(_job_id: str) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    with app.state.database.writing() as session:
        accounts.set_role(session, accounts.get(session, "vera"), Role.REVIEWER)
    browser = browser_of(app)
    log_in(browser, "vera")
    fields = {"csrf_token": csrf_of(browser), "text": "blurred"}
    monkeypatch.setitem(auditing._SUBJECTS, "job_id", is_away)
    app.state.told = auditing.Told(0)
    assert browser.post(f"/cases/{HELD_JOB}/comment", data=fields, follow_redirects=False).status_code == 303
    assert said(app)[-2:] == [
        f"Procedure Record / Review of an automatic answer: comment by vera about {HELD}",
        "Query by vera about /cases/{job_id}/comment",
    ]


def test_the_same_look_is_told_again_after_a_while(app: FastAPI) -> None:
    trail_of_all = auditing.Audits(app, app.state.audit, app.state.database, auditing.Told(0))
    with TestClient(trail_of_all, base_url="http://localhost:8080") as browser:
        headers = {"Authorization": f"Bearer {token_of(app, Role.VIEWER, 'viewer')}"}
        for _ in range(2):
            browser.get(f"/api/studies/{HELD_STUDY}", headers=headers)
    # Once by the application itself, which remembers, and twice by the one around it.
    assert said(app) == [f"DICOM Instances Accessed by token:viewer about {HELD}"] * 3


def test_no_address_is_forgotten(app: FastAPI) -> None:
    assert auditing.unaudited(app) == []
    app_with_a_slip = FastAPI()
    app_with_a_slip.get("/patients/{who}")(lambda who: who)
    assert "/patients/{who}" in auditing.unaudited(app_with_a_slip)


# The files


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with small audit files."""
    return Settings(data_dir=tmp_path, audit={"largest_mib": 0.001})


def test_files_are_for_us_alone_and_begin_anew_by_size_and_day(settings: Settings) -> None:
    written = AuditTrail(settings)
    for _ in range(4):
        written.write(events.application(written.system, starts=True))
    assert len(messages(written.folder)) == 4
    first, second = trail.files(written.folder)
    assert (first.name[-8:], second.name[-8:]) == ("-000.log", "-001.log")
    assert first.stat().st_mode & 0o077 == written.folder.stat().st_mode & 0o077 == 0
    for path in (second, first):
        path.rename(path.with_name(path.name.replace(f"{datetime.now(UTC):%Y%m%d}", "20260101")))
    written.write(events.application(written.system, starts=False))
    days = [path.name[6:14] for path in trail.files(written.folder)]
    assert days == ["20260101", "20260101", f"{datetime.now(UTC):%Y%m%d}"]


def test_many_writers_mix_no_lines(settings: Settings) -> None:
    def write(_: int) -> None:
        own = AuditTrail(settings)
        for _ in range(20):
            own.write(events.application(own.system, starts=True))

    at_once(write, range(4))
    assert len(messages(trail.folder_of(settings))) == 80


def test_what_a_disk_does_not_take_is_said_stops_nobody_and_is_written_when_it_does(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    own = AuditTrail(settings)
    own.folder.write_bytes(b"no folder")
    own.write(events.application(own.system, starts=True))
    assert "audit messages cannot be written" in "".join(capfd.readouterr())
    assert own.flush() == 1
    own.folder.unlink()
    AuditTrail(settings).write(events.application(own.system, starts=False))
    assert own.flush() == 0
    started, stopped = (told(message) for message in messages(own.folder))
    assert ("Application Start" in started, "Application Stop" in stopped) == (True, True)


# The log server


class LogServer:
    """A syslog server over TLS that reads octet-counted messages (RFC 5425)."""

    def __init__(self, tls: TlsFiles, port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls.certificate, tls.key)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.received: list[bytes] = []
        self._connections: list[ssl.SSLSocket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), self._context.wrap_socket(plain, server_side=True) as connection:
                self._connections.append(connection)
                with connection.makefile("rb") as stream:
                    while length := b"".join(iter(lambda: stream.read(1).strip(), b"")):
                        self.received.append(stream.read(int(length)))

    def close(self) -> None:
        for sock in (self._listener, *self._connections):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes who waits there
            sock.close()
        self._thread.join(5)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """An authority and a certificate for this machine."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


def test_a_log_server_gets_everything_in_order_however_often_it_is_down(
    settings: Settings, tls: TlsFiles, capfd: pytest.CaptureFixture[str]
) -> None:
    own = AuditTrail(settings)

    def write(*logins: str) -> None:
        for login in logins:
            own.write(events.user_changed(own.system, events.Actor("ada"), login, "added"))

    port = services.free_port()
    forwarder = Forwarder(own.folder, SyslogSettings(host="localhost", port=port, ca=tls.ca))
    write("a", "b", "c")  # before anybody listens
    forwarder.start()
    started = time.monotonic()
    write("d")
    assert time.monotonic() - started < 1  # nobody waits for the log server
    server = LogServer(tls, port)
    services.wait_until(lambda: len(server.received) == 4, 20, "four messages")
    server.close()
    write("e", "f")
    again = LogServer(tls, port)
    services.wait_until(lambda: len(again.received) >= 2, 20, "two more messages")
    write("g")
    forwarder.stop(5)
    again.close()
    lines = dict.fromkeys([*server.received, *again.received])  # what was on its way may come twice
    subjects = [
        checked(line.decode().split("\ufeff")[1]).find("ParticipantObjectIdentification").get("ParticipantObjectID")
        for line in lines
    ]
    assert subjects == list("abcdefg")
    assert b"\n".join(lines) + b"\n" == b"".join(path.read_bytes() for path in trail.files(own.folder))
    assert "log server cannot be reached" in "".join(capfd.readouterr())
    # The next start goes on from there.
    server = LogServer(tls, port)
    write("h")
    forwarder = Forwarder(own.folder, SyslogSettings(host="localhost", port=port, ca=tls.ca))
    forwarder.start()
    services.wait_until(lambda: server.received, 20, "one message")
    forwarder.stop(5)
    server.close()
    assert len(server.received) == 1


def test_a_log_server_that_nobody_vouches_for_gets_nothing(settings: Settings, tls: TlsFiles) -> None:
    own = AuditTrail(settings)
    own.write(events.application(own.system, starts=True))
    server = LogServer(tls)
    forwarder = Forwarder(own.folder, SyslogSettings(host="localhost", port=server.port))
    forwarder.start()
    forwarder.stop(5)
    server.close()
    assert server.received == []


# Other ways to a patient's data


def test_instances_that_come_and_go_are_told_with_both_ends(app: FastAPI, tmp_path: Path) -> None:
    instance = ct_slice("audited", StudyInstanceUID="1.2.3")
    boundary = new_boundary()
    body = part_head(boundary, "application/dicom") + write_file(instance, tmp_path / "sent.dcm").read_bytes()
    headers = {
        "Authorization": f"Bearer {token_of(app, Role.REVIEWER, 'modality')}",
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
    }
    assert (
        browser_of(app).post("/dicom-web/studies", content=body + closing(boundary), headers=headers).status_code == 200
    )
    database = app.state.database
    with database.reading() as session:
        sent = [delivery.id for delivery in session.query(Delivery)]
    record_sent(app.state.audit, database, sent, "pacs", "pacs.example", "PACS")
    assert said(app) == [
        f"DICOM Instances Transferred by STOW-RS about 1.2.3,{instance.PatientID}",
        f"DICOM Instances Transferred by {app.state.audit.system.process_id} about {RELEASED_STUDY},P-ACC-1",
    ]


def test_commands_tell_who_looked_and_decided(app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "linux-user")
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(app.state.settings.data_dir)}), encoding="utf-8")
    for words in (
        ("studies", "--search", "ACC"),
        ("study", "ACC-2"),
        ("review", "list"),
        ("review", "show", HELD_JOB),
        ("review", "reject", HELD_JOB, "--reviewer", "Curie^Marie", "--reason", "blurred"),
        ("users", "set-role", "vera", "reviewer"),
    ):
        done = CliRunner().invoke(cli, [*words, "--config", str(file)])
        assert done.exit_code == 0, done.output
    assert said(app) == [
        "Query by linux-user about dicom-worker studies",
        f"DICOM Instances Accessed by linux-user about {HELD}",
        "Query by linux-user about dicom-worker review list",
        f"DICOM Instances Accessed by linux-user about {HELD}",
        f"Procedure Record / Review of an automatic answer: reject by linux-user about {HELD}",
        "Security Alert / Security Roles Changed by linux-user about vera",
    ]
