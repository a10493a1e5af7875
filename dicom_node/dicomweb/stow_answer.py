"""The Store Instances Response (PS3.18 I.2): the body of an answer in, what became of each instance out.

Input: the bytes that a server answered. Output: SOP Instance UID -> outcome and status. What is not DICOM JSON, or says
nothing about an instance, is an empty answer; nothing fails here.
"""

from __future__ import annotations

import json
from typing import Any

from dicom_node import status
from dicom_node.status import Outcome, StatusClass

_FAILED, _REFERENCED = "00081198", "00081199"
_INSTANCE_UID, _REASON, _WARNING = "00081155", "00081197", "00081196"
#: What an instance met with, and the status that says why.
InstanceAnswer = tuple[Outcome, int | None]


def read_answer(body: bytes) -> dict[str, InstanceAnswer]:
    """Return SOP Instance UID -> outcome and status."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    found: dict[str, InstanceAnswer] = {}
    for entry in _items(answer, _REFERENCED):
        warning = _number(entry, _WARNING)
        found[_text(entry, _INSTANCE_UID)] = (Outcome.WARNING if warning else Outcome.DELIVERED, warning)
    for entry in _items(answer, _FAILED):
        code = _number(entry, _REASON)
        klass = Outcome.TRANSIENT if code is None else status.store_outcome(code)
        if code is not None and status.status_class(code) is not StatusClass.FAILURE:
            klass = Outcome.TRANSIENT  # it says that it failed: it is not delivered
        found[_text(entry, _INSTANCE_UID)] = (klass, code)
    found.pop("", None)
    return found


def _items(answer: Any, tag: str) -> list[dict[str, Any]]:
    element = answer.get(tag) if isinstance(answer, dict) else None
    items = element.get("Value") if isinstance(element, dict) else None
    return [entry for entry in items if isinstance(entry, dict)] if isinstance(items, list) else []


def _first(entry: dict[str, Any], tag: str) -> Any:
    element = entry.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _text(entry: dict[str, Any], tag: str) -> str:
    return str(_first(entry, tag) or "").strip(" \0")


def _number(entry: dict[str, Any], tag: str) -> int | None:
    value = _first(entry, tag)
    return value if isinstance(value, int) and 0 <= value <= 0xFFFF else None
