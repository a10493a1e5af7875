"""The JSON of the ledger has the shape that the contract promises to scripts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from models.generation import ModelProvenance
from worker import schemas

#: `dicom-worker studies --json`, as docs/contract says it: name -> names below it, or None.
CONTRACT: dict[str, Any] = {
    **dict.fromkeys(("study_instance_uid", "accession_number", "patient_id", "state", "revision", "instances")),
    "series": {
        **dict.fromkeys(("series_instance_uid", "modality", "instances", "state")),
        "route": dict.fromkeys(("adapter", "rule", "reason")),
    },
    "jobs": {
        **dict.fromkeys(("id", "adapter", "state", "attempts", "findings")),
        **dict.fromkeys(("confidence", "decision", "decision_reason")),
        "provenance": dict.fromkeys(("base", "base_revision", "adapter_digest", "engine")),
        "results": {
            **dict.fromkeys(("sop_instance_uid", "sop_class_uid", "kind")),
            "deliveries": dict.fromkeys(("destination", "state", "confirmed")),
        },
    },
}


def properties_below(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of the object, or of the items of the list, or of the object or null, at `node`."""
    for variant in [node, node.get("items", {}), *node.get("anyOf", [])]:
        if "$ref" in variant:
            found: dict[str, Any] = schema["$defs"][variant["$ref"].rsplit("/", 1)[1]]["properties"]
            return found
    raise AssertionError(f"no object at {node}")


def assert_has(schema: dict[str, Any], properties: dict[str, Any], promised: dict[str, Any]) -> None:
    for name, below in promised.items():
        assert name in properties
        if below:
            assert_has(schema, properties_below(schema, properties[name]), below)


@pytest.mark.parametrize("view", [schemas.StudyView, schemas.StudyDetail])
def test_the_contract_holds(view: type[BaseModel]) -> None:
    schema = view.model_json_schema(mode="serialization")
    assert_has(schema, schema["properties"], CONTRACT)


def test_a_study_has_its_history_and_the_reviews_of_its_jobs() -> None:
    schema = schemas.StudyDetail.model_json_schema(mode="serialization")
    assert_has(schema, schema["properties"], {"history": {"at": None, "to_state": None, "reason": None}})
    assert_has(schema, schema["properties"], {"jobs": {"reviews": {"action": None, "findings": None}}})


def test_every_field_is_always_there() -> None:
    """A script may index without asking: what is not known is null, not absent."""
    for view in (schemas.StudyDetail, schemas.JobDetail, schemas.ReviewCase, schemas.DeliveryView):
        schema = view.model_json_schema(mode="serialization")
        for shape in [schema, *schema.get("$defs", {}).values()]:
            assert set(shape["required"]) == set(shape["properties"])


def test_provenance_is_shown_whole() -> None:
    assert set(schemas.ProvenanceView.model_fields) == set(ModelProvenance.__dataclass_fields__)


def test_a_view_is_not_changed_afterwards() -> None:
    event = schemas.RouteView(adapter=None, adapters=[], rule=None, reason="no adapter takes it")
    with pytest.raises(ValidationError):
        event.reason = "another"  # type: ignore[misc]
