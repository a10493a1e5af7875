"""A form is made from an adapter's own findings model, and what it says goes back into that model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from models.adapter import adapters
from models.question import Question
from worker.web.finding_forms import Field, errors_by_field, findings_in, form_of

FINDINGS: dict[str, tuple[str, Question | None, dict[str, Any]]] = {
    "patency": ("dsa_patency", None, {"patency": "blocked"}),
    "trauma": (
        "abdominal_trauma",
        None,
        {
            "injury_pattern": "liver laceration",
            "organs_involved": ["liver", "spleen"],
            "bleeding_description": "none",
            "severity_estimate": "mild",
            "differential_diagnosis": ["haematoma", "cyst"],
        },
    ),
    "boxes": (
        "flare",
        Question("detection", labels=("nodule", "mass")),
        {"objects": [{"box_2d": [1, 2, 30, 40], "label": "mass"}, {"box_2d": [5, 6, 70, 80], "label": "nodule"}]},
    ),
    "count": ("flare", Question("counting", labels=("cell",)), {"count": 12}),
    "labels": ("flare", Question("multi_label", labels=("effusion", "nodule")), {"labels": ["nodule"]}),
}


def sent_by(fields: tuple[Field, ...]) -> Iterator[tuple[str, str]]:
    """What a browser sends of an unchanged form."""
    for field in fields:
        if field.kind in ("group", "list", "row", "box"):
            yield from sent_by(field.parts)
        elif field.kind == "several":
            yield from ((field.name, one) for one in field.value)
        elif field.kind != "switch" or field.value:
            yield field.name, field.value


@pytest.mark.parametrize("kind", FINDINGS)
def test_an_unchanged_form_says_what_the_findings_said(kind: str) -> None:
    name, question, values = FINDINGS[kind]
    model = adapters()[name].asked(question).findings
    known = model.model_validate(values).model_dump(mode="json")
    read = findings_in(model, sent_by(form_of(model, known)))
    assert model.model_validate(read).model_dump(mode="json") == known


def test_kinds_of_questions_have_their_kinds_of_fields() -> None:
    trauma = {field.name: field for field in form_of(adapters()["abdominal_trauma"].findings, None)}
    assert [field.kind for field in trauma.values()] == ["long text", "several", "long text", "choice", "list"]
    assert trauma["f.severity_estimate"].options == ("none", "mild", "moderate", "severe")
    (patency,) = form_of(adapters()["dsa_patency"].findings, None)
    assert (patency.kind, patency.required) == ("choice", True), "probabilities are the model's own"
    boxes = adapters()["flare"].asked(FINDINGS["boxes"][1]).findings
    (objects,) = form_of(boxes, FINDINGS["boxes"][2])
    assert len(objects.parts) == 3, "two boxes and an empty row"
    corners = objects.parts[0].parts[0]
    assert corners.kind == "box"
    assert [part.label for part in corners.parts] == ["top", "left", "bottom", "right"]
    assert [(part.least, part.most, part.step) for part in corners.parts] == [(0, 1000, "1")] * 4


@pytest.mark.parametrize(
    ("kind", "sent", "field", "words"),
    [
        ("patency", [], "f.patency", "Field required"),
        ("patency", [("f.patency", "half")], "f.patency", "Input should be 'patent' or 'blocked'"),
        ("count", [("f.count", "many")], "f.count", "should be a valid integer"),
        ("count", [("f.count", "-1")], "f.count", "greater than or equal to 0"),
        (
            "boxes",
            [("f.objects.0.label", "mass"), *((f"f.objects.0.box_2d.{i}", "9") for i in range(4))],
            "f.objects.0",
            "empty or inverted",
        ),
    ],
)
def test_what_is_wrong_is_said_at_its_field(kind: str, sent: list[tuple[str, str]], field: str, words: str) -> None:
    name, question, _ = FINDINGS[kind]
    model = adapters()[name].asked(question).findings
    with pytest.raises(ValidationError) as caught:
        model.model_validate(findings_in(model, sent))
    errors = errors_by_field(caught.value)
    assert words in errors[field]
    shown = form_of(model, findings_in(model, sent), errors)
    assert words in " ".join(one.error for one in flat(shown))


def flat(fields: tuple[Field, ...]) -> Iterator[Field]:
    for field in fields:
        yield field
        yield from flat(field.parts)


def test_rows_that_are_left_empty_are_left_out() -> None:
    model = adapters()["abdominal_trauma"].findings
    sent = [
        ("f.differential_diagnosis.0", " "),
        ("f.differential_diagnosis.7", "cyst"),
        ("f.differential_diagnosis.NEW", ""),
    ]
    assert findings_in(model, sent)["differential_diagnosis"] == ["cyst"]
