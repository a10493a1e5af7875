"""Log-in by an OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0 3.1, RFC 7636, RFC 9700).

Input: the settings of a provider, and what a browser brings back from it. Output: who it is, in which role. Nothing but
a signed ID token is believed: its signature, issuer, audience, nonce and times are checked. On failure `OidcError`, in
words for the log-in page; what the provider said in detail goes to the log.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import structlog

from worker.roles import Role
from worker.web_settings import OidcSettings

if TYPE_CHECKING:
    import httpx
    from joserfc.jwk import KeySet

log = structlog.get_logger()

#: Asymmetric signatures only: with a shared secret, whoever checks a token could make one.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_TIMEOUT_S: Final = 10.0
_LEEWAY_S: Final = 60
#: What the provider says of itself, and its keys, are asked for again after this time, or when a key is unknown.
_KEPT_S, _ASKED_AGAIN_AFTER_S = 3600.0, 30.0
#: Questions to the provider at once: each waits in a thread that pages need, too, and anybody can have them asked.
_AT_ONCE: Final = 4


class OidcError(Exception):
    """The provider's log-in cannot be used; the message says why."""


class NoRoleError(OidcError):
    """The provider vouches for somebody who has no role here, or not any more."""

    def __init__(self, issuer: str, subject: str) -> None:
        """Say whom it vouches for."""
        self.issuer, self.subject = issuer, subject
        super().__init__("this account has no role here; ask who administers it")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A log-in on its way: what the browser must bring back, or prove that it had."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        """Return a new attempt."""
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        """The verifier's hash (RFC 7636 4.2, S256)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says that it is."""

    issuer: str
    subject: str
    login: str
    person_name: str
    role: Role
    #: What was checked; it says at log-out whose session ends.
    id_token: str = field(repr=False)


class Provider:
    """One OpenID provider."""

    def __init__(self, settings: OidcSettings) -> None:
        """Nothing is asked before the first log-in."""
        self._settings = settings
        self._lock = threading.Lock()
        self._metadata: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def address(self, attempt: Attempt, redirect_uri: str) -> str:
        """Return where the browser logs in. Raises `OidcError`."""
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *self._settings.scopes))),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str(self._describes_itself()["authorization_endpoint"])
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def identity(self, attempt: Attempt, code: str, redirect_uri: str, iss: str | None = None) -> Identity:
        """Return who logged in, for the code that the browser brought back.

        Args:
            attempt: What the browser began with.
            code: What it brought back.
            redirect_uri: The address that it came back to.
            iss: Who led it back, as far as that was said (RFC 9207).

        Raises:
            OidcError: The log-in is not believed.
            NoRoleError: It is, and they have no role here.
        """
        says_who = self._describes_itself().get("authorization_response_iss_parameter_supported") is True
        if iss != self._settings.issuer and (says_who or iss is not None):
            raise self._failed("another one answered", ValueError(f"iss is {iss!r}"))
        answer = self._ask("POST", str(self._describes_itself()["token_endpoint"]), data={
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self._settings.client_id,
            "code_verifier": attempt.verifier,
        })  # fmt: skip
        claims = self._checked(str(answer.get("id_token", "")), attempt.nonce)
        return Identity(
            issuer=self._settings.issuer,
            subject=str(claims["sub"]),
            login=self._login(claims),
            person_name=_person_name(claims),
            role=self._role(claims),
            id_token=str(answer["id_token"]),
        )

    def end_session_address(self, id_token: str, back: str) -> str | None:
        """Return where the browser ends its session at the provider, too, and from where it comes back.

        OpenID Connect RP-Initiated Logout 1.0, 2 and 2.1. The provider must know the way back (`post_logout_redirect_
        uris`).

        Args:
            id_token: What the log-in brought: with it the provider need not ask who means to leave; empty for none.
            back: Where the browser goes afterwards.

        Returns:
            The address; None where the settings do not want it, or the provider does not offer it.

        Raises:
            OidcError: The provider cannot be asked.
        """
        if not self._settings.end_session:
            return None
        endpoint = str(self._describes_itself().get("end_session_endpoint") or "")
        if urlsplit(endpoint).scheme not in ("https", urlsplit(self._settings.issuer).scheme):
            return None
        query = {"client_id": self._settings.client_id, "post_logout_redirect_uri": back}
        if id_token:
            query["id_token_hint"] = id_token
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """Return the highest role that the claims name."""
        value: Any = claims
        for part in self._settings.role_claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        named = {value} if isinstance(value, str) else set(map(str, value)) if isinstance(value, list) else set()
        roles = [role for name, role in self._settings.roles.items() if name in named]
        if not roles:
            raise NoRoleError(self._settings.issuer, str(claims["sub"]))
        return max(roles, key=list(Role).index)

    def _login(self, claims: Mapping[str, Any]) -> str:
        """Return the login; an address that anybody may have typed in is none (OpenID Connect Core 5.1)."""
        if self._settings.login_claim == "email" and claims.get("email_verified") in (False, "false"):
            raise OidcError("the provider has not verified the e-mail address that is the login here")
        return str(claims.get(self._settings.login_claim, "")).lower()

    def _checked(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        """Return the claims of a token that is meant for us, now (OpenID Connect Core 3.1.3.7)."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._settings.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": self._settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            token = self._decoded(id_token)
            registry.validate(token.claims)
        except (JoseError, ValueError) as error:
            raise self._failed("its answer cannot be trusted", error) from None
        claims: Mapping[str, Any] = token.claims
        if len(_listed(claims["aud"])) > 1 and claims.get("azp") != self._settings.client_id:
            raise self._failed("its answer is meant for somebody else", ValueError(str(claims.get("azp"))))
        return claims

    def _decoded(self, id_token: str) -> Any:
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, MissingKeyError

        offered = self._describes_itself().get("id_token_signing_alg_values_supported", ["RS256"])
        algorithms = [name for name in ALGORITHMS if name in offered]
        try:
            return jwt.decode(id_token, self._public_keys(), algorithms=algorithms)
        except (InvalidKeyIdError, MissingKeyError, ValueError):  # the provider may have a new key
            return jwt.decode(id_token, self._public_keys(anew=True), algorithms=algorithms)

    def _public_keys(self, *, anew: bool = False) -> KeySet:
        from joserfc.jwk import KeySet

        with self._lock:
            kept = self._keys
            if kept is not None and time.monotonic() - kept[0] < (_ASKED_AGAIN_AFTER_S if anew else _KEPT_S):
                return kept[1]
        published = self._ask("GET", str(self._describes_itself()["jwks_uri"]))
        try:
            keys = KeySet.import_key_set({"keys": [key for key in published["keys"] if key.get("kty") != "oct"]})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._failed("its keys cannot be read", error) from None
        with self._lock:
            self._keys = (time.monotonic(), keys)
        return keys

    def _describes_itself(self) -> Mapping[str, Any]:
        """Return what the provider says of itself (OpenID Connect Discovery 1.0 4)."""
        with self._lock:
            if self._metadata is not None and time.monotonic() - self._metadata[0] < _KEPT_S:
                return self._metadata[1]
        found = self._ask("GET", f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self._settings.issuer:
            raise self._failed("it names itself otherwise than web.oidc.issuer", ValueError(str(found.get("issuer"))))
        if missing := {"authorization_endpoint", "token_endpoint", "jwks_uri"} - set(found):
            raise self._failed("it does not say where to log in", ValueError(", ".join(sorted(missing))))
        with self._lock:
            self._metadata = (time.monotonic(), found)
        return found

    def _ask(self, method: str, url: str, data: dict[str, str] | None = None) -> Mapping[str, Any]:
        import httpx

        secret = self._settings.client_secret.get_secret_value()
        auth = (self._settings.client_id, secret) if data is not None and secret else None
        if not self._turns.acquire(blocking=False):
            raise self._failed("too many log in there at this moment", ValueError(f"{_AT_ONCE} questions wait"))
        try:
            with self._client() as client:
                answer = client.request(method, url, data=data, auth=auth)
            content = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._failed("it cannot be reached", error) from None
        finally:
            self._turns.release()
        if answer.is_error or not isinstance(content, dict):
            said = content.get("error") if isinstance(content, dict) else ""
            raise self._failed("it refused the log-in", ValueError(f"{answer.status_code} {said}"))
        return content

    def _client(self) -> httpx.Client:
        import ssl

        import httpx

        context = ssl.create_default_context(cafile=self._settings.ca)
        return httpx.Client(timeout=_TIMEOUT_S, verify=context, headers={"Accept": "application/json"})

    def _failed(self, why: str, error: Exception) -> OidcError:
        log.error("log-in by the provider failed", action="login", issuer=self._settings.issuer, reason=str(error))
        return OidcError(f"the log-in at {self._settings.name} failed: {why}; see the log, or log in with a password")


def _person_name(claims: Mapping[str, Any]) -> str:
    """Return a name as DICOM writes it, of the standard claims (OpenID Connect Core 5.1)."""
    family, given, middle = (str(claims.get(f"{part}_name") or "") for part in ("family", "given", "middle"))
    return "^".join((family, given, middle)).rstrip("^").replace("=", "-").replace("\\", "-")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
