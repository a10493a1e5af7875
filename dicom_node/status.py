"""DIMSE status codes by name, and what each means to the one who sent (PS3.7 C, PS3.4 B.2.3).

Input: a 16-bit status. Output: its class (PS3.7 C.1-C.5), and for a sender whether trying again can help. Any number
gets an answer: a code that no standard knows counts as a failure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SUCCESS: Final = 0x0000
#: PS3.7 C.5.x: general failures.
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_SOP_INSTANCE: Final = 0x0111
NO_SUCH_EVENT_TYPE: Final = 0x0113
INVALID_ARGUMENT_VALUE: Final = 0x0115
NO_SUCH_SOP_INSTANCE: Final = 0x0112
INVALID_SOP_INSTANCE: Final = 0x0117
NO_SUCH_SOP_CLASS: Final = 0x0118
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NOT_AUTHORIZED: Final = 0x0124
DUPLICATE_INVOCATION: Final = 0x0210
NO_SUCH_ACTION: Final = 0x0123
UNRECOGNIZED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212
RESOURCE_LIMITATION: Final = 0x0213
#: PS3.4 table B.2-1: the Storage Service Class.
OUT_OF_RESOURCES: Final = 0xA700
DATA_SET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
#: Ours, within the C000 range: which identifier is absent or malformed is in the Error Comment.
MISSING_IDENTIFIER: Final = 0xC001
INVALID_IDENTIFIER: Final = 0xC002
COERCION_OF_DATA_ELEMENTS: Final = 0xB000
ELEMENTS_DISCARDED: Final = 0xB006
WARNING_DATA_SET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xB007

_NAMES: Final = {
    SUCCESS: "success",
    PROCESSING_FAILURE: "processing failure",
    DUPLICATE_SOP_INSTANCE: "duplicate SOP instance",
    NO_SUCH_EVENT_TYPE: "no such event type",
    INVALID_ARGUMENT_VALUE: "invalid argument value",
    NO_SUCH_SOP_INSTANCE: "no such SOP instance",
    INVALID_SOP_INSTANCE: "invalid SOP instance",
    NO_SUCH_SOP_CLASS: "no such SOP class",
    NO_SUCH_ACTION: "no such action",
    SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
    NOT_AUTHORIZED: "not authorized",
    DUPLICATE_INVOCATION: "duplicate invocation",
    UNRECOGNIZED_OPERATION: "unrecognized operation",
    MISTYPED_ARGUMENT: "mistyped argument",
    RESOURCE_LIMITATION: "resource limitation",
    MISSING_IDENTIFIER: "cannot understand: identifier missing",
    INVALID_IDENTIFIER: "cannot understand: identifier invalid",
    COERCION_OF_DATA_ELEMENTS: "coercion of data elements",
    ELEMENTS_DISCARDED: "elements discarded",
    WARNING_DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "data set does not match SOP class (warning)",
}


class StatusClass(StrEnum):
    """The class of a status (PS3.7 C.1 to C.5)."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    CANCEL = "cancel"
    PENDING = "pending"


class Outcome(StrEnum):
    """What became of one instance that was sent."""

    #: The peer has it.
    DELIVERED = "delivered"
    #: The peer has it and remarks on something.
    WARNING = "warning"
    #: The peer does not have it; trying again later can help (it is down, busy or full).
    TRANSIENT = "transient"
    #: The peer does not have it, and the same attempt will fail again.
    PERMANENT = "permanent"


def status_class(status: int) -> StatusClass:
    """Return the class of `status`."""
    if status == SUCCESS:
        return StatusClass.SUCCESS
    if status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return StatusClass.WARNING
    if status == 0xFE00:
        return StatusClass.CANCEL
    if status in (0xFF00, 0xFF01):
        return StatusClass.PENDING
    return StatusClass.FAILURE


def status_name(status: int) -> str:
    """Return `status` in words."""
    if status in _NAMES:
        return _NAMES[status]
    if 0xA700 <= status <= 0xA7FF:
        return "out of resources"
    if 0xA900 <= status <= 0xA9FF:
        return "data set does not match SOP class"
    if 0xC000 <= status <= 0xCFFF:
        return "cannot understand"
    return f"{status_class(status)} 0x{status:04X}"


def store_outcome(status: int) -> Outcome:
    """Return what the status of a C-STORE response means for the sender.

    Out of resources (A7xx), resource limitation and an unspecified processing failure pass with time; a data set that
    the peer does not understand or a right that it does not grant stays so. A peer that has an object of this UID has
    ours: UIDs are derived from the content, and its answer to the first try was lost.
    """
    kind = status_class(status)
    if kind is StatusClass.SUCCESS:
        return Outcome.DELIVERED
    if kind is StatusClass.WARNING or status == DUPLICATE_SOP_INSTANCE:
        return Outcome.WARNING
    if 0xA700 <= status <= 0xA7FF or status in (PROCESSING_FAILURE, RESOURCE_LIMITATION, DUPLICATE_INVOCATION):
        return Outcome.TRANSIENT
    return Outcome.PERMANENT
