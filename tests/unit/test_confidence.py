"""Release or review: every reason that applies is said, and nothing unsure leaves by itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapters import adapters
from models.confidence import (
    Confidence,
    Decision,
    Outcome,
    decide,
    in_audit_sample,
    intended_use_doubts,
    likelihood_of_spans,
    text_confidence,
)
from models.generation import Generation, TokenLogprob
from models.parsing import ParseFailure

DSA = adapters()["dsa_patency"]


def scored(patent: float, finish_reason: str = "labels") -> Generation:
    label = "patent" if patent >= 0.5 else "blocked"
    return Generation(label, (), {"patent": patent, "blocked": 1 - patent}, finish_reason, 900, 0.1)


def decided(generation: Generation, **doubts: object) -> Decision:
    return decide(DSA, DSA.parse(generation), generation, **doubts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("patent", "outcome"),
    [
        (0.99, Outcome.RELEASE),
        (0.95, Outcome.RELEASE),
        (0.9499, Outcome.REVIEW),
        (0.85, Outcome.REVIEW),
        (0.5, Outcome.REVIEW),
        (0.21, Outcome.REVIEW),
        (0.2, Outcome.RELEASE),
        (0.01, Outcome.RELEASE),
    ],
)
def test_a_patent_vessel_must_be_surer_than_a_blocked_one(patent: float, outcome: Outcome) -> None:
    assert decided(scored(patent)).outcome is outcome


def test_the_reason_gives_probability_and_threshold_and_never_contradicts_itself() -> None:
    assert decided(scored(0.9499)).reason == 'low confidence: probability 0.94 of "patent" is below 0.95'
    assert decided(scored(0.97)).reason == 'probability 0.97 of "patent" is at or above 0.95'
    assert decided(scored(0.9999)).reason == 'probability 0.99 of "patent" is at or above 0.95'


def test_every_reason_that_applies_is_said() -> None:
    decision = decided(
        scored(0.6, "length"),
        incomplete=["gap of 10.0 mm after slice 14"],
        doubts=["outside intended use: the patient's age is unknown"],
        audit_fraction=1.0,
        audit_key="job-1",
    )
    assert decision.outcome is Outcome.REVIEW
    for words in ("low confidence", "answer cut off", "outside intended use", "gap of 10.0 mm", "audit sample"):
        assert words in decision.reason


@pytest.mark.parametrize(
    "doubt",
    [
        {"incomplete": ["a slice is missing"]},
        {"doubts": ["outside intended use: a child"]},
        {"audit_fraction": 1.0, "audit_key": "x"},
    ],
)
def test_one_doubt_is_enough_to_hold_the_surest_answer(doubt: dict[str, object]) -> None:
    assert decided(scored(0.999), **doubt).outcome is Outcome.REVIEW


def test_what_did_not_parse_is_held_with_its_reason() -> None:
    generation = Generation("hm", (), None, "stop", 1, 0.0)
    decision = decide(DSA, ParseFailure("the answer names none", "hm"), generation)
    assert (decision.outcome, decision.confidence) == (Outcome.REVIEW, None)
    assert decision.reason == "answer did not parse: the answer names none"


def test_scores_that_are_no_numbers_are_held() -> None:
    assert decided(Generation("patent", (), {"patent": math.nan, "blocked": 0.1}, "labels", 1, 0.0)).outcome == "review"


def test_age_outside_the_intended_use_is_said_in_words() -> None:
    assert intended_use_doubts(DSA.acceptance, 54) == ()
    assert "12 years old" in intended_use_doubts(DSA.acceptance, 12.3)[0]
    assert "unknown" in intended_use_doubts(DSA.acceptance, None)[0]


def test_the_audit_draw_is_the_same_every_time_and_as_large_as_asked() -> None:
    keys = [f"job-{number}" for number in range(2000)]
    drawn = [key for key in keys if in_audit_sample(key, 0.1)]
    assert drawn == [key for key in keys if in_audit_sample(key, 0.1)]
    assert 140 < len(drawn) < 260
    assert not any(in_audit_sample(key, 0.0) for key in keys)
    assert set(drawn) <= {key for key in keys if in_audit_sample(key, 0.2)}, "a larger sample keeps the smaller one"


@given(st.lists(st.tuples(st.text(min_size=1, max_size=4), st.floats(-9, 0)), min_size=1, max_size=12), st.data())
def test_a_likelihood_is_the_product_over_the_tokens_touched(
    pieces: list[tuple[str, float]], data: st.DataObject
) -> None:
    tokens = [TokenLogprob(text, logprob) for text, logprob in pieces]
    first = data.draw(st.integers(0, len(tokens) - 1))
    last = data.draw(st.integers(first, len(tokens) - 1))
    start = sum(len(token.token) for token in tokens[:first])
    end = start + sum(len(token.token) for token in tokens[first : last + 1])
    expected = math.exp(sum(token.logprob for token in tokens[first : last + 1]))
    assert likelihood_of_spans(tokens, [(start, end)]) == pytest.approx(expected)


def test_no_token_touched_is_no_likelihood() -> None:
    assert likelihood_of_spans([TokenLogprob("a", -0.1)], [(5, 9)]) is None
    assert likelihood_of_spans([], [(0, 1)]) is None


def test_a_token_likelihood_that_is_no_number_is_no_certainty() -> None:
    assert likelihood_of_spans([TokenLogprob("patent", math.nan)], [(0, 6)]) is None
    assert likelihood_of_spans([TokenLogprob("patent", -math.inf)], [(0, 6)]) == 0.0
    assert likelihood_of_spans([TokenLogprob("patent", 800.0)], [(0, 6)]) == 1.0


def test_decisions_and_confidences_survive_storage() -> None:
    decision = Decision(Outcome.REVIEW, "why", Confidence(0.5, False, "label likelihood"))
    assert Decision.from_json(decision.to_json()) == decision
    assert Decision.from_json(Decision(Outcome.REVIEW, "why", None).to_json()).confidence is None


# Free text -----------------------------------------------------------------------------------------------------------


def text(*pieces: tuple[str, float], samples: tuple[str, ...] = ()) -> Generation:
    tokens = tuple(TokenLogprob(piece, logprob) for piece, logprob in pieces)
    return Generation("".join(piece for piece, _ in pieces), tokens, None, "stop", 1, 0.0, samples)


def test_a_long_text_is_not_less_sure_for_its_length() -> None:
    short, long = text(("no ", -0.5), ("effusion", -0.1)), text(*[("no ", -0.5), ("effusion ", -0.1)] * 40)
    assert text_confidence(short).probability == pytest.approx(math.exp(-0.3))
    assert text_confidence(long).probability == pytest.approx(text_confidence(short).probability)
    assert str(text_confidence(short)) == "0.74 (uncalibrated length-normalised likelihood of the text)"


def test_thinking_does_not_count_and_a_span_may_be_asked_for() -> None:
    thought = text(("<unused94>", -2.0), ("hm", -3.0), ("<unused95>", -4.0), ("no ", -0.5), ("effusion", -0.1))
    assert text_confidence(thought).probability == pytest.approx(math.exp(-0.3))
    start = thought.text.index("effusion")
    assert text_confidence(thought, (start, len(thought.text))).probability == pytest.approx(math.exp(-0.1))


def test_repeated_answers_that_differ_lower_the_confidence_and_those_that_agree_do_not_raise_it() -> None:
    pieces = (("no ", -0.1), ("pleural ", -0.1), ("effusion", -0.1))
    alone = text_confidence(text(*pieces)).probability
    agreed = text_confidence(
        text(*pieces, samples=("No pleural effusion.", "<unused94>hm<unused95>no pleural effusion"))
    )
    differing = text_confidence(text(*pieces, samples=("no pleural effusion", "large pneumothorax")))
    silent = text_confidence(text(*pieces, samples=("", "<unused94>hm")))
    assert agreed.probability == pytest.approx(alone)
    assert differing.probability == pytest.approx(0.5)
    assert silent.probability == 0.0
    assert "agreement with 2 repeated answers" in differing.method


@pytest.mark.parametrize("logprob", [math.nan, -math.inf, math.inf])
def test_a_likelihood_that_is_no_number_is_none(logprob: float) -> None:
    for generation in (text(("no ", -0.1), ("effusion", logprob)), text()):
        confidence = text_confidence(generation)
        assert (confidence.probability, confidence.method) == (0.0, "no likelihood reported by the engine")


@given(st.lists(st.tuples(st.text(max_size=4), st.floats()), max_size=12), st.lists(st.text(max_size=9), max_size=3))
def test_text_confidence_is_always_a_probability(pieces: list[tuple[str, float]], samples: list[str]) -> None:
    assert 0.0 <= text_confidence(text(*pieces, samples=tuple(samples))).probability <= 1.0
