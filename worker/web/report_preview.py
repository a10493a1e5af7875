"""What a person would sign, in the words of the report that is then written.

Input: a job, findings and who signs. Output: `Preview`, from the same `Report` that reporting writes. On failure a
`Preview` with the reason in place of the words: what cannot be said here cannot be written either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from dicom_node.codes import NAMED_IN_TEXT, NO_UNITS, PROBABILITY
from dicom_node.report import Measurement, Person, Report, ReportedFinding, probability_text
from models.adapter import AdapterDefinition
from models.confidence import INCONSISTENT, Confidence
from models.generation import ModelProvenance
from models.recipe import RecipeError
from models.rendering import InputRecord
from worker.answers import Answer, Signature, report_of
from worker.db.columns import utc_now
from worker.db.records import Job
from worker.db.units import asked_adapter

_DISAGREE: Final = "These findings contradict each other: one field speaks of an abnormality that another denies."


@dataclass(frozen=True, slots=True)
class Preview:
    """The words of a report."""

    title: str = ""
    headline: str = ""
    #: Heading and text.
    narratives: tuple[tuple[str, str], ...] = ()
    #: What is coded: finding, and what is said of it.
    findings: tuple[tuple[str, str], ...] = ()
    statements: tuple[str, ...] = ()
    #: Who signs; None for nobody.
    signer: Person | None = None
    #: What speaks against signing it as it is.
    warning: str = ""
    #: Why there are no words.
    obstacle: str = ""


def preview(
    adapters: Mapping[str, AdapterDefinition], job: Job, findings: Mapping[str, Any] | None, person: Person | None
) -> Preview:
    """Return what would be signed; `findings` other than the model's own are edited ones."""
    if findings is None or job.model_input is None or job.provenance is None:
        return Preview(obstacle="there is no usable answer, and so no report; edit it, or reject it")
    try:
        adapter = asked_adapter(adapters, job)
        answer = _answer(adapter, job, findings, person)
        report = report_of(answer, None)
    except LookupError as error:
        return Preview(obstacle=str(error))
    except ValidationError as error:
        return Preview(obstacle=f"the findings do not fit this release of the adapter: {error.errors()[0]['msg']}")
    except (KeyError, TypeError, ValueError, RecipeError) as error:
        return Preview(obstacle=f"what the model saw was kept in another form ({error!r}); retry the job")
    disagree = adapter.answer_class(answer.findings) == INCONSISTENT
    return replace(_in_words(report, person), warning=_DISAGREE if disagree else "")


def _answer(adapter: AdapterDefinition, job: Job, findings: Mapping[str, Any], person: Person | None) -> Answer:
    edited = dict(findings) != job.findings
    return Answer(
        adapter=adapter,
        findings=adapter.findings.model_validate(dict(findings)),
        input_record=InputRecord.from_json(job.model_input or {}),
        provenance=ModelProvenance.from_json(job.provenance or {}),
        confidence=None if job.confidence is None else Confidence.from_json(job.confidence),
        answered_at=job.answered_at or job.created_at,
        revision=job.revision,
        files=(),
        digests=(),
        signature=None if person is None else Signature(person, edited, utc_now()),
        question_key=job.question_key,
    )


def _in_words(report: Report, person: Person | None) -> Preview:
    return Preview(
        title=report.title,
        headline=report.headline,
        narratives=tuple((narrative.heading.meaning, narrative.text) for narrative in report.narratives),
        findings=tuple(_coded(finding) for finding in report.findings),
        statements=report.statements,
        signer=person,
    )


def _coded(finding: ReportedFinding) -> tuple[str, str]:
    # What a site names in its own words has no code: its name is the tracking identifier.
    named = finding.tracking_id if finding.finding_type == NAMED_IN_TEXT else finding.finding_type.meaning
    name = ", ".join([named, *(site.meaning for site in finding.sites)])
    said = [f"{entry.name.meaning}: {entry.value.meaning}" for entry in finding.evaluations]
    said += [f"{entry.name.meaning}: {_measured(entry)}" for entry in finding.measurements]
    if finding.region is not None:
        said.append(f"marked on the image: {finding.region.label}")
    return name, "; ".join(said)


def _measured(entry: Measurement) -> str:
    """Return a value with its unit; a probability as everywhere else on the page."""
    if entry.name == PROBABILITY:
        return probability_text(entry.value)
    return f"{entry.value:g}" if entry.unit == NO_UNITS else f"{entry.value:g} {entry.unit.value}"
