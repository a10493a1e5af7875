"""Lists in a ledger of some size: what they find, in which order, and how little of it they read for that.

What is read is counted, and no time taken: on PostgreSQL the rows that the plan of each statement says it has read, on
SQLite the steps of its virtual machine. A page that reads a whole table passes on an empty ledger and fails here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from benchmarks.web.rows import settle
from tests.schema import upgraded
from tests.web_server import web_settings
from worker.db import queries
from worker.db.priors import priors_of
from worker.db.sessions import Database
from worker.db.study_lines import LINES, found_lines, study_lines
from worker.db.study_terms import COMMON
from worker.db.work_list import CASES, SORTS, Filters, counts, work_list
from worker.operations import destinations, failures
from worker.operations.pipeline import pipeline
from worker.operations.why_not import why_not
from worker.settings import Settings
from worker.states import DeliveryState as D
from worker.web.app import create_app
from worker.web.pages import count_all

STUDIES = 12 * COMMON
#: One case in so many waits for a person, and as many deliveries are dead.
WAITS = 50
#: A statement may read what waits and a few rows for each line. A table has more rows, or a scan takes more steps.
ROWS_AT_MOST = STUDIES // 2
STEPS_AT_MOST = 4 * STUDIES
NUMBERS = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {STUDIES}) "  # noqa: S608
WIDE = f"'{'x' * 300}'"
THEN = "'2026-03-01 00:00:00'"
#: Table -> column -> SQL; all columns that have no default in the database.
ROWS: list[tuple[str, str, dict[str, str]]] = [
    ("studies", "TRUE", {
        "id": "n", "study_instance_uid": "'1.2.' || n", "accession_number": "'ACC' || n", "study_date": "''",
        "patient_id": "'PAT' || (n / 2)", "issuer_of_patient_id": "''", "patient_birth_date": "''",
        "patient_name": WIDE, "study_description": "'CT'", "first_received_at": THEN}),
    *(("study_terms", only, {"study_id": "n", "term": term})
      for only, term in (("TRUE", "'acc' || n"), ("TRUE", "'ct'"), ("TRUE", "'' || n"), (f"n <= {WAITS}", "'rare'"),
                         (f"n <= {COMMON + 1}", "'older'"))),
    ("series", "TRUE", {
        "id": "n", "study_id": "n", "series_instance_uid": "'1.2.' || n || '.1'", "modality": "'CT'", "revision": "1",
        "state": "'routed'", "last_instance_at": THEN, "route_reason": WIDE}),
    ("instances", "TRUE", {
        "id": "n", "series_id": "n", "sop_instance_uid": "'1.2.' || n", "sop_class_uid": "''", "digest": "'' || n",
        "transfer_syntax_uid": "''", "state": "'stored'", "size_bytes": "1", "path": WIDE, "header": "'{}'",
        "calling_ae_title": "''", "called_ae_title": "''", "received_at": THEN}),
    *(("jobs", only, {
        "id": "'j' || n", "study_id": "n", "series_id": "n", "adapter": "'flare'", "modality": "'CT'",
        "question_key": "''", "unit_uid": "'' || n", "revision": "1", "state": state, "priority": "n % 7",
        "created_at": THEN, "attempts": "1", "not_before": THEN, "doubts": "'[]'", "prompt_digest": "''",
        "waiting_since": THEN, "answered_at": THEN, "second_reader": "n % 100 = 0", "probability": "0.5",
        "answer_s": "1", "parsed": "TRUE", "error": WIDE})
      for only, state in ((f"n % {WAITS} = 0", "'held'"), (f"n % {WAITS} > 0", "'verified'"))),
    ("results", "TRUE", {
        "id": "n", "job_id": "'j' || n", "sop_instance_uid": "'1.9.' || n", "sop_class_uid": "''", "kind": "'sr'",
        "verified": "TRUE", "digest": "''", "path": WIDE, "created_at": THEN}),
    *(("deliveries", only, {
        "id": "n", "result_id": "n", "destination": "'pacs'", "state": state, "attempts": "0", "tries": "1",
        "not_before": THEN, "delivered_at": THEN, "asks": "0", "denials": "0", "last_error": WIDE})
      for only, state in ((f"n % {WAITS} = 1", "'dead'"), (f"n % {WAITS} <> 1", "'confirmed'"))),
    ("reviews", f"n % {WAITS} > 0", {
        "id": "n", "job_id": "'j' || n", "action": "'accept'", "account": "'1'", "reviewer_name": "'Doe^Jane'",
        "reviewer_organization": "''", "comment": WIDE, "seen": "''", "from_state": "'held'", "decided_at": THEN}),
    ("events", "TRUE", {
        "id": "n", "at": THEN, "study_id": "n", "subject": "'job'", "subject_id": "'j' || n", "to_state": "'held'",
        "reason": WIDE}),
]  # fmt: skip
LARGE = {table for table, _, _ in ROWS}
ME = ("1", "Doe^Jane")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A ledger of `STUDIES` studies, once in each kind of database; nothing is written to it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('lists') / 'ledger.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").new_database()
    database = Database(url)
    upgraded(database)
    with database.engine.begin() as connection:
        for table, only, columns in ROWS:
            chosen = f"{NUMBERS} SELECT {', '.join(columns.values())} FROM numbers WHERE {only}"  # noqa: S608
            connection.execute(text(f"INSERT INTO {table} ({', '.join(columns)}) {chosen}"))
    settle(database)
    yield database
    database.close()


@pytest.fixture(scope="module")
def pages(ledger: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The application on this ledger; nobody logs in."""
    app = create_app(web_settings(tmp_path_factory.mktemp("pages"), ledger.url))
    with TestClient(app):
        yield app


PAGES: dict[str, Callable[[Session, Settings], Any]] = {
    **{f"work list by {sort}": lambda session, _, sort=sort: work_list(session, Filters(sort=sort), *ME)  # type: ignore[misc]
       for sort in SORTS},
    **{f"work list, {who}": lambda session, _, who=who: work_list(session, Filters(who=who), *ME)  # type: ignore[misc]
       for who in CASES},
    "work list, filtered": lambda session, _: work_list(session, Filters("flare", "CT", "routine"), *ME, offset=50),
    "work list, rare word": lambda session, _: work_list(session, Filters(search="rare"), *ME),
    "work list, common word": lambda session, _: work_list(session, Filters(search="ct acc"), *ME),
    "work list, what it offers": lambda session, _: counts(session),
    "studies": lambda session, _: study_lines(session),
    "studies, far back": lambda session, _: study_lines(session, before=100),
    "studies, forth again": lambda session, _: study_lines(session, after=100),
    "studies, found at once": lambda session, _: found_lines(session, "ACC77"),
    "studies, of a patient": lambda session, _: found_lines(session, "PAT77"),
    "studies, rare word": lambda session, _: found_lines(session, "rare ct"),
    "studies, common words": lambda session, _: found_lines(session, "ct acc"),
    "studies, words of old ones": lambda session, _: found_lines(session, "old ct"),
    "studies, nothing": lambda session, _: found_lines(session, "no such thing"),
    "studies, counted": lambda session, _: count_all(session),
    "studies for programs": lambda session, _: queries.studies(session, limit=20, offset=100),
    "found for programs": lambda session, _: queries.studies(session, limit=20, offset=20, search="ct"),
    "cases for programs": lambda session, _: queries.review_queue(session, limit=20),
    "study": lambda session, _: queries.study_numbered(session, 77),
    "why there is no result": lambda session, settings: why_not(session, settings, 50),
    "earlier studies": lambda session, _: priors_of(session, 77),
    "pipeline": pipeline,
    "destinations": destinations.destination_states,
    "dead letters": lambda session, _: destinations.deliveries(session, states=[D.DEAD], destination="pacs"),
    "dead letters, far back": lambda session, _: destinations.deliveries(session, states=[D.DEAD], before=99),
    "failed jobs": lambda session, _: (failures.failed_jobs(session), failures.count_failed(session)),
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_no_page_reads_a_whole_table(ledger: Database, tmp_path: Path, page: str) -> None:
    with ledger.reading() as session, _statements(ledger) as statements:
        PAGES[page](session, Settings(data_dir=tmp_path))
    assert statements
    cost = _steps if ledger.is_sqlite else _rows_read
    costs = {statement: cost(ledger, statement, parameters) for statement, parameters in statements}
    assert {statement: read for statement, read in costs.items() if isinstance(read, str)} == {}


@pytest.mark.parametrize("address", [
    "/", "/worklist/lines", "/studies", "/studies/50", "/studies/50/routes", "/cases/j50", "/cases/j51",
    "/operations/pipeline", "/operations/failures", "/operations/failures?show=jobs", "/operations/destinations",
    "/operations/adapters", "/api/studies?limit=20", "/api/studies/1.2.50", "/api/studies/1.2.50/why",
    "/api/review?limit=20",
])  # fmt: skip
def test_no_address_reads_a_whole_table(pages: FastAPI, ledger: Database, address: str) -> None:
    """As a browser asks for it: with who asks, all parts of the page, and what the audit trail looks up."""
    browser = TestClient(pages, base_url="http://localhost:8080")
    with _statements(pages.state.database) as statements:
        answer = browser.get(address)
    assert answer.status_code == 200, answer.text
    cost = _steps if ledger.is_sqlite else _rows_read
    costs = {statement: cost(ledger, statement, parameters) for statement, parameters in statements}
    assert costs
    assert {statement: read for statement, read in costs.items() if isinstance(read, str)} == {}


@contextmanager
def _statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    kept: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            kept.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", keep)
    try:
        yield kept
    finally:
        event.remove(database.engine, "before_cursor_execute", keep)


def _steps(database: Database, statement: str, parameters: Any) -> int | str:
    """Return about how many steps SQLite takes for a statement, or in words that they are too many."""
    steps, each = 0, 100

    def count() -> int:
        nonlocal steps
        steps += each
        return 0

    with database.engine.connect() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        raw: Any = connection.connection.dbapi_connection
        raw.set_progress_handler(count, each)
        connection.exec_driver_sql(statement, parameters).all()
        raw.set_progress_handler(None, 0)
    # Rows are counted in one step; those of a list are walked in its order until a page is full.
    counted = [line for line in plan if line.startswith("SCAN") and line.split()[1] in LARGE and "count(" in statement]
    return f"{steps} steps: {plan}" if steps > STEPS_AT_MOST or counted else steps


def _rows_read(database: Database, statement: str, parameters: Any) -> int | str:
    """Return how many rows PostgreSQL reads for a statement, or in words that they are too many."""
    with database.engine.connect() as connection:
        explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", parameters)
        plan = explained.scalar_one()[0]["Plan"]
    scans = [node for node in _nodes(plan) if "Relation Name" in node or "Index Name" in node]
    read = sum(_read(node) for node in scans)
    return f"{read} rows: {json.dumps(plan)}" if read > ROWS_AT_MOST else read


def _read(node: dict[str, Any]) -> int:
    removed = sum(node.get(f"Rows Removed by {by}", 0) for by in ("Filter", "Index Recheck"))
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def test_pages_lead_to_the_oldest_study_and_back(ledger: Database) -> None:
    numbers: list[int] = []
    with ledger.reading() as session:
        page = study_lines(session)
        assert (page.has_newer, page.has_older) == (False, True)
        while page.has_older and len(numbers) < 4 * LINES:
            numbers += [line.id for line in page.lines]
            page = study_lines(session, before=numbers[-1])
            assert page.has_newer
        assert numbers == list(range(STUDIES, STUDIES - 4 * LINES, -1))
        back = study_lines(session, after=page.lines[0].id)
        assert [line.id for line in back.lines] == numbers[-LINES:]
        first = study_lines(session, after=numbers[LINES - 2])
        assert ([line.id for line in first.lines], first.has_newer) == (numbers[:LINES], False)
        last = study_lines(session, before=LINES + 1)
        assert ([line.id for line in last.lines], last.has_older) == (list(range(LINES, 0, -1)), False)
        assert study_lines(session, before=1).lines == []


@pytest.mark.parametrize(
    ("search", "numbers"),
    [
        ("ACC77", [77]),  # whole: not 770 to 779, too
        ("PAT77", [155, 154]),
        ("1.2.77", [77]),
        ("acc7", [7, *range(70, 80), *range(700, 800)]),
        ("RARE acc7", [7]),
        ("ct rare", range(1, WAITS + 1)),
        ("ct", range(1, STUDIES + 1)),
        ("old ct", range(1, COMMON + 2)),
        ("cc77", []),
        ("ct nothing", []),
        ("%", []),
        ("*", []),
    ],
)
def test_a_search_finds_beginnings_of_words(ledger: Database, search: str, numbers: list[int]) -> None:
    wanted = sorted(numbers, reverse=True)
    with ledger.reading() as session:
        page = found_lines(session, search)
        assert ([line.id for line in page.lines], page.has_older) == (wanted[:LINES], len(wanted) > LINES)
        again = queries.studies(session, limit=3, offset=1, search=search)
        assert [study.id for study in again] == wanted[1:4]
        waiting = [number for number in wanted if number % WAITS == 0]
        found = work_list(session, Filters(search=search, sort="waiting"), *ME)
        assert found.found == len(waiting)
        assert {line.study_id for line in found.lines} <= set(waiting)


def test_statements_are_not_compiled_on_the_way(ledger: Database) -> None:
    if not ledger.is_sqlite:
        with ledger.engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW jit").scalar() == "off"
