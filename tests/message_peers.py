"""Systems that take messages, as far as they can run here: a FHIR server, a RIS that speaks HL7 v2, a webhook receiver.

The FHIR server keeps resources and knows transactions with conditional create and update (FHIR R4, http 3.1.0.4.3 and
3.1.0.7.1); what is not valid R4 it refuses. The RIS is the MLLP server of the `hl7` package. The webhook receiver
verifies signatures with the package of the Standard Webhooks project, and refuses what it has seen.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hl7
from fhir.resources.R4B.bundle import Bundle
from hl7.mllp import start_hl7_server
from standardwebhooks import Webhook, WebhookVerificationError

from tests.services.process import LOCALHOST

#: 32 bytes, as `openssl rand -base64 32` makes them.
SECRET = "whsec_" + "c2l4dGVlbiBieXRlcyB0d2ljZSBtYWtlIHRoaXJ0eSE="


@dataclass
class FhirServer:
    """Resources by kind and identifier, with how often each was written."""

    url: str = ""
    port: int = 0
    resources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Statuses to answer before anything is taken.
    refusals: list[int] = field(default_factory=list)
    #: Identifiers of the patients it has, as `system|value`; a reference to another fails the transaction.
    patients: set[str] = field(default_factory=set)
    seen: list[dict[str, str]] = field(default_factory=list)
    transactions: int = 0
    #: While it is set, what was taken is not answered.
    hold_answers: threading.Event = field(default_factory=threading.Event)

    @property
    def taken(self) -> int:
        """How many messages were taken."""
        return self.transactions

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the resources of a kind."""
        return [resource for (known, _), resource in self.resources.items() if known == kind]

    def transact(self, body: bytes) -> dict[str, Any]:
        """Do a transaction: references to other entries become references to what was written."""
        Bundle.model_validate_json(body)
        entries = json.loads(body)["entry"]
        for entry in entries:
            searched = urlsplit(entry["resource"].get("subject", {}).get("reference", "")).query
            if searched and parse_qs(searched)["identifier"][0] not in self.patients:
                raise LookupError(f"no resource matches Patient?{searched}")
        places = {entry["fullUrl"]: self._key(entry) for entry in entries}
        self.transactions += 1
        answers = []
        for entry in entries:
            key = places[entry["fullUrl"]]
            exists = key in self.resources
            if entry["request"]["method"] == "PUT" or not exists:
                self.resources[key] = _resolved(entry["resource"], places)
                self.versions[key] = self.versions.get(key, 0) + 1
            answers.append({"response": {"status": "200 OK" if exists else "201 Created"}})
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}

    def _key(self, entry: dict[str, Any]) -> tuple[str, str]:
        request, resource = entry["request"], entry["resource"]
        query = request.get("ifNoneExist") or urlsplit(request["url"]).query
        system, _, value = parse_qs(query)["identifier"][0].partition("|")
        assert {"system": system, "value": value} in resource["identifier"], "the condition must find the resource"
        return resource["resourceType"], value


def _resolved(content: Any, places: dict[str, tuple[str, str]]) -> Any:
    if isinstance(content, list):
        return [_resolved(part, places) for part in content]
    if not isinstance(content, dict):
        return content
    resolved = {name: _resolved(part, places) for name, part in content.items()}
    if str(resolved.get("reference", "")).startswith("urn:uuid:"):
        resolved["reference"] = "/".join(places[resolved["reference"]])  # KeyError: it refers to what is not there
    return resolved


@dataclass
class WebhookReceiver:
    """Events whose signature is right, in order, each once."""

    url: str = ""
    port: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    #: Identifiers of what came again.
    repeated: list[str] = field(default_factory=list)
    forged: int = 0
    #: (status, header fields) to answer before anything is taken.
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    #: While it is set, what was taken is not answered.
    hold_answers: threading.Event = field(default_factory=threading.Event)

    @property
    def taken(self) -> int:
        """How many events were taken."""
        return len(self.events)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Return the status of the answer."""
        try:
            event = Webhook(SECRET).verify(body, headers)
        except WebhookVerificationError:
            self.forged += 1
            return 400
        if event["id"] in {known["id"] for known in self.events}:
            self.repeated.append(event["id"])
        else:
            self.events.append(event)
        return 204


@contextmanager
def fhir_server(port: int = 0) -> Iterator[FhirServer]:
    """Run a FHIR server."""
    state = FhirServer()

    class Handler(_Handler):
        def do_GET(self) -> None:
            state.seen.append(dict(self.headers))
            capability = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
            self.answer(200, capability) if self.path == "/r4/metadata" else self.answer(404, {})

        def do_POST(self) -> None:
            body = self.body()
            state.seen.append(dict(self.headers))
            refused = state.refusals.pop(0) if state.refusals else None
            if self.path != "/r4" or refused:
                outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "not today"}]}
                self.answer(refused or 404, outcome)
                return
            try:
                status, done = 200, state.transact(body)
            except LookupError as error:
                outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": str(error)}]}
                status, done = 404, outcome
            _wait_while(state.hold_answers)
            self.answer(status, done)

    with _serving(Handler, port) as state.port:
        state.url = f"http://{LOCALHOST}:{state.port}/r4"
        yield state


@contextmanager
def webhook_receiver(port: int = 0) -> Iterator[WebhookReceiver]:
    """Run a webhook receiver."""
    state = WebhookReceiver()

    class Handler(_Handler):
        def do_HEAD(self) -> None:
            self.answer(405, None)

        def do_POST(self) -> None:
            body = self.body()
            if state.refusals:
                status, fields = state.refusals.pop(0)
                self.answer(status, None, fields)
            else:
                status = state.take(dict(self.headers), body)
                _wait_while(state.hold_answers)
                self.answer(status, None)

    with _serving(Handler, port) as state.port:
        state.url = f"http://{LOCALHOST}:{state.port}/hooks"
        yield state


def _wait_while(event: threading.Event) -> None:
    while event.is_set():
        time.sleep(0.01)


class _Handler(BaseHTTPRequestHandler):
    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, content: Any, fields: dict[str, str] | None = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(fields or {})}.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # who asked may be gone
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler], port: int) -> Iterator[int]:
    with HTTPServer((LOCALHOST, port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Ris:
    """What came by MLLP, in order; `answers` says how: an acknowledgement code, bytes, or None for silence."""

    port: int = 0
    messages: list[hl7.Message] = field(default_factory=list)
    answers: list[str | bytes | None] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """How many messages were taken."""
        return len(self.messages)

    @property
    def control_ids(self) -> list[str]:
        """MSH-10 of each message."""
        return [str(message["MSH.F10"]) for message in self.messages]


@contextmanager
def ris(port: int = 0) -> Iterator[Ris]:
    """Run a RIS: the MLLP server of the `hl7` package, on a thread of its own."""
    state, loop, started = Ris(), asyncio.new_event_loop(), threading.Event()

    async def on_connection(reader: Any, writer: Any) -> None:
        try:
            while True:
                message = await reader.readmessage()
                state.messages.append(message)
                answer = state.answers.pop(0) if state.answers else "AA"
                if isinstance(answer, bytes):
                    writer.write(answer)
                elif answer is not None:
                    acknowledgement = str(message.create_ack(answer.partition("|")[0]))
                    error = answer.partition("|")[2]
                    writer.writeblock((acknowledgement + (f"{error}\r" if error else "")).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve(stop: asyncio.Event) -> None:
        server = await start_hl7_server(on_connection, LOCALHOST, port, encoding="utf-8")
        state.port = server.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        server.close()

    stop = asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve(stop))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(5)
    try:
        yield state
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
