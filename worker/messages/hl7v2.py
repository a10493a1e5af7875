"""Statement -> HL7 v2.5.1 ORU^R01: MSH, PID, OBR, and OBX for what must be known, for each finding and for the objects.

Input: a `Statement`, and the message that told the answer before, if any. Output: the message in UTF-8, without the
names of applications (MSH-3 to MSH-6), which `addressed` fills in for each destination. The message control ID is
derived from the content: the same message sent twice has the same one, by which a receiver can tell. Nothing fails
here but an earlier message that is none of ours (`MessageError`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.report import Measurement, ReportedFinding
from worker.messages import hl7_text as text
from worker.messages.hl7_text import coded, components, escape, one_line
from worker.messages.statement import (
    MessageError,
    Standing,
    Statement,
    Subject,
    further_parts,
    places_of,
    value_of,
    words_of,
)

#: What OBR-2 or the result's own identifier stands in OBR-3 for (`addressed`).
FillerNumber = Literal["accession", "result"]
SEGMENT_END: Final = "\r"
_DELIMITERS: Final = "^~\\&"
#: Result status (table 0123) and observation result status (table 0085).
_STATUS: Final = {Standing.PRELIMINARY: "P", Standing.FINAL: "F", Standing.AMENDED: "C"}
_NO_RESULTS: Final = "X"
_POSTED_AS_WRONG: Final = "W"
_DELETED: Final = "D"
#: Processing ID (table 0103): production, or training where the built-in stand-in answered.
_PRODUCTION, _TRAINING = "P", "T"
#: A study as IHE names it (RAD TF-2, RAD-128); the others are DICOM's own concepts (PS3.16 annex D).
_DICOM_STUDY: Final = Code("113014", "DCM", "DICOM Study")
_FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
_REPORT_OBJECT: Final = Code("SRINSTANCE", codes.PRIVATE_SCHEME, "SOP Instance UID of the structured report")
_TAKEN_BACK: Final = Code("TAKENBACK", codes.PRIVATE_SCHEME, "Taken back")
#: Fields of the segments that this module reads back, by their numbers in the standard.
_OBX_SUB_ID, _OBX_STATUS, _OBR_STATUS, _OBR_REPORTED = 4, 11, 25, 22
#: MSH-1 is the delimiter itself, so MSH-n is the field before.
_MSH_CONTROL_ID, _MSH_PROCESSING_ID = 10 - 1, 11 - 1


@dataclass(frozen=True, slots=True)
class Applications:
    """Who sends and who receives (MSH-3 to MSH-6), and what the receiver knows a result by (OBR-3)."""

    sending_application: str
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    filler_number: FillerNumber = "accession"


@dataclass(frozen=True, slots=True)
class _Observation:
    """One OBX."""

    value_type: str
    name: str
    #: What tells it from others with the same name; stable from message to message.
    key: str
    value: str
    unit: str = ""
    method: str = ""


def build_oru(statement: Statement, told: bytes | None = None) -> bytes:
    """Return the message that tells an answer.

    Args:
        statement: What to tell.
        told: The message that told the same answer before; what it said and is said no longer is deleted (OBX-11 D).

    Raises:
        MessageError: `told` is none of our messages.
    """
    observations = [_obx(statement, observation) for observation in _observations(statement)]
    said = {fields[_OBX_SUB_ID] for fields in observations}
    for fields in _segments(told) if told is not None else ():
        if fields[0] == "OBX" and fields[_OBX_SUB_ID] not in said:
            fields[_OBX_STATUS] = _DELETED
            observations.append(fields)
    segments = [_pid(statement.subject), _obr(statement), *_numbered(observations)]
    processing = _TRAINING if statement.report.algorithm.is_standin else _PRODUCTION
    return _message(segments, text.time_stamp(statement.report.answered_at), processing)


def build_retraction(told: bytes, by: str, reason: str, at: datetime) -> bytes:
    """Return the message that takes back what a message told: OBR-25 X, each OBX posted as wrong (OBX-11 W).

    Args:
        told: The message that was sent.
        by: Who rejected the answer, as people read it.
        reason: Why.
        at: When, aware.

    Raises:
        MessageError: `told` is none of our messages.
    """
    words = f"Taken back by {by}: {reason}" if reason else f"Taken back by {by}"
    segments, observations, processing = [], [], _PRODUCTION
    for fields in _segments(told):
        if fields[0] == "MSH":
            processing = fields[_MSH_PROCESSING_ID]
        elif fields[0] == "OBX":
            fields[_OBX_STATUS] = _POSTED_AS_WRONG
            observations.append(fields)
        else:
            if fields[0] == "OBR":
                fields[_OBR_STATUS], fields[_OBR_REPORTED] = _NO_RESULTS, text.time_stamp(at)
            segments.append(fields)
    said = ["OBX", "", "FT", coded(_TAKEN_BACK), "taken-back", escape(f"{words}\nThis answer must not be used.")]
    observations.insert(0, [*said, *[""] * 5, "F"])
    return _message([*segments, *_numbered(observations)], text.time_stamp(at), processing)


def addressed(message: bytes, applications: Applications) -> bytes:
    """Return a message with the names that this destination expects."""
    segments = list(_segments(message))
    header = segments[0]
    header[2:6] = [
        one_line(name)
        for name in (
            applications.sending_application,
            applications.sending_facility,
            applications.receiving_application,
            applications.receiving_facility,
        )
    ]
    for fields in segments:
        if fields[0] == "OBR" and applications.filler_number == "accession" and fields[2]:
            fields[3] = fields[2]
    return _encoded(segments)


def control_id(message: bytes) -> str:
    """Return MSH-10. Raises `MessageError`."""
    header = next(_segments(message))
    return header[_MSH_CONTROL_ID]


def _pid(subject: Subject) -> list[str]:
    identifier = ""
    if subject.patient_id:
        identifier = components(one_line(subject.patient_id), "", "", one_line(subject.issuer_of_patient_id), "PI")
    sex = subject.sex or "U"
    names = text.patient_names(subject.name)
    return ["PID", "1", "", identifier, "", names, "", text.time_stamp(subject.birth_date), sex]


def _obr(statement: Statement) -> list[str]:
    subject, algorithm = statement.subject, statement.report.algorithm
    service = components(
        one_line(algorithm.name), one_line(statement.title), codes.PRIVATE_SCHEME, *_alternate(codes.IMAGING_REPORT)
    )
    accession = one_line(subject.accession_number)
    fields = [""] * 33
    fields[:5] = ["OBR", "1", accession, _short(statement.answer_uid), service]
    fields[7] = text.time_stamp(subject.started)
    fields[18] = accession
    fields[_OBR_REPORTED] = text.time_stamp(statement.report.answered_at)
    fields[24], fields[_OBR_STATUS] = statement.service_section[0], _STATUS[statement.standing]
    fields[32] = "" if statement.signer is None else text.interpreter(statement.signer)
    return fields


def _alternate(code: Code) -> tuple[str, str, str]:
    return one_line(code.value), one_line(code.meaning), code.scheme


def _observations(statement: Statement) -> Iterator[_Observation]:
    """Yield what is said, in order: what must be known, the answer, each finding, the objects."""
    yield from (_in_words(codes.COMMENT, sentence, f"said {sentence}") for sentence in statement.said)
    yield _in_words(codes.SUMMARY, statement.report.headline, "headline")
    for number, narrative in enumerate(statement.report.narratives):
        if narrative.text.strip():
            yield _in_words(narrative.heading, narrative.text, f"narrative {number}")
    for finding in statement.report.findings:
        yield from _about(statement, finding)
    yield _Observation("HD", coded(_DICOM_STUDY), "study", components("", statement.subject.study_instance_uid, "ISO"))
    yield _Observation("HD", coded(_REPORT_OBJECT), "sr", components("", statement.sr_uid, "ISO"))


def _in_words(heading: Code, words: str, key: str) -> _Observation:
    return _Observation("FT", coded(heading), key, escape(words))


def _about(statement: Statement, finding: ReportedFinding) -> Iterator[_Observation]:
    key, method = finding.tracking_id, one_line(statement.method)
    name = coded(finding.finding_type, words_of(finding.finding_type, finding))
    value = value_of(finding)
    if value is not None:
        stated = coded(value.value, words_of(value.value, finding))
        yield _Observation("CWE", name, f"{key} value", stated, method="" if statement.is_edited else method)
    for part in further_parts(finding):
        part_key, words = f"{key} {part.name.value}", words_of(part.name, finding)
        if isinstance(part, Measurement):
            is_probability = part.name == codes.PROBABILITY
            if is_probability:
                words = f"{words} ({'calibrated' if statement.report.calibrated else 'uncalibrated'})"
            said_how = method if is_probability else ""
            yield _Observation(
                "NM", coded(part.name, words), part_key, f"{part.value:.15g}", coded(part.unit), method=said_how
            )
        else:
            yield _Observation(
                "CWE", coded(part.name, words), part_key, coded(part.value, words_of(part.value, finding))
            )
    for site in finding.sites:
        yield _Observation("CWE", coded(_FINDING_SITE), f"{key} site {site.value}", coded(site))
    for number, words in enumerate(places_of(finding)):
        yield _in_words(codes.COMMENT, words, f"{key} place {number}")


def _obx(statement: Statement, observation: _Observation) -> list[str]:
    signer, algorithm = statement.signer, statement.report.algorithm
    fields = [""] * 19
    fields[:4] = ["OBX", "", observation.value_type, observation.name]
    fields[_OBX_SUB_ID] = _short(statement.part_uid(observation.key))
    fields[5], fields[6] = observation.value, observation.unit
    fields[_OBX_STATUS] = _STATUS[statement.standing]
    fields[14] = text.time_stamp(statement.subject.started)
    fields[16] = "" if signer is None else text.observer(signer)
    fields[17] = components("", observation.method)
    if not statement.is_edited:
        fields[18] = components(one_line(algorithm.name), "", algorithm.device_uid, "ISO")
    return fields


def _numbered(observations: Sequence[list[str]]) -> list[list[str]]:
    return [["OBX", str(number), *fields[2:]] for number, fields in enumerate(observations, 1)]


def _message(segments: Sequence[Sequence[str]], time: str, processing: str) -> bytes:
    body = SEGMENT_END.join(map(_joined, segments))
    control = hashlib.sha256(f"{time} {body}".encode()).hexdigest()[:20]
    header = ["MSH", _DELIMITERS, "", "", "", "", time, "", components("ORU", "R01", "ORU_R01"), control, processing]
    header += ["2.5.1", "", "", "", "", "", "UNICODE UTF-8"]
    return _encoded([header, *segments])


def _encoded(segments: Sequence[Sequence[str]]) -> bytes:
    return "".join(_joined(fields) + SEGMENT_END for fields in segments).encode("utf-8")


def _joined(fields: Sequence[str]) -> str:
    return "|".join(fields).rstrip("|")


def _segments(message: bytes) -> Iterator[list[str]]:
    """Yield the segments of a message of ours as fields, filled up to where this module looks."""
    try:
        lines = message.decode("utf-8").split(SEGMENT_END)
    except UnicodeDecodeError as error:
        raise MessageError(f"an earlier HL7 message cannot be read: {error}") from error
    if not lines[0].startswith(f"MSH|{_DELIMITERS}|"):
        raise MessageError("an earlier HL7 message does not begin as one")
    for line in lines:
        if line:
            fields = line.split("|")
            yield fields + [""] * (33 - len(fields))


def _short(uid: str) -> str:
    """Return a UID of ours as 20 characters, which is what OBX-4 and OBR-3 have room for everywhere."""
    return hashlib.sha256(uid.encode()).hexdigest()[:20]
