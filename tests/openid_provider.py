"""A small OpenID provider on this machine: discovery, keys, codes with PKCE, and signed ID tokens.

It lets everybody in as who `claims` says. `spoil` changes what it issues, for tests of what must not be believed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

CLIENT_ID, CLIENT_SECRET = "dicom-worker", "between us"


class OpenIdProvider:
    """The provider's side of the log-in."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {
            "sub": "4711",
            "preferred_username": "Lise",
            "family_name": "Meitner",
            "given_name": "Lise",
            "realm_access": {"roles": ["pacs-readers", "radiologists"]},
        }
        self.spoil: Callable[[dict[str, Any]], None] = lambda _claims: None
        self.key = ECKey.generate_key("P-256", {"kid": "first", "use": "sig", "alg": "ES256"})
        self.published = [self.key]
        #: Whether it offers a log-out (RP-Initiated Logout 1.0), and what it was told at each.
        self.ends_sessions = False
        self.ended: list[dict[str, str]] = []
        #: What is asked for with each code.
        self._codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def metadata(self) -> dict[str, Any]:
        ends = {"end_session_endpoint": f"{self.issuer}/end"} if self.ends_sessions else {}
        return {
            **ends,
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def keys(self) -> dict[str, Any]:
        return dict(KeySet(self.published).as_dict(private=False))

    def authorize(self, query: dict[str, str]) -> str:
        """Return where the browser is led to."""
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe()
        self._codes[code] = query
        back = {"code": code, "state": query["state"], "iss": self.issuer}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def end(self, query: dict[str, str]) -> str:
        """Return where the browser is led to after a log-out."""
        assert query["client_id"] == CLIENT_ID
        claims = jwt.decode(query["id_token_hint"], KeySet(self.published), algorithms=["ES256"]).claims
        self.ended.append({"subject": claims["sub"], "nonce": claims["nonce"]})
        return query["post_logout_redirect_uri"]

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Return the answer to a code, once."""
        asked = self._codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if (
            asked is None
            or challenge.rstrip("=") != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
            or authorization != f"Basic {expected}"
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {**self.claims, "iss": self.issuer, "aud": CLIENT_ID, "exp": now + 300, "iat": now}
        claims["nonce"] = asked["nonce"]
        self.spoil(claims)
        header = {"alg": "ES256", "kid": self.key.kid}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": jwt.encode(header, claims, self.key)}


def _handler(provider: OpenIdProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path == "/authorize":
                self.send_response(303)
                self.send_header("Location", provider.authorize(_plain(address.query)))
                self.end_headers()
            elif address.path == "/end":
                self.send_response(303)
                self.send_header("Location", provider.end(_plain(address.query)))
                self.end_headers()
            elif address.path == "/.well-known/openid-configuration":
                self._answer(200, provider.metadata())
            else:
                self._answer(200, provider.keys())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(*provider.token(_plain(body), self.headers.get("Authorization", "")))

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _plain(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


@contextmanager
def openid_provider() -> Iterator[OpenIdProvider]:
    """A provider until the end of the block."""
    provider = OpenIdProvider()
    try:
        yield provider
    finally:
        provider.close()
