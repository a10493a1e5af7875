"""Debian's Chromium for tests: headless, without network of its own, and a folder for pictures of the pages.

Output: a Playwright browser; pages whose console errors and refused loads are failures of the test that opened them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

#: Pictures of the pages, kept by CI and ignored by git.
SCREENSHOTS: Final = Path(__file__).resolve().parents[2] / "build" / "screenshots"
_AXE: Final = Path(__file__).parent / "vendor" / "axe.min.js"
_ARGUMENTS: Final = (
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; Playwright's own downloads are never asked for."""
    program = shutil.which("chromium")
    assert program is not None, "chromium is not installed: run scripts/system-packages.sh"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, *, troubles: list[str] | None = None, **context: Any) -> Iterator[Page]:
    """Open a page; what its console calls an error (a script's, or a load that the policy refuses) fails the test.

    Args:
        browser: From `chromium`.
        url: What to open first.
        troubles: Takes the errors instead, for a test that causes some.
        context: For Playwright's `new_context`, e.g. `has_touch`.
    """
    found: list[str] = [] if troubles is None else troubles
    settings = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark", **context}
    settings["service_workers"] = "block"
    with browser.new_context(**settings) as room:
        page = room.new_page()
        page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.set_default_timeout(10_000)
        page.goto(url)
        yield page
    assert troubles is not None or not found, found


def keep(page: Page, name: str) -> None:
    """Keep a picture of the page as people see it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def faults(page: Page) -> list[str]:
    """What axe-core calls a serious or critical obstacle on the page."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:160]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
