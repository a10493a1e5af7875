"""What others write, in headers, answers, names and errors, is text on every page: never markup, script or template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from lxml import html
from sqlalchemy import JSON, Enum, String, Text, select

from tests.ledger_rows import HELD_JOB, RELEASED_JOB, fill_ledger
from tests.people import PASSWORD, browser_of, log_in, quick_hashes
from tests.web_server import web_settings
from worker.db.columns import Record
from worker.db.records import Job, Review
from worker.people import accounts
from worker.roles import Role
from worker.web.app import create_app

#: Ends an attribute of either kind and an element, in a page, in JSON, and in a template.
HOSTILE = """x'"><pwned onfocus=alert(1)></script></textarea></title>{{7*7}}${7*7}"""
#: As hostile as a name of a user can be (VR PN).
HOSTILE_NAME = """x'"><pwned></script></title>{{7*7}}"""
#: Columns that are looked up, compared or parsed: they hold what this software made.
OURS = frozenset(
    {"account", "accession_number", "adapter", "claim_token", "claimed_by", "decision", "destination", "digest", "kind"}
    | {"login", "modality", "name", "password_hash", "path", "question_key", "sop_class_uid", "sop_instance_uid"}
    | {"series_instance_uid", "study_instance_uid", "study_date", "subject", "subject_id", "transfer_syntax_uid"}
    | {"unit_uid", "action", "from_state", "to_state", "seen", "header", "filters", "question", "confidence", "shown"}
)
ADMINISTRATOR_PAGES = (
    *("/", "/worklist/lines", "/studies", "/studies/1", "/studies/2", "/studies/1/routes", "/studies/2/routes"),
    *(f"/cases/{HELD_JOB}", f"/cases/{RELEASED_JOB}", f"/cases/{HELD_JOB}?decided={RELEASED_JOB}", "/account"),
    *("/people", "/operations/pipeline", "/operations/failures", "/operations/failures?show=jobs"),
    *("/operations/destinations", "/operations/adapters", "/operations/rules"),
    "/account/password",
)


FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/search", {"q": HOSTILE[:64]}),
    ("/operations/rules/explain", {"q": HOSTILE[:64]}),
    ("/operations/rules/replay", {"text": f"- {{name: {json.dumps(HOSTILE)}}}"}),
    ("/people", {"login": HOSTILE, "role": "viewer"}),
    (f"/cases/{HELD_JOB}/comment", {"text": HOSTILE}),
    (f"/cases/{HELD_JOB}/reroute", {"seen": "", "target": HOSTILE, "reason": HOSTILE}),
    (f"/cases/{HELD_JOB}/edit", {"severity_estimate": HOSTILE, "comment": HOSTILE}),
    ("/login", {"login": HOSTILE, "password": "x", "next": f"/{HOSTILE}"}),
)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    """The application with a ledger in which everything that others write is hostile."""
    settings = web_settings(tmp_path, login="required")
    fill_ledger(settings)
    made = create_app(settings)
    with quick_hashes(), made.state.database.writing() as session:
        accounts.add(session, "ada", Role.ADMINISTRATOR, password=PASSWORD)
        for mapper in Record.registry.mappers:
            for row in session.scalars(select(mapper.class_)):
                for column in mapper.columns:
                    if column.key not in OURS and not column.primary_key and not column.foreign_keys:
                        _spoil(row, column.key, column.type)
        accounts.get(session, "ada").person_name = HOSTILE_NAME
        held = session.get_one(Job, HELD_JOB)
        held.study.patient_name = f"other {HOSTILE}"[:64]
        first = {"account": "", "reviewer_name": HOSTILE_NAME, "reviewer_organization": HOSTILE[:64]}
        session.add(Review(job_id=HELD_JOB, action="opinion", comment=HOSTILE, from_state="held", **first))
        held.second_reader = True
        held.findings = {**(held.findings or {}), "severity_estimate": HOSTILE}
        held.doubts = held.model_input["incomplete"] = [HOSTILE]
    with quick_hashes(), TestClient(made):
        yield made


def _spoil(row: Any, name: str, kind: Any) -> None:
    if isinstance(kind, String | Text) and not isinstance(kind, Enum):
        setattr(row, name, HOSTILE[: kind.length or 1000])
    elif isinstance(kind, JSON) and isinstance(getattr(row, name), dict):
        setattr(row, name, {key: HOSTILE if isinstance(at, str) else at for key, at in getattr(row, name).items()})


def test_what_others_write_is_text_on_every_page(app: FastAPI) -> None:
    browser = browser_of(app)
    browser.headers["User-Agent"] = HOSTILE
    log_in(browser, "ada")
    shown = 0
    for address in ADMINISTRATOR_PAGES:
        answer = browser.get(address, headers={"Accept": "text/html"})
        assert answer.status_code == 200, (address, answer.text[:500])
        _check(address, answer.text)
        shown += "pwned" in answer.text
        assert ("The first reader" in answer.text) == address.startswith(f"/cases/{HELD_JOB}"), address
        assert (">other name<" in answer.text) == address.startswith("/cases/"), address
    for address, form in FORMS:
        token = html.fromstring(browser.get("/account").text).xpath("//input[@name='csrf_token']/@value")[0]
        answer = browser.post(address, data={**form, "csrf_token": token}, headers={"Accept": "text/html"})
        assert answer.status_code < 500, (address, answer.text[:500])
        _check(address, answer.text)
    assert shown > 10, "the pages show nothing of what others wrote"


def _check(address: str, page: str) -> None:
    tree = html.fromstring(page)
    assert not tree.xpath("//pwned | //@onfocus"), address
    assert "49" not in [word for word in page.replace("{{", " ").replace("}}", " ").split() if word == "49"], address
    for script in tree.xpath("//script"):
        assert not (script.text or "").strip(), (address, "scripts come from files alone")
    for form in tree.xpath("//form"):
        assert form.get("method") in ("post", "dialog"), (address, "what is typed is in no address and no history")
    for link in tree.xpath("//@href | //@src | //@action | //@hx-get | //@hx-post"):
        assert link.startswith(("/", "#", "?")), (address, link)
