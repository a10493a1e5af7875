"""Log-in as a person meets it in a browser: first password, the way back, an ended session, and log-out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import faults, keep, opened
from tests.browser.entrance import log_in
from tests.ledger_rows import HELD_PAGE, fill_ledger
from tests.people import PASSWORD, quick_hashes
from tests.web_server import WebServer, web_server, web_settings
from worker.db.people import OpenSession
from worker.people import accounts


@dataclass(frozen=True)
class Site:
    """The pages of a site with its first administrator."""

    server: WebServer
    one_time: str


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that was started for the first time."""
    settings = web_settings(tmp_path, login="required")
    fill_ledger(settings)
    with quick_hashes(), web_server(settings) as server:
        password = accounts.first_administrator(server.database)
        assert password is not None
        yield Site(server, password)


def look_at(page: Page, name: str) -> None:
    """Keep a picture of the page; it has no obstacle in the dark and none in the light."""
    keep(page, name)
    for scheme in ("light", "dark"):
        page.evaluate("scheme => { document.documentElement.dataset.scheme = scheme; }", scheme)
        assert faults(page) == [], (name, scheme)


def test_from_the_first_log_in_to_an_ended_session_and_out(browser: Browser, site: Site) -> None:
    url = site.server.url
    troubles: list[str] = []
    with opened(browser, f"{url}{HELD_PAGE}", troubles=troubles) as page:
        expect(page).to_have_url(f"{url}/login?next=%2Fstudies%2F2")
        look_at(page, "login")
        log_in(page, "administrator", "not the password")
        expect(page.get_by_role("alert")).to_have_text("This login and password do not fit together.")
        look_at(page, "login-refused")
        log_in(page, "administrator", site.one_time)
        expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
        look_at(page, "password")
        page.get_by_label("The password you were given").fill(site.one_time)
        page.get_by_label("New password", exact=True).fill(PASSWORD)
        page.get_by_label("New password again").fill(PASSWORD)
        page.get_by_role("button", name="Save").click()
        page.get_by_role("link", name="People").click()
        page.get_by_label("Login").fill("rea")
        page.locator("#role").select_option("reviewer")
        page.get_by_label("Name, as Family^Given").fill("Curie^Marie")
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_role("status")).to_contain_text("rea is added as reviewer.")
        look_at(page, "people")
        given = page.locator(".secret").inner_text()
        # Somebody else at another desk, with what was read out to them.
        with opened(browser, f"{url}/login") as other:
            log_in(other, "rea", given)
            expect(other.get_by_role("heading", name="Choose a password")).to_be_visible()
        # The session ends while a page is open: log in, and be back there.
        page.goto(f"{url}{HELD_PAGE}")
        with site.server.database.writing() as session:
            session.query(OpenSession).delete()
        page.reload()
        log_in(page, "administrator", PASSWORD)
        expect(page).to_have_url(f"{url}{HELD_PAGE}")
        page.get_by_role("link", name="administrator").click()
        expect(page.get_by_text("this browser")).to_be_visible()
        look_at(page, "account")
        page.goto(f"{url}/studies/999")
        expect(page.get_by_role("heading", name="Not found")).to_be_visible()
        look_at(page, "not-found")
        page.get_by_role("link", name="administrator").click()
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{url}/login")
        page.goto(f"{url}/studies")
        expect(page).to_have_url(f"{url}/login?next=%2Fstudies")
    # The wrong password, and the study that is not there.
    failed = "Failed to load resource: the server responded with a status of"
    assert troubles == [f"{failed} 403 (Forbidden)", f"{failed} 404 (Not Found)"]
