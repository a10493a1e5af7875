"""An adapter is one folder under `models/adapters`; this is what such a folder must define, and their registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from dicom_node.headers import InstanceFile
from dicom_node.report import Algorithm, Person, Report
from models.confidence import Confidence, ReviewPolicy
from models.generation import AnswerForm, Generation
from models.parsing import ParseFailure
from models.rendering import ModelInput


class Unit(StrEnum):
    """What one job of an adapter covers."""

    #: One SOP instance, e.g. one XA run.
    INSTANCE = "instance"
    #: One series, e.g. a CT volume.
    SERIES = "series"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Which series an adapter takes: every condition must hold. Routing evaluates and explains it."""

    sop_class_uids: frozenset[str]
    modalities: frozenset[str]
    #: Normalised regions (`dicom_node.regions`); empty means any, known or not.
    body_regions: frozenset[str] = frozenset()
    #: Values of ImageType that exclude an instance.
    excluded_image_types: frozenset[str] = frozenset({"LOCALIZER"})
    #: Fewer instances than this are no use to the adapter.
    min_instances: int = 1
    #: Children are outside the intended use; an unknown age is routed but held for review.
    min_age_years: float | None = 18


@dataclass(frozen=True, slots=True)
class HubReference:
    """Weights on the Hugging Face hub."""

    hub_id: str
    #: A commit hash once a site has pinned one; "main" until then.
    revision: str
    licence: str


@dataclass(frozen=True, slots=True)
class LoraConfiguration:
    """The LoRA shape the author trained (peft.LoraConfig's names)."""

    r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The words an adapter was trained with, to the letter."""

    user: str
    system: str | None = None


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What a report needs beside the findings."""

    model_input_sources: ModelInput | None
    algorithm: Algorithm
    confidence: Confidence | None
    answered_at: datetime
    #: Set where a person edited the findings.
    reviewer: Person | None = None


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
    #: The class of an answer, a key of `policy.release_at`.
    answer_class: Callable[[BaseModel], str]
    confidence: Callable[[Generation, BaseModel], Confidence]
    policy: ReviewPolicy
    report: Callable[[BaseModel, ReportContext], Report]
    #: Sentences from the author's card that go with every answer.
    limitations: tuple[str, ...]
    #: 0 routine .. 9 most urgent; a STAT request beats it.
    priority: int = 0
