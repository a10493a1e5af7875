"""The API as programs use it: operations, decisions, pages of lists, and the stream of what happens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update

from tests.ledger_rows import HELD_JOB, HELD_STUDY, RELEASED_JOB, UNROUTED_STUDY, fill_ledger
from tests.people import PASSWORD, browser_of, csrf_of, log_in, quick_hashes, token_of
from tests.web_server import web_server, web_settings
from worker.db.records import Delivery, Event, Job
from worker.db.transitions import record_event
from worker.people import accounts, sessions, tokens
from worker.roles import Role
from worker.states import DeliveryState, JobState
from worker.web import access, api_events, event_feed
from worker.web.app import create_app
from worker.web.event_feed import EventFeed

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The application with three studies and a reviewer."""
    settings = web_settings(tmp_path_factory.mktemp("api"), login="required")
    fill_ledger(settings)
    made = create_app(settings)
    with quick_hashes(), TestClient(made):
        with made.state.database.writing() as session:
            accounts.add(
                session, "marie", Role.REVIEWER, person_name="Curie^Marie", organization="H", password=PASSWORD
            )
        yield made


def as_machine(app: FastAPI, role: Role) -> TestClient:
    machine = browser_of(app)
    machine.headers["Authorization"] = f"Bearer {token_of(app, role)}"
    return machine


@pytest.fixture
def viewer(app: FastAPI) -> TestClient:
    """A program that may look."""
    return as_machine(app, Role.VIEWER)


def test_a_program_sees_what_the_pages_show(viewer: TestClient) -> None:
    stages = {stage["name"]: stage["count"] for stage in viewer.get("/api/pipeline").json()["stages"]}
    assert (stages["held"], stages["failed"]) == (1, 1)
    (former,) = viewer.get("/api/destinations").json()
    assert (former["name"], former["is_known"], former["dead"]) == ("pacs", False, 1)
    (dead,) = viewer.get("/api/deliveries", params={"state": "dead"}).json()["deliveries"]
    assert (dead["accession_number"], dead["last_error"]) == ("ACC-1", "refused: no")
    assert {"flare", "dsa_patency"} <= {one["name"] for one in viewer.get("/api/adapters").json()}
    assert viewer.get("/api/failures/jobs").json() == {"jobs": [], "next_offset": None}
    assert viewer.get("/api/rules").json()["yaml"] == "[]\n"
    why = viewer.get(f"/api/studies/{UNROUTED_STUDY}/why").json()
    assert (why["has_result"], why["reasons"][0]["state"]) == (False, "unrouted")
    assert viewer.get("/api/studies/ACC-3/routes").json()["left_out"] != []
    assert viewer.get("/api/studies/none/why").status_code == 404


def test_lists_lead_to_their_next_page(viewer: TestClient) -> None:
    seen, address = [], "/api/studies?limit=2"
    while address:
        answer = viewer.get(address)
        seen += [study["accession_number"] for study in answer.json()]
        address = answer.links.get("next", {}).get("url", "")
    assert sorted(seen) == ["ACC-1", "ACC-2", "ACC-3"]
    assert viewer.get("/api/review", params={"offset": 1}).json() == []
    first = viewer.get("/api/deliveries", params={"limit": 1}).json()
    assert first["next_before"] is None


def test_only_an_administrators_program_sends_again(app: FastAPI, viewer: TestClient) -> None:
    address = "/api/deliveries/resend"
    for role in (Role.VIEWER, Role.REVIEWER):
        assert as_machine(app, role).post(address, json={"everything": True}).status_code == 403
    administrator = as_machine(app, Role.ADMINISTRATOR)
    for wrong in ({}, {"everything": True, "job": "x"}, {"deliveries": []}, {"every": True}):
        assert administrator.post(address, json=wrong).status_code == 422
    assert administrator.post(address, json={"deliveries": [1], "job": HELD_JOB}).json() == {"queued_again": 0}
    assert administrator.post(address, json={"job": RELEASED_JOB}).json() == {"queued_again": 1}
    assert viewer.get("/api/deliveries").json()["deliveries"][0]["state"] == "pending"
    with app.state.database.writing() as session:
        session.execute(update(Delivery).values(state=DeliveryState.DEAD))


def test_rules_are_tried_and_a_second_one_waits(app: FastAPI, viewer: TestClient) -> None:
    reviewer = as_machine(app, Role.REVIEWER)
    rule = {"name": "x", "when": {"modality": "CT"}, "adapter": "flare"}
    assert viewer.post("/api/rules/replays", json={"rules": [rule]}).status_code == 403
    wrong = reviewer.post("/api/rules/replays", json={"rules": "- name: x"})
    assert (wrong.status_code, "when: Field required" in wrong.json()["detail"]) == (400, True)
    for rules in ([rule], json.dumps([rule])):
        begun = reviewer.post("/api/rules/replays", json={"rules": rules, "days": 0.5})
        assert begun.status_code == 202
        app.state.replays.wait(begun.json()["id"], 20)
        done = viewer.get(f"/api/rules/replays/{begun.json()['id']}").json()
        assert (done["state"], done["report"]["changed"]) == ("done", 0)
    held = threading.Event()

    def slow(_done: int, _of: int) -> None:
        held.wait(20)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("worker.web.replays._progress", lambda _run, *done: slow(*done))
        begun = reviewer.post("/api/rules/replays", json={"rules": []})
        assert "runs; wait until it is done" in reviewer.post("/api/rules/replays", json={"rules": []}).json()["detail"]
        held.set()
        app.state.replays.wait(begun.json()["id"], 20)
    assert reviewer.delete(f"/api/rules/replays/{begun.json()['id']}").json()["state"] == "done"
    assert viewer.get(f"/api/rules/replays/{'0' * 32}").status_code == 404


def test_people_decide_and_machines_do_not(app: FastAPI) -> None:
    machine = as_machine(app, Role.ADMINISTRATOR)
    refused = machine.post(f"/api/review/{HELD_JOB}/accept", json={})
    assert (refused.status_code, "person" in refused.json()["detail"]) == (403, True)
    seen = machine.get(f"/api/review/{HELD_JOB}").json()["seen"]
    for action in ("accept", "reject", "retry"):
        refused = machine.post(f"/cases/{HELD_JOB}/{action}", data={"seen": seen, "reason": "blurred"})
        assert (refused.status_code, "a decision needs a person" in refused.text) == (409, True), action
    marie = browser_of(app)
    log_in(marie, "marie")
    case = marie.get(f"/api/review/{HELD_JOB}").json()
    said = {"seen": case["seen"], "comment": "as I see it", "frames_seen": 3}
    assert marie.post(f"/api/review/{HELD_JOB}/accept", json=said).status_code == 403  # no token of a page
    marie.headers["X-CSRF-Token"] = csrf_of(marie)
    stale = marie.post(f"/api/review/{HELD_JOB}/accept", json={"seen": "something else"})
    assert (stale.status_code, "has changed" in stale.json()["detail"]) == (409, True)
    assert marie.post(f"/api/review/{HELD_JOB}/claim").json() == {"is_own": True, "reviewer_name": "Curie^Marie"}
    assert marie.post(f"/api/review/{HELD_JOB}/comment", json={"text": "look"}).status_code == 200
    assert marie.post(f"/api/review/{HELD_JOB}/reject", json={"reason": " "}).status_code == 409
    assert marie.post(f"/api/review/{HELD_JOB}/edit", json={"findings": {"x": 1}}).status_code == 409
    done = marie.post(f"/api/review/{HELD_JOB}/accept", json=said)
    assert (done.json()["state"], done.json()["already_sent"]) == ("accepted", [])
    (decided,) = (one for one in marie.get(f"/api/review/{HELD_JOB}").json()["reviews"] if one["action"] == "accept")
    assert (decided["shown"]["revision"], decided["shown"]["findings"]) == (case["revision"], case["findings"])
    assert decided["shown"]["frames_shown"] <= decided["shown"]["frames"]
    assert marie.post(f"/api/review/{HELD_JOB}/reject", json={"reason": "no", "frames_seen": -1}).status_code == 422
    assert marie.post(f"/api/review/{HELD_JOB}/undo").json()["state"] == "held"
    assert marie.post(f"/api/review/{HELD_JOB}/release").status_code == 200
    assert marie.post(f"/api/review/{'0' * 32}/accept", json={}).status_code == 404
    with app.state.database.reading() as session:
        assert session.get_one(Job, HELD_JOB).state is JobState.HELD


def test_text_that_postgresql_cannot_hold_is_refused(postgres_url: str, tmp_path: Path) -> None:
    settings = web_settings(tmp_path, postgres_url)
    with TestClient(create_app(settings), base_url="http://localhost:8080") as browser:
        for address in (
            *("/api/studies?search=%00", "/api/studies/%00", "/api/studies/%00/why", "/api/review/%00"),
            *("/api/deliveries?destination=%00", "/api/failures/jobs?adapter=%00"),
        ):
            assert browser.get(address).status_code == 422, address
        assert browser.post("/api/deliveries/resend", json={"job": "\0"}).status_code == 422
        assert browser.get("/operations/failures", params={"destination": "\0"}).status_code == 422


def test_the_document_names_answers_failures_and_how_to_show_a_token(viewer: TestClient) -> None:
    document = viewer.get("/api/openapi.json").json()
    assert document["security"] == [{"token": []}]
    for path, methods in document["paths"].items():
        if not path.startswith("/api/"):
            continue
        for method, described in methods.items():
            assert {"401", "403", "503"} <= set(described["responses"]), (method, path)
            assert described["summary"]
            fine = next(described["responses"][code] for code in ("200", "202") if code in described["responses"])
            assert all("schema" in content for content in fine["content"].values()), (method, path)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    there = {
        (method, path)
        for path, route in access.routes(cast(FastAPI, viewer.app))
        if path.startswith("/api/")
        for method in getattr(route, "methods", None) or ()
    }
    assert {one for one in there - described if one[0] != "HEAD"} == {("GET", "/api/openapi.json")}
    assert viewer.get("/api/studies").headers["cache-control"] == "no-store"


class Listener:
    """Somebody who reads the stream in a thread."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self.told: list[dict[str, str]] = []
        self.ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(url, headers or {}), daemon=True)
        self._thread.start()
        assert self.ready.wait(10)

    def _listen(self, url: str, headers: dict[str, str]) -> None:
        with httpx.stream("GET", url, headers={**STREAM, **headers}, timeout=20, trust_env=False) as answer:
            entry: dict[str, str] = {}
            for line in answer.iter_lines():
                if not line and entry:
                    self.told.append(entry)
                    if entry.get("event") == "ready":
                        self.ready.set()
                    entry = {}
                elif line:
                    name, _, value = line.partition(": ")
                    entry[name] = value
                if self._stop.is_set():
                    return

    def changes(self, at_least: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [json.loads(entry["data"]) for entry in list(self.told) if entry.get("event") == "change"]
            if len(found) >= at_least:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{at_least} changes were expected: {self.told}")

    def wait_for_end(self, longest_s: float) -> None:
        """Wait for the server to end the stream."""
        self._thread.join(longest_s)
        assert not self._thread.is_alive(), "the stream goes on"

    def stop(self) -> None:
        self._stop.set()


def test_what_happens_is_told_to_all_and_to_who_comes_back(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "LOOK_EVERY_S", 0.05)
    settings = web_settings(tmp_path, database_url)
    with web_server(settings) as served:
        fill_ledger(settings)
        url = f"{served.url}/api/events"
        assert httpx.get(url, trust_env=False).status_code == 406
        listeners = [Listener(url), Listener(url)]

        def happens(reason: str) -> None:
            with served.database.writing() as session:
                record_event(session, "job", HELD_JOB, study_id=2, reason=reason, to_state="held")

        happens(f"of Secret^Name in {HELD_STUDY}")
        for listener in listeners:
            (told,) = listener.changes(1)
            assert (told["subject"], told["subject_id"], told["study_id"], told["to_state"]) == (
                "job",
                HELD_JOB,
                2,
                "held",
            )
            assert set(told) == {"id", "at", "study_id", "subject", "subject_id", "from_state", "to_state"}
            assert "Secret" not in str(listener.told)
            listener.stop()
        happens("while nobody listens")
        happens("again")
        back = Listener(url, {"Last-Event-ID": str(told["id"])})
        assert [change["id"] for change in back.changes(2)] == [told["id"] + 1, told["id"] + 2]
        back.stop()
        with monkeypatch.context() as less:
            less.setattr(event_feed, "MISSED_AT_MOST", 1)
            late = Listener(f"{url}?after=0")
            happens("wakes it")
            late.changes(1)
        assert [entry["event"] for entry in late.told] == ["ready", "reset", "change"]
        late.stop()
        monkeypatch.setattr(event_feed, "OF_ONE_AT_MOST", 0)
        busy = httpx.get(url, headers=STREAM, trust_env=False)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "60")


def test_a_stream_ends_with_the_session_it_belongs_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(api_events, "ASKED_AGAIN_AFTER_S", 0.1)
    settings = web_settings(tmp_path, login="required")
    with web_server(settings) as served:
        with served.database.writing() as session:
            account = accounts.add(session, "vera", Role.VIEWER)
            token = sessions.begin(session, account, settings.web, "192.0.2.1", "")
            machine = tokens.add(session, "monitor", Role.VIEWER, 1)
        url = f"{served.url}/api/events"
        hers = Listener(url, {"Cookie": f"dicom_worker_session={token}"})
        monkeypatch.setattr(event_feed, "OF_ONE_AT_MOST", 1)  # others than her still find a place
        of_machine = Listener(url, {"Authorization": f"Bearer {machine}"})

        def happens() -> None:
            with served.database.writing() as session:
                record_event(session, "job", HELD_JOB, study_id=None, reason="", to_state="held")

        time.sleep(0.3)  # asked a few times
        happens()
        for listener in (hers, of_machine):
            listener.changes(1)
        with served.database.writing() as session:
            assert sessions.end(session, sessions.digest_of(token))
        hers.wait_for_end(5)
        happens()
        of_machine.changes(2)
        with served.database.writing() as session:
            tokens.revoke(session, "monitor")
        of_machine.wait_for_end(5)


def test_an_event_whose_transaction_commits_late_is_told_all_the_same(app: FastAPI) -> None:
    feed = EventFeed(app.state.database)
    feed._last = feed._newest()
    first = feed._last

    def add(number: int) -> None:
        with app.state.database.writing() as session:
            session.add(Event(id=number, subject="job", subject_id="x"))

    add(first + 2)
    assert [event.id for event in feed._read()] == [first + 2]
    assert feed._read() == []
    add(first + 1)
    assert [event.id for event in feed._read()] == [first + 1]
    assert feed._gaps == {}
