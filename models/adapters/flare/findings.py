"""What FLARE's adapter finds, one pydantic model for each kind of question, and the answer form that goes with it.

Input: the labels of a question. Output: a findings model that allows these labels only (a person's edits included), and
the form in which the model is made to answer. Nothing fails here: `questions` has checked the labels.

A JSON answer may be as long as its longest form, one token a character; the card's 300 tokens are for free text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, create_model, model_validator

from models.generation import JsonAnswer

#: Up to this many new tokens of free text, as the card has it.
TEXT_TOKENS: Final = 300
#: Side of the square that box coordinates are counted on (MedGemma's localisation form).
BOX_SCALE: Final = 1000
#: Objects in one answer; a set of human chromosomes has 46.
MOST_OBJECTS: Final = 50
LARGEST_COUNT: Final = 9999
#: Measured values lie between its negative and it, in steps of a hundredth, or a number could go on for ever.
LARGEST_VALUE: Final = 999999.99

Likelihood = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Coordinate = Annotated[int, Field(ge=0, le=BOX_SCALE)]


class _Findings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassFindings(_Findings):
    """The one label that fits; the ledger's `findings`."""

    label: str
    #: Label -> normalised likelihood; empty where the engine scores no labels or a person edited the finding.
    probabilities: dict[str, Likelihood] = Field(default_factory=dict)


class LabelsFindings(_Findings):
    """The labels that are present, each once."""

    labels: list[str]


class DetectedObject(_Findings):
    """A box on the picture that the model saw, whose sides count 1000 each: [y0, x0, y1, x1], top left first."""

    box_2d: Annotated[list[Coordinate], Field(min_length=4, max_length=4)]
    label: str

    @model_validator(mode="after")
    def _is_a_box(self) -> DetectedObject:
        top, left, bottom, right = self.box_2d
        if top >= bottom or left >= right:
            raise ValueError(f"box {self.box_2d} is empty or inverted; it must be [y0, x0, y1, x1], top left first")
        return self


class ObjectsFindings(_Findings):
    """Everything that was found, with its place."""

    objects: Annotated[Sequence[DetectedObject], Field(max_length=MOST_OBJECTS)]


class CountFindings(_Findings):
    """How many there are."""

    count: Annotated[int, Field(ge=0, le=LARGEST_COUNT)]


class ValueFindings(_Findings):
    """The measured value, in the question's unit."""

    value: Annotated[
        float,
        Field(ge=-LARGEST_VALUE, le=LARGEST_VALUE, allow_inf_nan=False, json_schema_extra={"multipleOf": 0.01}),
    ]


class TextFindings(_Findings):
    """The report as the model wrote it."""

    report: Annotated[str, Field(min_length=1, max_length=8000)]


def class_findings(labels: tuple[str, ...]) -> type[ClassFindings]:
    """Return the model of one label among these."""
    return create_model("ClassFindings", __base__=ClassFindings, label=(_one_of(labels), ...))


def labels_findings(labels: tuple[str, ...]) -> type[LabelsFindings]:
    """Return the model of some of these labels."""
    label: Any = _one_of(labels)
    some: Any = Annotated[list[label], Field(max_length=len(labels)), AfterValidator(_each_once)]
    return create_model("LabelsFindings", __base__=LabelsFindings, labels=(some, ...))


def objects_findings(labels: tuple[str, ...]) -> type[ObjectsFindings]:
    """Return the model of boxes with these labels."""
    detected: Any = create_model("DetectedObject", __base__=DetectedObject, label=(_one_of(labels), ...))
    several: Any = Annotated[list[detected], Field(max_length=MOST_OBJECTS)]
    return create_model("ObjectsFindings", __base__=ObjectsFindings, objects=(several, ...))


def json_answer(findings: type[BaseModel]) -> JsonAnswer:
    """Return the form that makes the model answer with these findings, with room for the longest of them."""
    schema = _without_references(findings.model_json_schema())
    longest = len(json.dumps(_longest(schema), separators=(",", ":"), ensure_ascii=False).encode())
    return JsonAnswer(schema, max_new_tokens=longest + 16)


def _one_of(labels: tuple[str, ...]) -> Any:
    def known(label: str) -> str:
        if label not in labels:
            raise ValueError(f"{label[:80]!r} is none of {', '.join(labels)}")
        return label

    return Annotated[str, AfterValidator(known), WithJsonSchema({"type": "string", "enum": list(labels)})]


def _each_once(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(labels))


def _without_references(schema: Any) -> Any:
    """Put definitions in the place of what refers to them: not every engine's grammar knows "$ref"."""
    definitions = schema.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return resolved(definitions[part["$ref"].rpartition("/")[2]])
            return {name: resolved(inner) for name, inner in part.items() if name != "description"}
        return [resolved(inner) for inner in part] if isinstance(part, list) else part

    return resolved(schema)


def _longest(schema: Any) -> Any:
    """Return an answer of the greatest length that a schema of this module allows."""
    if "enum" in schema:
        return max(schema["enum"], key=lambda label: len(json.dumps(label)))
    if schema["type"] == "array":
        return [_longest(schema["items"])] * schema["maxItems"]
    if schema["type"] in ("integer", "number"):
        return max((schema["minimum"], schema["maximum"]), key=lambda bound: len(json.dumps(bound)))
    return {name: _longest(part) for name, part in schema["properties"].items()}


def is_probability(value: float) -> bool:
    """Tell whether a likelihood that an engine gives can be one."""
    return math.isfinite(value) and 0 <= value <= 1
