"""The connection to a server that speaks the OpenAI protocol: TLS, key, time-outs, tries, and failures in plain words.

Input: an `OpenAIServer`; bodies of chat completions. Output: the server's JSON. On failure: `ServerFailureError`, which
says what the server said, what to do, and whether the same request may succeed later.

Only the server of the settings is spoken to: no redirect is followed and no proxy of the environment is used, for
pictures would go there. Of the SDK's headers only those that HTTP needs are sent, and none of the SDK's own environment
variables (OPENAI_API_KEY, OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS ...) has a say.

Of the SDK's answers the text is taken and read here: its classes take any shape without complaint.

A try that fails is made again; that cannot make a second result, since a completion changes nothing on the server, and
the first whole answer is the only one that is returned. All tries and pauses together take at most
2 x attempts x timeout_s.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import openai

from models.engines.configuration import EngineError, OpenAIServer

_Read = TypeVar("_Read")

_CONNECT_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.5
#: Of what a server says, no more than this is passed on: some repeat the whole request, pictures included.
_LONGEST_WORDS = 300
_HEADERS = frozenset(
    {
        *("host", "connection", "accept", "accept-encoding", "user-agent"),
        *("content-type", "content-length", "transfer-encoding", "authorization"),
    }
)
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
#: Too many requests, or a proxy without its server: the next minute's server may answer.
_AWAY_STATUS = frozenset({429, 502, 503, 504})
_UNPROCESSABLE = frozenset({400, 422})


class ServerFailureError(EngineError):
    """A request that the server did not answer as it should."""

    def __init__(
        self,
        reason: str,
        *,
        transient: bool,
        refusal: str | None = None,
        unreachable: bool = False,
        away: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.transient = transient
        #: The server's own words where it would not take the request as it stands (400, 422).
        self.refusal = refusal
        #: True where no connection came about, or no answer in time.
        self.unreachable = unreachable
        #: True where no server took the request up: it cannot be the request's fault.
        self.away = away
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as the server lists it (`GET /models`; `root` and `parent` are vLLM's)."""

    id: str
    #: Hub id or folder of its weights.
    root: str = ""
    #: The base model of a LoRA adapter.
    parent: str = ""
    owned_by: str = ""


class ModelServer:
    """One server, spoken to from one event loop."""

    def __init__(self, server: OpenAIServer) -> None:
        """Prepare the connection; nothing is sent yet.

        Raises:
            EngineError: The file with the authorities cannot be read.
        """
        self._server = server
        # At level debug they print whole requests, pictures and all.
        for name in ("openai", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = openai.AsyncOpenAI(
            base_url=server.base_url,
            # The SDK takes one from the environment where none is given; without a key the header is removed below.
            api_key=server.api_key or "none",
            organization="",
            project="",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                verify=_tls_context(server),
                timeout=openai.Timeout(server.timeout_s, connect=min(_CONNECT_TIMEOUT_S, server.timeout_s)),
                follow_redirects=False,
                trust_env=False,
                event_hooks={"request": [self._strip_headers]},
            ),
        )

    async def models(self) -> dict[str, ServedModel]:
        """Return what the server serves, by name. Raises `ServerFailureError`."""

        return await self._tried(lambda: self._client.get("/models", cast_to=str), self._listed)

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chat completion for a body; it has at least one choice, and each has a message.

        Raises:
            ServerFailureError: The server did not answer so.
        """
        return await self._tried(
            lambda: self._client.post("/chat/completions", body=dict(body), cast_to=str), _completion
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _listed(self, text: str) -> dict[str, ServedModel]:
        try:
            entries = json.loads(text)["data"]
            found = [
                ServedModel(*(str(entry.get(name) or "") for name in ("id", "root", "parent", "owned_by")))
                for entry in entries
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Some other web server: it will not become another one by waiting.
            raise ServerFailureError(
                f"{self._server.base_url} lists no models as the OpenAI protocol has it; engine.openai.base_url must "
                "be the address up to and including /v1",
                transient=False,
            ) from error
        return {model.id: model for model in found}

    async def _tried(self, ask: Callable[[], Awaitable[str]], read: Callable[[str], _Read]) -> _Read:
        """Ask until a whole answer comes, as often as the settings allow."""
        for attempt in range(1, self._server.attempts + 1):
            try:
                # The SDK's time-out begins anew with each byte; this one is for the whole answer.
                async with asyncio.timeout(self._server.timeout_s):
                    return read(await ask())
            except (TimeoutError, openai.OpenAIError, ValueError) as error:
                failure = self._failure(error)
                pause_s = failure.retry_after_s
                if pause_s is None:
                    # Spread, so that all requests that failed together do not come back together.
                    pause_s = _FIRST_PAUSE_S * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
                last = attempt == self._server.attempts
                if last or not failure.transient or pause_s > self._server.timeout_s:
                    raise failure from error
            await asyncio.sleep(pause_s)
        raise AssertionError("attempts is at least 1")

    def _failure(self, error: Exception) -> ServerFailureError:
        """Say what a failed try means."""
        where = self._server.base_url
        if isinstance(error, (TimeoutError, openai.APITimeoutError)):
            return ServerFailureError(
                f"{where} gave no whole answer within {self._server.timeout_s:g} s; it is overloaded, or "
                "engine.openai.timeout_s is too short for this model",
                transient=True,
                unreachable=True,
            )
        if isinstance(error, openai.APIStatusError):
            return self._refused(error)
        if isinstance(error, openai.APIConnectionError):
            return _not_connected(where, error)
        return ServerFailureError(f"{where} sent an answer that cannot be read: {error}", transient=True)

    def _refused(self, error: openai.APIStatusError) -> ServerFailureError:
        """Say what an HTTP status other than 2xx means."""
        status, words = error.status_code, self._words(error)
        said = f"{self._server.base_url} answered {status}: {words}"
        if status in _TRANSIENT_STATUS or status >= 500:
            pause_s = _retry_after_s(error.response.headers.get("retry-after"))
            return ServerFailureError(said, transient=True, away=status in _AWAY_STATUS, retry_after_s=pause_s)
        remedy = {
            401: "set engine.openai.api_key to a key that the server knows",
            403: "the key of engine.openai.api_key may not do this; have it allowed there",
            404: "check engine.openai.base_url (up to and including /v1) and the names in engine.openai.models",
            413: "the pictures are more than the server or a proxy before it takes; raise its limit",
        }.get(status)
        if status in _UNPROCESSABLE:
            remedy = "if it is the length or the number of images, start vLLM with a larger --max-model-len or "
            remedy += "--limit-mm-per-prompt"
            return ServerFailureError(f"{said}; {remedy}", transient=False, refusal=words)
        if 300 <= status < 400:
            remedy = "pictures go to no other address than engine.openai.base_url; set it to the final one"
        return ServerFailureError(f"{said}; {remedy or 'see the log of the server'}", transient=False)

    def _words(self, error: openai.APIStatusError) -> str:
        """Return what the server said, on one line, shortened, and never the key."""
        body = error.body
        message = body.get("message") or body.get("detail") if isinstance(body, Mapping) else None
        words = " ".join(str(message or error.response.text or error.response.reason_phrase).split())
        if self._server.api_key:
            words = words.replace(self._server.api_key, "[key]")
        return words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]} ..."

    async def _strip_headers(self, request: Any) -> None:
        """Leave the headers that HTTP needs; the SDK's others tell of this machine."""
        for name in list(request.headers):
            if name.lower() not in _HEADERS or (name.lower() == "authorization" and not self._server.api_key):
                del request.headers[name]


def _completion(text: str) -> dict[str, Any]:
    """Return a chat completion. Raises `ValueError` where it is cut off or has no choices."""
    completion = json.loads(text)
    choices = completion.get("choices") if isinstance(completion, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("it has no choices")
    if not all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices):
        raise ValueError("a choice has no message")
    return dict(completion)


def _tls_context(server: OpenAIServer) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=server.ca)
    except OSError as error:
        raise EngineError(
            f"engine.openai.ca: {server.ca} cannot be read as PEM certificates ({error.strerror or error}); name the "
            "file with the authorities that the server's certificate is signed by"
        ) from error


def _not_connected(where: str, error: openai.APIConnectionError) -> ServerFailureError:
    """Say why no connection came about, or why it broke."""
    reasons = []
    cause = error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ServerFailureError(
                f"{where}: its certificate is not accepted ({cause.verify_message}); name the authority that signed it "
                "in engine.openai.ca, and use the host name that the certificate is for",
                transient=False,
            )
        reasons.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    why = next((reason for reason in reversed(reasons) if reason), "no connection")
    return ServerFailureError(
        f"{where} cannot be reached ({why}); is the server running, and is engine.openai.base_url right?",
        transient=True,
        unreachable=True,
        away=True,
    )


def _retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
