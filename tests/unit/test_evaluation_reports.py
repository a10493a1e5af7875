"""GREEN as this project reads it: each component answers to what it is about, and to nothing else."""

from __future__ import annotations

import math

import pytest

from models.evaluation.green import WEIGHTS, entity_counts, green
from models.evaluation.statements import lexicon, read_report
from models.evaluation.texts import measure_reports

REFERENCE = """Comparison: none.
Findings: There is a moderate left pleural effusion, increased. A 12 mm nodule in the right upper lobe.
No pneumothorax. Possible pneumonia.
Impression: Moderate left pleural effusion."""


def stances(text: str) -> dict[str, str]:
    return {statement.entity: statement.status for statement in read_report(text).statements}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No pleural effusion or pneumothorax.", {"pleural effusion": "denied", "pneumothorax": "denied"}),
        (
            "The chest X-ray shows no focal consolidation, pleural effusion, or pneumothorax.",
            {"consolidation": "denied", "pleural effusion": "denied", "pneumothorax": "denied"},
        ),
        ("No effusion, but there is a rib fracture.", {"pleural effusion": "denied", "fracture": "present"}),
        ("No effusion, mild cardiomegaly.", {"pleural effusion": "denied", "cardiomegaly": "present"}),
        ("Pneumonia cannot be excluded.", {"pneumonia": "doubtful"}),
        ("Pneumothorax is not seen.", {"pneumothorax": "denied"}),
        ("No change in the pleural effusion.", {"pleural effusion": "present"}),
        ("The effusion has resolved.", {"pleural effusion": "denied"}),
        ("Nothing that the list knows", {}),
        ("", {}),
    ],
)
def test_denial_and_doubt_reach_as_far_as_their_clause(text: str, expected: dict[str, str]) -> None:
    assert stances(text) == expected


def test_a_report_is_read_with_severity_side_time_size_and_sections() -> None:
    read = read_report(REFERENCE)
    effusion = next(statement for statement in read.statements if statement.entity == "pleural effusion")
    assert (effusion.severity, effusion.places) == ("moderate", frozenset({"left"}))
    assert ("pleural effusion", "worse") in read.times
    assert read.sizes_mm == (12.0,)
    assert read.sections == {"comparison", "findings", "impression"}
    assert read_report("A mass of 3.5 x 2 cm.").sizes_mm == (35.0, 20.0)
    (small_bowel,) = read_report("Small bowel obstruction.").statements
    assert small_bowel.severity == ""


def test_weights_are_the_cards() -> None:
    assert list(WEIGHTS.values()) == [0.30, 0.20, 0.15, 0.10, 0.10, 0.10, 0.05]
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_the_same_report_is_perfect_and_another_order_too() -> None:
    assert green(REFERENCE, REFERENCE).score == pytest.approx(1)
    assert set(green(REFERENCE, REFERENCE).components) == set(WEIGHTS)
    assert green("No effusion. Rib fracture.", "Rib fracture. No effusion.").score == pytest.approx(1)


@pytest.mark.parametrize(
    ("old", "new", "falls"),
    [
        ("moderate left pleural effusion,", "mild left pleural effusion,", {"entities with severity"}),
        ("left", "right", {"location with laterality"}),
        ("No pneumothorax. Possible", "No pneumothorax. There is", {"negation and uncertainty"}),
        (", increased", ", improved", {"temporal"}),
        ("12 mm", "30 mm", {"size"}),
        ("Comparison: none.\n", "", {"structure"}),
        (
            "No pneumothorax",
            "Pneumothorax",
            {"entities with severity", "negation and uncertainty", "clinical significance"},
        ),
    ],
)
def test_each_component_answers_to_its_own_matter(old: str, new: str, falls: set[str]) -> None:
    changed = REFERENCE.replace(old, new, 1) if old != "left" else REFERENCE.replace(old, new)
    assert changed != REFERENCE
    compared = green(REFERENCE, changed)
    assert {name for name, score in compared.components.items() if score < 1} == falls
    assert compared.score < 1


def test_wrong_severity_is_half_an_entity() -> None:
    half = green("Mild cardiomegaly.", "Severe cardiomegaly.").components
    assert half["entities with severity"] == pytest.approx(0.5)
    assert half["clinical significance"] == 1


def test_a_critical_finding_weighs_more_than_a_minor_one() -> None:
    true = "Pneumothorax. Scoliosis."
    without_critical = green(true, "Scoliosis.").components["clinical significance"]
    without_minor = green(true, "Pneumothorax.").components["clinical significance"]
    assert without_critical == pytest.approx(2 * 1 / (2 * 1 + 3))
    assert without_minor == pytest.approx(2 * 3 / (2 * 3 + 1))


def test_components_of_which_nobody_speaks_share_their_weight() -> None:
    compared = green("No pneumothorax.", "No pneumothorax.")
    assert compared.components == {"negation and uncertainty": 1.0}
    assert compared.score == 1
    assert math.isnan(green("All is well.", "Fine.").score)


def test_no_answer_scores_nothing() -> None:
    measured = measure_reports([{"report": REFERENCE}, {"report": REFERENCE}], [{"report": REFERENCE}, None])
    values = {figure.name: figure.value for figure in measured.figures}
    assert values["GREEN"] == pytest.approx(0.5)
    assert values["clinical efficacy (entity F1)"] == pytest.approx(2 / 3)
    assert values["format adherence"] == 0.5
    assert entity_counts(REFERENCE, "") == (0, 4, 0)


def test_the_word_list_holds_together() -> None:
    words = [word for entry in lexicon()["entities"].values() for word in entry["words"]]
    assert len(words) == len(set(words))
    assert {entry["significance"] for entry in lexicon()["entities"].values()} == {"critical", "significant", "minor"}
