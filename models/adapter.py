"""An adapter is one folder under `models/adapters`; this is what such a folder must define, and their registry.

Input: the folders. Output: `adapters()`, a mapping of validated definitions by name. On failure: `AdapterError`, naming
the folder and everything that is wrong with it, when the daemon starts and not when the first study arrives.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from dicom_node.headers import InstanceFile, InstanceHeader
from dicom_node.report import Algorithm, Person, Report, SourceFrames
from models.acceptance import Acceptance
from models.adapter_checks import faults_of
from models.confidence import Confidence, ReviewPolicy
from models.generation import AnswerForm, Generation
from models.parsing import ParseFailure
from models.question import Prompt, Question, Task
from models.rendering import ModelInput


class AdapterError(Exception):
    """An adapter's folder does not define a usable adapter; the message names the folder and every fault."""


class Unit(StrEnum):
    """What one job of an adapter covers."""

    #: One SOP instance, e.g. one XA run.
    INSTANCE = "instance"
    #: One series, e.g. a CT volume.
    SERIES = "series"


@dataclass(frozen=True, slots=True)
class HubReference:
    """Weights on the Hugging Face hub."""

    hub_id: str
    #: A commit hash once a site has pinned one; "main" until then.
    revision: str
    licence: str
    #: False where the author gives the adapter away in no such place: a site names a folder of its own.
    published: bool = True
    #: Of a base: the attention its adapters' authors name (transformers' `attn_implementation`); None is the engine's.
    attention: str | None = None


@dataclass(frozen=True, slots=True)
class LoraConfiguration:
    """The LoRA shape the author trained (peft.LoraConfig's names)."""

    r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: str | tuple[str, ...]
    #: Fields that the author's card does not give, and that are this project's choice.
    unstated: frozenset[str] = frozenset()
    #: What the card says in another place, where it contradicts itself.
    or_else: LoraConfiguration | None = None


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What a report needs beside the findings; all of it can be rebuilt from stored rows."""

    #: Everything the answer rests on (`InputRecord.sources`).
    sources: tuple[SourceFrames, ...]
    #: The frames a person should be shown first (`InputRecord.key_sources`).
    key_sources: tuple[SourceFrames, ...]
    #: What made the input incomplete or doubtful (`InputRecord.incomplete`).
    incomplete: tuple[str, ...]
    algorithm: Algorithm
    confidence: Confidence | None
    answered_at: datetime
    #: Set where a person edited the findings.
    reviewer: Person | None = None
    #: How the input was made (`InputRecord.record`), e.g. the time stamps of the frames.
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdapterDefinition:
    """Everything that makes an adapter that adapter."""

    #: Folder name, and the name in settings, JSON and UIDs.
    name: str
    title: str
    version: str
    base: HubReference
    lora: HubReference
    lora_configuration: LoraConfiguration
    unit: Unit
    acceptance: Acceptance
    prompt: Prompt
    answer_form: AnswerForm
    #: pydantic model of the answer; its JSON is the ledger's `findings`.
    findings: type[BaseModel]
    #: Raises `RenderError`.
    render: Callable[[Sequence[InstanceFile]], ModelInput]
    parse: Callable[[Generation], BaseModel | ParseFailure]
    #: The class of an answer, a key of `policy.release_at`; `models.confidence.INCONSISTENT` where its fields disagree.
    answer_class: Callable[[BaseModel], str]
    confidence: Callable[[Generation, BaseModel], Confidence]
    policy: ReviewPolicy
    report: Callable[[BaseModel, ReportContext], Report]
    #: Sentences from the author's card that go with every answer.
    limitations: tuple[str, ...]
    #: 0 routine .. 9 most urgent; a STAT request beats it.
    priority: int = 0
    #: Takes what no specialised adapter does; several general adapters may answer about the same series.
    general: bool = False
    #: Of several series of a study that show the same body part, only the best is asked about (`worker.db.preferred`).
    best_series_only: bool = False
    #: Modalities that come without a site rule; None means all that are accepted.
    unasked_modalities: frozenset[str] | None = None
    #: Kinds of question, by name; empty where there is but one, which the fields above describe. Each makes a `Task`
    #: of a `Question` that names it, and raises `AdapterError` where that question cannot be asked.
    tasks: Mapping[str, Callable[[Question], Task]] = field(default_factory=dict)
    #: What is asked about a series that no site rule says it of, by its first header.
    default_questions: Callable[[InstanceHeader], tuple[Question, ...]] | None = None
    #: Language of free text where the question names none (BCP 47).
    language: str = "en"
    #: Languages that free text can be asked for in.
    languages: frozenset[str] = frozenset({"en"})
    #: A site's own words instead of the shipped ones (`with_prompt`).
    site_prompt: Prompt | None = None
    #: Further answers that are drawn at random to see whether the model agrees with itself; free text only.
    samples: int = 0

    def questions(self, header: InstanceHeader) -> tuple[Question | None, ...]:
        """Return what is asked about a series unless a site rule says otherwise; `None` is the only question."""
        if self.default_questions is None:
            return (None,)
        return tuple(self.in_own_language(question) for question in self.default_questions(header))

    def in_own_language(self, question: Question) -> Question:
        """Return the question with the adapter's language filled in, where that is not English."""
        return question if question.language or self.language == "en" else replace(question, language=self.language)

    def asked(self, question: Question | None) -> AdapterDefinition:
        """Return the adapter as it answers this question.

        Raises:
            AdapterError: The adapter has no such task, or cannot be asked this of it.
        """
        if question is None:
            if self.tasks:
                raise AdapterError(f"adapter {self.name} must be asked one of {', '.join(sorted(self.tasks))}")
            return self
        make = self.tasks.get(question.task)
        if make is None:
            known = ", ".join(sorted(self.tasks)) or "none, it has but one question"
            raise AdapterError(f"adapter {self.name} has no task {question.task!r}; its tasks: {known}")
        if question.language and question.language not in self.languages:
            spoken = ", ".join(sorted(self.languages))
            raise AdapterError(f"adapter {self.name} does not answer in {question.language!r}; it does in {spoken}")
        task = make(question)
        prompt = task.prompt
        if self.site_prompt is not None:
            prompt = self.site_prompt
        if question.text:
            prompt = replace(prompt, user=question.text)
        if prompt is not task.prompt and task.postscript:
            prompt = replace(prompt, user=f"{prompt.user} {task.postscript}")
        return replace(
            self,
            prompt=prompt,
            answer_form=task.answer_form,
            findings=task.findings,
            parse=task.parse,
            answer_class=task.answer_class,
            confidence=task.confidence,
            report=task.report,
        )


def load_prompt(folder: Path) -> Prompt:
    """Read `prompt.md`, and `system.md` where there is one, from an adapter's folder; surrounding blanks are dropped.

    Raises:
        AdapterError: There is no readable `prompt.md`.
    """
    try:
        user = (folder / "prompt.md").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterError(f"adapter {folder.name}: cannot read its prompt.md: {error}") from error
    system_file = folder / "system.md"
    system = system_file.read_text(encoding="utf-8").strip() if system_file.is_file() else None
    return Prompt(user=user, system=system)


def with_prompt(definition: AdapterDefinition, user: str, system: str | None = None) -> AdapterDefinition:
    """Return the adapter with a site's own prompt; an omitted system prompt keeps the adapter's.

    Raises:
        AdapterError: The prompt is empty, or the adapter has several, each for a question of its own.
    """
    if len(definition.tasks) > 1:
        raise AdapterError(
            f"adapter {definition.name} asks several kinds of question; give the words with the question (routes: ask)"
        )
    prompt = Prompt(user=user.strip(), system=definition.prompt.system if system is None else system.strip())
    changed = replace(definition, prompt=prompt, site_prompt=prompt)
    validate_adapter(changed)
    return changed


@cache
def adapters() -> Mapping[str, AdapterDefinition]:
    """Discover, validate and return every adapter under `models/adapters`, by name in alphabetical order.

    A folder is an adapter when it is a package; its `adapter` module defines `ADAPTER`.

    Raises:
        AdapterError: A folder does not define a usable adapter.
    """
    package = importlib.import_module("models.adapters")
    found: dict[str, AdapterDefinition] = {}
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name):
        if module.ispkg:
            found[module.name] = _load(module.name)
    return MappingProxyType(found)


def _load(folder: str) -> AdapterDefinition:
    module = importlib.import_module(f"models.adapters.{folder}.adapter")
    definition = getattr(module, "ADAPTER", None)
    if not isinstance(definition, AdapterDefinition):
        raise AdapterError(
            f"models/adapters/{folder}/adapter.py does not define ADAPTER; define it as an AdapterDefinition"
        )
    if definition.name != folder:
        raise AdapterError(f"models/adapters/{folder}: its ADAPTER is named {definition.name!r}; name it {folder!r}")
    validate_adapter(definition)
    return definition


def validate_adapter(definition: AdapterDefinition) -> None:
    """Check what types cannot: names, ranges, thresholds, prompt, answer form.

    Raises:
        AdapterError: Names every fault at once.
    """
    if faults := faults_of(definition):
        raise AdapterError(f"adapter {definition.name}: " + "; ".join(faults))
