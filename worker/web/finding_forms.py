"""An adapter's findings model -> a form for people, and the filled form -> findings.

Input: the model's JSON schema and values; or the names and texts that a browser sends. Output: a tree of `Field` for
the templates; or a dictionary for the model to validate. What was typed is kept as text where it is no number: the
model says what is wrong with it, at the field. Tables of probabilities are the model's own and no part of a form.
Nothing fails here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotated_types import MaxLen
from pydantic import BaseModel, ValidationError

from worker.wording import label

#: Before the names of a form's fields.
START = "f"
#: Empty rows at the end of a list, for browsers without JavaScript.
SPARE_ROWS = 1
#: Longer texts get several lines.
SHORT_TEXT = 100
#: A list of numbers of a fixed, small length is one row of inputs.
FEW_NUMBERS = 6
#: Field that holds a box in the form of Gemma's models: its sides from the top and the left edge, in thousandths.
BOX = "box_2d"
SIDES = ("top", "left", "bottom", "right")


@dataclass(frozen=True, slots=True)
class Field:
    """One question of a form."""

    #: The name that a browser sends, e.g. ``f.objects.0.label``.
    name: str
    label: str
    #: "choice", "several", "switch", "number", "text", "long text", "list", "group", "row" (of numbers) or "box".
    kind: str
    #: Text; of "several" the chosen ones.
    value: Any = None
    options: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    step: str = "any"
    longest: int | None = None
    required: bool = False
    #: What is wrong with it, in words.
    error: str = ""
    #: Of "group": its fields. Of "list": its rows, and after them the empty ones.
    parts: tuple[Field, ...] = ()
    #: Of "list": the row that JavaScript adds; its number is ``NEW``.
    blank: Field | None = None

    @property
    def id(self) -> str:
        """Return an id for the page."""
        return self.name.replace(".", "-")


def form_of(
    model: type[BaseModel], values: Mapping[str, Any] | None, errors: Mapping[str, str] | None = None
) -> tuple[Field, ...]:
    """Return the fields of a findings model, filled with values, with what is wrong at each (`errors_by_field`)."""
    schema = _schema_for_people(model)
    drawing = _Drawing(schema.get("$defs", {}), errors or {})
    return drawing.group(START, schema, values or {})


def _schema_for_people(model: type[BaseModel]) -> dict[str, Any]:
    """Return a schema with the lengths that the model takes: those that keep a model short bind no person."""
    schema = model.model_json_schema()
    for name, info in model.model_fields.items():
        longest = next((known.max_length for known in info.metadata if isinstance(known, MaxLen)), None)
        part = schema["properties"][name]
        for bound in ("maxLength", "maxItems"):
            if longest is not None and bound in part:
                part[bound] = longest
    return schema


def errors_by_field(error: ValidationError) -> dict[str, str]:
    """Return field name -> what is wrong, in pydantic's words; the first fault of each."""
    found: dict[str, str] = {}
    for fault in error.errors():
        name = ".".join([START, *(str(part) for part in fault["loc"])])
        found.setdefault(name, str(fault["msg"]).removeprefix("Value error, "))
    return found


def findings_in(model: type[BaseModel], sent: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return what a form says, ready for the model to validate; rows that are empty throughout are left out."""
    texts: dict[str, list[str]] = {}
    for name, text in sent:
        texts.setdefault(name, []).append(text)
    schema = model.model_json_schema()
    return _Reading(schema.get("$defs", {}), texts).group(START, schema)


class _Schemas:
    """What drawing and reading share: following references, and telling the kinds apart."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def resolved(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return self.resolved(self._definitions[str(schema["$ref"]).rpartition("/")[2]])
        for several in ("anyOf", "oneOf", "allOf"):
            real = [part for part in schema.get(several, ()) if part.get("type") != "null"]
            if len(real) == 1:
                return {**self.resolved(real[0]), "optional": len(schema[several]) > 1}
        return dict(schema)

    def kind(self, schema: Mapping[str, Any]) -> str:
        """Return a `Field.kind`; empty for what no form asks."""
        if "enum" in schema or "const" in schema:
            return "choice"
        if schema.get("type") == "array":
            entry = self.resolved(schema.get("items", {}))
            return "several" if self.kind(entry) == "choice" else "list"
        if schema.get("type") == "object":
            return "group" if "properties" in schema else ""
        if schema.get("type") in ("integer", "number"):
            return "number"
        if schema.get("type") == "boolean":
            return "switch"
        return "long text" if schema.get("maxLength", 0) > SHORT_TEXT or "maxLength" not in schema else "text"

    def asked(self, schema: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any], str]]:
        """Yield name, schema and kind of each part of a group that a form asks."""
        for name, part in schema.get("properties", {}).items():
            whole = self.resolved(part)
            if kind := self.kind(whole):
                yield name, whole, kind


def options_of(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values of an enumeration as texts."""
    return tuple(str(value) for value in schema.get("enum", [schema.get("const", "")]))


class _Drawing(_Schemas):
    """Schema and values -> fields."""

    def __init__(self, definitions: Mapping[str, Any], errors: Mapping[str, str]) -> None:
        super().__init__(definitions)
        self._errors = errors

    def group(self, name: str, schema: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Field, ...]:
        required = schema.get("required", ())
        return tuple(
            self.field(f"{name}.{part}", label(part), whole, kind, values.get(part), required=part in required)
            for part, whole, kind in self.asked(schema)
        )

    def field(
        self, name: str, title: str, schema: dict[str, Any], kind: str, value: Any, *, required: bool = False
    ) -> Field:
        error = self._errors.get(name, "")
        if kind == "group":
            given = value if isinstance(value, Mapping) else {}
            return Field(name, title, kind, parts=self.group(name, schema, given), error=error)
        if kind == "list":
            return self._list(name, title, schema, value, error)
        if kind == "several":
            entry = self.resolved(schema["items"])
            chosen = [str(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else []
            error = error or next((text for key, text in self._errors.items() if key.startswith(f"{name}.")), "")
            return Field(name, title, kind, chosen, options_of(entry), error=error)
        text = "" if value is None else value
        is_whole = schema.get("type") == "integer"
        return Field(
            name,
            title,
            kind,
            bool(value) if kind == "switch" else str(text),
            options_of(schema) if kind == "choice" else (),
            schema.get("minimum", schema.get("exclusiveMinimum")),
            schema.get("maximum", schema.get("exclusiveMaximum")),
            "1" if is_whole else str(schema.get("multipleOf", "any")),
            schema.get("maxLength"),
            required and not schema.get("optional", False),
            error,
        )

    def _list(self, name: str, title: str, schema: dict[str, Any], value: Any, error: str) -> Field:
        entry = self.resolved(schema.get("items", {}))
        entry.pop("maxLength", None)  # as in `_schema_for_people`; the findings model says what is too long
        kind = "text" if self.kind(entry) == "long text" else self.kind(entry)
        values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
        if kind == "number" and (length := _fixed_length(schema)):
            is_box = name.endswith(f".{BOX}") and length == len(SIDES)
            parts = [
                self.field(
                    f"{name}.{index}",
                    SIDES[index] if is_box else f"{title} {index + 1}",
                    entry,
                    kind,
                    _at(values, index),
                )
                for index in range(length)
            ]
            return Field(name, title, "box" if is_box else "row", parts=tuple(parts), error=error)
        most = schema.get("maxItems", len(values) + SPARE_ROWS)
        count = min(len(values) + SPARE_ROWS, max(most, len(values)))
        rows = [
            self.field(f"{name}.{index}", f"{title} {index + 1}", entry, kind, _at(values, index))
            for index in range(count)
        ]
        blank = self.field(f"{name}.NEW", f"{title}, another", entry, kind, None)
        return Field(name, title, "list", most=schema.get("maxItems"), parts=tuple(rows), blank=blank, error=error)


class _Reading(_Schemas):
    """Schema and what was sent -> values."""

    def __init__(self, definitions: Mapping[str, Any], texts: Mapping[str, list[str]]) -> None:
        super().__init__(definitions)
        self._texts = texts

    def group(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        found = {part: self._value(f"{name}.{part}", whole, kind) for part, whole, kind in self.asked(schema)}
        return {part: value for part, value in found.items() if value is not None}

    def _value(self, name: str, schema: dict[str, Any], kind: str) -> Any:
        if kind == "group":
            return self.group(name, schema)
        if kind == "list":
            return self._list(name, schema)
        if kind == "several":
            return list(self._texts.get(name, []))
        if kind == "switch":
            return name in self._texts
        text = self._texts.get(name, [""])[-1].strip()
        if not text:
            return None
        return _number(text, whole=schema.get("type") == "integer") if kind == "number" else text

    def _list(self, name: str, schema: dict[str, Any]) -> list[Any]:
        entry = self.resolved(schema.get("items", {}))
        kind = self.kind(entry)
        pattern = re.compile(rf"{re.escape(name)}\.(\d{{1,4}})(?:\.|$)")
        rows = sorted({int(match[1]) for sent in self._texts if (match := pattern.match(sent))})
        values = (self._value(f"{name}.{row}", entry, kind) for row in rows)
        return [value for value in values if value is not None and (kind != "group" or _is_filled(value))]


def _is_filled(value: Any) -> bool:
    """Whether anything was typed or chosen in a row; a switch that is off says nothing."""
    if isinstance(value, Mapping):
        return any(_is_filled(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_is_filled(inner) for inner in value)
    return value not in (None, "", False)


def _number(text: str, *, whole: bool) -> Any:
    try:
        return int(text) if whole else float(text.replace(",", "."))
    except ValueError:
        return text


def _fixed_length(schema: Mapping[str, Any]) -> int:
    """Return how many entries a list always has, where they are few; else 0."""
    most = schema.get("maxItems", 0)
    return most if most == schema.get("minItems") and most <= FEW_NUMBERS else 0


def _at(values: Sequence[Any], index: int) -> Any:
    return values[index] if index < len(values) else None
