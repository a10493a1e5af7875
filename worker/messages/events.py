"""What became of a job -> a CloudEvents 1.0 event in structured JSON. Pure.

Input: what happened, and the job as the ledger shows it. Output: the event as bytes. Nothing fails here.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from dicom_node.uids import derive_uid
from worker.result_kinds import Happening
from worker.schemas import STANDIN_NOTICE, ReviewCase

#: Begins every `type`.
TYPE_PREFIX: Final = "org.dicom-worker.result."
UNSIGNED_NOTICE: Final = "No person has reviewed this answer."
#: What the answer says, left out where a receiver is only told that there is one.
_ANSWER: Final = (
    *("findings", "confidence", "calibrated", "method", "decision_reason", "answer_text", "doubts", "reviews"),
    *("model_input", "incomplete"),
)
_IDENTITY: Final = ("patient_id", "patient_name")


@dataclass(frozen=True, slots=True)
class Telling:
    """How much a receiver is told."""

    #: Happenings whose events carry the answer.
    answers: tuple[Happening, ...]
    #: Whether patient ID and name are in it; accession number and Study Instance UID always are.
    patient: bool

    def key(self, happening: Happening) -> str:
        """Return what tells apart the events that say more and those that say less."""
        return f"{happening in self.answers} {self.patient}"


def event_uid(job_id: str, state: str, at: datetime, key: str) -> str:
    """Return the UID of an event, the same whoever writes it again."""
    return derive_uid("event", job_id, state, at.astimezone(UTC).isoformat(), key)


def build_event(
    uid: str, happening: Happening, case: ReviewCase, reason: str, at: datetime, source: str, telling: Telling
) -> bytes:
    """Return an event.

    Args:
        uid: Of `event_uid`.
        happening: What happened.
        case: The job as the ledger shows it.
        reason: Why, as the history has it.
        at: When it happened, aware.
        source: Which installation says so, a URI reference.
        telling: How much to say.
    """
    event = {
        "specversion": "1.0",
        "id": str(UUID(int=int(uid.removeprefix("2.25.")))),
        "source": source,
        "type": TYPE_PREFIX + happening.value,
        "subject": case.id,
        "time": at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": _data(happening, case, reason, telling),
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _data(happening: Happening, case: ReviewCase, reason: str, telling: Telling) -> dict[str, Any]:
    """Return the job as the ledger shows it, without what this receiver is not told, or has no use for."""
    told = case.model_dump(mode="json")
    is_told = happening in telling.answers
    left_out: Collection[str] = (*(() if is_told else _ANSWER), *(() if telling.patient else _IDENTITY))
    for name in left_out:
        del told[name]
    for result in told["results"]:
        del result["path"]  # a place on this machine's disk
        del result["deliveries"]  # what other systems said of it, which can quote the patient
    if told["provenance"] is not None:
        del told["provenance"]["files"]  # their digests are combined in base_digest and adapter_digest
    notices = [STANDIN_NOTICE] if case.is_standin else []
    if happening not in (Happening.VERIFIED, Happening.AMENDED):
        notices.append(UNSIGNED_NOTICE)
    # Why a job failed says nothing of an answer; why it is held or was rejected does.
    said_why = reason if is_told or happening is Happening.FAILED else None
    return {**told, "happened": happening.value, "reason": said_why, "notice": " ".join(notices) or None}
