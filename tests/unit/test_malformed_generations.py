"""Ten thousand malformed generations through every parser: an answer or an honest failure, never an exception.

They are made of what really goes wrong: saved answers cut, doubled, shuffled and spliced; brackets without end; numbers
that are none; text in other scripts, half characters, special tokens where none belong.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import models.adapters
from models import parsing
from models.adapter import AdapterDefinition, adapters
from models.confidence import Outcome, decide
from models.generation import Generation, TokenLogprob
from models.parsing import ParseFailure
from models.question import Question

SAVED = [
    json.loads(path.read_text(encoding="utf-8"))["generation"]["text"]
    for path in sorted(Path(models.adapters.__file__).parent.glob("*/golden/*.json"))
]
JUNK = (
    *(
        "",
        "{",
        "}" * 40,
        "[" * 1100,
        '{"a":' * 1100,
        '"' * 9,
        "\\",
        "```json",
        "```",
        "\x00",
        "\ud800",
        "\u202e",
        "\U0001d57f",
    ),
    *("\u202e", "\U0001d57f"),
    *("<unused94>", "<unused95>", "<end_of_turn>", "<eos>", "NaN", "-Infinity", "1e999", "9" * 5000, "null", "true"),
    *("patent", "not blocked", '"count":', '"box_2d":[0,0,', "Final Answer:", "Thinking Process:", "**", "肝臓損傷"),
)
QUESTIONS = (
    *(Question("classification", labels=("normal", "cyst")), Question("multi_label", labels=("cyst", "mass"))),
    *(Question("detection", labels=("cyst",)), Question("counting", labels=("cell",)), Question("report")),
    Question("regression", labels=("diameter",), unit="mm"),
)
ASKED: list[AdapterDefinition] = [
    *(adapter for adapter in adapters().values() if not adapter.tasks),
    *(adapters()["flare"].asked(question) for question in QUESTIONS),
    *(adapters()["clinical_caption"].asked(Question("caption", language=language)) for language in ("", "de")),
]


def malformed(draw: random.Random) -> Generation:
    """Return one generation: pieces of saved answers and junk, glued; half of them with likelihoods."""
    pieces = []
    for _ in range(draw.randint(1, 4)):
        piece = draw.choice(SAVED) if draw.random() < 0.6 else draw.choice(JUNK)
        start = draw.randint(0, len(piece)) if draw.random() < 0.4 else 0
        end = draw.randint(start, len(piece)) if draw.random() < 0.5 else len(piece)
        pieces.append(piece[start:end])
    text = draw.choice(("", " ", "\n", ",")).join(pieces)
    if text and draw.random() < 0.3:
        place = draw.randrange(len(text))
        text = text[:place] + chr(draw.choice((0, 34, 92, 123, 125, 0xFFFD, 0x1F480))) + text[place + 1 :]
    tokens: tuple[TokenLogprob, ...] = ()
    if draw.random() < 0.5:
        chance = draw.choice((0.0, -0.1, -40.0, float("nan"), float("-inf"), 3.0))
        tokens = tuple(TokenLogprob(text[at : at + 7], chance) for at in range(0, len(text), 7))
    scores = {"patent": draw.choice((0.5, float("nan"), -1.0)), "blocked": 0.5} if draw.random() < 0.1 else None
    return Generation(text, tokens, scores, draw.choice(("stop", "length", "labels")), 1, 0.0)


def check(adapter: AdapterDefinition, generation: Generation) -> bool:
    """Parse and decide; return whether it was an answer. What could not be read must go to a person, as it was."""
    findings = adapter.parse(generation)
    decision = decide(adapter, findings, generation)
    if isinstance(findings, ParseFailure):
        assert findings.reason
        assert findings.raw_text == generation.text
        assert decision.outcome is Outcome.REVIEW
        return False
    assert isinstance(findings, BaseModel)
    assert adapter.findings.model_validate(findings.model_dump(mode="json")) == findings, (
        "what is kept can be read back"
    )
    probability = decision.confidence.probability if decision.confidence else 0.0
    assert 0.0 <= probability <= 1.0
    return True


@pytest.mark.parametrize("adapter", ASKED, ids=lambda adapter: f"{adapter.name}-{adapter.findings.__name__}")
def test_no_malformed_generation_breaks_a_parser(adapter: AdapterDefinition) -> None:
    draw = random.Random(20261122)
    outcomes = [check(adapter, malformed(draw)) for _ in range(10_000)]
    assert 0 < sum(outcomes) < 10_000, "some are still answers, most are not"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_nor_does_anything_that_can_be_written(text: str) -> None:
    for adapter in ASKED:
        check(adapter, Generation(text, (TokenLogprob(text, -1.0),), None, "stop", 1, 0.0))


LENGTH = 200_000
#: What a parser that tries every bracket, or every way of dividing blanks, needs minutes for.
TANGLED = {
    "lists that never close": "[" * LENGTH,
    "objects that never close": '{"a":' * (LENGTH // 5),
    "lists of objects that never close": '[{"label":' * (LENGTH // 10),
    "lists around a long one that never closes": "[" * 900 + '{"a":1},' * (LENGTH // 8),
    "lists around a string that never closes": '[{"a":' * 300 + '"' + "a" * LENGTH,
    "lists in lists that close": "[" * 900 + "1," * (LENGTH // 2) + "1" + "]" * 900,
    "braces apart": "{ " * (LENGTH // 2),
    "keys without values": '{"a" ' * (LENGTH // 5),
    "a heading and blanks": "Final Answer" + " \t" * (LENGTH // 2) + "x",
    "two headings and blanks": "Thinking Process" + " " * LENGTH + "Final Answer" + " " * LENGTH,
}


class CountingDecoder(json.JSONDecoder):
    """Counts how many characters it looks at."""

    examined = 0

    def raw_decode(self, s: str, idx: int = 0) -> tuple[object, int]:
        """Decode, and count up to where that ended or failed."""
        try:
            value, end = super().raw_decode(s, idx)
        except json.JSONDecodeError as error:
            self.examined += (len(s) if "Unterminated" in error.msg else error.pos) - idx
            raise
        self.examined += end - idx
        return value, end


@pytest.mark.parametrize("text", TANGLED.values(), ids=TANGLED)
@pytest.mark.parametrize("adapter", ASKED, ids=lambda adapter: f"{adapter.name}-{adapter.findings.__name__}")
def test_junk_of_200_kb_costs_little(adapter: AdapterDefinition, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = CountingDecoder()
    monkeypatch.setattr(parsing, "_DECODER", decoder)
    # Time of this process, not of the clock: others may be busy.
    started = time.process_time()
    parsed = adapter.parse(Generation(text, (), None, "stop", 10, 0.1))
    assert time.process_time() - started < 1
    # Boxes are looked for twice: as an object, and as a bare list.
    assert decoder.examined <= 2 * (parsing.MOST_EXAMINED + len(text))
    if "Text" not in adapter.findings.__name__ and "Caption" not in adapter.findings.__name__:
        assert isinstance(parsed, ParseFailure)


def test_what_is_behind_junk_is_not_taken_for_the_answer() -> None:
    """An object before the tangle is not chosen: another one may stand behind it."""
    asked = adapters()["flare"].asked(Question("counting", labels=("cell",)))
    text = '{"count": 3} ' + '[{"count":' * 20_000 + ' {"count": 4}'
    parsed = asked.parse(Generation(text, (), None, "stop", 10, 0.1))
    assert isinstance(parsed, ParseFailure)
    assert "too deeply" in parsed.reason
