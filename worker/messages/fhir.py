"""Statement -> FHIR R4 transaction: a DiagnosticReport with an Observation for each finding, and the Device that spoke.

Input: a `Statement`, and the bundle that told the answer before, if any. Output: the bundle as JSON. Each resource is
written by conditional update on an identifier of its own (FHIR R4, http 3.1.0.4.3), the Device by conditional create:
the same bundle sent twice doubles nothing, a signed or later answer becomes the next version of the same report, and
an Observation that the answer has no longer is marked as entered in error. On failure `MessageError`.

Checked with the models of `fhir.resources.R4B` (FHIR 4.3.0): that release changed no resource that is used here, so
what passes is R4 (4.0.1) too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from dicom_node import codes
from dicom_node.marking import OWN_VERSION, clean_text
from dicom_node.report import Evaluation, Measurement, ReportedFinding, SourceFrames
from worker.messages import fhir_parts as parts
from worker.messages.fhir_parts import Json
from worker.messages.statement import (
    MessageError,
    Statement,
    further_parts,
    places_of,
    value_of,
    words_of,
)

_FINDING_SITE: Final = codes.Code("363698007", "SCT", "Finding Site")
_RETRACTED: Final = "entered-in-error"
_TOLD_OF_DEVICE: Final = ("base", "base_revision", "base_digest", "adapter_revision", "adapter_digest")
#: Test data (HL7 v3 ActReason): no receiver should take a stand-in's answer for a patient's.
_TEST_DATA: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}


def build_bundle(statement: Statement, told: bytes | None = None) -> bytes:
    """Return the transaction that tells an answer.

    Args:
        statement: What to tell.
        told: The bundle that told the same answer before; what it said and is said no longer is taken back.

    Raises:
        MessageError: What was made is not valid FHIR, or `told` is none of our bundles.
    """
    found = list(statement.report.findings)
    observations = [_observation(statement, finding) for finding in found]
    uids = [statement.part_uid(finding.tracking_id) for finding in found]
    entries = [_device(statement)]
    entries += [_put(uid, observation) for uid, observation in zip(uids, observations, strict=True)]
    entries.append(_put(statement.answer_uid, _report(statement, uids)))
    entries += _said_no_longer(told, {entry["fullUrl"] for entry in entries})
    return _checked(_bundle(entries, statement.report.answered_at))


def build_retraction(told: bytes, by: str, reason: str, at: datetime) -> bytes:
    """Return the transaction that takes back what a bundle told.

    Args:
        told: The bundle that was sent.
        by: Who rejected the answer, as people read it.
        reason: Why.
        at: When, aware.

    Raises:
        MessageError: `told` is none of our bundles.
    """
    entries = []
    for entry in _entries(told):
        resource = {**entry["resource"]}
        if resource["resourceType"] == "Device":
            continue
        resource["status"] = _RETRACTED
        if resource["resourceType"] == "DiagnosticReport":
            words = f"Taken back by {by}: {reason}" if reason else f"Taken back by {by}"
            resource["conclusion"] = clean_text(f"{words}\nThis answer must not be used.")
            resource["issued"] = parts.instant(at)
        else:
            # The device stays as the one that spoke; its entry is not in this bundle.
            resource.pop("device", None)
        entries.append({**entry, "resource": resource})
    return _checked(_bundle(entries, at))


def addressed(bundle: bytes, patient_system: str) -> bytes:
    """Return a bundle for a server that knows patients by identifiers of this system: it finds them by itself.

    A reference that is a search is resolved by the server, or the whole transaction fails (FHIR R4, http 3.1.0.11.2).
    """
    if not patient_system:
        return bundle
    content = json.loads(bundle)
    for entry in content["entry"]:
        subject = entry["resource"].get("subject", {})
        if "identifier" in subject:
            subject["identifier"]["system"] = patient_system
            value = f"{patient_system}|{subject['identifier']['value']}"
            subject["reference"] = f"Patient?identifier={quote(value, safe=':/')}"
    return _as_bytes(content)


def _bundle(entries: list[Json], at: datetime) -> Json:
    return {"resourceType": "Bundle", "type": "transaction", "timestamp": parts.instant(at), "entry": entries}


def _put(uid: str, resource: Json) -> Json:
    url = f"{resource['resourceType']}?{parts.search_for(uid)}"
    return {"fullUrl": parts.full_url(uid), "resource": resource, "request": {"method": "PUT", "url": url}}


def _device(statement: Statement) -> Json:
    """Return the algorithm with its weights: other weights are another device (IHE AIR)."""
    algorithm = statement.report.algorithm
    known = dict(parameter.partition("=")[::2] for parameter in algorithm.parameters)
    versions = [("software", OWN_VERSION), ("adapter", algorithm.version)]
    versions += [(name.replace("_", " "), known[name]) for name in _TOLD_OF_DEVICE if known.get(name)]
    device = {
        "resourceType": "Device",
        "identifier": [parts.identifier(algorithm.device_uid)],
        "manufacturer": clean_text(algorithm.manufacturer) or "dicom-worker",
        "deviceName": [{"name": clean_text(algorithm.name), "type": "model-name"}],
        "type": parts.concept(codes.ARTIFICIAL_INTELLIGENCE),
        "version": [{"type": parts.text_concept(name), "value": clean_text(value)} for name, value in versions],
    }
    request = {"method": "POST", "url": "Device", "ifNoneExist": parts.search_for(algorithm.device_uid)}
    return {"fullUrl": parts.full_url(algorithm.device_uid), "resource": _marked(device, statement), "request": request}


def _report(statement: Statement, observation_uids: list[str]) -> Json:
    subject, report = statement.subject, statement.report
    resource: Json = {
        "resourceType": "DiagnosticReport",
        "identifier": [
            parts.identifier(statement.answer_uid),
            parts.identifier(statement.sr_uid, parts.DICOM_UID_SYSTEM),
        ],
        "basedOn": parts.order(subject),
        "status": statement.standing.value,
        "category": [parts.hl7_concept("v2-0074", *statement.service_section)],
        "code": parts.concept(codes.IMAGING_REPORT, statement.title),
        "subject": parts.patient(subject),
        **parts.started(subject),
        "issued": parts.instant(report.answered_at),
        "imagingStudy": [parts.imaging_study(subject)],
        "result": [{"reference": parts.full_url(uid), "type": "Observation"} for uid in observation_uids],
        "conclusion": clean_text(statement.conclusion),
    }
    if statement.signer is not None:
        resource["resultsInterpreter"] = [parts.practitioner(statement.signer)]
        if statement.signer.organization:
            resource["performer"] = [{"type": "Organization", "display": clean_text(statement.signer.organization)}]
    return _marked({name: value for name, value in resource.items() if value != []}, statement)


def _observation(statement: Statement, finding: ReportedFinding) -> Json:
    subject = statement.subject
    components = [_component(statement, finding, part) for part in further_parts(finding)]
    resource: Json = {
        "resourceType": "Observation",
        "identifier": [parts.identifier(statement.part_uid(finding.tracking_id))],
        "status": statement.standing.value,
        "category": [parts.hl7_concept("observation-category", "imaging", "Imaging")],
        "code": parts.concept(finding.finding_type, words_of(finding.finding_type, finding)),
        "subject": parts.patient(subject),
        **parts.started(subject),
        "issued": parts.instant(statement.report.answered_at),
        "derivedFrom": [parts.imaging_study(subject), *_images(finding)],
        "note": [{"text": clean_text(text)} for text in (*statement.said, *places_of(finding))],
    }
    value = value_of(finding)
    if value is not None:
        resource["valueCodeableConcept"] = parts.concept(value.value, words_of(value.value, finding))
    if len(finding.sites) == 1:
        resource["bodySite"] = parts.concept(finding.sites[0])
    else:  # R4 has room for one body site
        site = parts.concept(_FINDING_SITE)
        components += [{"code": site, "valueCodeableConcept": parts.concept(code)} for code in finding.sites]
    if components:
        resource["component"] = components
    if statement.is_edited and statement.signer is not None:
        # What a person changed is the person's: the algorithm is not named as its author, as in the SR.
        resource["performer"] = [parts.practitioner(statement.signer)]
    else:
        resource["device"] = {"reference": parts.full_url(statement.report.algorithm.device_uid), "type": "Device"}
        if statement.method:
            resource["method"] = parts.text_concept(f"Probability: {statement.method}")
    return _marked(resource, statement)


def _component(statement: Statement, finding: ReportedFinding, part: Evaluation | Measurement) -> Json:
    words = words_of(part.name, finding)
    if isinstance(part, Evaluation):
        stated = parts.concept(part.value, words_of(part.value, finding))
        return {"code": parts.concept(part.name, words), "valueCodeableConcept": stated}
    if part.name == codes.PROBABILITY:
        words = f"{words} ({'calibrated' if statement.report.calibrated else 'uncalibrated'})"
    return {"code": parts.concept(part.name, words), "valueQuantity": parts.quantity(part)}


def _images(finding: ReportedFinding) -> Iterator[Json]:
    shown: dict[str, SourceFrames] = {source.sop_instance_uid: source for source in finding.sources}
    for source in shown.values():
        reference = {"type": "Media", "identifier": parts.identifier(source.sop_instance_uid, parts.DICOM_UID_SYSTEM)}
        if source.frame_numbers:
            reference["display"] = f"frame {', '.join(map(str, source.frame_numbers))}"
        yield reference


def _marked(resource: Json, statement: Statement) -> Json:
    if not statement.report.algorithm.is_standin:
        return resource
    return {"resourceType": resource["resourceType"], "meta": {"security": [_TEST_DATA]}, **resource}


def _said_no_longer(told: bytes | None, said: set[str]) -> Iterator[Json]:
    for entry in _entries(told) if told is not None else ():
        resource = entry["resource"]
        if resource["resourceType"] == "Observation" and entry["fullUrl"] not in said:
            # A device of other weights is not in this bundle, so nothing may refer to it.
            kept = {name: value for name, value in resource.items() if name != "device"}
            yield {**entry, "resource": {**kept, "status": _RETRACTED}}


def _entries(bundle: bytes) -> list[Any]:
    try:
        content = json.loads(bundle)
        entries = content["entry"]
        if not all({"resource", "fullUrl", "request"} <= entry.keys() for entry in entries):
            raise MessageError("an earlier FHIR message lacks the parts of a transaction")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MessageError(f"an earlier FHIR message cannot be read: {error}") from error
    return list(entries)


def _checked(bundle: Json) -> bytes:
    """Return the bundle as bytes; what is not valid FHIR never leaves. Raises `MessageError`."""
    from fhir.resources.R4B.bundle import Bundle  # half a second that only sites with such a destination pay

    try:
        Bundle.model_validate(bundle)
    except ValueError as error:
        raise MessageError(f"the FHIR message is not valid: {error}") from error
    return _as_bytes(bundle)


def _as_bytes(bundle: Json) -> bytes:
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
