"""docs/state-machine.md shows the machine that runs: tables and diagrams against worker/states.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from worker.db import queries
from worker.states import (
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    SERIES_TRANSITIONS,
    DeliveryState,
    InstanceState,
    JobState,
    SeriesState,
    StudyState,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "state-machine.md"


def section(title: str) -> str:
    """Return the text below a heading, up to the next one of its level."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title}"
    return found[1]


@pytest.mark.parametrize(
    ("title", "transitions"),
    [("Series", SERIES_TRANSITIONS), ("Job", JOB_TRANSITIONS), ("Delivery", DELIVERY_TRANSITIONS)],
)
def test_table_and_diagram_show_the_allowed_transitions(title: str, transitions: dict[Any, frozenset[Any]]) -> None:
    allowed = [(state.value, other.value) for state, others in transitions.items() for other in others]
    in_table = re.findall(r"^\| `(\w+)` \| `(\w+)` \| \S", section(title), re.MULTILINE)
    in_diagram = re.findall(r"^    (\w+) --> (\w+)$", section(title), re.MULTILINE)
    assert sorted(in_table) == sorted(allowed)
    assert sorted(in_diagram) == sorted(allowed)
    ends = {state.value for state, others in transitions.items() if not others}
    assert set(re.findall(r"^    (\w+) --> \[\*\]$", section(title), re.MULTILINE)) == ends


def test_every_state_has_its_row_among_the_transitions() -> None:
    assert set(SERIES_TRANSITIONS) == set(SeriesState)
    assert set(JOB_TRANSITIONS) == set(JobState)
    assert set(DELIVERY_TRANSITIONS) == set(DeliveryState)
    for state in InstanceState:
        assert f"`{state.value}`" in section("Instance")


def test_the_states_of_a_study_are_derived_as_written() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section("Study"), re.MULTILINE))
    assert set(rows) == {state.value for state in StudyState}

    def named(row: str) -> set[str]:
        return set(re.findall(r"`(\w+)`", rows[row]))

    assert named("receiving") == {state.value for state in queries.WAITING_SERIES}
    assert named("processing") == {state.value for state in queries.WORKING_JOBS}
    assert named("delivering") == {state.value for state in queries.UNDERWAY}
