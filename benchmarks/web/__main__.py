"""`python -m benchmarks.web`: how long list pages and the case page take with 100,000 studies in the database.

The application answers on a port of this machine, in this process; each request is one of a logged-in person, one after
another. On a machine that does other work the time is no measure: CPU time, browser and server together, stands beside
it. The table goes to standard error, the JSON document to standard output or a file. Exit code 1: a page is slower than
it may be (lists 50 ms, a case 150 ms, at the 95th percentile).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.web.rows import fill
from tests import services
from tests.people import PASSWORD, quick_hashes
from tests.web_server import web_server, web_settings
from worker.db import saved_views
from worker.db.sessions import Database
from worker.db.work_list import Filters
from worker.people import accounts
from worker.roles import Role

LIST_MS, CASE_MS = 50, 150
DATABASES = ("sqlite", "postgresql")


@contextmanager
def _database_url(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield ""
        return
    at_postgres = folder / "postgres"
    at_postgres.mkdir()
    folder.chmod(0o755)
    with services.running(services.PostgresServer(at_postgres)) as postgres:
        yield postgres.new_database()


def measure(kind: str, studies: int, requests: int) -> dict[str, Any]:
    """Fill a database of this kind and return milliseconds for each page."""
    with tempfile.TemporaryDirectory(prefix="dicom-worker-web-") as name, _database_url(kind, Path(name)) as url:
        settings = web_settings(Path(name) / "pages", url, login="required")
        database = Database(settings.resolved_database_url)
        began = time.monotonic()
        fill(database, studies)
        print(f"{kind}: {studies} studies written in {time.monotonic() - began:.0f} s", file=sys.stderr)
        with quick_hashes(), database.writing() as session:
            account = accounts.add(session, "ada", Role.REVIEWER, person_name="Lovelace^Ada", password=PASSWORD)
            session.flush()
            views = _views(session, str(account.id))
        database.close()
        with quick_hashes(), web_server(settings) as served, httpx.Client(base_url=served.url, timeout=60) as browser:
            logged_in = browser.post("/login", data={"login": "ada", "password": PASSWORD, "next": "/account"})
            assert logged_in.status_code == 303, logged_in.text
            return {page: _timed(ask, requests) for page, ask in _pages(browser, views, studies).items()}


def _views(session: Any, account: str) -> dict[str, str]:
    """Keep the filters that are measured; return name -> id."""
    wanted = {
        "one adapter": Filters(adapter="abdominal_trauma"),
        "one modality, least sure first": Filters(modality="CT", sort="least sure"),
        "search": Filters(search="ACC00012"),
        "free for me": Filters(who="free for me"),
    }
    return {name: saved_views.keep(session, account, filters, name) for name, filters in wanted.items()}


def _pages(browser: httpx.Client, views: dict[str, str], studies: int) -> dict[str, Callable[[int], httpx.Response]]:
    held = browser.get("/").text.split('data-href="/cases/')[1:]
    cases = [part.split('"')[0] for part in held]
    token = browser.get("/").text.split('name="csrf_token" value="')[1].split('"')[0]

    def search(number: int) -> httpx.Response:
        return browser.post("/search", data={"csrf_token": token, "q": f"ACC{number * 37 % studies + 1:07d}"})

    return {
        "work list": lambda _: browser.get("/"),
        **{
            f"work list, {name}": lambda _, view=view: browser.get("/", params={"view": view})  # type: ignore[misc]
            for name, view in views.items()
        },
        "work list, page 20": lambda _: browser.get("/", params={"start": 950}),
        "work list, lines alone": lambda _: browser.get("/worklist/lines"),
        "studies": lambda _: browser.get("/studies"),
        "studies, search": search,
        "study": lambda number: browser.get(f"/studies/{number * 41 % studies + 1}"),
        **{
            f"operations, {name}": lambda _, name=name: browser.get(f"/operations/{name}")  # type: ignore[misc]
            for name in ("pipeline", "failures", "failures?show=jobs", "destinations", "adapters", "rules")
        },
        "routes of a study": lambda number: browser.get(f"/studies/{number * 41 % studies + 1}/routes"),
        "case": lambda number: browser.get(f"/cases/{cases[number % len(cases)]}"),
        "case of any state": lambda number: browser.get(f"/cases/{number * 43 % studies + 1:032x}"),
    }


def _timed(ask: Callable[[int], httpx.Response], requests: int) -> dict[str, float]:
    for number in range(3):
        ask(number)
    elapsed, busy = [], []
    for number in range(requests):
        began, worked = time.perf_counter(), time.process_time()
        answer = ask(number)
        elapsed.append((time.perf_counter() - began) * 1000)
        busy.append((time.process_time() - worked) * 1000)
        assert answer.status_code == 200, answer.text[:200]
    return {
        "median_ms": round(statistics.median(elapsed), 1),
        "p95_ms": round(statistics.quantiles(elapsed, n=20, method="inclusive")[-1], 1),
        "cpu_p95_ms": round(statistics.quantiles(busy, n=20, method="inclusive")[-1], 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=100, help="for each page")
    parser.add_argument("--database", choices=DATABASES, nargs="+", default=list(DATABASES))
    parser.add_argument("--out", type=Path, help="write the JSON document here")
    chosen = parser.parse_args()
    found = {kind: measure(kind, chosen.studies, chosen.requests) for kind in chosen.database}
    slow = []
    for kind, pages in found.items():
        for page, times in pages.items():
            limit = CASE_MS if page.startswith("case") else LIST_MS
            mark = "" if times["p95_ms"] <= limit else f"  > {limit} ms"
            slow += [page] if mark else []
            milliseconds = "".join(f"{value:>9.1f}" for value in times.values())
            line = f"{kind:<11}{page:<44}{milliseconds} ms (median, p95, CPU p95){mark}"
            print(line, file=sys.stderr)
    document = {"studies": chosen.studies, "cores": os.cpu_count(), "machine": platform.machine(), "pages": found}
    text = json.dumps(document, indent=2) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
