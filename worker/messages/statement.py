"""What a message says of an answer, before it becomes FHIR or HL7: the report, where it stands, and whom it is about.

Input: an `Answer` with its `Report`, and the structured report (SR) that was written for it: patient and study are read
from there, so that a message files under the same patient and study as the objects in the PACS. Output: a `Statement`.
On failure `MessageError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from io import BytesIO
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.codes import NAMED_IN_TEXT, PRESENCE_OF_PROPERTY, VALUE_NAMED_IN_TEXT, Code
from dicom_node.evidence import local_time
from dicom_node.marking import STANDIN_WARNING, statements_of
from dicom_node.report import Evaluation, Measurement, Person, Report, ReportedFinding
from dicom_node.stored_text import StoredTexts
from dicom_node.uids import derive_uid

#: Said of every answer that nobody has signed.
UNSIGNED_STATEMENT: Final = "Preliminary: the answer of an algorithm, which no person has reviewed"
#: SOP classes of photographs, videos and slides (PS3.4 B.5).
_VISIBLE_LIGHT: Final = "1.2.840.10008.5.1.4.1.1.77.1."
_IN_THE_TRACKING_IDENTIFIER: Final = (NAMED_IN_TEXT, VALUE_NAMED_IN_TEXT)


class MessageError(Exception):
    """A message cannot be written; the message says which and why."""


class Standing(StrEnum):
    """How far an answer may be relied on."""

    #: No person has signed it.
    PRELIMINARY = "preliminary"
    #: A person signed it as it was.
    FINAL = "final"
    #: A person changed and signed it, or signed it in the place of an earlier signed one.
    AMENDED = "amended"


@dataclass(frozen=True, slots=True)
class NameGroup:
    """One component group of a DICOM person name (PS3.5 6.2.1)."""

    family: str
    given: str
    middle: str
    prefix: str
    suffix: str

    @property
    def text(self) -> str:
        """The name as people read it: "Müller, Jürgen"."""
        given = " ".join(part for part in (self.given, self.middle) if part)
        return ", ".join(part for part in (self.family, given) if part)


@dataclass(frozen=True, slots=True)
class Subject:
    """Patient and study; what the images do not say, or say wrongly, is empty."""

    patient_id: str
    issuer_of_patient_id: str
    #: Alphabetic, ideographic and phonetic.
    name: tuple[NameGroup, ...]
    birth_date: date | None
    #: "M", "F", "O" or "".
    sex: str
    study_instance_uid: str
    accession_number: str
    study_description: str
    #: Aware where the study has a time of day; a date alone is a `date`.
    started: date | datetime | None

    @property
    def display_name(self) -> str:
        """The first component group that says something."""
        return next((group.text for group in self.name if group.text), "")


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said, of whom, and by whom."""

    report: Report
    standing: Standing
    subject: Subject
    #: The same for every revision of the answer and for its signature: what a receiver knows it by.
    answer_uid: str
    #: SOP Instance UID of the structured report.
    sr_uid: str
    #: How the probability came about ("label likelihood"); empty where there is none.
    confidence_method: str = ""
    #: Who signed.
    signer: Person | None = None
    #: The findings are the signer's, not the algorithm's.
    is_edited: bool = False

    @property
    def title(self) -> str:
        """What the report is about; a stand-in says there what it is."""
        title = self.report.title
        return f"{STANDIN_WARNING} - {title}" if self.report.algorithm.is_standin else title

    @property
    def said(self) -> tuple[str, ...]:
        """The sentences that go with the answer, the loudest first."""
        sentences = statements_of(self.report)
        if self.standing is not Standing.PRELIMINARY:
            return sentences
        loud = int(self.report.algorithm.is_standin)
        return (*sentences[:loud], UNSIGNED_STATEMENT, *sentences[loud:])

    @property
    def conclusion(self) -> str:
        """The answer in words, and all that must be read with it, a sentence a line."""
        loud = int(self.report.algorithm.is_standin)
        narratives = [narrative.text.strip() for narrative in self.report.narratives if narrative.text.strip()]
        return "\n".join((*self.said[:loud], self.report.headline, *narratives, *self.said[loud:]))

    @property
    def method(self) -> str:
        """How the probabilities were made, and whether they were ever compared with reviewed cases."""
        if not self.confidence_method:
            return ""
        return f"{self.confidence_method} ({'calibrated' if self.report.calibrated else 'uncalibrated'})"

    @property
    def service_section(self) -> tuple[str, str]:
        """Code and meaning of the diagnostic service (HL7 table 0074): pictures by visible light are no radiology."""
        is_visible_light = any(source.sop_class_uid.startswith(_VISIBLE_LIGHT) for source in self.report.sources)
        return ("OTH", "Other") if is_visible_light else ("RAD", "Radiology")

    def part_uid(self, part: str) -> str:
        """Return the UID of a part of the answer, the same whoever says it again."""
        return derive_uid("answer part", self.answer_uid, part)


def answer_uid(series_instance_uid: str, unit_uid: str, adapter: str, question_key: str) -> str:
    """Return the UID that an answer keeps through all its revisions: one adapter's, about one unit."""
    return derive_uid("answer", series_instance_uid, unit_uid, adapter, question_key)


def subject_of(structured_report: bytes) -> tuple[Subject, str]:
    """Return patient and study of an SR, and its SOP Instance UID. Raises `MessageError`."""
    try:
        ds = dcmread(BytesIO(structured_report), stop_before_pixels=True)
    except (InvalidDicomError, ValueError, EOFError) as error:
        raise MessageError(f"the structured report cannot be read: {error}") from error
    texts = StoredTexts(ds)
    return _subject(ds, texts), texts.of("SOPInstanceUID")


def words_of(code: Code, finding: ReportedFinding) -> str:
    """Return what a code means in words; of what no code covers, the words of the site."""
    return finding.tracking_id if code in _IN_THE_TRACKING_IDENTIFIER else code.meaning


def value_of(finding: ReportedFinding) -> Evaluation | None:
    """Return what a finding comes to: whether it is present, else its first evaluation."""
    stated = [evaluation for evaluation in finding.evaluations if evaluation.name == PRESENCE_OF_PROPERTY]
    return next(iter((*stated, *finding.evaluations)), None)


def further_parts(finding: ReportedFinding) -> tuple[Evaluation | Measurement, ...]:
    """Return what else is said of a finding."""
    first = value_of(finding)
    return (*(evaluation for evaluation in finding.evaluations if evaluation != first), *finding.measurements)


def places_of(finding: ReportedFinding) -> tuple[str, ...]:
    """Say where and when in the images a finding lies."""
    said = []
    if finding.region is not None:
        source = finding.region.source
        frame = f", frame {source.frame_numbers[0]}" if source.frame_numbers else ""
        said.append(f"Outlined on image {source.sop_instance_uid}{frame}: {finding.region.label}")
    if finding.times_s:
        said.append(f"At {', '.join(f'{time:.1f}' for time in finding.times_s)} s of the video")
    return tuple(said)


def name_groups(name: str) -> tuple[NameGroup, ...]:
    """Return the component groups of a DICOM person name, without empty ones at the end."""
    groups = []
    for group in name.split("=")[:3]:
        parts = [part.strip() for part in group.split("^")]
        groups.append(NameGroup(*(parts + [""] * 5)[:5]))
    while groups and not any((groups[-1].family, groups[-1].given, groups[-1].middle)):
        groups.pop()
    return tuple(groups)


def _subject(ds: Dataset, texts: StoredTexts) -> Subject:
    sex = texts.of("PatientSex")
    return Subject(
        patient_id=texts.of("PatientID").strip(),
        issuer_of_patient_id=texts.of("IssuerOfPatientID").strip(),
        name=name_groups(texts.of("PatientName")),
        birth_date=_day(texts.of("PatientBirthDate")),
        sex=sex if sex in ("M", "F", "O") else "",
        study_instance_uid=texts.of("StudyInstanceUID"),
        accession_number=texts.of("AccessionNumber").strip(),
        study_description=texts.of("StudyDescription").strip(),
        started=_moment(ds, texts),
    )


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None


def _moment(ds: Dataset, texts: StoredTexts) -> date | datetime | None:
    """Return when the study began, in the zone that its times are in."""
    day = _day(texts.of("StudyDate"))
    time = texts.of("StudyTime").strip()
    if day is None or len(time) < 4 or not time[:4].isdigit():
        return day
    seconds = time[4:6] if time[4:6].isdigit() else "00"
    try:
        naive = datetime.strptime(f"{day:%Y%m%d}{time[:4]}{seconds}", "%Y%m%d%H%M%S")  # noqa: DTZ007 - zone follows
        return naive.replace(tzinfo=local_time(naive.astimezone(), ds).tzinfo)
    except (ValueError, OverflowError):
        return day
