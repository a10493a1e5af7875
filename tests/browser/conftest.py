"""Fixtures of the browser tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a module's tests; each opens pages of its own.

    Not for the whole run: while it is open an event loop runs in this thread, and no other test could start one.
    """
    with chromium() as started:
        yield started
