"""Messages reach systems that do not speak DICOM, and what these answer is understood."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.http_server import HttpServer, HttpServerError
from dicom_node.scu import StoreOutcome
from dicom_node.status import Outcome
from dicom_node.tls import server_context
from tests.message_peers import SECRET, fhir_server, ris, webhook_receiver
from tests.scripted_server import scripted_server
from tests.services import free_port
from tests.services.process import LOCALHOST
from tests.statements import signed, statement
from tests.tls_files import TlsFiles, make_tls_files
from worker.channels import UnreachableError, channel_of
from worker.db.outbox import Parcel
from worker.messages import fhir, hl7v2, mllp
from worker.settings import Settings, SettingsError, load_settings

HOOK = {"kind": "webhook", "name": "hook", "secret": SECRET}
EVENT = b'{"specversion":"1.0","id":"7f6c1a52-0000-8000-8000-000000000001","data":{"patient":"M\xc3\xbcller"}}'


@pytest.fixture(scope="module")
def bundles() -> tuple[bytes, bytes]:
    """A preliminary answer, and the same as it was signed."""
    made = statement()
    told = fhir.build_bundle(made)
    return told, fhir.build_bundle(signed(made), told)


@pytest.fixture(scope="module")
def orus() -> tuple[bytes, bytes]:
    made = statement()
    told = hl7v2.build_oru(made)
    return told, hl7v2.build_oru(signed(made), told)


def destination(folder: Path, **values: Any) -> Settings:
    return Settings(data_dir=folder, destinations=[{"name": "there", **values}], delivery={"timeout_s": 0.5})


def send(folder: Path, settings: Settings, messages: Sequence[bytes]) -> list[StoreOutcome]:
    parcels = []
    for number, message in enumerate(messages):
        path = folder / f"{number}.message"
        path.write_bytes(message)
        parcels.append(Parcel(number, "token", f"2.25.{number}", path, settings.destinations[0].kind))
    (target,) = settings.destinations
    outcomes = list(channel_of(target).send(settings, target, parcels))
    assert [outcome.path for outcome in outcomes] == [parcel.path for parcel in parcels]
    return outcomes


def classes(outcomes: Sequence[StoreOutcome]) -> list[tuple[Outcome, bool]]:
    return [(outcome.klass, outcome.is_associated) for outcome in outcomes]


def check(settings: Settings) -> None:
    (target,) = settings.destinations
    channel_of(target).check(settings, target)


def test_a_fhir_server_keeps_one_report_however_often_it_is_sent(tmp_path: Path, bundles: tuple[bytes, bytes]) -> None:
    with fhir_server() as server:
        settings = destination(tmp_path, kind="fhir", url=server.url, token="let-me-in")
        check(settings)
        told, final = bundles
        assert classes(send(tmp_path, settings, [told, told, final])) == [(Outcome.DELIVERED, True)] * 3
        (report,) = server.of("DiagnosticReport")
        (observation,), (device,) = server.of("Observation"), server.of("Device")
        assert (report["status"], observation["status"]) == ("final", "final")
        assert report["result"][0]["reference"] == f"Observation/{observation['identifier'][0]['value']}"
        assert observation["device"]["reference"] == f"Device/{device['identifier'][0]['value']}"
        assert {fields["Authorization"] for fields in server.seen} == {"Bearer let-me-in"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, (Outcome.PERMANENT, True)),
        (422, (Outcome.PERMANENT, True)),
        (412, (Outcome.PERMANENT, True)),
        (409, (Outcome.TRANSIENT, True)),
        (500, (Outcome.TRANSIENT, True)),
        (401, (Outcome.TRANSIENT, False)),
        (503, (Outcome.TRANSIENT, False)),
    ],
)
def test_a_refusal_is_about_the_message_or_about_the_server(
    tmp_path: Path, bundles: tuple[bytes, bytes], status: int, outcome: tuple[Outcome, bool]
) -> None:
    with fhir_server() as server:
        server.refusals = [status]
        settings = destination(tmp_path, kind="fhir", url=server.url, username="node", password="never-shown")
        first, second = send(tmp_path, settings, bundles)
        assert classes([first]) == [outcome]
        assert f"HTTP {status}" in first.message
        assert "not today" in first.message
        assert "never-shown" not in first.message + repr(settings)
        # Where the server as a whole is at fault, the rest of the batch is spared the attempt.
        assert classes([second]) == [(Outcome.DELIVERED, True) if outcome[1] else (Outcome.TRANSIENT, False)]


def test_a_patient_that_the_server_lacks_costs_that_message_and_no_other(
    tmp_path: Path, bundles: tuple[bytes, bytes]
) -> None:
    with fhir_server() as server:
        settings = destination(tmp_path, kind="fhir", url=f"{server.url}/", patient_system="urn:oid:1.2.3")
        (refused,) = send(tmp_path, settings, bundles[:1])
        assert classes([refused]) == [(Outcome.PERMANENT, True)]
        assert "no resource matches" in refused.comment
        server.patients.add("urn:oid:1.2.3|1CT1")
        assert classes(send(tmp_path, settings, bundles[:1])) == [(Outcome.DELIVERED, True)]
        (elsewhere,) = send(tmp_path, destination(tmp_path, kind="fhir", url=f"{server.url}/x"), bundles[:1])
        assert classes([elsewhere]) == [(Outcome.TRANSIENT, False)], "a wrong address is no fault of the message"


def test_a_page_that_answers_200_is_not_taken_for_a_transaction(tmp_path: Path, bundles: tuple[bytes, bytes]) -> None:
    half = {"resourceType": "Bundle", "entry": [{"response": {"status": "201"}}, {"response": {"status": "404"}}]}
    for body in (b"<html>log in</html>", {"resourceType": "Bundle"}, [], half):
        with scripted_server((200, body)) as server:
            settings = destination(tmp_path, kind="fhir", url=server.url)
            (outcome,) = send(tmp_path, settings, bundles[:1])
            assert classes([outcome]) == [(Outcome.TRANSIENT, False)]
            with pytest.raises(UnreachableError, match="no FHIR server"):
                check(settings)


def test_a_server_of_another_fhir_version_is_named(tmp_path: Path) -> None:
    capability = {"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}
    with (
        scripted_server((200, capability)) as server,
        pytest.raises(UnreachableError, match=r"speaks FHIR 5\.0\.0; messages are R4"),
    ):
        check(destination(tmp_path, kind="fhir", url=server.url))


@pytest.mark.parametrize("kind", ["fhir", "hl7", "webhook"])
def test_what_is_not_there_costs_nothing_and_is_not_asked_twice(tmp_path: Path, kind: str) -> None:
    port = free_port()
    place: dict[str, Any] = {"host": LOCALHOST, "port": port} if kind == "hl7" else {"url": f"http://localhost:{port}"}
    place |= {"secret": SECRET} if kind == "webhook" else {}
    settings = destination(tmp_path, kind=kind, **place)
    messages = {"fhir": b'{"entry": []}', "hl7": b"MSH|^~\\&|\r", "webhook": EVENT}
    outcomes = send(tmp_path, settings, [messages[kind]] * 3)
    assert classes(outcomes) == [(Outcome.TRANSIENT, False)] * 3
    with pytest.raises(UnreachableError):
        check(settings)


def test_a_ris_gets_each_message_once_and_in_order(tmp_path: Path, orus: tuple[bytes, bytes]) -> None:
    with ris() as there:
        settings = destination(
            tmp_path, kind="hl7", host=LOCALHOST, port=there.port, receiving_application="RIS", sending_facility="AI"
        )
        check(settings)
        assert classes(send(tmp_path, settings, orus)) == [(Outcome.DELIVERED, True)] * 2
        assert there.control_ids == [hl7v2.control_id(message) for message in orus]
        first = there.messages[0].segment("MSH")
        assert [str(first[number]) for number in range(3, 7)] == ["DICOMWORKER", "AI", "RIS", ""]
        assert [str(message["OBR.F25"]) for message in there.messages] == ["P", "F"]
        send(tmp_path, settings, orus[:1])
        assert there.control_ids[2] == there.control_ids[0], "a repeat must be known by its control ID"


WRONG_ID = b"\x0bMSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|AA|another\r\x1c\r"


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        ("AE", Outcome.PERMANENT, "AE"),
        ("AE|ERR|||207^Application internal error^HL70357|E", Outcome.TRANSIENT, "207"),
        ("AR", Outcome.TRANSIENT, "AR"),
        ("AR|ERR|||203^Unsupported version^HL70357|E||||speak 2.3", Outcome.PERMANENT, "speak 2.3"),
        ("CA", Outcome.DELIVERED, ""),
        ("ZZ", Outcome.TRANSIENT, "no acknowledgement code"),
        (WRONG_ID, Outcome.TRANSIENT, "answered message 'another'"),
        (b"\x0bhello\x1c\r", Outcome.TRANSIENT, "no acknowledgement"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\x1c\r", Outcome.TRANSIENT, "no acknowledgement"),
        (None, Outcome.TRANSIENT, "does not answer in time"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_ris_answers_is_understood(
    tmp_path: Path, orus: tuple[bytes, bytes], answer: str | bytes | None, outcome: Outcome, words: str
) -> None:
    with ris() as there:
        there.answers = [answer]
        settings = destination(tmp_path, kind="hl7", host=LOCALHOST, port=there.port)
        (found,) = send(tmp_path, settings, orus[:1])
        assert classes([found]) == [(outcome, True)]
        assert words in found.comment


def test_a_ris_that_hangs_up_or_drips_is_given_up_in_time(tmp_path: Path, orus: tuple[bytes, bytes]) -> None:
    for behave in (lambda line: line.close(), _drip):
        with _raw_server(behave) as port:
            settings = destination(tmp_path, kind="hl7", host=LOCALHOST, port=port)
            (outcome,) = send(tmp_path, settings, orus[:1])
            assert outcome.klass is Outcome.TRANSIENT


def _drip(line: socket.socket) -> None:
    for _ in range(100):
        try:
            line.sendall(b"\x0b")
        except OSError:
            return
        threading.Event().wait(0.05)


@contextmanager
def _raw_server(behave: Any) -> Iterator[int]:
    with socket.create_server((LOCALHOST, 0)) as server:

        def serve() -> None:
            line, _ = server.accept()
            with line:
                line.recv(1000)
                behave(line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_webhook_is_signed_so_that_its_origin_can_be_checked(tmp_path: Path) -> None:
    with webhook_receiver() as receiver:
        settings = destination(tmp_path, **{**HOOK, "name": "there", "url": receiver.url})
        check(settings)
        assert classes(send(tmp_path, settings, [EVENT, EVENT])) == [(Outcome.DELIVERED, True)] * 2
        assert receiver.events == [json.loads(EVENT)]
        assert receiver.repeated == [json.loads(EVENT)["id"]]
        other = destination(tmp_path, **{**HOOK, "name": "there", "url": receiver.url, "secret": SECRET[:-4] + "AAA="})
        (refused,) = send(tmp_path, other, [EVENT])
        assert (receiver.forged, refused.klass) == (1, Outcome.PERMANENT)
        assert SECRET not in refused.message + repr(other) + other.model_dump_json()


def test_a_receiver_can_change_its_secret_without_losing_an_event(tmp_path: Path) -> None:
    with webhook_receiver() as receiver:
        values = {**HOOK, "name": "there", "url": receiver.url, "secret": SECRET[:-4] + "AAA="}
        settings = destination(tmp_path, **values, former_secret=SECRET)
        assert classes(send(tmp_path, settings, [EVENT])) == [(Outcome.DELIVERED, True)]
        assert (len(receiver.events), receiver.forged) == (1, 0)
    assert SECRET not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("status", "fields", "outcome", "pause_s"),
    [
        (410, {}, (Outcome.PERMANENT, True), 0),
        (429, {"Retry-After": "120"}, (Outcome.TRANSIENT, False), 120),
        (503, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, (Outcome.TRANSIENT, False), 86_400),
        (503, {"Retry-After": "soon"}, (Outcome.TRANSIENT, False), 0),
        (302, {"Location": "http://localhost/elsewhere"}, (Outcome.TRANSIENT, False), 0),
    ],
)
def test_what_a_webhook_receiver_answers_is_understood(
    tmp_path: Path, status: int, fields: dict[str, str], outcome: tuple[Outcome, bool], pause_s: float
) -> None:
    with webhook_receiver() as receiver:
        receiver.refusals = [(status, fields)]
        settings = destination(tmp_path, **{**HOOK, "name": "there", "url": receiver.url})
        (found,) = send(tmp_path, settings, [EVENT])
        assert classes([found]) == [outcome]
        assert found.retry_after_s == pause_s


def test_tls_is_kept_to(tmp_path: Path, orus: tuple[bytes, bytes]) -> None:
    files: TlsFiles = make_tls_files(tmp_path)
    with scripted_server((204, b""), tls=server_context(files.certificate, files.key)) as server:
        url = server.url.replace(LOCALHOST, "localhost")
        trusted = destination(tmp_path, **{**HOOK, "name": "there", "url": url, "ca": files.ca})
        strict = destination(tmp_path, **{**HOOK, "name": "there", "url": url})
        assert send(tmp_path, trusted, [EVENT])[0].klass is Outcome.DELIVERED
        (refused,) = send(tmp_path, strict, [EVENT])
        assert classes([refused]) == [(Outcome.TRANSIENT, False)]


def test_a_message_that_is_gone_or_none_of_ours_is_a_dead_letter(tmp_path: Path) -> None:
    with ris() as there:
        settings = destination(tmp_path, kind="hl7", host=LOCALHOST, port=there.port)
        (outcome,) = send(tmp_path, settings, [b"no message"])
        assert classes([outcome]) == [(Outcome.PERMANENT, True)]
        (target,) = settings.destinations
        gone = Parcel(1, "token", "2.25.1", tmp_path / "gone", "hl7")
        (outcome,) = channel_of(target).send(settings, target, [gone])
        assert outcome.klass is Outcome.PERMANENT
        assert not there.messages


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "fhir", "url": "https://node:pass-word@fhir.example/r4"}, "holds credentials"),
        ({"kind": "fhir", "url": "fhir.example"}, "no address"),
        ({"kind": "fhir", "url": "https://fhir.example", "token": "pass-word", "username": "me"}, "one of them"),
        ({"kind": "webhook", "url": "https://a.example", "secret": "pass-word"}, "not base64"),
        ({"kind": "webhook", "url": "https://a.example", "secret": "whsec_cGFzcy13b3Jk"}, "9 bytes"),
        ({"kind": "webhook", "url": "https://a.example"}, "secret: Field required"),
        ({"kind": "webhook", "url": "https://a.example", "secret": SECRET, "former_secret": "pass-word"}, "not base64"),
        ({"kind": "webhook", "url": "https://a.example", "secret": SECRET, "events": ["lost"]}, "events"),
        ({"kind": "hl7", "host": "ris", "port": 2575, "tls": True}, "dicom.tls names no certificates"),
        ({"kind": "hl7", "host": "ris", "port": 2575, "associations": 2}, "associations"),
        ({"kind": "fax"}, "dicom, stow, fhir, hl7, webhook"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_repeating_a_secret(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(overrides={"data_dir": tmp_path, "destinations": [{"name": "there", **values}]})
    assert "pass-word" not in str(caught.value)
    assert "cGFzcy13b3Jk" not in str(caught.value)


def test_the_address_that_is_shown_holds_no_key(tmp_path: Path) -> None:
    server = HttpServer("https://hooks.example/in?key=pass-word")
    assert str(server) == "https://hooks.example/in"
    settings = destination(tmp_path, **{**HOOK, "name": "there", "url": server.url})
    assert settings.destinations[0].address == "https://hooks.example/in"
    with pytest.raises(HttpServerError):
        HttpServer("http://[::1")


def test_an_answer_in_two_pieces_is_read_as_one(orus: tuple[bytes, bytes]) -> None:
    control = hl7v2.control_id(orus[0])

    def answer(line: socket.socket) -> None:
        block = f"\x0bMSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|AA|{control}\r\x1c\r".encode()
        for piece in (block[:7], block[7:-1], block[-1:]):
            line.sendall(piece)
            threading.Event().wait(0.02)

    with _raw_server(answer) as port:
        found = mllp.send(mllp.Receiver(LOCALHOST, port), orus[0], control, 2)
        assert found.klass is Outcome.DELIVERED


def test_the_time_of_sending_is_part_of_the_signature() -> None:
    from worker.webhook_signature import signed_headers

    early, late = (signed_headers("id", EVENT, [SECRET], datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 2))
    assert early["webhook-id"] == late["webhook-id"]
    assert early["webhook-signature"] != late["webhook-signature"]
