"""Log-in by an OpenID provider that signs real tokens, and what is not believed of one."""

from __future__ import annotations

import hmac
import json
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from joserfc.jwk import ECKey

from tests.audit_schema import messages, told
from tests.ledger_rows import HELD_PAGE
from tests.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, openid_provider
from tests.people import PASSWORD, browser_of, csrf_of, log_in, quick_hashes
from tests.web_server import web_settings
from worker.people import accounts, oidc, tokens
from worker.roles import Role
from worker.settings import SettingsError
from worker.web.app import create_app

OIDC = {
    "name": "City Hospital",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "role_claim": "realm_access.roles",
    "roles": {"radiologists": "reviewer", "pacs-readers": "viewer"},
    "organization": "City Hospital",
}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenIdProvider]:
    """A provider; nothing on the way to it is a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with openid_provider() as running:
        yield running


@pytest.fixture
def app(tmp_path: Path, provider: OpenIdProvider) -> Iterator[FastAPI]:
    """The application of a site that logs in there."""
    made = create_app(web_settings(tmp_path, login="required", oidc={**OIDC, "issuer": provider.issuer}))
    with TestClient(made):
        yield made


def log_in_there(browser: TestClient, way_back: str = "/account") -> httpx.Response:
    """Follow the log-in to the provider and back; return the answer to what it brings back."""
    led = browser.get("/login/provider", params={"next": way_back}, follow_redirects=False)
    back = httpx.get(led.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    answer: httpx.Response = browser.get(back, follow_redirects=False)
    return answer


def test_whom_the_provider_vouches_for_is_let_in_with_name_and_role(app: FastAPI, provider: OpenIdProvider) -> None:
    browser = browser_of(app)
    assert "Log in with City Hospital" in browser.get("/login").text
    answer = log_in_there(browser, HELD_PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, HELD_PAGE)
    assert "dicom_worker_login" not in browser.cookies, "what was for one log-in is not kept"
    assert "Meitner^Lise" in browser.get("/account").text
    with app.state.database.reading() as session:
        (account,) = accounts.everybody(session)
    assert (account.login, account.role, account.organization) == ("lise", Role.REVIEWER, "City Hospital")
    assert account.password_hash == ""
    # The provider says next time that she is a viewer, and is called otherwise there: it is still her.
    provider.claims |= {"realm_access": {"roles": "pacs-readers"}, "preferred_username": "meitner"}
    assert log_in_there(browser_of(app)).status_code == 303
    assert "viewer · signs as Meitner^Lise" in browser.get("/account").text


def test_who_has_no_role_or_another_ones_login_stays_out(app: FastAPI, provider: OpenIdProvider) -> None:
    provider.claims["realm_access"] = {"roles": ["nurses"]}
    answer = log_in_there(browser_of(app))
    assert answer.status_code == 403
    assert "has no role here" in answer.text
    provider.claims["realm_access"] = {"roles": ["radiologists"]}
    with app.state.database.writing() as session:
        accounts.add(session, "lise", Role.ADMINISTRATOR)
    assert "there is a user &#39;lise&#39; already" in log_in_there(browser_of(app)).text
    provider.claims |= {"sub": "4712", "preferred_username": "ida"}
    assert log_in_there(browser_of(app)).status_code == 303
    with app.state.database.writing() as session:
        accounts.get(session, "ida").disabled = True
    assert "disabled" in log_in_there(browser_of(app)).text


def test_who_has_no_role_any_more_is_out_everywhere_and_every_change_is_told(
    app: FastAPI, provider: OpenIdProvider
) -> None:
    browser = browser_of(app)
    log_in_there(browser)
    with app.state.database.writing() as session:
        token = tokens.add(session, "hers", Role.VIEWER, 1, accounts.get(session, "lise"))
    provider.claims["realm_access"] = {"roles": ["pacs-readers"]}
    assert log_in_there(browser_of(app)).status_code == 303
    provider.claims["realm_access"] = {"roles": []}
    assert log_in_there(browser_of(app)).status_code == 403
    assert browser.get("/account").status_code == 401
    assert browser_of(app).get("/api/studies", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    about = [told(message) for message in messages(app.state.audit.folder)]
    changes = [line for line in about if "Roles" in line]
    assert len(changes) == 3, about


def test_an_address_that_nobody_verified_is_no_login(app: FastAPI, provider: OpenIdProvider) -> None:
    settings = app.state.settings.web.oidc
    app.state.provider = oidc.Provider(settings.model_copy(update={"login_claim": "email"}))
    provider.claims |= {"email": "lise@city.example", "email_verified": False}
    assert "has not verified the e-mail address" in log_in_there(browser_of(app)).text
    provider.claims["email_verified"] = True
    assert log_in_there(browser_of(app)).status_code == 303


def test_a_provider_that_says_who_leads_back_always_does(
    app: FastAPI, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {**provider.metadata(), "authorization_response_iss_parameter_supported": True}
    monkeypatch.setattr(provider, "metadata", lambda: described)
    browser = browser_of(app)
    led = browser.get("/login/provider", follow_redirects=False)
    back = httpx.get(led.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    assert browser.get(back.split("&iss=")[0]).status_code == 403
    assert log_in_there(browser_of(app)).status_code == 303


def test_strangers_who_begin_to_log_in_wait_for_few_threads(app: FastAPI) -> None:
    app.state.provider._turns = threading.BoundedSemaphore(1)
    app.state.provider._turns.acquire()
    answer = browser_of(app).get("/login/provider")
    assert (answer.status_code, "too many log in there at this moment" in answer.text) == (502, True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda claims: claims.update(iss="https://evil.example"),
        lambda claims: claims.update(aud="another-client"),
        lambda claims: claims.update(aud=[CLIENT_ID, "another-client"]),
        lambda claims: claims.update(nonce="of another log-in"),
        lambda claims: claims.update(exp=claims["iat"] - 3600),
        lambda claims: claims.pop("exp"),
        lambda claims: claims.pop("sub"),
    ],
    ids=["issuer", "audience", "audiences", "nonce", "expired", "endless", "nobody"],
)
def test_a_token_that_is_not_for_us_now_is_not_believed(
    app: FastAPI, provider: OpenIdProvider, spoil: Callable[[dict[str, Any]], None]
) -> None:
    provider.spoil = spoil
    answer = log_in_there(browser_of(app))
    assert answer.status_code == 403
    assert "log-in at City Hospital failed" in answer.text
    assert "set-cookie" not in answer.headers or "dicom_worker_session" not in answer.headers["set-cookie"]


def test_a_forged_signature_is_not_believed_and_a_new_key_is_fetched(
    app: FastAPI, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in_there(browser_of(app)).status_code == 303
    known, provider.key = provider.key, ECKey.generate_key("P-256", {"kid": "first", "alg": "ES256"})
    assert log_in_there(browser_of(app)).status_code == 403  # the same name, another key
    provider.key = ECKey.generate_key("P-256", {"kid": "second", "use": "sig", "alg": "ES256"})
    provider.published = [known, provider.key]
    monkeypatch.setattr(oidc, "_ASKED_AGAIN_AFTER_S", 0)
    assert log_in_there(browser_of(app)).status_code == 303


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_that_anybody_could_make_is_not_believed(
    app: FastAPI, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """Not signed at all, or with the public key as a shared secret, even where the provider offers that."""
    described = {**provider.metadata(), "id_token_signing_alg_values_supported": ["ES256", "none", "HS256"]}
    signed = provider.token

    def forged(form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        status, answer = signed(form, authorization)
        head = urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": provider.key.kid}).encode()).rstrip(b"=")
        text = head + b"." + answer["id_token"].split(".")[1].encode()
        secret = provider.key.as_pem(private=False)
        seal = b"" if algorithm == "none" else hmac.digest(secret, text, "sha256")
        return status, {**answer, "id_token": (text + b"." + urlsafe_b64encode(seal).rstrip(b"=")).decode()}

    monkeypatch.setattr(provider, "metadata", lambda: described)
    monkeypatch.setattr(provider, "token", forged)
    browser = browser_of(app)
    assert log_in_there(browser).status_code == 403
    assert browser.get("/api/studies").status_code == 401


def test_the_way_back_from_the_provider_leads_nowhere_else(app: FastAPI) -> None:
    answer = log_in_there(browser_of(app), "https://evil.example/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    # Nor where the page it goes on to was put into this browser's cookie by another site of the same domain.
    browser = browser_of(app)
    led = browser.get("/login/provider", follow_redirects=False)
    kept = json.loads(bytes.fromhex(browser.cookies["dicom_worker_login"]))
    planted = json.dumps([*kept[:3], "//evil.example"]).encode().hex()
    browser.cookies.clear()
    browser.cookies.set("dicom_worker_login", planted, domain="localhost.local")
    back = httpx.get(led.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    assert browser.get(back, follow_redirects=False).headers["location"] == "/"


def log_out(browser: TestClient) -> httpx.Response:
    answer: httpx.Response = browser.post("/logout", data={"csrf_token": csrf_of(browser)}, follow_redirects=False)
    return answer


def test_log_out_ends_the_session_at_the_provider_too(app: FastAPI, provider: OpenIdProvider) -> None:
    provider.ends_sessions = True
    browser = browser_of(app)
    log_in_there(browser)
    page = log_out(browser)
    assert page.status_code == 200
    assert browser.get("/api/studies").status_code == 401, "here it has ended, whatever becomes of it there"
    assert "id_token" not in "".join(browser.cookies), "what is for one log-out is not kept"
    assert "City Hospital" in page.text
    assert ">Log out<" not in page.text
    (address,) = set(re.findall(r'"(?:0; url=)?(http[^"]+/end[^"]+)"', page.text))
    assert f'content="0; url={address}"' in page.text, "the browser goes there by itself"
    back = httpx.get(unescape(address), follow_redirects=False, trust_env=False)
    assert back.headers["location"] == "http://localhost:8080/login"
    assert [ended["subject"] for ended in provider.ended] == ["4711"]


def test_where_there_is_no_session_to_end_elsewhere_log_out_is_as_ever(
    app: FastAPI, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leads_to() -> str:
        browser = browser_of(app)
        log_in_there(browser)
        answer = log_out(browser)
        assert browser.get("/api/studies").status_code == 401
        return str(answer.headers.get("location", "the provider"))

    assert leads_to() == "/login", "the provider offers none"
    provider.ends_sessions = True
    monkeypatch.setattr(oidc, "_KEPT_S", 0.0)
    assert leads_to() == "the provider"
    with monkeypatch.context() as patched:
        described = {**provider.metadata(), "end_session_endpoint": "javascript:alert(1)"}
        patched.setattr(provider, "metadata", lambda: described)
        assert leads_to() == "/login", "that is no address"
    unwanted = app.state.settings.web.oidc.model_copy(update={"end_session": False})
    monkeypatch.setattr(app.state.provider, "_settings", unwanted)
    assert leads_to() == "/login", "the settings do not want it"
    # Whoever has a password here was not vouched for.
    with app.state.database.writing() as session, quick_hashes():
        accounts.add(session, "ada", Role.VIEWER, password=PASSWORD)
    browser = browser_of(app)
    with quick_hashes():
        log_in(browser, "ada")
    assert log_out(browser).headers["location"] == "/login"
    assert len(provider.ended) == 0


def test_what_another_browser_began_is_not_finished_here(app: FastAPI) -> None:
    led = browser_of(app).get("/login/provider", follow_redirects=False)
    back = httpx.get(led.headers["location"], follow_redirects=False, trust_env=False).headers["location"]
    assert "broken off" in browser_of(app).get(back).text
    mine = browser_of(app)
    mine.get("/login/provider", follow_redirects=False)
    assert "broken off" in mine.get(back).text  # another state: the code goes to nobody
    for query in ("", "error=access_denied", "code=x&state=y&iss=https://evil.example"):
        assert browser_of(app).get(f"/login/back?{query}").status_code == 403


def test_a_provider_that_is_away_is_said_so(app: FastAPI, provider: OpenIdProvider) -> None:
    provider.close()
    answer = browser_of(app).get("/login/provider")
    assert answer.status_code == 502
    assert "cannot be reached" in answer.text


def test_settings_say_what_cannot_work(tmp_path: Path) -> None:
    for wrong, reason in (
        ({"issuer": "http://login.example"}, "must be https"),
        ({"issuer": "https://login.example", "roles": {"x": "king"}}, "viewer"),
        ({"issuer": "https://login.example", "client_secret": ["never shown"]}, "client_secret"),
    ):
        with pytest.raises(SettingsError, match=reason) as error:
            web_settings(tmp_path, oidc={**OIDC, **wrong})
        assert "never shown" not in str(error.value)
