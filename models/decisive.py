"""Model's findings + the findings a person signed -> did the person let stand what the answer says?

Input: an adapter and two sets of findings in its form. Output: True where they say the same. What decides is read off
the findings' JSON schema, so that an adapter need not say it:

- the answer class must be the same;
- numbers, choices, lists of choices and anything nested must be the same (lists in any order);
- plain sentences, and lists of them, are wording and may differ, unless the findings have nothing else: a caption whose
  words were changed did not stand;
- probabilities (a table of numbers) are how sure the model was, not what it said.

It fails on nothing: findings that no longer have the adapter's form are different.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from models.adapter import AdapterDefinition


def same_answer(adapter: AdapterDefinition, said: Mapping[str, Any], signed: Mapping[str, Any]) -> bool:
    """Tell whether two findings of one adapter say the same, apart from wording and probabilities."""
    try:
        ours, theirs = (adapter.findings.model_validate(dict(findings)) for findings in (said, signed))
        if adapter.answer_class(ours) != adapter.answer_class(theirs):
            return False
    except ValidationError:
        return False
    left, right = (findings.model_dump(mode="json") for findings in (ours, theirs))
    return all(_folded(left[name]) == _folded(right[name]) for name in decisive_fields(adapter.findings))


def decisive_fields(findings: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the fields that decide whether two findings say the same."""
    schema = findings.model_json_schema()
    definitions = schema.get("$defs", {})
    kinds = {name: _kind(field, definitions) for name, field in schema.get("properties", {}).items()}
    decisive = tuple(name for name, kind in kinds.items() if kind == "decisive")
    return decisive or tuple(name for name, kind in kinds.items() if kind == "wording")


def _kind(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return "decisive", "wording" or "certainty" for one field of a JSON schema."""
    if "$ref" in field:
        return _kind(definitions[field["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in field:
        kinds = {_kind(choice, definitions) for choice in field["anyOf"] if choice.get("type") != "null"}
        return "decisive" if "decisive" in kinds else next(iter(kinds), "wording")
    if field.get("type") == "array":
        inside = _kind(field.get("items", {}), definitions)
        return inside if inside == "wording" else "decisive"
    if field.get("type") == "object" and "properties" not in field:
        return "certainty"
    if field.get("type") == "string" and not {"enum", "const", "pattern", "format"} & set(field):
        return "wording"
    return "decisive"


def _folded(value: Any) -> Any:
    """Return a value in which case, spaces and the order of lists make no difference."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, Mapping):
        return {name: _folded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        parts = [_folded(inner) for inner in value]
        # The order of a box's four numbers is its meaning; that of names or objects is not.
        return parts if any(isinstance(part, int | float) for part in parts) else sorted(parts, key=repr)
    return value
