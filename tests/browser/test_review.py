"""A person at the pages of the real daemon with the demo's studies: from the log-in to the signed report in the PACS.

Each test decides about cases of its own; `Daemon` answers the same drawn studies as the demo does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pydicom
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import delete

from dicom_node.peer import Peer
from dicom_node.scu import c_store
from tests import services
from tests.browser.chromium import faults, keep, opened
from tests.browser.entrance import log_in
from tests.daemon import AE_TITLE, Daemon
from tests.people import PASSWORD
from worker import review
from worker.db.people import OpenSession
from worker.db.records import Job
from worker.demo.studies import ROUTES, demo_studies
from worker.people import accounts
from worker.roles import Role
from worker.states import JobState

PEOPLE = {
    "ada": (Role.REVIEWER, "Lovelace^Ada"),
    "bob": (Role.REVIEWER, "Broca^Paul"),
    "root": (Role.ADMINISTRATOR, "Curie^Marie"),
}
#: Long enough to press a button, short enough to wait for.
UNDO_S = 10


class House:
    """A hospital with a daemon, a PACS and people."""

    def __init__(self, daemon: Daemon, pacs: services.StoreScp) -> None:
        self.daemon, self.pacs = daemon, pacs
        self.url = f"http://localhost:{daemon.values['web']['port']}"

    def waiting(self, adapter: str, number: int = 0) -> str:
        """Return the id of a case that waits."""
        cases = [case for case in review.queue(self.daemon.db) if case.adapter == adapter]
        return cases[number].id

    def state(self, job_id: str) -> JobState:
        with self.daemon.db.reading() as session:
            return session.get_one(Job, job_id).state

    def signed(self) -> list[pydicom.Dataset]:
        """Return the verified reports that the PACS has."""
        return [ds for ds in self.pacs.datasets() if ds.get("VerificationFlag") == "VERIFIED"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One daemon for all tests: it has answered the demo's studies, and every answer waits for a person."""
    folder = tmp_path_factory.mktemp("reading-room")
    (folder / "pacs").mkdir()
    with services.running(services.StoreScp(folder / "pacs")) as pacs:
        review_settings = {"audit_fraction": 1, "organization": "St Elsewhere", "undo_s": UNDO_S}
        daemon = Daemon(folder / "daemon", pacs=pacs, review=review_settings, routes=ROUTES)
        daemon.values["web"]["login"] = "required"
        daemon.settings_file.write_text(yaml.safe_dump(daemon.values), encoding="utf-8")
        try:
            daemon.start()
            studies = demo_studies(folder / "studies")
            send(daemon, [file for study in studies for file in study.files])
            with daemon.db.writing() as session:
                for login, (role, name) in PEOPLE.items():
                    accounts.add(session, login, role, person_name=name, password=PASSWORD)
            daemon.wait_settled(len(studies), 180)
            yield House(daemon, pacs)
            daemon.stop()
        finally:
            daemon.end()


def send(daemon: Daemon, files: Sequence[Path]) -> None:
    node = Peer(AE_TITLE, services.LOCALHOST, daemon.port)
    outcomes = list(c_store(node, files, calling_ae_title="MODALITY"))
    assert [outcome.message for outcome in outcomes if not outcome.is_delivered] == []


@contextmanager
def logged_in(browser: Browser, house: House, login: str = "ada", path: str = "/", **context: Any) -> Iterator[Page]:
    """A browser of this person, at a page."""
    with opened(browser, f"{house.url}{path}", **context) as page:
        log_in(page, login)
        page.wait_for_url(f"{house.url}{path}")
        yield page


def press(page: Page, key: str) -> None:
    """Press a key when the page listens: what it shows can be seen before its script has run."""
    page.wait_for_load_state()
    page.keyboard.press(key)


def texts(report: pydicom.Dataset) -> list[str]:
    """Every text of a structured report, however deep it stands."""
    return [str(element.value) for element in report.iterall() if element.keyword == "TextValue"]


def test_from_the_queue_to_a_signed_report_in_the_pacs_with_four_keys(browser: Browser, house: House) -> None:
    with logged_in(browser, house) as page:
        expect(page.get_by_role("heading", name="Work list")).to_be_visible()
        keep(page, "review-work-list")
        press(page, "j")
        press(page, "k")
        page.goto(f"{house.url}/cases/{(job_id := house.waiting('dsa_patency'))}")
        expect(page.get_by_text("open with you")).to_be_visible()
        expect(page.locator(".viewer").get_by_text("Loading")).to_be_hidden(timeout=30_000)
        press(page, "a")
        expect(page.get_by_role("button", name="Sign as Ada Lovelace")).to_be_focused()
        expect(page.get_by_text("You have had 1 of 12 images on the screen").first).to_be_visible()
        keep(page, "review-case-accept")
        press(page, "Enter")
        expect(page.get_by_text("Accepted and signed")).to_be_visible()
        expect(page.get_by_role("button", name="Take it back")).to_be_visible()
        keep(page, "review-next-case")
        expect(page.get_by_text("Its report is being written and sent.")).to_be_visible(timeout=2_000 * UNDO_S)
    services.wait_until(lambda: house.state(job_id) is JobState.VERIFIED, 60, "the report is written")
    report = services.wait_until(lambda: house.signed(), 60, "the signed report arrives in the PACS")[0]
    observer = report.VerifyingObserverSequence[0]
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("Lovelace^Ada", "St Elsewhere")


def test_the_images_of_a_case_are_scrolled_windowed_and_played(browser: Browser, house: House) -> None:
    with logged_in(browser, house, path=f"/cases/{house.waiting('abdominal_trauma')}") as page:
        place, window = page.locator(".viewer-number"), page.locator(".viewer-window")
        expect(page.locator(".viewer").get_by_text("Loading")).to_be_hidden(timeout=30_000)
        first, number = window.inner_text(), place.inner_text()
        page.locator(".viewer-pane").hover()
        page.mouse.wheel(0, 120)
        expect(place).not_to_have_text(number)
        page.mouse.down()
        page.mouse.move(600, 500, steps=5)
        page.mouse.up()
        expect(window).not_to_have_text(first)
        page.goto(f"{house.url}/cases/{house.waiting('dsa_patency')}")
        expect(page.locator(".viewer").get_by_text("Loading")).to_be_hidden(timeout=30_000)
        number = place.inner_text()
        page.get_by_role("button", name="Play").click()
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        expect(place).not_to_have_text(number)


def test_a_line_of_the_list_is_opened_from_the_keyboard(browser: Browser, house: House) -> None:
    with logged_in(browser, house) as page:
        second = page.locator("tr[data-href]").nth(1).get_attribute("data-href")
        press(page, "j")
        press(page, "j")
        expect(page.locator("tr.chosen")).to_have_attribute("data-href", second or "")
        press(page, "Enter")
        page.wait_for_url(f"{house.url}{second}")
        press(page, "q")
        page.wait_for_url(f"{house.url}/")
        press(page, "n")
        expect(page.get_by_text("open with you")).to_be_visible()
        first = page.url
        press(page, "n")
        page.wait_for_url(lambda address: "/cases/" in address and address != first)
        press(page, "q")
        page.wait_for_url(f"{house.url}/")
        press(page, "?")
        expect(page.get_by_role("dialog")).to_be_visible()
        keep(page, "review-keys")


def test_findings_are_corrected_and_signed(browser: Browser, house: House) -> None:
    job_id = house.waiting("abdominal_trauma")
    # What cannot be signed yet is answered with 422, which the browser's console calls an error.
    with logged_in(browser, house, path=f"/cases/{job_id}", troubles=[]) as page:
        press(page, "e")
        page.get_by_label("injury pattern").fill("")
        page.get_by_role("button", name="Show what I would sign").click()
        expect(page.get_by_text("Field required")).to_be_visible()
        keep(page, "review-edit-fault")
        page.get_by_label("injury pattern").fill("laceration of the spleen")
        page.get_by_label("severity estimate").select_option("severe")
        page.get_by_label("spleen").check()
        page.get_by_role("button", name="Add").click()
        page.keyboard.type("rib fracture")
        keep(page, "review-edit")
        page.get_by_role("button", name="Show what I would sign").click()
        expect(page.get_by_role("heading", name="What you sign")).to_be_visible()
        expect(page.get_by_text("rib fracture").first).to_be_visible()
        assert faults(page) == []
        keep(page, "review-sign")
        press(page, "Enter")
        expect(page.get_by_text("Signed with your changes")).to_be_visible()
    services.wait_until(
        lambda: any("laceration of the spleen" in texts(report) for report in house.signed()),
        60,
        "what was signed arrives in the PACS",
    )


def test_a_slip_is_taken_back_and_a_rejection_is_not_sent(browser: Browser, house: House) -> None:
    job_id = house.waiting("clinical_caption")
    with logged_in(browser, house, path=f"/cases/{job_id}") as page:
        press(page, "r")
        expect(page.get_by_label("Why (the ledger")).to_be_focused()
        page.keyboard.type("not a chest film")
        press(page, "Enter")
        expect(page.get_by_role("status").get_by_text("Rejected")).to_be_visible()
        press(page, "u")
        page.wait_for_url(f"{house.url}/cases/{job_id}")
        expect(page.get_by_text("taken back")).to_be_visible()
        assert house.state(job_id) is JobState.HELD
        press(page, "x")
        expect(page.get_by_label("Why (the ledger")).to_be_focused()
        page.keyboard.type("not a chest film")
        press(page, "Enter")
        expect(page.get_by_role("status").get_by_text("Rejected")).to_be_visible()
    assert house.state(job_id) is JobState.REJECTED


def test_two_people_never_decide_about_the_same_case(browser: Browser, house: House) -> None:
    job_id = house.waiting("flare")
    with (
        logged_in(browser, house, "ada", f"/cases/{job_id}") as ada,
        logged_in(browser, house, "bob", f"/cases/{job_id}", troubles=[]) as bob,
    ):
        expect(ada.get_by_text("open with you")).to_be_visible()
        expect(bob.get_by_text("open with Ada Lovelace")).to_be_visible()
        # What another person has open is to be looked at only: neither keys nor buttons decide.
        expect(bob.get_by_role("button", name="Release")).to_be_hidden()
        press(bob, "a")
        expect(bob.get_by_role("button", name="Sign as Paul Broca")).to_be_hidden()
        assert bob.evaluate("document.querySelector('[data-decides]').inert")
        keep(bob, "review-taken")
        assert house.state(job_id) is JobState.HELD
        ada.goto(f"{house.url}/studies")
        bob.goto(f"{house.url}/cases/{job_id}")
        expect(bob.get_by_text("open with you")).to_be_visible()
        press(bob, "s")
        bob.keyboard.type("is that a drusen?")
        bob.get_by_role("button", name="Ask another person").click()
        expect(bob.get_by_text("Passed to a second reader")).to_be_visible()
        bob.goto(f"{house.url}/cases/{job_id}")
        expect(bob.get_by_text("another person decides")).to_be_visible()
        assert bob.get_by_text("Sign as").count() == 0


def test_a_page_without_its_server_says_so_and_sends_when_it_is_back(browser: Browser, house: House) -> None:
    job_id = house.waiting("cataract_surgery")
    with logged_in(browser, house, path=f"/cases/{job_id}", troubles=[]) as page:
        expect(page.get_by_text("open with you")).to_be_visible()
        page.context.set_offline(True)
        # What the page does by itself every 30 seconds.
        page.evaluate(
            "path => { htmx.ajax('POST', path, {source: '[data-claimed]'}).catch(() => {}); }", f"/cases/{job_id}/claim"
        )
        expect(page.get_by_role("alert")).to_contain_text("The server has not answered since")
        expect(page.get_by_text("open with you")).to_be_hidden()
        keep(page, "review-no-server")
        press(page, "r")
        page.keyboard.type("out of focus")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("no decision can be sent")
        assert house.state(job_id) is JobState.HELD
        page.context.set_offline(False)
        expect(page.get_by_role("alert")).to_be_hidden(timeout=30_000)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").get_by_text("Rejected")).to_be_visible()
    assert house.state(job_id) is JobState.REJECTED


def test_the_letters_that_decide_work_while_the_picture_has_the_focus(browser: Browser, house: House) -> None:
    with logged_in(browser, house, path=f"/cases/{house.waiting('abdominal_trauma')}") as page:
        expect(page.locator(".viewer").get_by_text("Loading")).to_be_hidden(timeout=30_000)
        for key, field in (("r", "Why (the ledger"), ("s", "Your opinion"), ("w", "Ask instead"), ("c", "A remark")):
            page.locator(".viewer").focus()
            press(page, key)
            expect(page.get_by_label(field)).to_be_focused()
            page.keyboard.press("Escape")


def test_a_session_that_ended_leads_to_the_log_in_and_back_to_the_case(browser: Browser, house: House) -> None:
    job_id = house.waiting("dsa_patency")
    with logged_in(browser, house, path=f"/cases/{job_id}", troubles=[]) as page:
        with house.daemon.db.writing() as session:
            session.execute(delete(OpenSession))
        press(page, "a")
        press(page, "Enter")
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        keep(page, "review-session-ended")
        assert house.state(job_id) is JobState.HELD
        log_in(page, "ada")
        page.wait_for_url(f"{house.url}/cases/{job_id}")


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("dark", {}),
        ("light", {}),
        ("tablet", {"viewport": {"width": 820, "height": 1180}, "has_touch": True}),
    ],
)
def test_pages_are_readable_for_everybody(browser: Browser, house: House, name: str, context: dict[str, Any]) -> None:
    case = f"/cases/{house.waiting('dsa_patency')}"
    with logged_in(browser, house, **context) as page:
        page.evaluate("name => localStorage.setItem('scheme', name)", name)
        for shown, path in (("work-list", "/"), ("studies", "/studies"), ("study", "/studies/1"), ("case", case)):
            page.goto(f"{house.url}{path}")
            if shown == "case":
                expect(page.locator(".viewer").get_by_text("Loading")).to_be_hidden(timeout=30_000)
                press(page, "a")
            assert faults(page) == [], path
            width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert width <= window, f"{path} is wider than the window"
            keep(page, f"review-{shown}-{name}")


def test_it_is_dark_whatever_the_browser_prefers_until_the_switch_makes_it_light(
    browser: Browser, house: House
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with logged_in(browser, house, color_scheme="light") as page:
        assert page.evaluate(ground) == "rgb(17, 21, 26)"
        page.get_by_role("button", name="Light or dark").click()
        page.goto(f"{house.url}/studies")
        assert page.evaluate(ground) == "rgb(243, 245, 247)"
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url(f"{house.url}/login")
        assert page.evaluate(ground) == "rgb(243, 245, 247)"


def test_times_are_those_of_the_reader_and_say_so(browser: Browser, house: House) -> None:
    with logged_in(browser, house, path="/studies", timezone_id="Asia/Tokyo") as page:
        expect(page.locator("[data-zone]")).to_have_text("Asia/Tokyo (UTC+09:00)")
        moment = house.daemon.ledger()[-1].first_received_at.astimezone(ZoneInfo("Asia/Tokyo"))
        expect(page.get_by_text(f"{moment:%Y-%m-%d %H:%M:%S}").first).to_be_visible()


def test_the_list_shows_by_itself_who_has_a_case(browser: Browser, house: House) -> None:
    job_id = house.waiting("dsa_patency")
    with logged_in(browser, house, "bob") as page:
        line = page.locator(f"#case-{job_id}")
        expect(line).not_to_contain_text("Ada Lovelace")
        review.claim(house.daemon.db, job_id, review.Reviewer("Lovelace^Ada", "St Elsewhere"), 60)
        expect(line).to_contain_text("Ada Lovelace", timeout=15_000)
        review.release(house.daemon.db, job_id, review.Reviewer("Lovelace^Ada", "St Elsewhere"))
