"""An answer as reporting reads it from rows, and the `Report` it makes. Pure.

Input: findings, record, provenance and confidence, and a `Signature` where a person stands for them. Output: the
adapter's `Report`. On failure the adapter's own error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from dicom_node.headers import InstanceFile
from dicom_node.marking import OWN_VERSION
from dicom_node.report import Algorithm, Person, Report
from dicom_node.uids import derive_uid
from models.adapter import AdapterDefinition, ReportContext
from models.confidence import Confidence
from models.generation import ModelProvenance
from models.rendering import InputRecord


@dataclass(frozen=True, slots=True)
class Signature:
    """Who stands for the findings."""

    person: Person
    #: The findings are not the model's own.
    edited: bool
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that a report on one unit needs."""

    adapter: AdapterDefinition
    findings: BaseModel
    input_record: InputRecord
    provenance: ModelProvenance
    confidence: Confidence | None
    answered_at: datetime
    revision: int
    files: tuple[InstanceFile, ...]
    #: SHA-256 of each file.
    digests: tuple[str, ...]
    signature: Signature | None = None
    #: `Question.key`; empty where the adapter has but one question.
    question_key: str = ""


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A report that a new one stands in the place of."""

    sop_instance_uid: str
    path: Path


def report_of(answer: Answer, predecessor: Predecessor | None) -> Report:
    """Return what an answer says."""
    record, signature = answer.input_record, answer.signature
    report = answer.adapter.report(
        answer.findings,
        ReportContext(
            sources=record.sources,
            key_sources=record.key_sources,
            incomplete=record.incomplete,
            algorithm=algorithm(answer),
            confidence=answer.confidence,
            answered_at=answer.answered_at,
            reviewer=signature.person if signature and signature.edited else None,
            record=record.record,
        ),
    )
    report = replace(report, replaces="" if predecessor is None else predecessor.sop_instance_uid)
    if signature is None:
        return report
    # What is written now was said when it was signed; who signed it stands in the SR and in the banner.
    return replace(report, answered_at=signature.signed_at)


def algorithm(answer: Answer) -> Algorithm:
    """Name what answered (TID 4019); its device UID changes with the weights."""
    adapter, provenance = answer.adapter, answer.provenance
    author, _, _ = adapter.lora.hub_id.partition("/")
    stored = provenance.to_json()
    del stored["files"]  # their digests are combined in base_digest and adapter_digest; the ledger has each
    record = answer.input_record
    parameters = {**stored, "input_digest": record.digest, "preprocessing_digest": record.record_digest}
    parameters["dicom_worker"] = OWN_VERSION
    if answer.question_key:
        parameters["question"] = answer.question_key
    return Algorithm(
        name=adapter.name,
        version=adapter.version,
        manufacturer=author,
        device_uid=derive_uid("device", adapter.name, provenance.base_digest, provenance.adapter_digest),
        parameters=tuple(f"{name}={value}" for name, value in parameters.items()),
        is_standin=provenance.is_standin,
    )
