"""Users, their log-ins and sessions: as a browser, an administrator and the command line see them."""

from __future__ import annotations

import re
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, update
from typer.main import get_command
from typer.testing import CliRunner

from tests.audit_schema import messages, told
from tests.integration.hospital import at_once
from tests.people import PASSWORD, browser_of, csrf_of, log_in, quick_hashes, token_of
from tests.web_server import web_settings
from worker.audit.trail import folder_of
from worker.cli import app as cli
from worker.db.columns import utc_now
from worker.db.people import Account, LoginAttempts, OpenSession
from worker.db.sessions import Database
from worker.people import accounts, login, passwords, sessions, tokens
from worker.roles import Role
from worker.settings import Settings
from worker.web import login as web_login
from worker.web.account import browser_in_words
from worker.web.app import create_app

OTHER_PASSWORD = "nine blue lamps in a column"  # noqa: S105 - of nobody


@pytest.fixture(autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Log-ins that take no time; what they cost in earnest is a test of its own."""
    with quick_hashes():
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with an empty database; log-in is required."""
    return web_settings(tmp_path, login="required")


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    """The application, with the administrator Ada and the reviewer Rea."""
    made = create_app(settings)
    with made.state.database.writing() as session:
        for name, role in (("ada", Role.ADMINISTRATOR), ("rea", Role.REVIEWER)):
            session.add(Account(login=name, role=role, password_hash=passwords.hashed(PASSWORD)))
    with TestClient(made):
        yield made


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    """A browser that is not logged in."""
    return browser_of(app)


# Log-in


def test_the_answer_is_the_same_for_a_wrong_password_and_an_unknown_user(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "costs", passwords.Costs())
    with app.state.database.writing() as session:
        accounts.get(session, "rea").password_hash = passwords.hashed(PASSWORD)
    answers, durations = [], []
    for name in ("rea", "nobody", "rea", "nobody"):
        started = time.process_time()  # not by the clock: the machine may be busy
        answer = log_in(browser_of(app), name, "a wrong password indeed")
        durations.append(time.process_time() - started)
        answers.append((answer.status_code, re.sub(r'value="[^"]*"', "", answer.text)))
    assert set(answers) == {answers[0]}
    assert answers[0][0] == 403
    assert min(durations) > max(durations) / 4  # an unknown user costs an Argon2 hash, too


def test_failures_slow_the_next_attempt_down_and_do_not_lock_out(app: FastAPI, browser: TestClient) -> None:
    while (answer := log_in(browser, "rea", "a wrong password")).status_code == 403:
        pass
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert log_in(browser, "rea").status_code == 429  # not even looked at
    database: Database = app.state.database
    with pytest.raises(login.TooSoonError):  # in another process, too
        login.check_password(Database(database.url), "rea", PASSWORD, "testclient")
    assert login.check_password(database, "rea", PASSWORD, "192.0.2.1") is not None  # her own desk is elsewhere
    with database.writing() as session:
        for row in session.query(LoginAttempts):
            row.not_before = utc_now() - timedelta(seconds=1)
    assert log_in(browser, "rea").status_code == 200
    with database.reading() as session:
        assert session.query(LoginAttempts).count() == 1  # the address keeps what others failed at


def test_a_stranger_who_guesses_keeps_nobody_out_who_has_logged_in_there_before(
    app: FastAPI, browser: TestClient
) -> None:
    """The stranger is a colleague at the same address, with the cookie of their own log-in."""
    stranger = browser_of(app)
    log_in(stranger, "ada")
    log_in(browser, "rea")
    log_in(browser, "ada")  # a reading room's browser has several users
    with app.state.database.writing() as session:  # as after 60 guesses
        for subject in login._subjects("rea", "testclient").values():
            pause = timedelta(seconds=30)
            session.merge(LoginAttempts(subject=subject, failures=60, last_at=utc_now(), not_before=utc_now() + pause))
    assert log_in(stranger, "rea").status_code == 429
    assert log_in(browser_of(app), "rea").status_code == 429
    assert log_in(browser, "rea").url.path == "/account"
    assert log_in(stranger, "rea").status_code == 429  # her log-in gives them no further guesses
    cookie = browser.cookies["dicom_worker_device"]
    stranger.cookies.set(
        "dicom_worker_device", f"{cookie[:-1]}{'A' if cookie[-1] != 'A' else 'B'}", domain="localhost.local"
    )
    with app.state.database.writing() as session:
        accounts.set_password(session, accounts.get(session, "rea"), OTHER_PASSWORD)
    assert log_in(browser, "rea", OTHER_PASSWORD).status_code == 429  # a new password makes every browser unknown


def test_guesses_in_a_browser_that_is_known_are_bounded_too(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "rea")
    answers = [log_in(browser, "rea", f"guess {n}").status_code for n in range(10)]
    assert answers == [403] * 5 + [429] * 5
    assert log_in(browser_of(app), "rea").status_code == 200


def test_who_is_disabled_or_demoted_while_logging_in_stays_so(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an administrator changes between the look at a password and the session must stand."""
    change: list[Callable[[Account], None]] = []

    def changed_meanwhile(database: Database, *args: str) -> Account | None:
        account = login.check_password(database, *args)
        with database.writing() as session:
            change[0](accounts.get(session, "rea"))
        return account

    monkeypatch.setattr(web_login, "check_password", changed_meanwhile)
    change.append(lambda account: setattr(account, "role", Role.VIEWER))
    log_in(browser_of(app), "rea")
    change[0] = lambda account: setattr(account, "disabled", True)
    assert log_in(browser_of(app), "rea").status_code == 403
    with app.state.database.reading() as session:
        rea = accounts.get(session, "rea")
        assert (rea.role, rea.disabled) == (Role.VIEWER, True)


def test_a_flood_of_log_ins_waits_for_no_threads_that_pages_need(
    app: FastAPI, browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(browser, "rea")
    monkeypatch.setattr(login, "_STRANGERS", threading.BoundedSemaphore(1))
    login._STRANGERS.acquire()
    answer = log_in(browser_of(app), "rea")
    assert answer.status_code == 429
    assert "too many log in at this moment" in answer.text
    assert log_in(browser, "rea").status_code == 200


def test_addresses_of_one_subscriber_count_as_one() -> None:
    first, second = (login._subjects("rea", address) for address in ("2001:db8::1", "2001:db8::ffff:2%eth0"))
    assert first == second != login._subjects("rea", "2001:db8:0:1::1")
    assert login._subjects("rea", "::ffff:192.0.2.1") == login._subjects("rea", "192.0.2.1")


def test_pauses_grow_to_their_longest(app: FastAPI) -> None:
    database: Database = app.state.database
    pauses = []
    for _ in range(14):
        login._count(database, {"account and address": "x"})
        with database.writing() as session:
            row = session.get_one(LoginAttempts, "x")
            pauses.append((row.not_before - row.last_at).total_seconds())
            row.not_before = row.last_at
    assert pauses[:6] == [0, 0, 0, 1, 2, 4]
    assert pauses[-1] == 900


def test_a_disabled_user_is_out_at_once(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "rea")
    assert browser.get("/account").status_code == 200
    with app.state.database.writing() as session:
        accounts.get(session, "rea").disabled = True
    assert browser.get("/api/studies").status_code == 401
    assert log_in(browser, "rea").status_code == 403


def test_it_is_the_same_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    settings = web_settings(tmp_path, postgres_url, login="required")
    app = create_app(settings)
    with TestClient(app):
        database: Database = app.state.database
        password = accounts.first_administrator(database)
        assert password is not None
        assert accounts.first_administrator(database) is None
        browser = browser_of(app)
        assert [log_in(browser, "administrator", "a wrong password").status_code for _ in range(5)] == [403] * 4 + [429]
        with database.writing() as session:
            session.query(LoginAttempts).update({"not_before": utc_now()})
        assert log_in(browser, "administrator", password).url.path == "/account/password"
        with database.writing() as session:
            token = tokens.add(session, "monitor", Role.VIEWER, 1)
            named = accounts.add(session, "rea", Role.REVIEWER, person_name="Curie^Marie", organization="City")
            reviewer = tokens.add(session, "reviewer", Role.REVIEWER, 1, named)
        headers = {"Authorization": f"Bearer {token}"}
        assert browser_of(app).get("/api/studies", headers=headers).json() == []
        with database.writing() as session:
            accounts.log_out_everywhere(session, accounts.get(session, "administrator"))
        assert browser.get("/account").status_code == 401
        # PostgreSQL keeps no text with NUL in it, which is no failure of the database.
        assert log_in(browser, "a\0").status_code == 400
        assert browser_of(app).get("/dicom-web/studies?PatientID=%00", headers=headers).status_code == 400
        headers |= {"Authorization": f"Bearer {reviewer}"}
        assert browser_of(app).post("/cases/%00/accept", headers=headers).status_code in (400, 422)
        assert browser_of(app).post("/cases/%00/accept", headers=headers, data={"seen": "x"}).status_code == 400


def test_two_administrators_who_end_one_another_at_once_leave_one(database: Database) -> None:
    with database.writing() as session:
        for login_name in ("ada", "bob"):
            accounts.add(session, login_name, Role.ADMINISTRATOR)
    refused = []

    def end(login_name: str) -> None:
        try:
            with database.writing() as session:
                account = accounts.get(session, login_name)
                accounts._keep_an_administrator(session, account)
                time.sleep(0.2)
                accounts.set_role(session, account, Role.VIEWER)
        except accounts.PeopleError as error:
            refused.append(str(error))

    at_once(end, ("ada", "bob"))
    assert [error.endswith("is the only administrator; make another user one first") for error in refused] == [True]


# Sessions


@pytest.mark.parametrize(("column", "ago_s"), [("seen_at", 901), ("ends_at", 1)])
def test_a_session_ends_when_idle_and_in_any_case(app: FastAPI, browser: TestClient, column: str, ago_s: float) -> None:
    log_in(browser, "rea")
    with app.state.database.writing() as session:
        setattr(session.query(OpenSession).one(), column, utc_now() - timedelta(seconds=ago_s))
    assert browser.get("/api/studies").status_code == 401


def test_how_long_a_session_lasts_is_what_the_settings_say(app: FastAPI, browser: TestClient) -> None:
    web = app.state.settings.web.model_copy(update={"session_idle_s": 120.0, "session_longest_s": 3600.0})
    app.state.settings = app.state.settings.model_copy(update={"web": web})
    elsewhere = browser_of(app)
    for one in (browser, elsewhere):
        log_in(one, "rea")
    with app.state.database.writing() as session:
        now = utc_now()
        here, there = session.query(OpenSession).order_by(OpenSession.opened_at)
        assert timedelta(minutes=59) < there.ends_at - now <= timedelta(hours=1)
        here.seen_at, there.seen_at = now - timedelta(seconds=121), now - timedelta(seconds=110)
    assert browser.get("/api/studies").status_code == 401
    page = elsewhere.get("/account").text
    assert "Log out there" not in page, "what has ended is not there to be ended"
    with app.state.database.writing() as session:
        session.query(OpenSession).update({"ends_at": utc_now() - timedelta(seconds=1)})
    log_in(browser, "rea")
    with app.state.database.reading() as session:
        assert session.query(OpenSession).count() == 1, "the table does not grow for ever"


def test_only_what_a_person_does_keeps_a_session_open(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "rea")
    long_ago = utc_now() - timedelta(seconds=600)

    def is_kept_by(**headers: str) -> bool:
        with app.state.database.writing() as session:
            session.query(OpenSession).one().seen_at = long_ago
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        assert browser.get("/account", headers=named).status_code == 200
        with app.state.database.reading() as session:
            return bool(session.query(OpenSession).one().seen_at > long_ago)

    assert is_kept_by()
    assert is_kept_by(sec_fetch_mode="navigate", sec_fetch_user="?1")
    assert is_kept_by(sec_fetch_mode="cors")
    assert not is_kept_by(sec_fetch_mode="navigate")  # the page that loads itself again
    assert not is_kept_by(sec_fetch_mode="cors", x_background="1")
    assert not is_kept_by(sec_fetch_mode="cors", accept="text/event-stream")


def test_a_changed_password_ends_every_other_session(app: FastAPI, browser: TestClient) -> None:
    elsewhere = browser_of(app)
    log_in(elsewhere, "rea")
    log_in(browser, "rea")
    token = csrf_of(browser)
    for current, new, again, reason in (
        ("wrong", OTHER_PASSWORD, OTHER_PASSWORD, "current password is another one"),
        (PASSWORD, OTHER_PASSWORD, "x", "same way twice"),
        (PASSWORD, PASSWORD, PASSWORD, "another one than the current"),
        (PASSWORD, "short", "short", "15 characters or more"),
    ):
        fields = {"csrf_token": token, "current": current, "password": new, "again": again}
        assert reason in browser.post("/account/password", data=fields).text
    with app.state.database.writing() as session:  # whose password is known to nobody else keeps their tokens
        kept = tokens.add(session, "hers", Role.VIEWER, 1, accounts.get(session, "rea"))
    fields = {"csrf_token": token, "current": PASSWORD, "password": OTHER_PASSWORD, "again": OTHER_PASSWORD}
    assert browser.post("/account/password", data=fields).url.path == "/"
    assert browser.get("/api/studies").status_code == 200
    assert elsewhere.get("/api/studies").status_code == 401
    assert log_in(elsewhere, "rea").status_code == 403
    assert browser_of(app).get("/api/studies", headers={"Authorization": f"Bearer {kept}"}).status_code == 200


def test_who_finds_a_browser_open_cannot_try_passwords_there(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "rea")
    fields = {"csrf_token": csrf_of(browser), "password": OTHER_PASSWORD, "again": OTHER_PASSWORD}
    answers = [browser.post("/account/password", data={**fields, "current": f"guess {n}"}).text for n in range(6)]
    assert "current password is another one" in answers[0]
    assert "Too many attempts failed; try again in" in answers[-1]


def test_one_can_log_out_elsewhere_but_only_oneself(app: FastAPI, browser: TestClient) -> None:
    elsewhere, other = browser_of(app), browser_of(app)
    for one, name in ((elsewhere, "rea"), (browser, "rea"), (other, "ada")):
        log_in(one, name)
    page = browser.get("/account").text
    assert page.count("Log out there") == 1
    with app.state.database.reading() as session:
        digests = {row.account.login: row.digest for row in session.query(OpenSession)}
        foreign = digests["ada"]
    theirs = page.split('name="session_id" value="')[1].split('"')[0]
    data = {"csrf_token": csrf_of(browser), "session_id": foreign}
    assert browser.post("/account/sessions/end", data=data).status_code == 404
    assert other.get("/api/studies").status_code == 200
    browser.post("/account/sessions/end", data={**data, "session_id": theirs})
    assert elsewhere.get("/api/studies").status_code == 401


def test_neither_sessions_nor_tokens_can_be_read_from_the_database(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "rea")
    cookie = browser.cookies["dicom_worker_session"]
    dump = Path(app.state.settings.data_dir / "dicom-worker.db").read_bytes()
    wal = Path(app.state.settings.data_dir / "dicom-worker.db-wal")
    dump += wal.read_bytes() if wal.exists() else b""
    assert sessions.digest_of(cookie).encode() in dump
    assert cookie.encode() not in dump


# The first user, and administration


def test_the_first_user_must_choose_a_password_before_anything_else(app: FastAPI, browser: TestClient) -> None:
    database: Database = app.state.database
    assert accounts.first_administrator(database) is None  # there are users
    passwords = []
    for _ in range(2):
        with database.writing() as session:
            session.query(Account).delete()
        passwords.append(accounts.first_administrator(database))
    before, password = passwords
    assert before is not None
    assert password is not None
    assert (before != password, min(len(before), len(password)) >= 12) == (True, True), "none is a default one"
    assert accounts.first_administrator(database) is None
    assert log_in(browser, "administrator", before).status_code == 403
    assert log_in(browser, "administrator", password).url.path == "/account/password"
    assert browser.get("/api/studies").status_code == 403
    assert browser.get("/account", headers={"Accept": "text/html"}).url.path == "/account/password"
    fields = {"csrf_token": csrf_of(browser, "/account/password"), "current": password}
    browser.post("/account/password", data={**fields, "password": OTHER_PASSWORD, "again": OTHER_PASSWORD})
    assert browser.get("/people").status_code == 200


def test_a_one_time_password_is_good_for_a_week(app: FastAPI, browser: TestClient) -> None:
    with app.state.database.writing() as session:
        account = accounts.add(session, "new", Role.VIEWER, password=PASSWORD, is_one_time=True)
        assert account.one_time_until is not None
        assert timedelta(days=6) < account.one_time_until - utc_now() <= timedelta(days=7)
        account.one_time_until = utc_now()
    answer = log_in(browser, "new")
    assert (answer.status_code, "was good for 7 days" in answer.text) == (403, True)
    with app.state.database.writing() as session:
        account = accounts.get(session, "new")
        accounts.set_password(session, account, OTHER_PASSWORD, is_one_time=True)
        assert account.one_time_until is not None
        assert timedelta(days=6) < account.one_time_until - utc_now() <= timedelta(days=7), "and the next one again"
    assert log_in(browser, "new", OTHER_PASSWORD).url.path == "/account/password"


def test_an_administrator_adds_changes_and_disables_users(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "ada")
    token = csrf_of(browser)

    def send(address: str, **fields: str) -> str:
        return browser.post(address, data={"csrf_token": token, **fields}).text

    page = send("/people", login="Vera", role="viewer", person_name="Rubin^Vera", organization="City Hospital")
    password = page.split('class="secret">')[1].split("<")[0]
    vera = browser_of(app)
    assert log_in(vera, "vera", password).url.path == "/account/password"
    with app.state.database.reading() as session:
        numbers = {account.login: account.id for account in accounts.everybody(session)}
    assert "already" in send("/people", login="vera", role="viewer")
    assert "is reviewer now" in send(f"/people/{numbers['vera']}/role", role="reviewer")
    assert vera.get("/api/studies").status_code == 401  # a new role, a new session
    assert "Rubin^V" in send(f"/people/{numbers['vera']}/name", person_name="Rubin^V")
    assert "cannot be written into a DICOM object" in send(f"/people/{numbers['vera']}/name", person_name="a=b")
    with app.state.database.writing() as session:
        before = tokens.add(session, "before", Role.VIEWER, 1, accounts.get(session, "vera"))
    assert "1 token in their name is revoked" in send(f"/people/{numbers['vera']}/disable")
    assert "is enabled" in send(f"/people/{numbers['vera']}/enable")
    headers = {"Authorization": f"Bearer {before}"}
    assert browser_of(app).get("/api/studies", headers=headers).status_code == 401, "what was taken stays taken"
    with app.state.database.writing() as session:
        token_of_vera = tokens.add(session, "vera's", Role.VIEWER, 1, accounts.get(session, "vera"))
    headers = {"Authorization": f"Bearer {token_of_vera}"}
    assert browser_of(app).get("/api/studies", headers=headers).status_code == 200
    assert "1 token in their name is revoked" in send(f"/people/{numbers['vera']}/password")
    assert browser_of(app).get("/api/studies", headers=headers).status_code == 401
    assert "only administrator" in send(f"/people/{numbers['ada']}/role", role="viewer")
    assert "only administrator" in send(f"/people/{numbers['ada']}/disable")
    assert "no such user" in send("/people/99/enable")


def test_an_administrator_makes_and_revokes_tokens_which_are_shown_once(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "ada")
    csrf = csrf_of(browser)

    def send(address: str, **fields: str) -> str:
        return browser.post(address, data={"csrf_token": csrf, **fields}).text

    def answers(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return int(browser_of(app).get("/api/studies", headers=headers).status_code)

    with app.state.database.reading() as session:
        numbers = {account.login: str(account.id) for account in accounts.everybody(session)}
    page = send("/people/tokens", name="prometheus", role="viewer", days="30", account="")
    token = page.split('class="secret">')[1].split("<")[0]
    assert "prometheus has the role viewer for 30 days" in page
    assert token.startswith(tokens.PREFIX)
    assert answers(token) == 200
    assert "prometheus" in browser.get("/people").text
    assert token not in browser.get("/people").text
    assert "already" in send("/people/tokens", name="prometheus", role="viewer", days="30")
    assert "cannot have the role administrator" in send(
        "/people/tokens", name="hers", role="administrator", days="1", account=numbers["rea"]
    )
    assert "could sign as them" in send("/people/tokens", name="x", role="reviewer", days="1", account=numbers["rea"])
    own = send("/people/tokens", name="own", role="reviewer", days="1", account=numbers["ada"])
    assert "in the name of ada" in own
    hers = send("/people/tokens", name="hers", role="viewer", days="1", account=numbers["rea"])
    assert "in the name of rea" in hers
    log_in(rea := browser_of(app), "rea")
    assert ">hers<" in rea.get("/account").text
    for form in ({"name": "mine", "role": "viewer", "days": "1"}, {"name": "prometheus"}):
        address = "/people/tokens" if "role" in form else "/people/tokens/revoke"
        assert rea.post(address, data={"csrf_token": csrf_of(rea), **form}).status_code == 403
    for days in ("0", "nan", "99999"):
        wrong = browser.post("/people/tokens", data={"csrf_token": csrf, "name": "x", "role": "viewer", "days": days})
        assert wrong.status_code == 422
    assert "prometheus is revoked" in send("/people/tokens/revoke", name="prometheus")
    assert answers(token) == 401
    assert "no token" in send("/people/tokens/revoke", name="prometheus")


def test_an_administrator_logs_somebody_out_everywhere(app: FastAPI, browser: TestClient) -> None:
    log_in(browser, "ada")
    log_in(rea := browser_of(app), "rea")
    with app.state.database.reading() as session:
        number = accounts.get(session, "rea").id
    said = browser.post(f"/people/{number}/log-out", data={"csrf_token": csrf_of(browser)}).text
    assert "rea is logged out everywhere" in said
    assert rea.get("/api/studies").status_code == 401
    assert log_in(rea, "rea").status_code == 200


def test_a_program_gives_and_takes_access(app: FastAPI, browser: TestClient) -> None:
    browser.headers["Authorization"] = f"Bearer {token_of(app, Role.ADMINISTRATOR)}"

    def ask(address: str, **fields: object) -> Any:
        answer = browser.post(f"/api/{address}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    made = ask("users", login="Mary", role="reviewer", person_name="Curie^Marie")
    assert log_in(browser_of(app), "mary", made["secret"]).is_success
    anew = ask("users/mary/password")
    assert log_in(browser_of(app), "mary", made["secret"]).is_client_error
    assert log_in(browser_of(app), "mary", anew["secret"]).is_success
    ask("users/mary/role", role="viewer")
    ask("users/mary/name", person_name="Curie^Marie^S", organization="Radium")
    ask("users/mary/disable")
    (mary,) = [one for one in browser.get("/api/users").json() if one["login"] == "mary"]
    about = ("role", "person_name", "organization", "disabled", "must_change_password", "is_vouched_for")
    assert [mary[name] for name in about] == ["viewer", "Curie^Marie^S", "Radium", True, True, False]
    ask("users/mary/enable")
    ask("users/mary/log-out")
    token = ask("tokens", name="monitor", role="viewer", days=7)["secret"]
    program = browser_of(app)
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get("/api/review").status_code == 200
    assert program.get("/api/users").status_code == 403
    assert {one["name"] for one in browser.get("/api/tokens").json()} >= {"monitor"}
    ask("tokens/revoke", name="monitor")
    assert program.get("/api/review").status_code == 401
    refused = browser.post("/api/tokens", json={"name": "as rea", "role": "reviewer", "days": 1, "login": "rea"})
    assert (refused.status_code, "could sign as them" in refused.json()["detail"]) == (409, True)
    assert browser.post("/api/users", json={"login": "mary", "role": "viewer"}).status_code == 409
    assert browser.post("/api/users/nobody/disable").status_code == 404
    secrets = (made["secret"], anew["secret"], token)
    assert not any(
        secret in browser.get(address).text for secret in secrets for address in ("/api/users", "/api/tokens")
    )
    trail = [told(message) for message in messages(folder_of(app.state.settings))]
    assert sum("about mary" in line for line in trail if "User Security Attributes Changed" in line) >= 4


def test_what_ends_somebodys_work_asks_once_more(browser: TestClient) -> None:
    log_in(browser, "ada")
    page = browser.get("/people").text
    for deed in ("disable", "password", "log-out"):
        before = page.split(f'/{deed}" method="post"')[0]
        assert before.rindex("<details") > before.rindex("</details>" if "</details>" in before else "<table"), deed


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
         "Safari/537.36 Edg/140.0.0.0", "Edge on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 "
         "Mobile/15E148 Safari/604.1", "Safari on iPadOS or iOS"),
        ("curl/8.5", "curl/8.5"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_browsers_are_named_as_people_call_them(agent: str, words: str) -> None:
    assert browser_in_words(agent) == words


# The command line


@pytest.fixture
def users(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`dicom-worker users ...` with these settings; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(settings.data_dir)}), encoding="utf-8")

    def run(*words: str, typed: str = "", code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["users", *words, "--config", str(file)], input=typed)
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_users_are_added_and_changed_on_the_command_line(app: FastAPI, users: Callable[..., str]) -> None:
    users("add", "vera", "--role", "reviewer", "--name", "Rubin^Vera", typed=f"{OTHER_PASSWORD}\n")
    assert log_in(browser_of(app), "vera", OTHER_PASSWORD).status_code == 200
    assert "15 characters or more" in users("set-password", "vera", typed="short\n", code=1)
    password = users("set-password", "vera", "--one-time").splitlines()[-1]
    assert log_in(browser_of(app), "vera", password).url.path == "/account/password"
    hers = [users("token", "add", name, "--user", "vera").splitlines()[-1] for name in ("one", "two")]
    said = users("set-password", "vera", typed=f"{OTHER_PASSWORD}\n")
    assert "2 tokens in their name are revoked" in " ".join(said.split())
    for token in hers:
        headers = {"Authorization": f"Bearer {token}"}
        assert browser_of(app).get("/api/studies", headers=headers).status_code == 401
    users("token", "add", "three", "--user", "vera")
    users("set-role", "vera", "viewer")
    users("set-name", "vera", "--name", "Rubin^Vera^C", "--organization", "City Hospital")
    for words in (("list",), ("list", "--json")):
        shown = users(*words)
        assert "Rubin^Vera^C" in shown
        assert "viewer" in shown
    assert "1 token in their name is revoked" in " ".join(users("disable", "vera").split())
    assert "disabled" in users("list")
    users("enable", "vera")
    assert "only administrator" in users("disable", "ada", code=1)
    assert "no user 'x'" in users("disable", "x", code=1)
    assert "cannot be a login" in users("add", "a b", typed=f"{OTHER_PASSWORD}\n", code=1)


def test_command_and_program_are_told_the_same_words_which_are_audited(
    app: FastAPI, browser: TestClient, users: Callable[..., str]
) -> None:
    browser.headers["Authorization"] = f"Bearer {token_of(app, Role.ADMINISTRATOR)}"

    def ask(address: str, **fields: object) -> str:
        return str(browser.post(f"/api/{address}", json=fields).json()["done"])

    by_command = [
        " ".join(users(*words).split())
        for words in (
            ("add", "mary", "--role", "viewer", "--one-time"),
            ("set-role", "mary", "reviewer"),
            ("set-name", "mary", "--name", "Curie^Marie"),
            ("set-password", "mary", "--one-time"),
            ("disable", "mary"),
            ("enable", "mary"),
            ("token", "add", "monitor", "--user", "mary"),
            ("token", "revoke", "monitor"),
        )
    ]
    asked = [
        ask("users", login="john", role="viewer"),
        ask("users/john/role", role="reviewer"),
        ask("users/john/name", person_name="Curie^Marie"),
        ask("users/john/password"),
        ask("users/john/disable"),
        ask("users/john/enable"),
        ask("tokens", name="monitor", role="viewer", days=365, login="john"),
        ask("tokens/revoke", name="monitor"),
    ]
    assert [words.startswith(done.replace("john", "mary")) for words, done in zip(by_command, asked, strict=True)] == [
        True
    ] * 8
    about_people = [
        message
        for message in messages(folder_of(app.state.settings))
        if told(message).split(" about ")[1] in ("mary", "john", "token:monitor")
    ]
    described = [
        (told(message).split(" / ")[1].split(" by ")[0], b64decode(detail.get("value")).decode())
        for message in about_people
        for detail in message.iter("ParticipantObjectDetail")
        if detail.get("type") == "Alert Description"
    ]
    assert [(kind, words.replace("mary", "john")) for kind, words in described[:8]] == described[8:]
    assert [words for _, words in described[8:]] == asked


def test_nobody_waits_until_a_password_is_typed(
    app: FastAPI, settings: Settings, tmp_path: Path, users: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Typist(StringIO):
        """Types once somebody else has written to the ledger."""

        def readline(self, size: int = -1, /) -> str:
            impatient = create_engine(settings.resolved_database_url, connect_args={"timeout": 0.1})
            with impatient.begin() as connection:
                connection.execute(update(Account).values(organization="City Hospital"))
            impatient.dispose()
            return super().readline(size)

    for words in (("add", "vera"), ("set-password", "rea")):
        monkeypatch.setattr(sys, "stdin", Typist(f"{OTHER_PASSWORD}\n"))
        get_command(cli).main(["users", *words, "--config", str(tmp_path / "site.yaml")], standalone_mode=False)
        assert log_in(browser_of(app), words[1], OTHER_PASSWORD).status_code == 200


def test_tokens_let_machines_in_until_they_end(app: FastAPI, users: Callable[..., str], browser: TestClient) -> None:
    token = users("token", "add", "prometheus", "--days", "2").splitlines()[-1]
    headers = {"Authorization": f"Bearer {token}"}
    assert browser.get("/api/studies", headers=headers).status_code == 200
    assert "prometheus" in users("token", "list")
    assert "already" in users("token", "add", "prometheus", code=1)
    of_rea = ("token", "add", "hers", "--user", "rea", "--role")
    assert "cannot have the role administrator" in users(*of_rea, "administrator", code=1)
    hers = users(*of_rea, "reviewer").splitlines()[-1]
    assert '"user": "rea"' in users("token", "list", "--json")
    log_in(browser, "rea")
    data = {"csrf_token": csrf_of(browser), "name": "prometheus"}
    assert browser.post("/account/tokens/revoke", data=data).status_code == 404
    browser.post("/account/tokens/revoke", data={**data, "name": "hers"})
    assert browser_of(app).get("/api/studies", headers={"Authorization": f"Bearer {hers}"}).status_code == 401
    users("token", "revoke", "prometheus")
    assert browser_of(app).get("/api/studies", headers=headers).status_code == 401
    assert "no token" in users("token", "revoke", "prometheus", code=1)


def test_a_token_ends_in_time_and_never_may_more_than_whose_it_is(app: FastAPI) -> None:
    headers: dict[str, str] = {}

    def answers(address: str = "/api/studies") -> int:
        return int(browser_of(app).get(address, headers=headers).status_code)

    with app.state.database.writing() as session:
        ada = accounts.get(session, "ada")
        headers["Authorization"] = f"Bearer {tokens.add(session, 'hers', Role.ADMINISTRATOR, 2, ada)}"
        (made,) = tokens.listed(session)
        assert timedelta(days=1) < made.expires_at - utc_now() <= timedelta(days=2)
    assert answers("/api/users") == 200
    with app.state.database.writing() as session:
        accounts.get(session, "ada").role = Role.VIEWER
    assert (answers("/api/users"), answers()) == (403, 200)
    for disabled, answer in ((True, 401), (False, 200)):
        with app.state.database.writing() as session:
            accounts.get(session, "ada").disabled = disabled
        assert answers() == answer
    with app.state.database.writing() as session:
        tokens.listed(session)[0].expires_at = utc_now()
    assert answers() == 401
