"""The association request of this side (PS3.8 9.3.2) and the peer's answer to it.

Input: titles, the contexts to propose, roles. Output: the A-ASSOCIATE-RQ; from an A-ASSOCIATE-AC the accepted contexts;
from an A-ASSOCIATE-RJ the reason in words. On failure `ProtocolError`: the answer is malformed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID
from pynetdicom.pdu_items import PresentationContextItemAC, PresentationContextItemRQ
from pynetdicom.presentation import PresentationContext

from dicom_node.associate_items import (
    CONTEXT_AC_ITEM,
    USER_INFORMATION_ITEM,
    Role,
    application_context,
    items,
    maximum_length,
    selected_roles,
    user_information,
)
from dicom_node.upper_layer import AbortReason, PduType, ProtocolError

#: PS3.8 table 9-21, by source and reason.
_REJECTIONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the peer accepted."""

    #: (abstract syntax, transfer syntax) -> context id.
    context_ids: Mapping[tuple[str, str], int]
    #: Longest P-DATA-TF variable field that the peer takes, 0: any.
    max_pdu_bytes: int


def encode_request(
    called: str, calling: str, proposed: Mapping[int, tuple[str, str]], as_scp: Iterable[str], max_pdu_bytes: int
) -> bytes:
    """Return the A-ASSOCIATE-RQ; for the classes of `as_scp` this side asks for the SCP role alone (PS3.7 D.3.3.4)."""
    proposals = []
    for context_id, (abstract_syntax, transfer_syntax) in proposed.items():
        context = PresentationContext()
        context.context_id = context_id
        context.abstract_syntax = UID(abstract_syntax)
        context.add_transfer_syntax(UID(transfer_syntax))
        item = PresentationContextItemRQ()
        item.from_primitive(context)
        proposals.append(item.encode())
    titles = called.ljust(16).encode("ascii") + calling.ljust(16).encode("ascii")
    roles = {sop_class_uid: Role(scu=False, scp=True) for sop_class_uid in as_scp}
    encoded = (application_context(), *proposals, user_information(max_pdu_bytes, roles))
    body = b"\0\1\0\0" + titles + bytes(32) + b"".join(encoded)
    return struct.pack(">BxL", PduType.A_ASSOCIATE_RQ, len(body)) + body


def read_accept(body: bytes, proposed: Mapping[int, tuple[str, str]], as_scp: Iterable[str]) -> Accepted:
    """Read an A-ASSOCIATE-AC. A class whose SCP role the peer does not grant is as good as refused.

    Raises `ProtocolError`.
    """
    context_ids: dict[tuple[str, str], int] = {}
    max_pdu_bytes, roles = 0, dict[str, Role]()
    try:
        for item_type, item in items(body[68:]):
            if item_type == CONTEXT_AC_ITEM:
                answer = PresentationContextItemAC()
                answer.decode(item)
                if answer.result == 0 and answer.context_id in proposed:
                    context_ids[proposed[answer.context_id]] = answer.context_id
            elif item_type == USER_INFORMATION_ITEM:
                max_pdu_bytes, roles = maximum_length(item), selected_roles(item)
    except ProtocolError:
        raise
    except Exception as error:  # what a decoder makes of a stranger's bytes is not for us to list
        what = f"the A-ASSOCIATE-AC cannot be decoded: {error!r}"
        raise ProtocolError(what, AbortReason.INVALID_PARAMETER_VALUE) from error
    refused = {uid for uid in as_scp if uid in roles and not roles[uid].scp}
    return Accepted({pair: number for pair, number in context_ids.items() if pair[0] not in refused}, max_pdu_bytes)


def rejection_in_words(source: int, reason: int) -> str:
    """Return why an association was rejected (PS3.8 table 9-21)."""
    return _REJECTIONS.get((source, reason), f"source {source}, reason {reason}")
