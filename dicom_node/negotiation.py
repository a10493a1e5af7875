"""Association negotiation, the acceptor's side (PS3.8 7.1, PS3.7 D): request -> accepted contexts, or a rejection.

Input: the variable field of an A-ASSOCIATE-RQ and the `Policy` of the node. Output: `Accepted` or `Rejected`, each with
the PDU to send. On failure `ProtocolError`: the request is malformed. Items are coded by pynetdicom.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import UID
from pynetdicom.pdu_items import PresentationContextItemAC, PresentationContextItemRQ
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.associate_items import (
    APPLICATION_CONTEXT,
    APPLICATION_CONTEXT_ITEM,
    CONTEXT_RQ_ITEM,
    NO_ROLES,
    USER_INFORMATION_ITEM,
    VERIFICATION,
    Role,
    application_context,
    items,
    maximum_length,
    selected_roles,
    user_information,
)
from dicom_node.uids import is_acceptable_uid
from dicom_node.upper_layer import AbortReason, PduType, ProtocolError, a_associate_rj

_DICOM_ROOT: Final = "1.2.840.10008."
#: Composite storage SOP classes have the first root (PS3.6 A); some retired ones have the second.
_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
_OLD_STORAGE_ROOT: Final = "1.2.840.10008.5.1."
#: Verification carries no data set: any of the uncompressed syntaxes will do.
_UNCOMPRESSED: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
#: Of services whose data sets are read here.
_LITTLE_ENDIAN: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})

#: Result of a presentation context (PS3.8 table 9-18).
ACCEPTANCE, _ABSTRACT_SYNTAX_NOT_SUPPORTED, _TRANSFER_SYNTAXES_NOT_SUPPORTED = 0, 3, 4


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom the node talks to."""

    ae_title: str
    #: Who may send; empty: anyone.
    calling_ae_titles: frozenset[str]
    require_called_ae_title: bool
    max_pdu_bytes: int
    #: SOP classes that are served besides storage and verification, in either role (such as storage commitment).
    other_sop_classes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ says."""

    called_ae_title: str
    calling_ae_title: str
    protocol_version: int
    application_context: str
    #: Context id, abstract syntax and transfer syntaxes, in the order proposed.
    contexts: tuple[tuple[int, str, tuple[str, ...]], ...]
    #: Longest P-DATA-TF variable field that the peer takes, 0: any.
    max_pdu_bytes: int
    #: The fields of both titles and the reserved ones, to be echoed (PS3.8 table 9-17).
    echo: bytes
    #: Roles that the requester asks for, by SOP class.
    roles: Mapping[str, Role] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The association stands."""

    contexts: dict[int, Context]
    pdu: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """The association does not come about, and why in words."""

    reason: str
    pdu: bytes


def read_request(variable_field: memoryview) -> AssociationRequest:
    """Decode an A-ASSOCIATE-RQ (PS3.8 9.3.2). Raises `ProtocolError`."""
    body = bytes(variable_field)
    if len(body) < 68:
        raise ProtocolError(f"an A-ASSOCIATE-RQ of {len(body)} bytes is too short", AbortReason.INVALID_PARAMETER_VALUE)
    contexts: list[tuple[int, str, tuple[str, ...]]] = []
    named_context, max_pdu_bytes, roles = "", 0, NO_ROLES
    try:
        for item_type, item in items(body[68:]):
            if item_type == APPLICATION_CONTEXT_ITEM:
                named_context = item[4:].decode("ascii").strip("\0 ")
            elif item_type == CONTEXT_RQ_ITEM:
                contexts.append(_proposed(item))
            elif item_type == USER_INFORMATION_ITEM:
                max_pdu_bytes, roles = maximum_length(item), selected_roles(item)
    except ProtocolError:
        raise
    except Exception as error:  # what a decoder makes of a stranger's bytes is not for us to list
        message = f"an item of the A-ASSOCIATE-RQ cannot be decoded: {error!r}"
        raise ProtocolError(message, AbortReason.INVALID_PARAMETER_VALUE) from error
    return AssociationRequest(
        called_ae_title=_title(body[4:20]),
        calling_ae_title=_title(body[20:36]),
        protocol_version=int.from_bytes(body[:2], "big"),
        application_context=named_context,
        contexts=tuple(contexts),
        max_pdu_bytes=max_pdu_bytes,
        echo=body[4:68],
        roles=roles,
    )


def _title(field: bytes) -> str:
    """An AE title. Some senders pad with zero bytes instead of spaces; leading spaces do not count either."""
    return field.decode("latin-1").strip("\0 ")


def _proposed(encoded: bytes) -> tuple[int, str, tuple[str, ...]]:
    item = PresentationContextItemRQ()
    item.decode(encoded)
    transfer_syntaxes = tuple(str(uid) for uid in item.transfer_syntax if uid)
    if not item.context_id or not item.context_id % 2 or not item.abstract_syntax or not transfer_syntaxes:
        message = f"presentation context {item.context_id} is not complete"
        raise ProtocolError(message, AbortReason.INVALID_PARAMETER_VALUE)
    return int(item.context_id), str(item.abstract_syntax), transfer_syntaxes


def negotiate(request: AssociationRequest, policy: Policy) -> Accepted | Rejected:
    """Decide on a request. Rejections are permanent, with the reasons of PS3.8 table 9-21."""
    if not request.protocol_version & 1:
        return Rejected("it does not speak version 1 of the protocol", a_associate_rj(1, 2, 2))
    if request.application_context != APPLICATION_CONTEXT:
        return Rejected("its application context is not DICOM's", a_associate_rj(1, 1, 2))
    if policy.require_called_ae_title and request.called_ae_title != policy.ae_title:
        return Rejected(f"it calls {request.called_ae_title!r}, this is {policy.ae_title!r}", a_associate_rj(1, 1, 7))
    if policy.calling_ae_titles and request.calling_ae_title not in policy.calling_ae_titles:
        return Rejected(f"{request.calling_ae_title!r} is not among those that may send", a_associate_rj(1, 1, 3))
    contexts: dict[int, Context] = {}
    answers = []
    for context_id, abstract_syntax, transfer_syntaxes in request.contexts:
        result, transfer_syntax = decide(abstract_syntax, transfer_syntaxes, policy.other_sop_classes)
        if result == ACCEPTANCE:
            contexts[context_id] = Context(abstract_syntax, transfer_syntax)
        answers.append(_answer(context_id, result, transfer_syntax))
    # Roles are granted as asked for where both are served (PS3.7 D.3.3.4); without an answer the default holds.
    accepted = {context.abstract_syntax for context in contexts.values()}
    granted = {uid: role for uid, role in request.roles.items() if uid in accepted & policy.other_sop_classes}
    return Accepted(contexts, _a_associate_ac(request, answers, policy.max_pdu_bytes, granted))


def busy(reason: str) -> Rejected:
    """A rejection for the moment: local limit exceeded (PS3.8 table 9-21)."""
    return Rejected(reason, a_associate_rj(2, 3, 2))


def decide(abstract_syntax: str, transfer_syntaxes: tuple[str, ...], others: frozenset[str]) -> tuple[int, str]:
    """Return result (PS3.8 table 9-18) and transfer syntax of one proposed context; `others` as in `Policy`.

    Storage is taken in whatever syntax the sender likes best, its first; nothing is converted here.
    """
    if abstract_syntax == VERIFICATION:
        usable = [uid for uid in transfer_syntaxes if uid in _UNCOMPRESSED]
    elif is_storage(abstract_syntax):
        usable = [uid for uid in transfer_syntaxes if is_acceptable_uid(uid)]
    elif abstract_syntax in others:
        usable = [uid for uid in transfer_syntaxes if uid in _LITTLE_ENDIAN]
    else:
        return _ABSTRACT_SYNTAX_NOT_SUPPORTED, transfer_syntaxes[0]
    return (ACCEPTANCE, usable[0]) if usable else (_TRANSFER_SYNTAXES_NOT_SUPPORTED, transfer_syntaxes[0])


def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of this SOP class are stored: the standard's classes for patients' objects, and private ones.

    Classes of the standard that are newer than pynetdicom count by their root, retired ones by their name. Objects that
    belong to no patient (PS3.4 GG: hanging protocols and the like) have no study to go to and are not taken. A private
    class that is no storage class does not matter: what comes in its context is no C-STORE.
    """
    if not is_acceptable_uid(sop_class_uid):
        return False
    if not sop_class_uid.startswith(_DICOM_ROOT):
        return True
    service = uid_to_service_class(UID(sop_class_uid))
    if service is not ServiceClass:
        return service is StorageServiceClass
    is_retired_storage = sop_class_uid.startswith(_OLD_STORAGE_ROOT) and "Storage" in UID(sop_class_uid).name
    return sop_class_uid.startswith(_STORAGE_ROOT) or is_retired_storage


def _answer(context_id: int, result: int, transfer_syntax: str) -> bytes:
    context = PresentationContext()
    context.context_id = context_id
    context.result = result
    context.add_transfer_syntax(UID(transfer_syntax))
    item = PresentationContextItemAC()
    item.from_primitive(context)
    return bytes(item.encode())


def _a_associate_ac(
    request: AssociationRequest, answers: list[bytes], max_pdu_bytes: int, roles: Mapping[str, Role]
) -> bytes:
    encoded = (application_context(), *answers, user_information(max_pdu_bytes, roles))
    body = b"\0\1\0\0" + request.echo + b"".join(encoded)
    return struct.pack(">BxL", PduType.A_ASSOCIATE_AC, len(body)) + body
