"""An answer, as rows keep it -> the DICOM files that report it. Pure: nothing here knows the database.

Input: an `Answer` and, where a person signed it, a `Signature`. Output: one SR (TID 1500) and one Secondary Capture
for each key image, each read back and checked. The key images are rendered anew from the stored instances, because rows
keep no pixels; pixels that differ from those the model saw are an error, never a slightly different picture. On failure
`DocumentError`, or the error of the part that failed (`RenderError`, `SrError`, `ResultError` ...).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.capture import build_capture
from dicom_node.headers import InstanceFile, InstanceHeader
from dicom_node.marking import OWN_VERSION
from dicom_node.report import Algorithm, Person, Report, SourceFrames
from dicom_node.results import check_result, write_dicom
from dicom_node.sr import build_sr
from dicom_node.uids import derive_uid
from models.adapter import AdapterDefinition, ReportContext
from models.confidence import Confidence
from models.drawing import check_digest
from models.generation import ModelProvenance, RgbImage
from models.rendering import InputRecord
from worker.rendering import Renderer, renderer
from worker.settings import RenderingSettings

#: Series numbers begin here, so that a viewer lists results after the images.
FIRST_SERIES_NUMBER = 90_000
SR, SC = "sr", "sc"


class DocumentError(Exception):
    """The results cannot be written; the message says which and why."""


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


@dataclass(frozen=True, slots=True)
class Document:
    """A DICOM file that is ready to be kept and sent."""

    #: "sr" or "sc".
    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    data: bytes
    predecessor_sop_instance_uid: str | None = None


def document_uid(answer: Answer, predecessor_uid: str | None, kind: str, index: int = 0) -> str:
    """Derive the SOP Instance UID of a result: whoever writes the same answer again makes the same object."""
    provenance, confidence = answer.provenance, answer.confidence
    output = {
        "findings": answer.findings.model_dump(mode="json"),
        "confidence": None if confidence is None else _rounded(confidence.to_json()),
        "input": answer.input_record.digest,
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


def build_documents(
    answer: Answer, predecessor: Predecessor | None = None, pictures: Renderer | None = None
) -> list[Document]:
    """Write and check the SR and the captures of an answer; the SR comes first.

    Args:
        answer: The answer, signed or not.
        predecessor: The report that the new one stands in the place of.
        pictures: Who draws the key images; with the default limits if None.

    Raises:
        RenderError: The key images cannot be drawn as the model saw them.
        ResultError: What was written does not say what it must.
    """
    images = _images_as_seen(answer, pictures or renderer(RenderingSettings()))
    report = _report(answer)
    captures = [
        _capture(answer, report, predecessor, index, image, source)
        for index, (image, source) in enumerate(zip(images, answer.input_record.key_sources, strict=True))
    ]
    return [_structured_report(answer, report, predecessor), *captures]


def algorithm(answer: Answer) -> Algorithm:
    """Name what answered (TID 4019); its device UID changes with the weights (IHE AIR)."""
    adapter, provenance = answer.adapter, answer.provenance
    author, _, _ = adapter.lora.hub_id.partition("/")
    stored = provenance.to_json()
    del stored["files"]  # their digests are combined in base_digest and adapter_digest; the ledger has each
    parameters = {**stored, "input_digest": answer.input_record.digest}
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


def _report(answer: Answer) -> Report:
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
    if signature is None:
        return report
    # What is written now was said when it was signed; who signed it stands in the SR and in the banner.
    return replace(report, answered_at=signature.signed_at)


def _images_as_seen(answer: Answer, pictures: Renderer) -> list[RgbImage]:
    """Draw what the model saw again and return the key images, or say that they are not the same any more."""
    record = answer.input_record
    images = pictures.replay(record, answer.files) if record.recipe else _rendered_again(answer, pictures)
    return [images[index] for index in record.key_images]


def _rendered_again(answer: Answer, pictures: Renderer) -> tuple[RgbImage, ...]:
    """Choose and draw anew: what was asked before recipes were kept has none."""
    rendered = pictures.render(answer.adapter, answer.files)
    check_digest(rendered.images, answer.input_record.digest)
    return rendered.images


def _structured_report(answer: Answer, report: Report, predecessor: Predecessor | None) -> Document:
    signature = answer.signature
    named = {source.sop_instance_uid for source in report.sources}
    predecessor_uid = None if predecessor is None else predecessor.sop_instance_uid
    ds = build_sr(
        report,
        [file.path for file in answer.files if file.header.sop_instance_uid in named],
        sop_instance_uid=document_uid(answer, predecessor_uid, SR),
        series_instance_uid=_series_uid(answer, SR),
        series_number=_series_number(answer, SR),
        instance_number=_instance_number(answer),
        predecessor=None if predecessor is None else dcmread(predecessor.path),
        verifying=None if signature is None else signature.person,
        verified_at=None if signature is None else signature.signed_at,
        edited=signature is not None and signature.edited,
    )
    data = write_dicom(_without_series_time(ds))
    check_result(data, report, verified=signature is not None)
    return Document(SR, str(ds.SOPInstanceUID), str(ds.SOPClassUID), data, predecessor_uid)


def _capture(
    answer: Answer,
    report: Report,
    predecessor: Predecessor | None,
    index: int,
    image: RgbImage,
    source: SourceFrames,
) -> Document:
    signature = answer.signature
    ds = build_capture(
        image,
        report,
        _file_of(answer, source).path,
        sop_instance_uid=document_uid(answer, predecessor.sop_instance_uid if predecessor else None, SC, index),
        series_instance_uid=_series_uid(answer, SC),
        series_number=_series_number(answer, SC),
        instance_number=_instance_number(answer) + index,
        shown=(source,),
        reviewer=signature.person if signature else None,
        edited=signature is not None and signature.edited,
    )
    data = write_dicom(_without_series_time(ds))
    check_result(data, report)
    return Document(SC, str(ds.SOPInstanceUID), str(ds.SOPClassUID), data)


def _file_of(answer: Answer, source: SourceFrames) -> InstanceFile:
    for file in answer.files:
        if file.header.sop_instance_uid == source.sop_instance_uid:
            return file
    raise DocumentError(f"the source image {source.sop_instance_uid} is not among the stored instances any more")


def _series_uid(answer: Answer, kind: str) -> str:
    """One series for each source series (side and body part are its own), weights (its equipment) and kind.

    What a person signed never shares a series with what nobody has seen.
    """
    weights = [answer.adapter.version, answer.provenance.base_digest, answer.provenance.adapter_digest]
    weights += [answer.question_key] if answer.question_key else []
    signed = "unverified" if answer.signature is None else "verified"
    return derive_uid("series", _first_header(answer).series_instance_uid, answer.adapter.name, *weights, kind, signed)


def _series_number(answer: Answer, kind: str) -> int:
    """Number a series after the images, in the order of their series."""
    of_source = max(_first_header(answer).series_number or 0, 0) % 1000 * 10
    return FIRST_SERIES_NUMBER + of_source + (kind == SC) + 2 * (answer.signature is not None)


def _without_series_time(ds: Dataset) -> Dataset:
    """Leave out SeriesDate and SeriesTime (type 3): a series grows run by run, and they would contradict each other."""
    for keyword in ("SeriesDate", "SeriesTime"):
        if keyword in ds:
            delattr(ds, keyword)
    return ds


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
