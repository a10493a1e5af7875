"""How each kind of destination is spoken to: sending, finding what was sent, and looking whether it is there.

Input: a destination of the settings. Output: one `StoreOutcome` for each parcel, or an answer. A sender raises nothing
for what happens on the network: the outcome says it, whether trying again can help, and by `is_associated=False` that
the destination as a whole was not reached, which lets all that is due for it wait. A new kind is a settings class in
`worker.delivery_settings` and an entry of `CHANNELS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.dicomweb import search, stow
from dicom_node.dicomweb.origin import DicomWebServer
from dicom_node.headers import InstanceHeader
from dicom_node.query import QueryError, find
from dicom_node.scu import EchoError, PeerError, StoreOutcome, c_echo, c_store
from dicom_node.status import Outcome
from dicom_node.tls import TlsError, https_context
from worker.db.outbox import Parcel
from worker.peers import peer_of
from worker.result_kinds import MESSAGES, MessageKind
from worker.settings import Destination, DicomDestination, Settings, StowDestination


class UnreachableError(Exception):
    """A destination does not answer, or cannot be asked; the message says why."""


class LookUpError(Exception):
    """Whether a destination has an object cannot be found out."""

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        """Say whether asking again can help."""
        super().__init__(message)
        self.is_permanent = is_permanent


@dataclass(frozen=True, slots=True)
class Channel:
    """What can be done with destinations of one kind; each function gets the settings and the destination."""

    #: Sends the parcels; yields exactly one outcome for each, in any order, known by `path`.
    send: Callable[[Settings, Any, Sequence[Parcel]], Iterable[StoreOutcome]]
    #: Raises `UnreachableError`; sends and stores nothing.
    check: Callable[[Settings, Any], None]
    #: Returns whether the destination has an object; raises `LookUpError`. None where it cannot be asked.
    has: Callable[[Settings, Any, InstanceHeader], bool] | None = None
    #: How it is asked, in words.
    asked_by: str = ""
    #: The only kinds of result that can be sent on it; empty for all that are DICOM objects.
    messages: frozenset[str] = frozenset()

    def takes(self, kind: str) -> bool:
        """Whether results of a kind can be sent on it: not every kind that an entry of this name once took."""
        return kind in self.messages if self.messages else kind not in MESSAGES


def channel_of(target: Destination) -> Channel:
    """Return how a destination is spoken to."""
    return CHANNELS[target.kind]


def not_reached(parcels: Sequence[Parcel], reason: str) -> list[StoreOutcome]:
    """Return the outcomes of a destination that was not reached: all is tried again later."""
    return [
        StoreOutcome(parcel.path, parcel.sop_instance_uid, Outcome.TRANSIENT, comment=reason, is_associated=False)
        for parcel in parcels
    ]


def _c_store(settings: Settings, target: DicomDestination, parcels: Sequence[Parcel]) -> Iterable[StoreOutcome]:
    timeout_s, title = settings.delivery.timeout_s, settings.dicom.ae_title
    try:
        peer = peer_of(settings, target)
    except TlsError as error:
        return not_reached(parcels, str(error))
    paths = [parcel.path for parcel in parcels]
    return c_store(peer, paths, calling_ae_title=title, connect_timeout_s=timeout_s, timeout_s=timeout_s)


def _c_echo(settings: Settings, target: DicomDestination) -> None:
    try:
        c_echo(peer_of(settings, target), calling_ae_title=settings.dicom.ae_title)
    except (EchoError, PeerError, TlsError) as error:
        raise UnreachableError(str(error)) from error


def _c_find(settings: Settings, target: DicomDestination, header: InstanceHeader) -> bool:
    """Ask by C-FIND at the IMAGE level."""
    keys = {
        "StudyInstanceUID": header.study_instance_uid,
        "SeriesInstanceUID": header.series_instance_uid,
        "SOPInstanceUID": header.sop_instance_uid,
    }
    timeout_s, title = settings.delivery.timeout_s, settings.dicom.ae_title
    try:
        peer = peer_of(settings, target)
        matches = find(peer, "IMAGE", keys, calling_ae_title=title, connect_timeout_s=timeout_s, timeout_s=timeout_s)
    except QueryError as error:
        raise LookUpError(str(error), is_permanent=error.is_permanent) from error
    except TlsError as error:
        raise LookUpError(str(error)) from error
    return any(match.get("SOPInstanceUID") == header.sop_instance_uid for match in matches)


def _dicomweb_server(target: StowDestination) -> DicomWebServer:
    """Return the server with its credentials. Raises `TlsError`."""
    tls = None if target.ca is None else https_context(target.ca)
    token, password = target.token.get_secret_value(), target.password.get_secret_value()
    return DicomWebServer(target.url, token, target.username, password, tls)


def _stow(settings: Settings, target: StowDestination, parcels: Sequence[Parcel]) -> Iterable[StoreOutcome]:
    try:
        server = _dicomweb_server(target)
    except TlsError as error:
        return not_reached(parcels, str(error))
    return stow.store(server, [parcel.path for parcel in parcels], timeout_s=settings.delivery.timeout_s)


def _qido_answers(settings: Settings, target: StowDestination) -> None:
    try:
        search.check_answers(_dicomweb_server(target), timeout_s=min(10.0, settings.delivery.timeout_s))
    except (search.SearchError, TlsError) as error:
        raise UnreachableError(str(error)) from error


def _qido(settings: Settings, target: StowDestination, header: InstanceHeader) -> bool:
    uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
    try:
        return search.has_instance(_dicomweb_server(target), *uids, timeout_s=settings.delivery.timeout_s)
    except search.SearchError as error:
        raise LookUpError(str(error), is_permanent=error.is_permanent) from error
    except TlsError as error:
        raise LookUpError(str(error)) from error


def _send_messages(settings: Settings, target: Any, parcels: Sequence[Parcel]) -> Iterable[StoreOutcome]:
    from worker.messages import sending  # only sites with such a destination pay for it

    return sending.SENDERS[target.kind](settings, target, parcels)


def _look_for_receiver(settings: Settings, target: Any) -> None:
    from worker.messages import sending

    try:
        sending.CHECKS[target.kind](settings, target)
    except sending.NotThereError as error:
        raise UnreachableError(str(error)) from error


def _message_channel(kind: MessageKind) -> Channel:
    return Channel(_send_messages, _look_for_receiver, messages=frozenset((kind.value, kind.ending)))


#: `kind` of a destination -> how it is spoken to.
CHANNELS: Final[Mapping[str, Channel]] = {
    "dicom": Channel(_c_store, _c_echo, _c_find, "C-FIND"),
    "stow": Channel(_stow, _qido_answers, _qido, "QIDO-RS"),
    "fhir": _message_channel(MessageKind.FHIR),
    "hl7": _message_channel(MessageKind.HL7),
    "webhook": _message_channel(MessageKind.EVENT),
}
