"""The items of association PDUs (PS3.8 9.3.2, PS3.7 D.3) that both sides share, coded by pynetdicom.

Input: encoded items, or what they shall say. Output: items one by one, or encoded. On failure `ProtocolError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydicom.uid import UID
from pynetdicom.pdu_items import ApplicationContextItem, UserInformationItem
from pynetdicom.pdu_primitives import (
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)

from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.upper_layer import AbortReason, ProtocolError

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
#: Item types (PS3.8 9.3.2 and 9.3.3, PS3.7 D.3.3).
APPLICATION_CONTEXT_ITEM, CONTEXT_RQ_ITEM, CONTEXT_AC_ITEM, USER_INFORMATION_ITEM = 0x10, 0x20, 0x21, 0x50
_MAXIMUM_LENGTH_ITEM, _ROLE_SELECTION_ITEM = 0x51, 0x54
_HEADER: Final = struct.Struct(">BxH")


class Role(NamedTuple):
    """The roles that the requester of an association has for a SOP class (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


NO_ROLES: Final[Mapping[str, Role]] = {}


def items(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and whole encoding of each item in `body`. Raises `ProtocolError` where the lengths do not add up."""
    at = 0
    while at < len(body):
        end = len(body) + 1
        if len(body) - at >= _HEADER.size:
            item_type, length = _HEADER.unpack_from(body, at)
            end = at + _HEADER.size + length
        if end > len(body):
            raise ProtocolError("an association PDU ends inside an item", AbortReason.INVALID_PARAMETER_VALUE)
        yield item_type, body[at:end]
        at = end


def application_context() -> bytes:
    """Return the item of the DICOM application context."""
    item = ApplicationContextItem()
    item.application_context_name = UID(APPLICATION_CONTEXT)
    return bytes(item.encode())


def user_information(max_pdu_bytes: int, roles: Mapping[str, Role] = NO_ROLES) -> bytes:
    """Return the user information: what is taken at most in one PDU, who this is, and roles by SOP class."""
    maximum_length = MaximumLengthNotification()
    maximum_length.maximum_length_received = max_pdu_bytes
    implementation_class = ImplementationClassUIDNotification()
    implementation_class.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version_name = ImplementationVersionNameNotification()
    version_name.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    notifications: list[Any] = [maximum_length, implementation_class, version_name]
    for sop_class_uid, role in roles.items():
        selection = SCP_SCU_RoleSelectionNegotiation()
        selection.sop_class_uid = UID(sop_class_uid)
        selection.scu_role, selection.scp_role = role
        notifications.append(selection)
    item = UserInformationItem()
    item.from_primitive(notifications)
    return bytes(item.encode())


def maximum_length(encoded: bytes) -> int:
    """Return Maximum Length Received of a user information item (PS3.8 D.1), 0 for no limit.

    Most other items are not decoded: no reply to them stands for one operation at a time and no user identity.
    """
    for item_type, item in items(encoded[_HEADER.size :]):
        if item_type == _MAXIMUM_LENGTH_ITEM and len(item) == 8:
            return int.from_bytes(item[4:], "big")
    return 0


def selected_roles(encoded: bytes) -> dict[str, Role]:
    """Return the roles that a user information item selects (PS3.7 table D.3-9).

    A class that is not named has the default; so has one whose item is malformed, which is no reason to refuse images.
    """
    roles: dict[str, Role] = {}
    for item_type, item in items(encoded[_HEADER.size :]):
        length = int.from_bytes(item[4:6], "big")
        if item_type != _ROLE_SELECTION_ITEM or len(item) != _HEADER.size + 2 + length + 2:
            continue
        roles[item[6 : 6 + length].decode("ascii", "replace").strip("\0 ")] = Role(bool(item[-2]), bool(item[-1]))
    return roles
