"""Saved answers, good and broken, and what must come of each: findings or an honest failure, release or review."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import models.adapters
from models.adapters import adapters
from models.confidence import Outcome, decide
from models.generation import Generation
from models.parsing import ParseFailure
from models.question import Question

FOLDER = Path(models.adapters.__file__).parent
GOLDEN = sorted(FOLDER.glob("*/golden/*.json"))


def golden_id(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.stem}"


@pytest.mark.parametrize("path", GOLDEN, ids=golden_id)
def test_a_saved_answer_comes_to_what_it_must(path: Path) -> None:
    saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    adapter = adapters()[path.parent.parent.name]
    if "question" in saved:
        adapter = adapter.asked(Question.from_json(saved["question"]))
    generation, expected = Generation.from_json(saved["generation"]), saved["expected"]

    findings = adapter.parse(generation)
    decision = decide(adapter, findings, generation)

    if "failure_contains" in expected:
        assert isinstance(findings, ParseFailure)
        assert expected["failure_contains"] in findings.reason
        assert findings.raw_text == generation.text, "the raw text goes to the reviewer as it was"
        assert decision.confidence is None
    else:
        assert not isinstance(findings, ParseFailure), findings
        assert findings.model_dump(mode="json") == expected["findings"]
    assert decision.outcome == Outcome(expected["outcome"]), decision.reason
    assert expected["reason_contains"] in decision.reason
    assert "_" not in decision.reason, "reviewers read it, who know no names of fields"


@pytest.mark.parametrize("name", sorted(adapters()))
def test_every_adapter_has_seen_the_usual_troubles(name: str) -> None:
    """An adapter of several kinds of question has seen them with each: TASK-CASE.json."""
    stems = {path.stem for path in GOLDEN if path.parent.parent.name == name}
    tasks = [f"{task}-" for task in adapters()[name].tasks] if any("-" in stem for stem in stems) else [""]
    for task in tasks:
        cases = {stem.removeprefix(task) for stem in stems if stem.startswith(task)}
        assert {"truncated", "chatty", "wrong_keys", "other_language", "thinking_marked", "thinking_leaked"} <= cases
        assert any(case.startswith("good") for case in cases)
