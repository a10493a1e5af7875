"""Pieces that FHIR resources are made of (HL7 FHIR R4, 4.0.1): identifiers, codings, references, times. Pure.

Input: values of `dicom_node.report` and `worker.messages.statement`. Output: JSON objects. References to resources that
the receiver may or may not have are logical (`Reference.identifier`): nothing of another system's is ever made up.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from dicom_node.codes import PRIVATE_SCHEME, Code
from dicom_node.marking import clean_text
from dicom_node.report import Measurement, Person
from dicom_node.uids import derive_uid
from worker.messages.statement import Subject, name_groups

Json = dict[str, Any]

#: Identifiers that are URIs by themselves (FHIR R4, identifier-registry).
URI_SYSTEM: Final = "urn:ietf:rfc:3986"
#: UIDs of DICOM objects (FHIR R4, ImagingStudy.identifier).
DICOM_UID_SYSTEM: Final = "urn:dicom:uid"
#: Coding scheme designator (PS3.16 section 8) -> code system (FHIR R4, terminologies-systems).
_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "http://radlex.org",
    PRIVATE_SCHEME: f"urn:oid:{derive_uid('coding scheme', PRIVATE_SCHEME)}",
}
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"


def identifier(uid: str, system: str = URI_SYSTEM) -> Json:
    """Return a UID as an identifier."""
    return {"system": system, "value": f"urn:oid:{uid}"}


def search_for(uid: str) -> str:
    """Return the search that finds the one resource with this identifier (FHIR R4, http 3.1.0.7.1)."""
    return f"identifier={quote(f'{URI_SYSTEM}|urn:oid:{uid}', safe=':')}"


def full_url(uid: str) -> str:
    """Return what the entries of a bundle call a resource before it has an address: the UUID of a derived UID."""
    return f"urn:uuid:{UUID(int=int(uid.removeprefix('2.25.')))}"


def text_concept(text: str) -> Json:
    """Return a concept in words."""
    return {"text": clean_text(text)}


def concept(code: Code, text: str = "") -> Json:
    """Return a coded concept, in other words where `text` gives them."""
    coding = {"code": code.value, "display": code.meaning}
    if code.scheme in _SYSTEMS:
        coding = {"system": _SYSTEMS[code.scheme], **coding}
    return {"coding": [coding], "text": clean_text(text) or code.meaning}


def hl7_concept(system: str, code: str, display: str) -> Json:
    """Return a concept of one of HL7's own code systems."""
    return {"coding": [{"system": f"{_TERMINOLOGY}/{system}", "code": code, "display": display}]}


def quantity(measurement: Measurement) -> Json:
    """Return a measured value with its UCUM unit."""
    unit = measurement.unit
    return {"value": measurement.value, "unit": unit.meaning, "system": _SYSTEMS["UCUM"], "code": unit.value}


def patient(subject: Subject) -> Json:
    """Return the patient by the identifier that the images carry; by name only where they carry none."""
    reference: Json = {"type": "Patient"}
    if patient_id := clean_text(subject.patient_id):
        kind = hl7_concept("v2-0203", "PI", "Patient internal identifier")
        reference["identifier"] = {"type": kind, "value": patient_id}
        if issuer := clean_text(subject.issuer_of_patient_id):
            reference["identifier"]["assigner"] = {"display": issuer}
    if name := clean_text(subject.display_name):
        reference["display"] = name
    return reference


def imaging_study(subject: Subject) -> Json:
    """Return the study by its Study Instance UID."""
    reference: Json = {"type": "ImagingStudy", "identifier": identifier(subject.study_instance_uid, DICOM_UID_SYSTEM)}
    if description := clean_text(subject.study_description):
        reference["display"] = description
    return reference


def order(subject: Subject) -> list[Json]:
    """Return the order by its accession number; none where the images carry none."""
    accession_number = clean_text(subject.accession_number)
    if not accession_number:
        return []
    kind = hl7_concept("v2-0203", "ACSN", "Accession ID")
    return [{"type": "ServiceRequest", "identifier": {"type": kind, "value": accession_number}}]


def practitioner(person: Person) -> Json:
    """Return a person by name and organisation."""
    name = next((group.text for group in name_groups(person.name) if group.text), person.name)
    words = f"{name} ({person.organization})" if person.organization else name
    return {"type": "Practitioner", "display": clean_text(words)}


def instant(moment: datetime) -> str:
    """Return an aware time as an instant, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def started(subject: Subject) -> Json:
    """Return when the study began as `effectiveDateTime`; a time without a date is not known."""
    moment = subject.started
    if moment is None:
        return {}
    said = moment.isoformat(timespec="seconds") if isinstance(moment, datetime) else date.isoformat(moment)
    return {"effectiveDateTime": said}
