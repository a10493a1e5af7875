"""An event -> its DICOM audit message in XML (PS3.15 A.5.1), on one line.

Pure. Input: frozen values. Output: text without line breaks that the schema of A.5.1.1 allows, whatever characters the
values hold: what XML cannot write is replaced.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree

from worker.audit.codes import Action, Code, Outcome

#: AuditSourceTypeCode 4: application server process (A.5.1.2.1).
_APPLICATION_SERVER: Final = "4"
#: Everything but what XML 1.0 can write; also line breaks, for a message is one line of a file.
_UNWRITABLE: Final = re.compile("[^\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Participant:
    """A person or a process that took part (ActiveParticipant)."""

    user_id: str
    is_requestor: bool
    role: Code | None = None
    alternative_id: str = ""
    name: str = ""
    #: IP address or host name.
    address: str = ""


@dataclass(frozen=True, slots=True)
class ObjectSeen:
    """What it was about (ParticipantObjectIdentification)."""

    id: str
    id_type: Code
    #: "1" person, "2" system object (A.5.1.2).
    type_code: str
    #: "1" patient, "3" report, "11" security user entity, "13" security resource, "24" query.
    role: str
    #: Search criteria; written in place of a name.
    query: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    accession_number: str = ""
    #: SOP Class UID -> number of instances.
    instances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that must be known later."""

    id: Code
    action: Action
    participants: tuple[Participant, ...]
    objects: tuple[ObjectSeen, ...] = ()
    types: tuple[Code, ...] = ()
    outcome: Outcome = Outcome.SUCCESS
    #: Why it did not succeed.
    reason: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def to_xml(event: AuditEvent, source: str, site: str = "") -> str:
    """Return the message; `source` and `site` name the system that reports it."""
    root = ElementTree.Element("AuditMessage")
    _event(root, event)
    for participant in event.participants:
        _participant(root, participant)
    where = _add(root, "AuditSourceIdentification", AuditEnterpriseSiteID=site, AuditSourceID=source or "unknown")
    ElementTree.SubElement(where, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    for seen in event.objects:
        _object(root, seen)
    return ElementTree.tostring(root, encoding="unicode")


def _event(root: ElementTree.Element, event: AuditEvent) -> None:
    made = _add(
        root,
        "EventIdentification",
        EventActionCode=event.action.value,
        EventDateTime=event.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(event.outcome.value),
    )
    _code(made, "EventID", event.id)
    for code in event.types:
        _code(made, "EventTypeCode", code)
    if event.reason:
        _add(made, "EventOutcomeDescription").text = _writable(event.reason)


def _participant(root: ElementTree.Element, participant: Participant) -> None:
    made = _add(
        root,
        "ActiveParticipant",
        AlternativeUserID=participant.alternative_id,
        UserName=participant.name,
        NetworkAccessPointID=participant.address,
        NetworkAccessPointTypeCode=_kind_of(participant.address) if participant.address else "",
    )
    made.set("UserID", _writable(participant.user_id))
    made.set("UserIsRequestor", "true" if participant.is_requestor else "false")
    if participant.role is not None:
        _code(made, "RoleIDCode", participant.role)


def _object(root: ElementTree.Element, seen: ObjectSeen) -> None:
    made = _add(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectTypeCode=seen.type_code,
        ParticipantObjectTypeCodeRole=seen.role,
    )
    made.set("ParticipantObjectID", _writable(seen.id))
    _code(made, "ParticipantObjectIDTypeCode", seen.id_type)
    if seen.query:
        _add(made, "ParticipantObjectQuery").text = _base64(seen.query)
    else:
        # The schema wants a name; nobody's is needed to find out later what was seen.
        _add(made, "ParticipantObjectName")
    for kind, value in seen.details.items():
        _add(made, "ParticipantObjectDetail", type=kind, value=_base64(value))
    if seen.accession_number or seen.instances:
        described = _add(made, "ParticipantObjectDescription")
        if seen.accession_number:
            _add(described, "Accession", Number=seen.accession_number)
        for sop_class_uid, count in sorted(seen.instances.items()):
            _add(described, "SOPClass", UID=sop_class_uid, NumberOfInstances=str(count))


def _code(parent: ElementTree.Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    ElementTree.SubElement(parent, name, {key: _writable(value) for key, value in attributes.items()})


def _add(parent: ElementTree.Element, name: str, **attributes: str) -> ElementTree.Element:
    """Add an element with those attributes that have a value."""
    written = {key: _writable(value) for key, value in attributes.items() if value}
    return ElementTree.SubElement(parent, name, written)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("?", text)


def _kind_of(address: str) -> str:
    """Return NetworkAccessPointTypeCode: 2 for an IP address, 1 for a machine's name."""
    return "2" if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.%]*:[0-9a-fA-F:.%a-z]*", address) else "1"
