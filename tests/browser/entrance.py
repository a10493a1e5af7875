"""How a person gets in: the log-in page, as it is filled in."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.people import PASSWORD


def log_in(page: Page, login: str, password: str = PASSWORD) -> None:
    """Fill in the page and send it; what comes of it is the caller's to see."""
    page.get_by_label("Login").fill(login)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()
