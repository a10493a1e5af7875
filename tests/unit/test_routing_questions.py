"""Which questions a route asks of an adapter that answers several kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom_node.headers import InstanceHeader
from models.adapter import adapters
from worker.routing import RouteDecision, SeriesSummary, route
from worker.settings import RouteRule, SettingsError
from worker.site import check_rules

ENABLED = {"flare": adapters()["flare"]}
DX = InstanceHeader(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    sop_instance_uid="1.2.3.1",
    study_instance_uid="1.2.1",
    series_instance_uid="1.2.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    modality="DX",
    patient_age_years=61,
    has_pixel_data=True,
)
CLASSES = {"task": "classification", "labels": ["normal", "pneumonia"]}


def rule(*ask: dict[str, Any], **when: str) -> RouteRule:
    return RouteRule.model_validate({"name": "chest", "when": when, "adapter": "flare", "ask": ask})


def decide(header: InstanceHeader, *rules: RouteRule) -> RouteDecision:
    return route(SeriesSummary((header,)), rules, ENABLED)


def test_a_rule_that_asks_two_questions_makes_two_assignments() -> None:
    decision = decide(DX, rule(CLASSES, {"task": "report"}, modality="DX"))
    assert decision.adapters == ("flare",)
    asked = [assignment.question for assignment in decision.assignments]
    assert [(q.task, q.labels) for q in asked if q] == [("classification", ("normal", "pneumonia")), ("report", ())]
    assert len({q.key for q in asked if q}) == 2
    assert decision.doubts == ()


def test_a_series_that_no_rule_speaks_of_is_asked_for_a_report() -> None:
    (assignment,) = decide(DX).assignments
    assert assignment.question is not None
    assert assignment.question.task == "report"


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        ({"task": "classification", "labels": ["normal"]}, "rule 'chest': .* at least two labels, 1 given"),
        ({"task": "regression", "labels": ["length"]}, "a unit in UCUM"),
        ({"task": "segmentation"}, "a task that none of its adapters has"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_at_start(ask: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        check_rules([rule(ask, modality="DX")], ENABLED)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        # Dose screens come as CT in a Secondary Capture.
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "modality": "CT"}, "SOP class Secondary Capture"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "modality": "CT"}, "CT is taken where a site rule asks for it"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.2.1", "modality": "MG"}, "raw detector values"),
        ({"patient_age_years": 4.0}, "patient aged 4"),
        ({"is_own_result": True}, "own results"),
    ],
)
def test_what_flare_is_not_asked_about_unless_a_rule_says_so(changes: dict[str, Any], why: str) -> None:
    decision = decide(replace(DX, **changes))
    assert decision.assignments == ()
    assert why in decision.reason


def test_stills_in_a_secondary_capture_come_by_a_rule_and_say_that_they_are_outside_the_intended_use() -> None:
    fundus = replace(DX, sop_class_uid="1.2.840.10008.5.1.4.1.1.7", modality="OT")  # codespell:ignore ot
    decision = decide(fundus, rule({"task": "report"}, modality="OT"))  # codespell:ignore ot
    assert decision.adapters == ("flare",)
    assert any("outside intended use: SOP class Secondary Capture" in doubt for doubt in decision.doubts)
