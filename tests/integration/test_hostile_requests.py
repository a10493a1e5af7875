"""What somebody may send to stop the pages for others: bombs, half requests, too many of them."""

from __future__ import annotations

import pytest

from worker.operations.rules import RulesError, read_rules


@pytest.mark.parametrize(
    "bomb",
    [
        "- &a0 [x, x, x]\n" + "".join(f"- &a{n + 1} [*a{n}, *a{n}, *a{n}]\n" for n in range(30)) + "- when: *a30",
        "- &a0 {x: y}\n" + "".join(f"- &a{n + 1} {{<<: [*a{n}, *a{n}, *a{n}]}}\n" for n in range(30)),
    ],
    ids=["of lists", "of merged mappings"],
)
def test_a_few_lines_of_rules_stand_for_no_more_than_they_say(bomb: str) -> None:
    with pytest.raises(RulesError, match="aliases are not followed"):
        read_rules(bomb, {})


def test_a_mistake_quotes_only_the_beginning_of_what_is_long() -> None:
    with pytest.raises(RulesError) as wrong:
        read_rules(f"- {{name: a, adapter: b, when: [{', '.join('x' * 1000 for _ in range(99))}]}}", {})
    assert len(str(wrong.value)) < 5000
