"""Messages -> FHIR servers, HL7 receivers and webhooks: one outcome for each parcel, whatever breaks.

Input: a destination of the settings and parcels of its outbox. Output: `StoreOutcome`s, in order. Nothing is raised for
what happens on the network. Once a destination cannot be reached, or lets nothing in, what is left of the batch is not
tried: `is_associated=False` lets all that is due for it wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from dicom_node.http_server import HttpServer
from dicom_node.scu import StoreOutcome
from dicom_node.status import Outcome
from dicom_node.tls import TlsError, client_context, https_context
from worker.db.outbox import Parcel
from worker.http_exchange import ExchangeError, HttpAnswer, exchange
from worker.message_destinations import FhirDestination, Hl7Destination, WebhookDestination
from worker.messages import fhir, hl7v2, mllp
from worker.messages.statement import MessageError
from worker.settings import Settings
from worker.webhook_signature import signed_headers

CLOUDEVENTS_JSON: Final = "application/cloudevents+json; charset=utf-8"
FHIR_JSON: Final = "application/fhir+json"
#: Answers about the server, or about us, at that moment; nothing about the message.
_ABOUT_THE_SERVER: Final = frozenset({401, 403, 404, 405, 407, 408, 429, 502, 503, 504})
_LONGEST_WORDS: Final = 300
#: Look for a server this long at most.
_LOOK_S: Final = 10.0


class NotThereError(Exception):
    """A destination does not answer as it must; the message says why."""


def send_fhir(settings: Settings, target: FhirDestination, parcels: Sequence[Parcel]) -> Iterator[StoreOutcome]:
    """Send each bundle as a transaction (FHIR R4, http 3.1.0.11)."""

    def send(parcel: Parcel) -> StoreOutcome:
        server = fhir_server(target)
        body = fhir.addressed(parcel.path.read_bytes(), target.patient_system)
        headers = {"Content-Type": FHIR_JSON, "Accept": FHIR_JSON, "Prefer": "return=minimal"}
        answer = exchange(server, "POST", timeout_s=settings.delivery.timeout_s, body=body, headers=headers)
        if answer.is_success and not _is_done(answer):
            said = f"{server} answered {answer}, but not with the outcome of a transaction"
            return _outcome(parcel, Outcome.TRANSIENT, said, is_reached=False)
        if answer.code == 404 and target.patient_system and _json(answer).get("resourceType") == "OperationOutcome":
            # It is the patient of the conditional reference that is not there; the server is.
            return _outcome(parcel, Outcome.PERMANENT, f"{server} answered {answer}: {_diagnostics(answer)}")
        return _http_outcome(parcel, server, answer, _diagnostics(answer))

    return _each(parcels, send)


def send_hl7(settings: Settings, target: Hl7Destination, parcels: Sequence[Parcel]) -> Iterator[StoreOutcome]:
    """Send each message by MLLP and wait for its acknowledgement."""

    def send(parcel: Parcel) -> StoreOutcome:
        message = hl7v2.addressed(parcel.path.read_bytes(), _applications(settings, target))
        receiver, timeout_s = hl7_receiver(settings, target), settings.delivery.timeout_s
        answer = mllp.send(receiver, message, hl7v2.control_id(message), timeout_s)
        outcome = _outcome(parcel, answer.klass, answer.comment, is_reached=answer.is_reached)
        return replace(outcome, is_unanswered=answer.is_missing)

    return _each(parcels, send)


def send_webhook(settings: Settings, target: WebhookDestination, parcels: Sequence[Parcel]) -> Iterator[StoreOutcome]:
    """Post each event, signed anew: the time of sending is part of the signature."""

    def send(parcel: Parcel) -> StoreOutcome:
        server, body = webhook_server(target), parcel.path.read_bytes()
        event_id = str(json.loads(body)["id"])
        headers = {
            "Content-Type": CLOUDEVENTS_JSON,
            **signed_headers(event_id, body, target.secrets, datetime.now(UTC)),
        }
        answer = exchange(server, "POST", timeout_s=settings.delivery.timeout_s, body=body, headers=headers)
        return _http_outcome(parcel, server, answer, "")

    return _each(parcels, send)


def check_fhir(settings: Settings, target: FhirDestination) -> None:
    """Ask the server what it can do (FHIR R4, http 3.1.0.12). Raises `NotThereError`."""
    timeout_s = min(_LOOK_S, settings.delivery.timeout_s)
    try:
        server = fhir_server(target)
        answer = exchange(server, "GET", timeout_s=timeout_s, path="/metadata", headers={"Accept": FHIR_JSON})
    except (ExchangeError, TlsError) as error:
        raise NotThereError(str(error)) from error
    content = _json(answer)
    if not answer.is_success or content.get("resourceType") != "CapabilityStatement":
        raise NotThereError(f"{server} answered {answer} to /metadata: it is no FHIR server, or does not let us in")
    version = str(content.get("fhirVersion", ""))
    if not version.startswith(("4.0", "4.3")):
        raise NotThereError(f"{server} speaks FHIR {version or 'of no version'}; messages are R4")


def check_hl7(settings: Settings, target: Hl7Destination) -> None:
    """Connect; HL7 has no message that asks whether somebody is there. Raises `NotThereError`."""
    try:
        receiver = hl7_receiver(settings, target)
        mllp.connect(receiver, min(_LOOK_S, settings.delivery.timeout_s)).close()
    except (OSError, TlsError) as error:
        raise NotThereError(f"{target.address}: {error}") from error


def check_webhook(settings: Settings, target: WebhookDestination) -> None:
    """Connect; any answer will do, since an event that means nothing should not be sent. Raises `NotThereError`."""
    try:
        exchange(webhook_server(target), "HEAD", timeout_s=min(_LOOK_S, settings.delivery.timeout_s))
    except (ExchangeError, TlsError) as error:
        raise NotThereError(str(error)) from error


def fhir_server(target: FhirDestination) -> HttpServer:
    """Return the server with its credentials. Raises `TlsError`."""
    tls = None if target.ca is None else https_context(target.ca)
    token, password = target.token.get_secret_value(), target.password.get_secret_value()
    return HttpServer(target.url.rstrip("/"), token, target.username, password, tls)


def webhook_server(target: WebhookDestination) -> HttpServer:
    """Return the receiver. Raises `TlsError`."""
    return HttpServer(target.url, tls=None if target.ca is None else https_context(target.ca))


def hl7_receiver(settings: Settings, target: Hl7Destination) -> mllp.Receiver:
    """Return the receiver. Raises `TlsError`: what is meant for TLS never goes out in the clear."""
    if not target.tls:
        return mllp.Receiver(target.host, target.port)
    tls = settings.dicom.tls
    if tls is None:
        raise TlsError(f"destination {target.name} demands TLS, but dicom.tls names no certificates; nothing is sent")
    return mllp.Receiver(target.host, target.port, client_context(tls.ca, tls.certificate, tls.key))


def _each(parcels: Sequence[Parcel], send: Callable[[Parcel], StoreOutcome]) -> Iterator[StoreOutcome]:
    for number, parcel in enumerate(parcels):
        outcome = _tried(parcel, send)
        yield outcome
        if not outcome.is_associated:
            rest = parcels[number + 1 :]
            yield from (_outcome(later, outcome.klass, outcome.comment, is_reached=False) for later in rest)
            return


def _tried(parcel: Parcel, send: Callable[[Parcel], StoreOutcome]) -> StoreOutcome:
    try:
        return send(parcel)
    except ExchangeError as error:
        outcome = _outcome(parcel, Outcome.TRANSIENT, str(error), is_reached=error.is_reached)
        return replace(outcome, is_unanswered=error.is_reached)
    except TlsError as error:
        return _outcome(parcel, Outcome.TRANSIENT, str(error), is_reached=False)
    except MessageError as error:
        return _outcome(parcel, Outcome.PERMANENT, f"not sent: {error}")
    except (ValueError, LookupError):  # of JSON: the network's answers are outcomes by now
        return _outcome(parcel, Outcome.PERMANENT, f"not sent: {parcel.path} is no message of ours any more")
    except OSError as error:  # the network's are outcomes by now: this one is the disk's
        return _outcome(parcel, Outcome.PERMANENT, f"not sent: {parcel.path} cannot be read: {error.strerror}")


def _http_outcome(parcel: Parcel, server: HttpServer, answer: HttpAnswer, words: str) -> StoreOutcome:
    if answer.is_success:
        return _outcome(parcel, Outcome.DELIVERED, "")
    comment = f"{server} answered {answer}" + (f": {words}" if words else "")
    is_about_it = answer.code not in _ABOUT_THE_SERVER and not 300 <= answer.code < 400
    return _outcome(parcel, answer.klass, comment, is_reached=is_about_it, retry_after_s=answer.retry_after_s)


def _outcome(
    parcel: Parcel, klass: Outcome, comment: str, *, is_reached: bool = True, retry_after_s: float | None = None
) -> StoreOutcome:
    return StoreOutcome(
        parcel.path,
        parcel.sop_instance_uid,
        klass,
        comment=comment,
        is_associated=is_reached,
        retry_after_s=retry_after_s or 0.0,
    )


def _applications(settings: Settings, target: Hl7Destination) -> hl7v2.Applications:
    return hl7v2.Applications(
        sending_application=target.sending_application or settings.dicom.ae_title,
        sending_facility=target.sending_facility,
        receiving_application=target.receiving_application,
        receiving_facility=target.receiving_facility,
        filler_number=target.filler_number,
    )


def _json(answer: HttpAnswer) -> dict[str, Any]:
    try:
        content = json.loads(answer.body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_done(answer: HttpAnswer) -> bool:
    """Whether it is the answer to a transaction, and of all its parts (3.1.0.11.4): a log-in page is none."""
    content = _json(answer)
    entries = content.get("entry")
    if content.get("resourceType") != "Bundle" or not isinstance(entries, list):
        return False
    done = [str(entry.get("response", {}).get("status", "")) for entry in entries if isinstance(entry, dict)]
    return bool(done) and len(done) == len(entries) and all(status.startswith("2") for status in done)


def _diagnostics(answer: HttpAnswer) -> str:
    """Return what an OperationOutcome says, shortened: it can quote what was sent."""
    issues = _json(answer).get("issue")
    if not isinstance(issues, list):
        return ""
    said = [issue.get("diagnostics") or issue.get("details", {}).get("text", "") for issue in issues if issue]
    return "; ".join(str(words) for words in said if words)[:_LONGEST_WORDS]


#: `kind` of a destination -> how it is sent messages, and how it is looked for.
SENDERS: Final[Mapping[str, Callable[[Settings, Any, Sequence[Parcel]], Iterator[StoreOutcome]]]] = {
    "fhir": send_fhir,
    "hl7": send_hl7,
    "webhook": send_webhook,
}
CHECKS: Final[Mapping[str, Callable[[Settings, Any], None]]] = {
    "fhir": check_fhir,
    "hl7": check_hl7,
    "webhook": check_webhook,
}
