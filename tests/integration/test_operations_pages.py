"""The pages of operations as each role meets them: empty and filled, and what an administrator can set going."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage
from sqlalchemy import select, update

from dicom_node.report import Person
from tests.audit_schema import messages, told
from tests.ledger_rows import HELD_JOB, RELEASED_JOB, fill_ledger
from tests.people import PASSWORD, browser_of, csrf_of, log_in, quick_hashes, token_of
from tests.services import StoreScp
from tests.services.process import free_port
from tests.web_server import web_settings
from worker import review
from worker.audit.trail import folder_of
from worker.db import refusals
from worker.db.columns import utc_now
from worker.db.process_reports import report
from worker.db.records import Delivery, Event, Job, Review, Series
from worker.people import accounts
from worker.roles import Role
from worker.settings import DicomDestination
from worker.states import DeliveryState, JobState, SeriesState
from worker.web.app import create_app

PAGES = (
    "pipeline",
    "failures",
    "failures?show=unconfirmed",
    "failures?show=jobs",
    "failures?show=waiting",
    "destinations",
    "adapters",
    "rules",
)
RULE = "- {name: x, when: {modality: CT}, adapter: flare}"
UNROUTED = "/studies/3/routes"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The application with three studies and a user of each role."""
    settings = web_settings(tmp_path_factory.mktemp("operations"), login="required")
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    settings = settings.model_copy(update={"destinations": [pacs]})
    fill_ledger(settings)
    made = create_app(settings)
    with quick_hashes(), TestClient(made):
        with made.state.database.writing() as session:
            for role in Role:
                accounts.add(session, role.value, role, person_name="Curie^Marie", password=PASSWORD)
        yield made


def as_role(app: FastAPI, role: Role) -> TestClient:
    browser = browser_of(app)
    with quick_hashes():
        log_in(browser, role.value)
    return browser


def change(app: FastAPI, table: type, row_id: object, **columns: object) -> None:
    with app.state.database.writing() as session:
        session.execute(update(table).where(table.id == row_id).values(**columns))  # type: ignore[attr-defined]


@pytest.fixture
def administrator(app: FastAPI) -> TestClient:
    """A browser of an administrator."""
    return as_role(app, Role.ADMINISTRATOR)


def test_every_page_says_what_to_do_where_there_is_nothing(tmp_path: Path) -> None:
    with TestClient(create_app(web_settings(tmp_path)), base_url="http://localhost:8080") as browser:
        shown = {page: browser.get(f"/operations/{page}") for page in PAGES}
    assert {answer.status_code for answer in shown.values()} == {200}
    for page, words in (
        ("pipeline", "Start the daemon with <code>dicom-worker run</code>"),
        ("failures", "No delivery was given up"),
        ("failures?show=unconfirmed", "Every destination that was asked vouched"),
        ("failures?show=jobs", "has an answer to look at"),
        ("failures?show=waiting", "Nothing is on its way"),
        ("destinations", "Add one to <code>destinations</code>"),
        ("adapters", "nobody has decided about an answer yet"),
        ("rules", "The site has no rules of its own"),
    ):
        assert words in shown[page].text, page


def test_the_pipeline_shows_stages_processes_and_models(app: FastAPI, administrator: TestClient) -> None:
    process = {"name": "steps", "pid": 7, "alive": True, "up_s": 3700, "restarts": 2, "exit_code": 1}
    report(app.state.database, "supervisor", {"processes": [process]})
    device = {"device": "cuda:0", "device_name": "NVIDIA H100", "memory_used": 40 << 30, "memory_total": 80 << 30}
    engine = {"kind": "transformers", "resident": {"google/base": ["flare"]}, **device}
    report(app.state.database, "engine", engine)
    report(app.state.database, "broker", {"reachable": True, "rings": {"steps": 3}})
    page, part = (administrator.get(f"/operations/{name}").text for name in ("pipeline", "pipeline/now"))
    assert page.split('<div data-live="/operations/pipeline/now"')[1].count("<li") == part.count("<li")
    assert "<html" not in part
    for words in (
        "NVIDIA H100",
        "40.0 of 80.0 GiB",
        "google/base",
        "1 h 01 min",
        "broker reachable",
        "steps: 3",
        "GiB free of ",
        "held",
    ):
        assert words in part, words
    assert administrator.get("/operations/adapters").text.count(">in memory<") == 1


def test_a_dead_letter_is_sent_again_by_an_administrator_alone(app: FastAPI, administrator: TestClient) -> None:
    form = {"delivery": "1", "show": "dead"}
    for role in (Role.VIEWER, Role.REVIEWER):
        browser = as_role(app, role)
        page = browser.get("/operations/failures").text
        assert "refused: no" in page
        assert "Send again" not in page
        answer = browser.post("/operations/resend", data={**form, "csrf_token": csrf_of(browser)})
        assert answer.status_code == 403
    assert administrator.post("/operations/resend", data=form).status_code == 403  # no token of a page
    assert "Send again" in administrator.get("/operations/failures").text
    assert "Send all 1 again" in administrator.get("/operations/destinations").text
    form["csrf_token"] = csrf_of(administrator)
    assert "1 deliveries queued again" in administrator.post("/operations/resend", data=form).text
    with app.state.database.reading() as session:
        assert session.get_one(Delivery, 1).state is DeliveryState.PENDING
        last = session.scalars(select(Event.reason).order_by(Event.id.desc()).limit(1)).one()
    assert last == "Curie^Marie (administrator) asked to send it again"
    again = administrator.post("/operations/resend", data={**form, "show": "destinations", "destination": "pacs"})
    assert "taken care of already" in again.text
    change(app, Delivery, 1, state=DeliveryState.DEAD)


def test_a_resend_is_told_to_the_audit_trail_in_the_same_words_however_it_was_asked(
    app: FastAPI, administrator: TestClient
) -> None:
    form = {"csrf_token": csrf_of(administrator)}
    machine = {"Authorization": f"Bearer {token_of(app, Role.ADMINISTRATOR)}"}
    before = len(messages(folder_of(app.state.settings)))
    for named in ({}, {"destination": "pacs"}):
        assert administrator.post("/operations/resend", data=form | named).is_success
        wanted = named or {"everything": True}
        assert browser_of(app).post("/api/deliveries/resend", json=wanted, headers=machine).is_success
    written = [told(message) for message in messages(folder_of(app.state.settings))[before:]]
    about = [line.split(" about ")[1] for line in written if "Software Configuration" in line]
    assert about == ["deliveries", "deliveries", "pacs", "pacs"]
    change(app, Delivery, 1, state=DeliveryState.DEAD)


def is_audited(app: FastAPI, what: str) -> bool:
    """Whether the audit trail has a message that describes this; descriptions are in Base64 there (PS3.15 A.5.1)."""
    described = b64encode(what.encode()).decode()
    return any(described in path.read_text(encoding="utf-8") for path in folder_of(app.state.settings).iterdir())


def test_what_waits_for_a_pause_is_tried_now_by_an_administrator_alone(app: FastAPI, administrator: TestClient) -> None:
    later = utc_now() + timedelta(minutes=10)
    change(app, Delivery, 1, state=DeliveryState.PENDING, not_before=later, last_error="transient: it is down", tries=3)
    viewer = as_role(app, Role.VIEWER)
    shown = viewer.get("/operations/destinations").text
    assert "cannot be delivered to" in shown
    assert ">it is down<" in shown
    assert "Try now" not in shown
    assert "1</a></b><span>waiting" in shown
    queue = viewer.get("/operations/failures?show=waiting&destination=pacs").text
    assert "ACC-1" in queue
    assert "next at" in queue
    assert "Send again" not in queue
    assert ">1</a></b>" in viewer.get("/operations/pipeline").text.split("delivering")[1]
    form = {"destination": "pacs", "csrf_token": csrf_of(viewer)}
    assert viewer.post("/operations/destinations/try-now", data=form).status_code == 403
    part = administrator.get("/operations/destinations/now").text
    assert "Try now" in part
    assert "<html" not in part
    form["csrf_token"] = csrf_of(administrator)
    assert "1 delivery is tried now" in administrator.post("/operations/destinations/try-now", data=form).text
    with app.state.database.reading() as session:
        assert session.get_one(Delivery, 1).not_before <= utc_now()
    assert "Nothing waited" in administrator.post("/operations/destinations/try-now", data=form).text
    assert is_audited(app, "1 waiting deliveries are tried at once")
    change(app, Delivery, 1, state=DeliveryState.DEAD, last_error="refused: no")


def test_an_administrator_asks_a_destination_whether_it_is_there(
    app: FastAPI, administrator: TestClient, storescp: StoreScp
) -> None:
    there = DicomDestination(name="pacs", ae_title=storescp.ae_title, host="127.0.0.1", port=storescp.port)
    gone = DicomDestination(name="gone", ae_title="GONE", host="127.0.0.1", port=free_port())
    before = app.state.settings
    app.state.settings = before.model_copy(update={"destinations": [there, gone]})
    viewer = as_role(app, Role.VIEWER)
    assert "Does it answer?" not in viewer.get("/operations/destinations").text
    form = {"destination": "pacs", "csrf_token": csrf_of(viewer)}
    assert viewer.post("/operations/destinations/check", data=form).status_code == 403
    form["csrf_token"] = csrf_of(administrator)
    assert administrator.get("/operations/destinations").text.count("Does it answer?") == 2
    assert "answers, within" in administrator.post("/operations/destinations/check", data=form).text
    shown = administrator.post("/operations/destinations/check", data={**form, "destination": "gone"}).text
    assert "does not answer: " in shown
    assert "Connection refused" in shown
    machine = {"Authorization": f"Bearer {token_of(app, Role.ADMINISTRATOR)}"}
    asked = browser_of(app).post("/api/destinations/check", json={"destination": "gone"}, headers=machine).json()
    assert (asked["answers"], "refused" in asked["trouble"]) == (False, True)
    unknown = browser_of(app).post("/api/destinations/check", json={"destination": "x"}, headers=machine)
    assert unknown.status_code == 404
    app.state.settings = before


def test_what_a_destination_was_learned_to_refuse_is_shown_and_asked_again(
    app: FastAPI, administrator: TestClient
) -> None:
    with app.state.database.writing() as session:
        refusals.learn(
            session, "pacs", [ComprehensiveSRStorage, EnhancedSRStorage], "permanent: 0x0122 <not> supported"
        )
    viewer = as_role(app, Role.VIEWER)
    shown = viewer.get("/operations/destinations").text
    for words in ("Comprehensive SR Storage", "Enhanced SR Storage", ">0x0122 &lt;not&gt; supported<"):
        assert words in shown
    assert "Ask again" not in shown
    form = {"destination": "pacs", "sop_class_uid": EnhancedSRStorage, "csrf_token": csrf_of(viewer)}
    assert viewer.post("/operations/destinations/ask-again", data=form).status_code == 403
    form["csrf_token"] = csrf_of(administrator)
    answer = administrator.post("/operations/destinations/ask-again", data=form).text
    assert "1 refused kind of object will be offered again" in answer
    assert "Enhanced SR Storage" not in answer
    assert "Comprehensive SR Storage" in answer
    machine = {"Authorization": f"Bearer {token_of(app, Role.ADMINISTRATOR)}"}
    browser = browser_of(app)
    (pacs,) = browser.get("/api/destinations", headers=machine).json()
    (left,) = pacs["refused"]
    assert (left["name"], left["said"]) == ("Comprehensive SR Storage", "0x0122 <not> supported")
    asked = browser.post("/api/destinations/ask-again", json={"destination": "pacs"}, headers=machine)
    assert asked.json() == {"offered_again": 1}
    assert "Does not take" not in administrator.get("/operations/destinations").text
    assert is_audited(app, "1 refused kinds of object are offered again")


def test_a_job_without_an_answer_is_tried_again_by_an_administrator_alone(
    app: FastAPI, administrator: TestClient
) -> None:
    change(app, Job, HELD_JOB, parsed=False, error="<b>no JSON</b>")
    page = administrator.get("/operations/failures?show=jobs").text
    assert "&lt;b&gt;no JSON" in page
    reviewer = as_role(app, Role.REVIEWER)
    address = f"/operations/jobs/{HELD_JOB}/retry"
    assert reviewer.post(address, data={"csrf_token": csrf_of(reviewer)}).status_code == 403
    assert "1 jobs queued again" in administrator.post(address, data={"csrf_token": csrf_of(administrator)}).text
    again = administrator.post(address, data={"csrf_token": csrf_of(administrator)})
    assert again.status_code == 409
    assert "it is queued" in again.text
    change(app, Job, HELD_JOB, state=JobState.HELD, parsed=True)


def test_why_a_job_is_not_tried_again_is_told_with_the_readers_times(app: FastAPI, administrator: TestClient) -> None:
    other = Person("Lovelace^Ada", "St Elsewhere")
    assert review.claim(app.state.database, HELD_JOB, other, 60) is not None
    form = {"csrf_token": csrf_of(administrator)}
    refused = administrator.post(f"/operations/jobs/{HELD_JOB}/retry", data=form)
    assert review.release(app.state.database, HELD_JOB, other)
    assert refused.status_code == 409
    why = refused.text.split('class="trouble" role="alert">')[1].split("</p>")[0]
    assert why.startswith(f"Ada Lovelace has job {HELD_JOB} open since <time datetime=")
    assert (why.count("</time>"), "UTC" in why) == (2, False)


def test_rules_are_tried_by_a_reviewer_and_mistakes_are_told_line_by_line(app: FastAPI) -> None:
    viewer, reviewer = as_role(app, Role.VIEWER), as_role(app, Role.REVIEWER)
    assert "Trying rules is for the role reviewer" in viewer.get("/operations/rules").text
    form = {"text": RULE, "days": "2", "csrf_token": csrf_of(viewer)}
    assert viewer.post("/operations/rules/replay", data=form).status_code == 403
    form["csrf_token"] = csrf_of(reviewer)
    wrong = reviewer.post("/operations/rules/replay", data={**form, "text": "- {name: x, when: {modalty: CT}}"})
    assert wrong.status_code == 400
    for words in (
        "rule 1 (x): when.modalty: unknown setting",
        "rule 1 (x): adapter: Field required",
        "{name: x, when: {modalty: CT}}",
    ):
        assert words in wrong.text
    begun = reviewer.post("/operations/rules/replay", data=form)
    app.state.replays.wait(begun.url.path.rpartition("/")[2], 20)
    shown = reviewer.get(begun.url.path).text
    assert "No series was routed in the last 2 days" in shown
    assert "adapter: flare" in shown
    assert "a restart forgets it" in shown
    assert begun.url.path in reviewer.get("/operations/rules").text, "what was tried lately is found again"
    again = re.findall(r'href="(/operations/rules\?again=[^"#]+)', shown)[0]
    assert "name: x" in reviewer.get(again).text.split("<textarea")[1]
    (kept,) = [one for one in reviewer.get("/api/rules/replays").json() if one["id"] in begun.url.path]
    assert (kept["state"], kept["report"]) == ("done", None)
    assert reviewer.get("/operations/rules/replays/none").status_code == 404


def test_a_rate_is_shown_with_its_cases_and_few_are_said_to_be_few(app: FastAPI, administrator: TestClient) -> None:
    with app.state.database.writing() as session:
        session.add(Review(job_id=RELEASED_JOB, action="accept", reviewer_name="Curie^Marie", decided_at=utc_now()))
    shown = re.sub(r"<[^>]+>|\s+", " ", administrator.get("/operations/adapters").text)
    shown = re.sub(r" +", " ", shown)
    assert "1 of 1 accepted as it was few cases (95 %: 21 to 100 %)" in shown
    assert "100 %:" not in shown, "no percentage of a single case"
    assert "not how often the adapter is right on all studies" in shown


def test_a_study_is_explained_without_naming_it_in_an_address(app: FastAPI) -> None:
    viewer = as_role(app, Role.VIEWER)
    found = viewer.post("/operations/rules/explain", data={"q": "ACC-3", "csrf_token": csrf_of(viewer)})
    assert found.url.path == UNROUTED
    assert "Why there is no result yet" in found.text
    assert "modality MR is not accepted" in found.text
    missing = viewer.post("/operations/rules/explain", data={"q": "nothing", "csrf_token": csrf_of(viewer)})
    assert missing.status_code == 404
    assert "No study has this accession number" in missing.text
    assert viewer.get("/studies/99/routes").status_code == 404


def test_a_study_that_waits_says_for_what(app: FastAPI) -> None:
    change(app, Series, 3, state=SeriesState.RECEIVING)
    viewer = as_role(app, Role.VIEWER)
    for page in (UNROUTED, "/studies/3"):
        assert "Images are still expected; 1 are here" in viewer.get(page).text
    change(app, Series, 3, state=SeriesState.UNROUTED)


def test_pages_load_nothing_inline_and_label_everything(administrator: TestClient) -> None:
    for name in PAGES:
        page = administrator.get(f"/operations/{name}").text
        main = page.split("<main")[1].split("</main>")[0]
        assert "<script>" not in main
        assert "style=" not in main
        for field in re.findall(r"<(?:input|textarea|select|meter|progress)[^>]*>", main):
            named = 'type="hidden"' in field or "aria-label" in field
            known = re.search(r'id="([^"]+)"', field)
            assert named or (known and f'for="{known[1]}"' in main), field
        assert main.count("<h1") == 1
        # Where no script shows the reader's own.
        assert re.search(r"Times are <span data-zone>(UTC|\S+ \(UTC[+-]\d\d:\d\d\))</span>", page)
