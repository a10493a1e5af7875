"""`python -m benchmarks.web`: how long list pages and the case page take with 100,000 studies in the database.

The application answers on a port of this machine, in this process; each request is one of a logged-in person, one after
another. On a machine that does other work the time is no measure: CPU time, browser and server together, stands beside
it, and the machine's load above. `--pages` chooses pages by words of their names. The table goes to standard error, the
JSON document to standard output or a file. Exit code 1: a page is slower than it may be (lists 50 ms, a case 150 ms, at
the 95th percentile).
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
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks.web.rows import NOW, fill
from tests import services
from tests.people import PASSWORD, quick_hashes
from tests.web_server import web_server, web_settings
from worker.audit.trail import folder_of
from worker.db import saved_views
from worker.db.sessions import Database
from worker.db.work_list import Filters
from worker.people import accounts
from worker.roles import Role
from worker.web.app import spare_the_collector

LIST_MS, CASE_MS = 50, 150
#: Days whose audit files lie in their folder.
AUDITED_DAYS = 1500
OPERATIONS = ("pipeline", "pipeline/now", "failures", "failures?show=unconfirmed", "failures?show=jobs", "destinations",
              "adapters", "rules")  # fmt: skip
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


def measure(kind: str, studies: int, requests: int, words: str = "") -> dict[str, Any]:
    """Fill a database of this kind and return milliseconds for each page whose name has these words."""
    with tempfile.TemporaryDirectory(prefix="dicom-worker-web-") as name, _database_url(kind, Path(name)) as url:
        settings = web_settings(Path(name) / "pages", url, login="required")
        database = Database(settings.resolved_database_url)
        began = time.monotonic()
        fill(database, studies)
        print(f"{kind}: {studies} studies written in {time.monotonic() - began:.0f} s", file=sys.stderr)
        with quick_hashes(), database.writing() as session:
            account = accounts.add(session, "ada", Role.ADMINISTRATOR, person_name="Lovelace^Ada", password=PASSWORD)
            session.flush()
            views = _views(session, str(account.id))
        database.close()
        _keep_audit_files(folder_of(settings))
        spare_the_collector()  # as the daemon's process of the pages does
        load = os.getloadavg()[0]
        print(f"{kind}: load {load:.1f} before the first request", file=sys.stderr)
        with quick_hashes(), web_server(settings) as served, httpx.Client(base_url=served.url, timeout=60) as browser:
            logged_in = browser.post("/login", data={"login": "ada", "password": PASSWORD, "next": "/account"})
            assert logged_in.status_code == 303, logged_in.text
            pages = _pages(browser, views, studies)
            return {page: _timed(ask, requests) for page, ask in pages.items() if words in page}


def _keep_audit_files(folder: Path) -> None:
    """Write the audit files of some years: the next message goes to the newest of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(1, AUDITED_DAYS + 1):
        (folder / f"audit-{NOW - timedelta(days=day):%Y%m%d}-000.log").write_bytes(b"x" * 1000)


def _views(session: Any, account: str) -> dict[str, str]:
    """Keep the filters that are measured; return name -> id."""
    wanted = {
        "one adapter": Filters(adapter="abdominal_trauma"),
        "one modality, least sure first": Filters(modality="CT", sort="least sure"),
        "search": Filters(search="ACC00012"),
        "search for a name": Filters(search="name12"),
        "search for common words": Filters(search="ct exam"),
        "search for nothing": Filters(search="no such thing"),
        "free for me": Filters(who="free for me"),
        "open with me": Filters(who="open with me"),
        "second reader, newest": Filters(who="second reader", sort="newest"),
    }
    return {name: saved_views.keep(session, account, filters, name) for name, filters in wanted.items()}


def _pages(browser: httpx.Client, views: dict[str, str], studies: int) -> dict[str, Callable[[int], httpx.Response]]:
    held = browser.get("/").text.split('data-href="/cases/')[1:]
    cases = [part.split('"')[0] for part in held]
    token = browser.get("/").text.split('name="csrf_token" value="')[1].split('"')[0]

    def post(address: str, **data: str | int) -> httpx.Response:
        sent = {"csrf_token": token, **{name: str(value) for name, value in data.items()}}
        return browser.post(address, data=sent, follow_redirects=True)

    def api(**wanted: str | int) -> httpx.Response:
        return browser.get("/api/studies", params={"limit": 50, **wanted})

    tried = post("/operations/rules/replay", text="[]", days=30, series=200).url.path
    while 'http-equiv="refresh"' in browser.get(tried).text:
        time.sleep(0.1)
    return {
        "work list": lambda _: browser.get("/"),
        **{
            f"work list, {name}": lambda _, view=view: browser.get("/", params={"view": view})  # type: ignore[misc]
            for name, view in views.items()
        },
        "work list, page 20": lambda _: browser.get("/", params={"start": 950}),
        "work list, lines alone": lambda _: browser.get("/worklist/lines"),
        "studies": lambda _: browser.get("/studies"),
        "studies, far back": lambda number: browser.get("/studies", params={"before": studies // 10 + number}),
        "studies, search": lambda number: post("/search", q=f"ACC{number * 37 % studies + 1:07d}"),
        "studies, search for a name": lambda number: post("/search", q=f"name{number * 37 % 999 + 1}"),
        "studies, search for common words": lambda _: post("/search", q="ct exam"),
        "studies, search for old ones": lambda number: post("/search", q=f"acc{number % 2:04d}"),
        "studies, search for nothing": lambda number: post("/search", q=f"nothing {number}"),
        "study": lambda number: browser.get(f"/studies/{number * 41 % studies + 1}"),
        **{
            f"operations, {name}": lambda _, name=name: browser.get(f"/operations/{name}")  # type: ignore[misc]
            for name in OPERATIONS
        },
        "operations, rules tried": lambda _: browser.get(tried),
        "routes of a study": lambda number: browser.get(f"/studies/{number * 41 % studies + 1}/routes"),
        "people": lambda _: browser.get("/people"),
        "programs: studies, far back": lambda _: api(offset=studies * 9 // 10),
        "programs: studies, search": lambda _: api(search="name12"),
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
    parser.add_argument("--pages", default="", help="only those whose name has these words")
    parser.add_argument("--out", type=Path, help="write the JSON document here")
    chosen = parser.parse_args()
    found = {kind: measure(kind, chosen.studies, chosen.requests, chosen.pages) for kind in chosen.database}
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
