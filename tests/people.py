"""People for tests: browsers, log-ins and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from worker.people import passwords, tokens
from worker.roles import Role

PASSWORD = "seven green lamps in a row"  # noqa: S105 - of nobody


@contextmanager
def quick_hashes() -> Iterator[None]:
    """Hash passwords at the lowest costs, until the end of the block."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(passwords, "costs", passwords.Costs(1, 8, 1))
        yield


def browser_of(app: FastAPI) -> TestClient:
    """A browser with no cookies yet."""
    return TestClient(app, base_url="http://localhost:8080")


def log_in(
    browser: TestClient,
    login: str,
    password: str = PASSWORD,
    way_back: str = "/account",
    *,
    follow_redirects: bool = True,
) -> httpx.Response:
    """Fill in the log-in page."""
    answer: httpx.Response = browser.post(
        "/login", data={"login": login, "password": password, "next": way_back}, follow_redirects=follow_redirects
    )
    return answer


def token_of(app: FastAPI, role: Role, name: str = "") -> str:
    """Make a machine's token; each call makes another."""
    with app.state.database.writing() as session:
        return tokens.add(session, name or f"{role} {len(tokens.listed(session))}", role, 1)


def csrf_of(browser: TestClient, address: str = "/account") -> str:
    """The token that forms of this browser's session hold."""
    page: str = browser.get(address).text
    return page.split('name="csrf_token" value="')[1].split('"')[0]
