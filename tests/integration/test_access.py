"""Who may see what: every route of the application, for every role, with and without a log-in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from tests.ledger_rows import HELD_JOB, HELD_PAGE
from tests.people import PASSWORD, browser_of, csrf_of, log_in, quick_hashes, token_of
from tests.web_server import web_settings
from worker import review
from worker.db.people import OpenSession
from worker.people import accounts, sessions
from worker.roles import Role
from worker.web import access, pages
from worker.web.answer_headers import HEADERS
from worker.web.app import OPEN_TO_ALL, create_app

PAGE = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The application with an empty ledger and one user of each role."""
    settings = web_settings(
        tmp_path_factory.mktemp("access"), login="required", cors_origins=["https://viewer.example"]
    )
    made = create_app(settings)
    with quick_hashes(), made.state.database.writing() as session:
        for role in Role:
            accounts.add(session, role.value, role, person_name="Curie^Marie", password=PASSWORD)
    with quick_hashes(), TestClient(made):
        yield made


@pytest.fixture
def nobody(app: FastAPI) -> TestClient:
    """A browser that is not logged in."""
    return browser_of(app)


def routes(app: FastAPI) -> list[tuple[str, str, Role | None]]:
    """Every address with its method and the highest role it asks for; parameters are 9, which is nothing."""
    found = []
    for path, route in access.routes(app):
        asked = access.roles_of(route)
        role = max(asked, key=list(Role).index) if asked else None
        address = re.sub(r"\{[^}]*\}", "9", path)
        found += [(method, address, role) for method in getattr(route, "methods", None) or ("GET",) if method != "HEAD"]
    return found


def test_every_route_says_who_may_see_it(app: FastAPI) -> None:
    assert len(routes(app)) > 20
    assert access.undeclared(app, OPEN_TO_ALL) == []
    assert {path for _, path, role in routes(app) if role is None} == OPEN_TO_ALL
    app_with_a_slip = FastAPI()
    app_with_a_slip.get("/slip")(lambda: "everybody")
    assert access.undeclared(app_with_a_slip, OPEN_TO_ALL) == ["/openapi.json", "/docs", "/docs/oauth2-redirect",
                                                              "/redoc", "/slip"]  # fmt: skip


def test_no_route_both_shows_and_changes(app: FastAPI) -> None:
    """A link on another site's page is followed with the session's cookie: what changes something is never a GET."""
    for path, route in access.routes(app):
        methods = set(getattr(route, "methods", None) or ())
        assert not methods & {"GET", "HEAD"} or methods <= {"GET", "HEAD"}, path


def test_no_route_serves_somebody_unknown(app: FastAPI, nobody: TestClient) -> None:
    for method, address, role in routes(app):
        if role is not None:
            assert nobody.request(method, address).status_code == 401, address
            assert nobody.request(method, address, headers={"Authorization": "Bearer dwt_x"}).status_code == 401
            if not address.startswith("/dicom-web"):
                answer = nobody.request(method, address, headers=PAGE, follow_redirects=False)
                assert answer.headers["location"].startswith("/login"), address


@pytest.mark.parametrize("role", list(Role))
def test_every_route_refuses_a_role_that_may_not_see_it(app: FastAPI, nobody: TestClient, role: Role) -> None:
    headers = {"Authorization": f"Bearer {token_of(app, role)}"}
    for method, address, needed in routes(app):
        if needed is None:
            continue
        answer = nobody.request(method, address, headers=headers, follow_redirects=False)
        assert (answer.status_code == 403) == (not role.includes(needed)), (method, address, answer.text)


def test_a_page_leads_to_the_log_in_and_back(app: FastAPI, nobody: TestClient) -> None:
    page = nobody.get(HELD_PAGE, headers=PAGE)
    assert page.url.path == "/login"
    assert "back where you were" in page.text
    assert log_in(nobody, "viewer", way_back=HELD_PAGE).url.path == HELD_PAGE
    with app.state.database.writing() as session:
        session.query(OpenSession).delete()
    # The search form, sent after the session has ended: back to the page it was on.
    answer = nobody.post("/search", headers={**PAGE, "Referer": f"http://localhost:8080{HELD_PAGE}"}, data={"q": "x"})
    assert dict(answer.url.params) == {"next": HELD_PAGE}


def test_a_part_of_a_page_leads_the_whole_page_to_the_log_in(nobody: TestClient) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://localhost:8080{HELD_PAGE}", "Accept": "*/*"}
    answer = nobody.get("/worklist/lines", headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login?next=%2Fstudies%2F2")


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x", "//[", ""]
)
def test_the_way_back_leads_nowhere_else(nobody: TestClient, address: str) -> None:
    answer = log_in(nobody, "viewer", way_back=address, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_the_cookie_is_for_the_server_alone_and_new_at_every_log_in(nobody: TestClient) -> None:
    first = log_in(nobody, "viewer", follow_redirects=False).headers["set-cookie"]
    assert "HttpOnly" in first
    assert "SameSite=lax" in first
    assert "Secure" not in first
    token = nobody.cookies[access.COOKIE]
    log_in(nobody, "viewer")
    assert nobody.cookies[access.COOKIE] != token
    nobody.cookies.set(access.COOKIE, token, domain="localhost.local")
    assert nobody.get("/api/studies").status_code == 401  # the session before is no more


def test_behind_https_the_cookie_is_secure_and_browsers_are_told_to_stay(app: FastAPI) -> None:
    with TestClient(app, base_url="https://localhost:8080") as browser:
        answer = log_in(browser, "viewer", follow_redirects=False)
        cookies = answer.headers.get_list("set-cookie")
        assert [cookie.split("=")[0] for cookie in cookies] == [
            "__Host-dicom_worker_session",
            "__Host-dicom_worker_device",
        ]
        assert all("Secure" in cookie and "HttpOnly" in cookie and "Path=/;" in cookie for cookie in cookies)
        # What a neighbour in the same domain plants is not looked at.
        planted = {"Cookie": f"dicom_worker_session={browser.cookies['__Host-dicom_worker_session']}"}
        assert browser_of(app).get("https://localhost:8080/account", headers=planted).status_code == 401
        browser.post("/logout", data={"csrf_token": csrf_of(browser)})
        assert [cookie.name for cookie in browser.cookies.jar] == ["__Host-dicom_worker_device"]
        assert "max-age=" in answer.headers["strict-transport-security"]


def test_every_answer_has_the_headers_that_keep_others_out(
    app: FastAPI, nobody: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = {"Authorization": f"Bearer {token_of(app, Role.VIEWER)}"}
    reader = TestClient(app, base_url="http://localhost:8080", headers=token, raise_server_exceptions=False)
    monkeypatch.setattr(pages, "study_lines", lambda *_: 1 // 0)
    tag = nobody.get("/static/style.css").headers["etag"]
    answers = {
        200: nobody.get("/login"),
        303: nobody.get("/", headers=PAGE, follow_redirects=False),
        400: nobody.get("/login", headers={"Host": "evil.example"}),
        401: nobody.get("/dicom-web/studies"),
        403: reader.get("/people"),
        404: reader.get("/results/9.png"),
        405: reader.head("/studies"),
        413: nobody.post("/login", content=b"x" * 70_000),
        422: reader.get("/api/studies?limit=x"),
        500: reader.get("/studies"),
        304: nobody.get("/static/style.css", headers={"If-None-Match": tag}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status, answer.url
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, status
    policy = dict(part.split(" ", 1) for part in answers[200].headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == policy.pop("form-action") == "'self'"
    assert policy == dict.fromkeys(("base-uri", "frame-ancestors", "object-src"), "'none'"), "no source beside our own"
    kept_out = ("x-content-type-options", "referrer-policy", "cross-origin-resource-policy", "cache-control")
    assert [answers[200].headers[name] for name in kept_out] == ["nosniff", "same-origin", "same-origin", "no-store"]
    assert "division" not in answers[500].text
    page = reader.get("/studies", headers=PAGE)
    assert (page.status_code, "To the work list" in page.text, "division" in page.text) == (500, True, False)


def test_where_the_database_is_away_a_reader_is_told_to_look_before_deciding_again(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = browser_of(app)
    log_in(browser, "reviewer")
    fields = {"csrf_token": csrf_of(browser), "seen": "x"}

    def is_away(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, Exception("server closed the connection: Secret^Name"))

    monkeypatch.setattr(review, "accept", is_away)
    answer = browser.post(f"/cases/{HELD_JOB}/accept", data=fields, headers=PAGE)
    assert (answer.status_code, "before you send it once more" in " ".join(answer.text.split())) == (503, True)
    assert "Secret" not in answer.text
    monkeypatch.setattr(sessions, "who", is_away)
    assert "Load this page again in a moment" in browser.get("/", headers=PAGE).text
    assert browser.get("/api/studies").json()["detail"].startswith("the database cannot be read")


def test_a_form_of_another_site_changes_nothing(app: FastAPI, nobody: TestClient) -> None:
    log_in(nobody, "viewer")
    search = {"q": "ACC-1"}
    assert nobody.post("/search", data=search).status_code == 403  # no token
    token = csrf_of(nobody)
    assert nobody.post("/search", data={**search, "csrf_token": token}).status_code == 200
    assert nobody.post("/search", data=search, headers={"X-CSRF-Token": token}).status_code == 200
    for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert nobody.post("/search", data={**search, "csrf_token": token}, headers=foreign).status_code == 403
        assert browser_of(app).post("/login", data={"login": "x"}, headers=foreign).status_code == 403


def test_log_out_ends_the_session_on_the_server(nobody: TestClient) -> None:
    log_in(nobody, "viewer")
    cookie = nobody.cookies[access.COOKIE]
    token = csrf_of(nobody)
    assert nobody.post("/logout", data={"csrf_token": token}, headers=PAGE).url.path == "/login"
    nobody.cookies.set(access.COOKIE, cookie, domain="localhost.local")
    assert nobody.get("/api/studies").status_code == 401


def test_metrics_are_for_this_machine_or_for_who_has_a_token(app: FastAPI) -> None:
    for host, status_code in (("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 401)):
        with TestClient(app, base_url="http://localhost:8080", client=(host, 50000)) as asker:
            assert asker.get("/metrics").status_code == status_code
    with TestClient(app, base_url="http://localhost:8080", client=("192.0.2.7", 50000)) as asker:
        headers = {"Authorization": f"Bearer {token_of(app, Role.VIEWER)}"}
        assert asker.get("/metrics", headers=headers).status_code == 200


def test_without_log_in_nobody_beyond_this_machine_is_let_in(tmp_path: Path) -> None:
    from worker.settings import SettingsError

    with pytest.raises(SettingsError, match=r"web\.login is off"):
        web_settings(tmp_path, login="off", bind="0.0.0.0")  # noqa: S104


def test_no_address_is_so_odd_that_it_breaks_a_page(nobody: TestClient) -> None:
    assert nobody.post("/search", headers={**PAGE, "Referer": "http://[x"}, data={"q": "x"}).url.path == "/login"
    log_in(nobody, "administrator")
    number = "9" * 30  # more than a row can have
    for page in (f"series/{number}", f"series/{number}/frames", f"series/1/instances/{number}/frames/1"):
        assert nobody.get(f"/viewer/{page}").status_code == 422, page
    assert nobody.post(f"/people/{number}/disable", data={"csrf_token": csrf_of(nobody)}).status_code == 422


def test_what_is_not_in_its_form_is_refused_without_saying_it_again(nobody: TestClient) -> None:
    answer = nobody.post("/login", data={"login": "viewer", "password": "secret" * 200})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "password"]
    assert "secret" not in answer.text
    log_in(nobody, "reviewer")
    headers = {"X-CSRF-Token": csrf_of(nobody), "Content-Type": "application/json"}
    half_a_character = b'{"text": "x", "\\ud800": "\\ud800"}'
    assert nobody.post(f"/api/review/{'9' * 32}/comment", content=half_a_character, headers=headers).status_code == 422


def test_a_browser_is_shown_a_page_that_says_what_is_wrong_and_leads_back(nobody: TestClient) -> None:
    log_in(nobody, "administrator")
    token = csrf_of(nobody)
    headers = {**PAGE, "Referer": "http://localhost:8080/people"}
    secret = "secret" * 50
    answer = nobody.post(
        "/people", headers=headers, data={"csrf_token": token, "person_name": secret, "role": "<b>king</b>"}
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")
    for words in (
        "<h1>Not understood</h1>",
        "Login: it is missing",
        "Role: Input should be",
        "Person name: it is longer than 256 characters",
        '<a href="/people">Go back</a>',
    ):
        assert words in answer.text, answer.text
    assert "secret" not in answer.text
    assert "king" not in answer.text
    page = nobody.get(f"/people/{'9' * 30}/disable", headers=PAGE)
    assert page.status_code == 405
    answer = nobody.post(f"/people/{'9' * 30}/disable", headers=PAGE, data={"csrf_token": token})
    assert "The address of the page: " in answer.text
    assert '<a href="/">Go back</a>' in answer.text
    asked = nobody.get("/", headers=PAGE, params={"start": -1})
    assert (asked.status_code, "<li>Start: Input should be" in asked.text) == (422, True)
    program = nobody.post("/people", headers={"X-CSRF-Token": token}, data={"role": "king"})
    assert program.json()["detail"][0]["loc"] == ["body", "login"]


def test_nobody_fills_the_memory(nobody: TestClient) -> None:
    megabytes = b" " * (5 * 2**20)

    def pieces() -> Iterator[bytes]:
        """The same body, whose length is not said."""
        yield from (megabytes[:65536] for _ in range(80))

    comment = f"/api/review/{'9' * 32}/comment"
    for address, kind in (
        ("/login", "application/x-www-form-urlencoded"),
        ("/login", "multipart/form-data; boundary=x"),
        (comment, "application/json"),
    ):
        for body in (megabytes, pieces()):
            answer = nobody.post(address, content=body, headers={"Content-Type": kind})
            assert answer.status_code == 413, (address, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_another_sites_page_changes_nothing_where_nobody_logs_in(tmp_path: Path) -> None:
    made = create_app(web_settings(tmp_path, login="off", cors_origins=["https://viewer.example"]))
    with TestClient(made, base_url="http://localhost:8080") as browser:
        user = {"login": "mallory", "role": "administrator"}
        for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            assert browser.post("/people", data=user, headers=foreign).status_code == 403
            assert browser.post("/dicom-web/studies", headers=foreign).status_code == 403
        viewer = {"Origin": "https://viewer.example"}
        assert browser.post("/dicom-web/studies", headers=viewer).status_code == 415  # let in
        assert browser.post("/people", data=user, headers=viewer).status_code == 403
        assert browser.post("/search", data={"q": "x"}, headers={"Origin": "http://localhost:8080"}).status_code == 200
        assert browser.post("/search", data={"q": "x"}).status_code == 200  # no browser


def test_a_proxy_on_this_machine_may_pass_on_the_public_name(tmp_path: Path) -> None:
    made = create_app(web_settings(tmp_path, login="required", public_url="https://dicom.example"))
    with TestClient(made, base_url="http://dicom.example") as browser:
        assert browser.get("/login").status_code == 200
        assert browser.get("/login", headers={"Host": "evil.example"}).status_code == 400
