"""The words that a study is found by."""

from __future__ import annotations

import pytest

from worker.db.study_terms import LONGEST_TERM, PLACES, terms_of


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("RAD-0012345", ["0012345", "12345", "rad-0012345"]),
        ("ACC000", ["000", "acc000"]),
        ("2024/05-a", ["05-a", "2024/05-a", "5-a", "a"]),
        ("Müller-Lüdenscheidt^Jürgen^^Dr.", ["dr.", "jurgen", "ludenscheidt", "muller-ludenscheidt"]),
        ("Wang^XiaoDong=王^小東", ["wang", "xiaodong", "小東", "王"]),
        ("CT Abdomen, native CT", ["abdomen", "ct", "native"]),
        ("100% _", ["100%", "_"]),
        ("* ", []),
        ("", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert terms_of(text) == terms


def test_a_word_without_end_has_few_and_short_terms() -> None:
    terms = terms_of("a1" * 200)
    assert len(terms) == PLACES
    assert {len(term) for term in terms} == set(range(LONGEST_TERM, LONGEST_TERM - PLACES, -1))
