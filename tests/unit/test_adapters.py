"""One contract for all adapters, and what the two of them owe their authors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import models.adapters
from dicom_node import codes
from dicom_node.report import Algorithm, Person, Report, SourceFrames
from models.adapter import AdapterDefinition, AdapterError, ReportContext, adapters, validate_adapter, with_prompt
from models.confidence import Confidence
from models.generation import Generation, JsonAnswer, LabelAnswer
from models.parsing import ParseFailure
from models.prompting import build_request
from models.question import Prompt
from models.rendering import ModelInput

FOLDER = Path(models.adapters.__file__).parent
SOURCE = SourceFrames("1.2.840.10008.5.1.4.1.1.12.1", "1.2.3", "1.2.4", (5,))
every_adapter = pytest.mark.parametrize("adapter", adapters().values(), ids=adapters().keys())


def context(**changes: Any) -> ReportContext:
    plain = ReportContext(
        sources=(SOURCE,),
        key_sources=(SOURCE,),
        incomplete=(),
        algorithm=Algorithm("a", "1", "m", "1.2.5", ()),
        confidence=Confidence(0.93, False, "label likelihood"),
        answered_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return replace(plain, **changes)


def good_answers(adapter: AdapterDefinition) -> list[BaseModel]:
    found = []
    for path in sorted((FOLDER / adapter.name / "golden").glob("*.json")):
        generation = Generation.from_json(json.loads(path.read_text(encoding="utf-8"))["generation"])
        findings = adapter.parse(generation)
        if not isinstance(findings, ParseFailure):
            found.append(findings)
    return found


# The contract --------------------------------------------------------------------------------------------------------


@every_adapter
def test_findings_survive_storage(adapter: AdapterDefinition) -> None:
    for findings in good_answers(adapter):
        assert adapter.findings.model_validate(json.loads(findings.model_dump_json())) == findings


@every_adapter
def test_a_report_says_what_a_reader_needs(adapter: AdapterDefinition) -> None:
    for findings in good_answers(adapter):
        report = adapter.report(findings, context(incomplete=("gap of 10.0 mm after slice 3",)))
        assert report.findings
        assert report.sources == (SOURCE,)
        assert "0.93" in report.headline
        assert "uncalibrated" in report.headline
        assert any("gap of 10.0 mm" in statement for statement in report.statements)
        assert set(adapter.limitations) <= set(report.statements)
        assert all(narrative.text.strip() for narrative in report.narratives)
        assert [n.text for n in report.narratives if n.heading == codes.IMPRESSION]
        ids = [finding.tracking_id for finding in report.findings]
        assert len(set(ids)) == len(ids)
        for finding in report.findings:
            assert finding.evaluations
            assert finding.sources == (SOURCE,)


@every_adapter
def test_an_edited_report_carries_no_probability_of_the_algorithm(adapter: AdapterDefinition) -> None:
    for findings in good_answers(adapter):
        report = adapter.report(findings, context(reviewer=Person("Reader^Rita", "Phantom Hospital")))
        assert not any(finding.measurements for finding in report.findings)
        assert "edited" in report.headline
        assert any("edited by a person" in statement for statement in report.statements)


@every_adapter
def test_every_class_of_answer_has_a_threshold_or_is_always_reviewed(adapter: AdapterDefinition) -> None:
    classes = {adapter.answer_class(findings) for findings in good_answers(adapter)}
    assert set(adapter.policy.release_at) <= classes, "a threshold for a class that no answer has"


@every_adapter
def test_a_request_shows_all_images_and_then_asks(adapter: AdapterDefinition) -> None:
    images = tuple(np.full((4, 4, 3), shade, dtype=np.uint8) for shade in range(3))
    request = build_request(adapter, ModelInput(images, (SOURCE,) * 3, (SOURCE,)))
    assert request.adapter == adapter.name
    assert request.images == images
    content = request.messages[-1]["content"]
    assert [part["type"] for part in content] == ["image"] * 3 + ["text"]
    assert content[-1]["text"] == (FOLDER / adapter.name / "prompt.md").read_text(encoding="utf-8").strip()
    with pytest.raises(ValueError, match="no image"):
        build_request(adapter, ModelInput((), (), ()))


@every_adapter
def test_the_answer_form_fits_the_findings(adapter: AdapterDefinition) -> None:
    form = adapter.answer_form
    if isinstance(form, JsonAnswer):
        assert list(form.json_schema["properties"]) == list(adapter.findings.model_fields)
        assert form.json_schema["required"] == list(adapter.findings.model_fields)
        assert form.json_schema["additionalProperties"] is False
        longest = json.dumps(longest_answer(form.json_schema), separators=(",", ":"))
        assert len(longest) < form.max_new_tokens, "even at one token a character the longest answer must fit"
    if isinstance(form, LabelAnswer):
        for label in form.labels:
            scores = {other: float(other == label) for other in form.labels}
            answer = adapter.parse(Generation(label, (), scores, "labels", 1, 0.1))
            assert isinstance(answer, BaseModel)


def longest_answer(schema: Any) -> Any:
    if "enum" in schema:
        return max(schema["enum"], key=len)
    if schema["type"] == "string":
        return "x" * schema["maxLength"]
    if schema["type"] == "array":
        return [longest_answer(schema["items"])] * schema["maxItems"]
    return {name: longest_answer(part) for name, part in schema["properties"].items()}


def test_the_registry_finds_every_folder_and_needs_no_torch() -> None:
    folders = {path.parent.name for path in FOLDER.glob("*/adapter.py")}
    assert set(adapters()) == folders
    check = "import sys, models.adapters as a; a.adapters(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_an_invalid_adapter_is_refused_with_every_fault() -> None:
    good = adapters()["dsa_patency"]
    bad = replace(
        good,
        name="DSA",
        prompt=Prompt(" "),
        priority=12,
        acceptance=replace(good.acceptance, body_regions=frozenset({"tummy"}), sop_class_uids=frozenset()),
        answer_form=LabelAnswer(("patent",)),
        policy=replace(good.policy, release_at={"patent": 95}, rationale=""),
    )
    with pytest.raises(AdapterError) as refusal:
        validate_adapter(bad)
    for words in ("name must be", "prompt is empty", "priority 12", "body regions", "no SOP class", "two different"):
        assert words in str(refusal.value)
    assert "thresholds" in str(refusal.value)
    assert "rationale" in str(refusal.value)


def test_a_site_may_use_its_own_prompt_but_not_an_empty_one() -> None:
    good = adapters()["dsa_patency"]
    assert with_prompt(good, "Open or shut?\n").prompt.user == "Open or shut?"
    assert good.prompt.user.startswith("You are an interventional radiologist.")
    with pytest.raises(AdapterError, match="prompt is empty"):
        with_prompt(good, "  ")


# The two -------------------------------------------------------------------------------------------------------------


def findings_of(report: Report) -> dict[str, dict[str, str]]:
    return {
        finding.tracking_id: {evaluation.name.meaning: evaluation.value.meaning for evaluation in finding.evaluations}
        for finding in report.findings
    }


def test_the_trauma_prompt_is_the_authors_to_the_letter() -> None:
    assert adapters()["abdominal_trauma"].prompt.user == (
        "You are a trauma radiologist. Analyze this abdominal CT angiogram slice for hemorrhage and solid organ "
        "injury. Respond in JSON with keys: injury_pattern, organs_involved, bleeding_description, severity_estimate, "
        "differential_diagnosis."
    )


def test_the_dsa_prompt_names_the_labels_that_are_scored() -> None:
    adapter = adapters()["dsa_patency"]
    assert isinstance(adapter.answer_form, LabelAnswer)
    assert set(adapter.answer_form.labels) == {"patent", "blocked"}
    assert all(label in adapter.prompt.user for label in adapter.answer_form.labels)


@pytest.mark.parametrize(("patency", "presence"), [("patent", "Absent"), ("blocked", "Present")])
def test_patency_is_reported_as_occlusion_present_or_absent(patency: str, presence: str) -> None:
    adapter = adapters()["dsa_patency"]
    report = adapter.report(adapter.findings.model_validate({"patency": patency}), context())
    (finding,) = report.findings
    assert finding.finding_type == codes.OCCLUSION
    assert findings_of(report) == {"vessel-occlusion": {"Presence of property": presence}}
    assert [(m.name.value, m.value, m.unit.value) for m in finding.measurements] == [("122157", 0.93, "1")]
    assert patency in report.headline.lower()
    assert "frame 5 of the run" in report.narratives[0].text
    timi = {codes.TIMI_0, codes.TIMI_1, codes.TIMI_2, codes.TIMI_3}
    assert not timi & {evaluation.value for evaluation in finding.evaluations}


def test_trauma_is_reported_as_a_whole_and_by_organ() -> None:
    adapter = adapters()["abdominal_trauma"]
    answer = {
        "injury_pattern": "liver and bowel injury",
        "organs_involved": ["liver", "bowel"],
        "bleeding_description": "active bleeding",
        "severity_estimate": "severe",
        "differential_diagnosis": ["laceration", "contusion"],
    }
    report = adapter.report(adapter.findings.model_validate(answer), context())
    assert findings_of(report) == {
        "abdominal-trauma": {"Presence of property": "Present", "Severity": "Severe"},
        "abdominal-trauma-liver": {"Presence of property": "Present"},
        "abdominal-trauma-bowel": {"Presence of property": "Present"},
    }
    assert report.findings[1].sites == (codes.LIVER,)
    texts = {narrative.heading.meaning: narrative.text for narrative in report.narratives}
    assert texts["Injury description"] == "liver and bowel injury"
    assert texts["Bleeding description"] == "active bleeding"
    assert texts["Differential Diagnosis/Impression"] == "laceration; contusion"
    assert report.headline == "Severe injury of liver, bowel, probability 0.93 (uncalibrated)"


def test_an_uninjured_abdomen_is_reported_as_absent_trauma() -> None:
    adapter = adapters()["abdominal_trauma"]
    answer = {
        "injury_pattern": "no solid organ injury",
        "organs_involved": [],
        "bleeding_description": "no bleeding seen",
        "severity_estimate": "none",
        "differential_diagnosis": [],
    }
    report = adapter.report(adapter.findings.model_validate(answer), context())
    assert findings_of(report) == {"abdominal-trauma": {"Presence of property": "Absent", "Severity": "None"}}
    assert report.headline.startswith("No injury of liver, spleen, kidney or bowel")
