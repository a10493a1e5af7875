"""Kinds of question -> how each is put and its answer read.

Input: a `Question`. Output: a `Task` with the labels and the unit of that question in its prompt, its answer form, its
parser and its report. On failure: `AdapterError`, where the question lacks what its kind needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import BaseModel

from models.adapters.flare import answers, findings, report
from models.adapters.flare.questions import form_of, one_label, prompt_of, several_labels, unit_of
from models.confidence import text_confidence
from models.generation import LabelAnswer, TextAnswer
from models.question import Question, Task

#: What is asked where no site rule says otherwise.
REPORT: Final = "report"


def classification(question: Question) -> Task:
    """Ask which one of at least two labels fits; each is scored."""
    labels = several_labels(question, 2)
    model = findings.class_findings(labels)
    return Task(
        prompt=prompt_of(question),
        answer_form=LabelAnswer(labels),
        findings=model,
        parse=answers.class_parser(labels, model),
        answer_class=_always(question.task),
        confidence=answers.class_confidence,
        report=report.class_report(question),
    )


def multi_label(question: Question) -> Task:
    """Ask which of the labels are present."""
    labels = several_labels(question, 1)
    return _json_task(question, findings.labels_findings(labels), report.labels_report(question), labels)


def detection(question: Question) -> Task:
    """Ask for a box around each thing the labels name; labels that are identities make it instance detection."""
    labels = several_labels(question, 1)
    return _json_task(question, findings.objects_findings(labels), report.objects_report(question), labels)


def counting(question: Question) -> Task:
    """Ask how many there are of what the one label names."""
    one_label(question)
    return _json_task(question, findings.CountFindings, report.count_report(question))


def regression(question: Question) -> Task:
    """Ask for the measurement that the one label names, in the question's unit."""
    one_label(question), unit_of(question)
    return _json_task(question, findings.ValueFindings, report.value_report(question))


def free_report(question: Question) -> Task:
    """Ask the card's published question."""
    return Task(
        prompt=prompt_of(question),
        answer_form=TextAnswer(findings.TEXT_TOKENS),
        findings=findings.TextFindings,
        parse=answers.parse_text,
        answer_class=_always(question.task),
        confidence=lambda generation, _findings: text_confidence(generation),
        report=report.text_report(question),
    )


TASKS: Final[Mapping[str, Callable[[Question], Task]]] = {
    "classification": classification,
    "multi_label": multi_label,
    "detection": detection,
    "counting": counting,
    "regression": regression,
    REPORT: free_report,
}


def _json_task(
    question: Question, model: type[BaseModel], reporter: report.Reporter, labels: tuple[str, ...] = ()
) -> Task:
    return Task(
        prompt=prompt_of(question),
        answer_form=findings.json_answer(model),
        findings=model,
        parse=answers.json_parser(model, labels),
        answer_class=_always(question.task),
        confidence=answers.json_confidence,
        report=reporter,
        postscript=form_of(question),
    )


def _always(kind: str) -> Callable[[BaseModel], str]:
    """Return the key into the review policy: the kind of question, whatever the answer."""
    return lambda _findings: kind
