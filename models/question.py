"""What an adapter is asked, and how the answer is read: prompt, question, task.

A `Question` is plain values, JSON in and out: routes make it, job rows keep it. A `Task` is what an adapter makes of
one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from dicom_node.report import Report
from models.confidence import Confidence
from models.generation import AnswerForm, Generation
from models.parsing import ParseFailure

if TYPE_CHECKING:
    from models.adapter import ReportContext


@dataclass(frozen=True, slots=True)
class Prompt:
    """The words an adapter was trained with, to the letter."""

    user: str
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a route asks of an adapter that answers several kinds of question; JSON in and out, kept with the job."""

    #: A key of `AdapterDefinition.tasks`.
    task: str
    #: The site's own words; empty means the task's.
    text: str = ""
    #: What there is to choose among, to detect or to count; empty means the task's own.
    labels: tuple[str, ...] = ()
    #: UCUM unit of a number that is asked for.
    unit: str = ""
    #: Language of free text (BCP 47); empty means the adapter's.
    language: str = ""

    @property
    def key(self) -> str:
        """Return what tells this question from others to the same adapter: the task, and a digest of what is not plain.

        At most 64 characters; it goes into rows and UIDs.
        """
        stored = {name: value for name, value in self.to_json().items() if value and name != "task"}
        if not stored:
            return self.task
        written = json.dumps(stored, sort_keys=True, ensure_ascii=False)
        return f"{self.task}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Question:
        """Rebuild a question from `to_json`."""
        return cls(**{**stored, "labels": tuple(stored["labels"])})


@dataclass(frozen=True, slots=True)
class Task:
    """How one question is put and its answer read: what `AdapterDefinition` has once for a single-question adapter."""

    prompt: Prompt
    answer_form: AnswerForm
    findings: type[BaseModel]
    parse: Callable[[Generation], BaseModel | ParseFailure]
    answer_class: Callable[[BaseModel], str]
    confidence: Callable[[Generation, BaseModel], Confidence]
    report: Callable[[BaseModel, ReportContext], Report]
    #: What stands behind a site's own words too, because the answer's form hangs on it ("Write it in German.").
    postscript: str = ""
