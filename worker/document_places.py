"""Where the results of an answer stand: their derived UIDs, series and numbers. Pure.

Input: an `Answer`, a kind of result and which of that kind it is. Output: a `Placement`, the same for the same answer
on every machine. Nothing fails here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dicom_node.headers import InstanceHeader
from dicom_node.marking import OWN_VERSION
from dicom_node.placement import Placement
from dicom_node.uids import derive_uid
from worker.answers import Answer
from worker.result_kinds import REJECTION, ResultKind

#: Series numbers begin here, so that a viewer lists results after the images: reports and captures first ...
FIRST_SERIES_NUMBER: Final = 90_000
#: ... then the other kinds.
FIRST_FURTHER_SERIES_NUMBER: Final = 100_000
_FURTHER: Final = (ResultKind.SC_MULTI, ResultKind.KO, ResultKind.PR, ResultKind.PDF)
#: The last number of its ten.
_REJECTION_SLOT: Final = 9


def place_of(answer: Answer, predecessor_uid: str | None, kind: ResultKind, index: int = 0) -> Placement:
    """Return the UIDs and numbers of the result of this kind with this index (from 0)."""
    return Placement(
        sop_instance_uid=document_uid(answer, predecessor_uid, kind, index),
        series_instance_uid=_series_uid(answer, kind),
        series_number=_series_number(answer, kind),
        instance_number=_instance_number(answer) + index,
    )


def place_of_note(rejected: Sequence[str], series_instance_uid: str, series_number: int, *said: str) -> Placement:
    """Return the place of a rejection note.

    Args:
        rejected: SOP Instance UIDs of what it rejects.
        series_instance_uid: A series of the study that its own is derived from.
        series_number: Of that series.
        said: Who rejects, when and why.
    """
    number = max(series_number, 0) % FIRST_SERIES_NUMBER % 10_000 // 10 * 10
    return Placement(
        sop_instance_uid=derive_uid(REJECTION, OWN_VERSION, *sorted(rejected), *said),
        series_instance_uid=derive_uid("series", series_instance_uid, REJECTION),
        series_number=FIRST_FURTHER_SERIES_NUMBER + number + _REJECTION_SLOT,
    )


def document_uid(answer: Answer, predecessor_uid: str | None, kind: str, index: int = 0) -> str:
    """Derive the SOP Instance UID of a result: whoever writes the same answer again makes the same object."""
    provenance, confidence = answer.provenance, answer.confidence
    output = {
        "findings": answer.findings.model_dump(mode="json"),
        "confidence": None if confidence is None else _rounded(confidence.to_json()),
        "input": answer.input_record.digest,
        "preprocessing": answer.input_record.record_digest,
    }
    return derive_uid(
        *(
            "result",
            OWN_VERSION,
            kind,
            str(index),
            *sorted(answer.digests),
            f"revision {answer.revision}",
            predecessor_uid or "",
        ),
        *(answer.adapter.name, answer.adapter.version, provenance.base_digest, provenance.adapter_digest),
        *((answer.question_key,) if answer.question_key else ()),
        json.dumps(output, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        *_signed_by(answer),
    )


def _rounded(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a confidence without the digits that differ from run to run: sums on many threads have no fixed order."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in stored.items()}


def _series_uid(answer: Answer, kind: str) -> str:
    """One series for each source series (side and body part are its own), weights (its equipment) and kind.

    What a person signed never shares a series with what nobody has seen.
    """
    weights = [answer.adapter.version, answer.provenance.base_digest, answer.provenance.adapter_digest]
    weights += [answer.question_key] if answer.question_key else []
    signed = "unverified" if answer.signature is None else "verified"
    return derive_uid("series", _first_header(answer).series_instance_uid, answer.adapter.name, *weights, kind, signed)


def _series_number(answer: Answer, kind: ResultKind) -> int:
    """Number a series after the images, in the order of their series."""
    of_source = max(_first_header(answer).series_number or 0, 0) % 1000 * 10
    signed = answer.signature is not None
    if kind in _FURTHER:
        return FIRST_FURTHER_SERIES_NUMBER + of_source + _FURTHER.index(kind) + len(_FURTHER) * signed
    return FIRST_SERIES_NUMBER + of_source + (kind is ResultKind.SC) + 2 * signed


def _first_header(answer: Answer) -> InstanceHeader:
    return answer.files[0].header


def _instance_number(answer: Answer) -> int:
    """Order the results of several runs as the runs are ordered."""
    first = min((file.header.instance_number or 0) for file in answer.files)
    return max(first, 0) % 1_000_000 * 100 + 1


def _signed_by(answer: Answer) -> Sequence[str]:
    signature = answer.signature
    if signature is None:
        return ("unverified",)
    return ("verified", signature.person.name, signature.person.organization)
