"""Getting the answer out of what a model said: lenient about the wrapping, strict about the content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.generation import Generation
from models.parsing import ParseFailure, answer_text, answered_label, answered_object, field_spans

LABELS = ("patent", "blocked")
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def said(text: str, scores: dict[str, float] | None = None) -> Generation:
    return Generation(text, (), scores, "stop", 1, 0.0)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("patent", "patent"),
        ("BLOCKED.", "blocked"),
        ("**Blocked**<end_of_turn>", "blocked"),
        ("Final answer: patent", "patent"),
        ("The vessel is blocked. No flow is seen beyond it.", "blocked"),
    ],
)
def test_one_label_is_an_answer(text: str, label: str) -> None:
    assert answered_label(said(text), LABELS) == label


@pytest.mark.parametrize(
    "text",
    [
        "not patent",
        "I cannot say whether the vessel is blocked",
        "it isn't blocked",
        "blocked? no",
        "No evidence at all that this long vessel might be blocked",
        "patently",
        "unblocked",
        "occluded",
        "patent, blocked",
        "",
        "<eos>",
    ],
)
def test_anything_else_is_a_failure_and_not_a_guess(text: str) -> None:
    answer = answered_label(said(text), LABELS)
    assert isinstance(answer, ParseFailure)
    assert answer.raw_text == text


def test_scores_decide_over_text() -> None:
    assert answered_label(said("patent", {"patent": 0.3, "blocked": 0.7}), LABELS) == "blocked"


def test_thinking_is_cut_away_and_unfinished_thinking_is_no_answer() -> None:
    assert answer_text(said("<unused94>thought\nhm<unused95> patent <end_of_turn>")) == "patent"
    assert isinstance(answer_text(said("<unused94>thought\nhm, patent")), ParseFailure)


@given(st.dictionaries(st.text(max_size=8), JSON_VALUES, min_size=1, max_size=4), st.sampled_from([None, 2]))
def test_an_object_is_found_in_fences_and_chatter(found: dict[str, Any], indent: int | None) -> None:
    # Braces inside strings, nested objects and any layout must not confuse it.
    text = "Sure: here it is.\n```json\n" + json.dumps(found, indent=indent) + "\n```\nAnything else?"
    if "<unused9" not in text and "<e" not in text:
        assert answered_object(said(text), found.keys()) == found


@given(st.text())
def test_no_text_makes_the_parsers_fall_over(text: str) -> None:
    for answer in (answered_object(said(text), ["a"]), answered_label(said(text), LABELS)):
        assert isinstance(answer, (dict, str, ParseFailure))
    field_spans(text)


def test_an_object_said_twice_is_one_answer_but_two_that_differ_are_none() -> None:
    assert answered_object(said('{"a":1} {"a":1}'), ["a"]) == {"a": 1}
    assert isinstance(answered_object(said('{"a":1} {"a":2}'), ["a"]), ParseFailure)


def test_deep_nesting_is_a_failure_and_no_crash() -> None:
    assert isinstance(answered_object(said('{"a":' * 5000), ["a"]), ParseFailure)


@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4), st.sampled_from([None, 1]))
def test_spans_point_at_the_values(found: dict[str, Any], indent: int | None) -> None:
    text = "chatter " + json.dumps(found, indent=indent)
    spans = field_spans(text)
    assert set(spans) == set(found)
    for key, (start, end) in spans.items():
        quoted = f'"{text[start:end]}"' if isinstance(found[key], str) else text[start:end]
        assert json.loads(quoted) == found[key]
