"""How long until a person sees the first image of a CT with 500 slices, and how fast scrolling goes.

The web process and Chromium run on this machine; the time is the browser's own, from the beginning of the navigation to
the second frame after the picture was drawn. `python -m benchmarks.viewer` prints a table.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page
from pydicom.uid import JPEG2000Lossless, RLELossless

from tests.browser.chromium import chromium, opened
from tests.phantoms.ct import ct_slice
from tests.phantoms.volume import PhantomPlane
from tests.services.process import wait_until
from tests.viewed_store import ViewedStore
from tests.web_server import web_server, web_settings

SLICES, SIDE, TURNS, STEPS = 500, 512, 5, 100
_CLOCK = """addEventListener("viewer:frame", () => requestAnimationFrame(() => requestAnimationFrame(() => {
    window.firstImage ??= performance.now();
})))"""


def main() -> None:
    """Measure and print."""
    print("| 500 slices of 512 x 512 | first image, first time | first image, median (range) | 100 slices further |")
    print("|---|---|---|---|")
    for name, syntax in (("uncompressed", ""), ("RLE", RLELossless), ("JPEG 2000", JPEG2000Lossless)):
        with tempfile.TemporaryDirectory() as folder:
            first, scrolled_s = _measure(Path(folder), syntax)
        later = first[1:]
        middle, low, high = statistics.median(later), min(later), max(later)
        print(f"| {name} | {first[0]:.0f} ms | {middle:.0f} ms ({low:.0f} to {high:.0f}) | {scrolled_s:.1f} s |")


def _measure(folder: Path, syntax: str) -> tuple[Sequence[float], float]:
    """Return the times of first images in ms, the first of a fresh web process, and of scrolling in seconds."""
    paths = _write(folder, syntax)
    with web_server(web_settings(folder)) as server, chromium() as browser:
        address = f"{server.url}/viewer/series/{ViewedStore(server.database).series(paths)}"
        first = [_first_image(browser, address) for _ in range(TURNS)]
        with opened(browser, address) as page:
            _wait_for(page, SLICES // 2 + 1)
            begin = time.monotonic()
            for number in range(1, STEPS + 1):
                page.keyboard.press("j")
                _wait_for(page, SLICES // 2 + 1 + number)
            return first, time.monotonic() - begin


def _first_image(browser: Browser, address: str) -> float:
    with opened(browser, "about:blank") as page:
        page.add_init_script(_CLOCK)
        page.goto(address)
        return float(wait_until(lambda: page.evaluate("window.firstImage"), 30, "the first image"))


def _wait_for(page: Page, number: int) -> None:
    script = "document.querySelector('.viewer-number').textContent"
    wait_until(lambda: page.evaluate(script) == f"{number} / {SLICES}", 30, f"slice {number}")


def _write(folder: Path, syntax: str) -> list[Path]:
    """Write slices that are smooth with some noise, as CT is."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    ground = 1000 + 800 * np.sin(x / 40) * np.cos(y / 30) + rng.normal(0, 15, (SIDE, SIDE))
    paths = []
    for number in range(SLICES):
        ds = ct_slice(PhantomPlane((-256.0, -256.0, float(number))), "1", number + 1)
        ds.Rows = ds.Columns = SIDE
        ds.PixelSpacing = [1, 1]
        ds.PixelData = np.roll(ground, number, axis=0).astype("<u2").tobytes()
        if syntax:
            ds.compress(syntax, generate_instance_uid=False)
        paths.append(folder / f"{number}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


if __name__ == "__main__":
    main()
