"""The pages of operations in a browser: live, usable by everybody, and what they look like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import update

from tests.browser.chromium import faults, keep, opened
from tests.ledger_rows import HELD_JOB, fill_ledger
from tests.phantoms.ct import write_ct
from tests.phantoms.volume import axial_planes
from tests.web_server import WebServer, web_server, web_settings
from worker.db.columns import utc_now
from worker.db.process_reports import report
from worker.db.records import Instance, Job, Study
from worker.db.transitions import move_job
from worker.states import JobState

RULES = "- name: liver first\n  when: {modality: CT}\n  adapter: flare\n"
PAGES = ("pipeline", "failures", "failures?show=jobs", "destinations", "adapters", "rules")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """The application with three studies, one job that failed and processes that report; nobody logs in."""
    settings = web_settings(tmp_path_factory.mktemp("operations"))
    fill_ledger(settings)
    with web_server(settings) as server:
        names = ("node", "dispatcher", "inference", "steps", "web")
        alive = {"pid": 7, "alive": True, "up_s": 7260, "restarts": 0, "exit_code": None}
        report(server.database, "supervisor", {"processes": [{"name": name, **alive} for name in names]})
        device = {"device": "cuda:0", "device_name": "NVIDIA H100", "memory_used": 40 << 30, "memory_total": 80 << 30}
        report(server.database, "engine", {"kind": "transformers", "resident": {"google/base": ["flare"]}, **device})
        report(server.database, "broker", {"reachable": True, "rings": {"inference": 0, "steps": 2}})
        with server.database.writing() as session:
            session.execute(update(Job).where(Job.id == HELD_JOB).values(parsed=False, error="the answer is no JSON"))
        yield server


def test_the_pipeline_follows_what_happens(browser: Browser, served: WebServer) -> None:
    with opened(browser, f"{served.url}/operations/pipeline") as page:
        held = page.locator(".stages li", has=page.get_by_text("held", exact=True)).locator("b")
        expect(held).to_have_text("1")
        keep(page, "operations-pipeline")
        with served.database.writing() as session:
            move_job(session, session.get_one(Job, HELD_JOB), JobState.QUEUED, "asked again")
        expect(held).to_have_text("0", timeout=8_000)
        with served.database.writing() as session:
            session.execute(update(Job).where(Job.id == HELD_JOB).values(state=JobState.HELD))


@pytest.mark.parametrize("path", ["studies", "studies/2"])
def test_a_page_on_which_something_moves_is_renewed_under_what_is_typed(
    browser: Browser, served: WebServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.web.pages.REFRESH_S", 1)
    with served.database.writing() as session:
        move_job(session, session.get_one(Job, HELD_JOB), JobState.QUEUED, "asked again")
    with opened(browser, f"{served.url}/{path}") as page:
        expect(page.get_by_text("processing", exact=True)).to_be_visible()
        assert faults(page) == []
        page.get_by_label("Find a study").fill("half a num")
        # By itself it asks in the background, which keeps no session open.
        with page.expect_request(lambda request: "x-background" in request.headers):
            pass
        with served.database.writing() as session:
            session.execute(update(Job).where(Job.id == HELD_JOB).values(state=JobState.HELD))
        with page.expect_response(lambda response: response.status == 286):
            pass
        expect(page.get_by_text("processing", exact=True)).to_be_hidden()
        expect(page.get_by_label("Find a study")).to_have_value("half a num")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 1280), ("tablet", 820)])
def test_no_page_has_an_obstacle(browser: Browser, served: WebServer, scheme: str, width: int) -> None:
    screen = {"viewport": {"width": width, "height": 1000}, "has_touch": scheme == "tablet"}
    with opened(browser, f"{served.url}/operations/rules", **screen) as page:
        page.evaluate("scheme => localStorage.setItem('scheme', scheme)", scheme)
        for name in (*(f"operations/{name}" for name in PAGES), "studies/3/routes", "studies/3"):
            page.goto(f"{served.url}/{name}")
            assert faults(page) == [], name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            keep(page, f"{name.replace('/', '-').replace('?', '-').replace('=', '-')}-{scheme}")


def test_rules_are_tried_and_mistakes_are_told(browser: Browser, served: WebServer, tmp_path: Path) -> None:
    slices = write_ct(tmp_path, axial_planes(2))
    with served.database.writing() as session:
        session.execute(update(Study).values(first_received_at=utc_now()))
        session.execute(update(Instance).where(Instance.series_id == 2).values(header=slices[0].header.to_json()))
    with opened(browser, f"{served.url}/operations/rules", troubles=[]) as page:
        page.get_by_label("Rules, as in a settings file").fill("- name: x")
        page.get_by_role("button", name="Try them").click()
        expect(page.get_by_role("alert")).to_contain_text("rule 1 (x): when: Field required")
        page.get_by_label("Rules, as in a settings file").fill(RULES)
        page.get_by_label("Days").fill("3")
        page.get_by_role("button", name="Try them").click()
        expect(page.get_by_role("heading", name="Replay of other rules")).to_be_visible()
        expect(page.get_by_text("1 of 3 series of the last 3 days would go another way")).to_be_visible()
        expect(page.get_by_role("row", name="nobody flare 1", exact=True)).to_be_visible()
        change = page.get_by_role("row", name="study 2")
        for words in ("CT", "nobody", "liver first", "flare"):
            expect(change).to_contain_text(words)
        assert faults(page) == []
        keep(page, "operations-replay")
