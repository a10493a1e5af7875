"""Figures against values counted by hand or computed by well-kept libraries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score
from sklearn.preprocessing import MultiLabelBinarizer

from models.evaluation.amounts import measure_counts, measure_values, near_value
from models.evaluation.boxes import iou, matches, measure_objects
from models.evaluation.closed import measure_patency, measure_trauma
from models.evaluation.figures import Figure, Measured, mean_of, proportion
from models.evaluation.labels import measure_classes, measure_labels
from models.evaluation.reliability import area_under_risk_coverage, calibration_error, reliability
from models.evaluation.texts import measure_captions, measure_instructions, rouge_l


def figure(measured: Measured, name: str) -> Figure:
    (found,) = [one for one in measured.figures if one.name == name]
    return found


def value(measured: Measured, name: str) -> float:
    found = figure(measured, name).value
    assert found is not None
    return found


# Intervals


def test_a_share_has_its_wilson_interval() -> None:
    share = proportion("x", 9, 10)
    expected = binomtest(9, 10).proportion_ci(method="wilson")
    assert (share.value, share.low, share.high) == (0.9, expected.low, expected.high)
    assert proportion("x", 0, 0) == Figure("x", None, remark="no such case")


def test_a_bootstrap_is_the_same_in_every_run_and_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400).tolist()
    first = mean_of("x", values)
    assert first == mean_of("x", values)
    assert first.low is not None
    assert first.high is not None
    assert first.high - first.low == pytest.approx(2 * 1.96 * np.std(values) / 20, rel=0.15)


# DSA


def patency(*states: str | None) -> list[Any]:
    return [None if state is None else {"patency": state} for state in states]


def test_sensitivity_is_recall_of_blocked_and_an_unread_answer_is_wrong() -> None:
    truths = patency("blocked", "blocked", "blocked", "patent", "patent")
    measured = measure_patency(truths, patency("blocked", "patent", None, "patent", "patent"))
    assert value(measured, "sensitivity") == pytest.approx(1 / 3)
    assert value(measured, "specificity") == 1
    assert value(measured, "accuracy") == pytest.approx(3 / 5)
    assert value(measured, "balanced accuracy") == pytest.approx(2 / 3)
    assert value(measured, "format adherence") == pytest.approx(4 / 5)


def test_high_accuracy_with_no_sensitivity_is_warned_of() -> None:
    truths = patency(*["patent"] * 19, "blocked")
    (warning,) = measure_patency(truths, patency(*["patent"] * 20)).warnings
    assert "accuracy is 0.95 but sensitivity only 0.00" in warning
    assert not measure_patency(truths, truths).warnings
    (only,) = measure_patency(patency("patent"), patency("patent")).warnings
    assert "no case is blocked" in only


# Trauma


def test_trauma_counts_four_organs_a_case() -> None:
    truths = [
        {"organs_involved": ["liver", "spleen"], "severity_estimate": "severe"},
        {"organs_involved": [], "severity_estimate": "none"},
        {"organs_involved": ["bowel"], "severity_estimate": "mild"},
    ]
    answers = [
        {"organs_involved": ["liver", "kidney"], "severity_estimate": "severe"},
        {"organs_involved": [], "severity_estimate": "none"},
        None,
    ]
    measured = measure_trauma(truths, answers)
    assert value(measured, "organ identification accuracy") == pytest.approx((2 + 4 + 0) / 12)
    assert value(measured, "all organs right") == pytest.approx(1 / 3)
    assert value(measured, "organ F1") == pytest.approx(2 * 1 / (2 * 1 + 2 + 1))
    assert value(measured, "severity match") == pytest.approx(2 / 3)
    assert value(measured, "format adherence") == pytest.approx(2 / 3)
    assert value(measured, "recall of bowel") == 0
    assert value(measured, "recall of liver") == 1


# Tasks of FLARE, labels


def test_classification_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    true = rng.choice(["a", "b", "c"], 80, p=[0.6, 0.3, 0.1])
    said = np.where(rng.uniform(size=80) < 0.6, true, rng.choice(["a", "b", "c", "unheard of"], 80))
    measured = measure_classes([{"label": x} for x in true], [{"label": f" {x.upper()} "} for x in said])
    known = [x if x in "abc" else "zzz" for x in said]
    labels = ["a", "b", "c"]
    recall = recall_score(true, known, labels=labels, average="macro")
    assert value(measured, "balanced accuracy") == pytest.approx(recall)
    assert value(measured, "weighted F1") == pytest.approx(f1_score(true, known, labels=labels, average="weighted"))
    right = np.where(np.isin(said, labels), said, "a")
    same = measure_classes([{"label": x} for x in true], [{"label": x} for x in right])
    assert value(same, "balanced accuracy") == pytest.approx(balanced_accuracy_score(true, right))
    assert value(same, "accuracy") == pytest.approx((true == right).mean())


def test_an_unread_class_is_wrong() -> None:
    measured = measure_classes([{"label": "a"}, {"label": "b"}], [{"label": "a"}, None])
    assert value(measured, "balanced accuracy") == 0.5
    assert value(measured, "accuracy") == 0.5


def test_multi_label_is_computed_case_by_case_as_scikit_learn_does() -> None:
    true = [["a", "b"], ["b"], ["a", "c"], ["c"]]
    said = [["a"], ["b", "c"], ["a", "c"], ["a"]]
    binarizer = MultiLabelBinarizer().fit([["a", "b", "c"]])
    tables = binarizer.transform(true), binarizer.transform(said)
    measured = measure_labels([{"labels": x} for x in true], [{"labels": x} for x in said])
    assert value(measured, "sample-wise F1") == pytest.approx(f1_score(*tables, average="samples"))
    assert value(measured, "sample-wise precision") == pytest.approx(precision_score(*tables, average="samples"))
    assert value(measured, "sample-wise recall") == pytest.approx(recall_score(*tables, average="samples"))
    assert value(measured, "exact match") == 0.25
    nothing = measure_labels([{"labels": []}, {"labels": []}], [{"labels": []}, None])
    assert value(nothing, "sample-wise F1") == 0.5


# Tasks of FLARE, boxes


def objects(*boxes: tuple[list[float], str]) -> dict[str, Any]:
    return {"objects": [{"box_2d": box, "label": label} for box, label in boxes]}


def test_overlap_is_intersection_over_union() -> None:
    assert iou([0, 0, 10, 10], [0, 5, 10, 15]) == pytest.approx(50 / 150)
    assert iou([0, 0, 10, 10], [10, 10, 20, 20]) == 0
    assert iou([1, 2, 3, 4], [1, 2, 3, 4]) == 1


def test_boxes_are_matched_so_that_most_find_a_partner() -> None:
    # The first found box overlaps both true ones enough, the second only the first: greedily one would be lost.
    true = [[0, 0, 100, 100], [0, 30, 100, 130]]
    said = [[0, 12, 100, 112], [0, -20, 100, 80]]
    assert matches(true, said, 0.5) == 2
    assert matches(true, [said[0], said[0]], 0.5) == 2
    assert matches(true[:1], [true[0], true[0]], 0.5) == 1


def test_detection_counts_boxes_of_the_right_label_only() -> None:
    box, shifted = [0.0, 0.0, 100.0, 100.0], [0.0, 40.0, 100.0, 140.0]  # IoU 60/140 = 0.43
    truths = [objects((box, "Cell"), (box, "nucleus")), objects((box, "cell")), objects((box, "cell"))]
    answers = [objects((box, "cell"), (box, "cell")), objects((shifted, "cell")), None]
    measured = measure_objects(truths, answers)
    # > 0.5: 1 hit, 3 missed (nucleus, shifted, unread), 2 invented (the second box, the shifted one).
    assert value(measured, "F1 at IoU > 0.5") == pytest.approx(2 / (2 + 3 + 2))
    assert value(measured, "precision at IoU > 0.5") == pytest.approx(1 / 3)
    assert value(measured, "recall at IoU > 0.5") == pytest.approx(1 / 4)
    # > 0.3: the shifted box counts.
    assert value(measured, "F1 at IoU > 0.3") == pytest.approx(4 / (4 + 2 + 1))
    at_03, at_05 = 4 / 7, 2 / 7
    assert value(measured, "F1 averaged over IoU 0.3 to 0.7") == pytest.approx((2 * at_03 + 3 * at_05) / 5)
    assert value(measured, 'F1 of "nucleus" at IoU > 0.5') == 0
    assert value(measured, 'F1 of "cell" at IoU > 0.3') == pytest.approx(4 / (4 + 1 + 1))


def test_nothing_to_find_and_nothing_found_has_no_f1() -> None:
    assert figure(measure_objects([objects()], [objects()]), "F1 at IoU > 0.5").value is None


# Tasks of FLARE, amounts


def test_errors_are_of_the_answers_that_could_be_read() -> None:
    measured = measure_counts([{"count": c} for c in (3, 5, 10, 7)], [{"count": 3}, {"count": 8}, {"count": 6}, None])
    assert value(measured, "mean absolute error") == pytest.approx(7 / 3)
    assert value(measured, "root mean squared error") == pytest.approx(math.sqrt(25 / 3))
    assert "without 1 answers that could not be read" in figure(measured, "mean absolute error").remark
    assert value(measured, "exact counts") == 0.25
    values = measure_values([{"value": 10.0}, {"value": -2.0}], [{"value": 10.9}, {"value": -2.5}])
    assert value(values, "within 10 % of the truth") == 0.5
    assert near_value({"value": 0.0}, {"value": 0.0}) == 1
    assert figure(measure_counts([{"count": 1}], [None]), "mean absolute error").value is None


# Text


def test_captions_agree_with_sacrebleu_and_an_unread_one_is_empty() -> None:
    true = ["There is a small left pleural effusion.", "No pneumothorax is seen.", "The heart is enlarged."]
    said = ["There is a small right pleural effusion.", "No pneumothorax is seen.", ""]
    answers = [{"caption": said[0]}, {"caption": said[1]}, None]
    measured = measure_captions([{"caption": text} for text in true], answers)
    for kind, metric in (("BLEU", BLEU()), ("chrF", CHRF())):
        found = figure(measured, kind)
        assert found.value == pytest.approx(metric.corpus_score(said, [true]).score / 100)
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.high
    assert value(measured, "entity F1") == 1
    assert any("1 of 3 pairs of texts state nothing" in warning for warning in measured.warnings)


def test_rouge_l_is_the_longest_common_subsequence_of_words() -> None:
    # Lin 2004, section 3: LCS "police the gunman" of four words each.
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(0.75)
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(0.5)
    assert rouge_l("a", "") == 0


def test_instructions_say_that_token_accuracy_cannot_be_had() -> None:
    truths = [{"final_answer": "Enlarge the incision."}] * 2
    measured = measure_instructions(truths, [{"final_answer": "Enlarge the incision.", "thinking_process": "x"}, None])
    assert value(measured, "ROUGE-L") == 0.5
    assert "token accuracy cannot be computed" in measured.warnings[0]


# Confidence


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    sure, right = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 1.0]), np.array([1, 1, 1, 0, 0, 1.0])
    # Last bin: mean 0.96 of five, four right; the bin from 0.5: 0.55, none right.
    assert calibration_error(sure, right) == pytest.approx((5 * abs(4.8 / 5 - 4 / 5) + 0.55) / 6)


def test_risk_rises_with_what_is_less_sure() -> None:
    assert area_under_risk_coverage(np.array([0.9, 0.8, 0.7]), np.array([1, 1, 0])) == pytest.approx(1 / 9)
    assert area_under_risk_coverage(np.array([0.7, 0.8, 0.9]), np.array([1, 1, 0])) == pytest.approx(
        (1 + 0.5 + 1 / 3) / 3
    )


def test_answers_without_probability_come_last_and_are_not_in_the_diagram() -> None:
    curve = reliability("raw", [0.9, None, 0.95, math.nan], [1, 0, 1, 0], binary=True)
    assert sum(part.cases for part in curve.bins) == 2
    assert curve.risk == pytest.approx((0, 0, 1 / 3, 1 / 2))
    assert [one.name for one in curve.figures] == ["expected calibration error", "area under risk-coverage"]
    assert reliability("raw", [0.9], [0.4], binary=False).bins == ()
