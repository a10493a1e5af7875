"""A question of a route -> the words and the labels with which FLARE's adapter is asked.

Input: a `Question`. Output: the prompt with labels and unit filled in. On failure: `AdapterError`, where the question
cannot be asked so, with what it lacks. The card publishes the report's question only; the other words are this
project's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from models.adapter import AdapterError, load_prompt
from models.question import Prompt, Question

_FOLDER: Final = Path(__file__).parent
#: The card's system prompt and its published question.
PUBLISHED: Final = load_prompt(_FOLDER)

#: More labels than this make no question that a small model can answer.
_MOST_LABELS: Final = 64
#: Longest label; the longest JSON answer grows with it.
_LONGEST_LABEL: Final = 60
#: A UCUM code in SH (PS3.5 6.2): visible ASCII, at most 16 characters.
_UCUM: Final = re.compile(r"[!-~]{1,16}")


def _words(task: str) -> str:
    try:
        return (_FOLDER / f"{task}.md").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise AdapterError(f"adapter flare: cannot read the question of {task}: {error}") from error


_QUESTIONS: Final[Mapping[str, str]] = {
    task: _words(task) for task in ("classification", "multi_label", "detection", "counting", "regression")
}


def prompt_of(question: Question) -> Prompt:
    """Return the task's own words with the question's labels and unit (`AdapterDefinition.asked` takes a site's)."""
    if question.task not in _QUESTIONS:
        return PUBLISHED
    words = " ".join(_lines(question))
    return Prompt(user=words.replace("{labels}", ", ".join(question.labels)), system=PUBLISHED.system)


def form_of(question: Question) -> str:
    """Return the sentence that says in which form to answer: it goes behind a site's own words too."""
    return "" if question.task not in _QUESTIONS else "".join(_lines(question)[1:])


def _lines(question: Question) -> list[str]:
    """Return the task's words, a question and, where the answer is JSON, a line on its form."""
    words = _QUESTIONS[question.task].replace("in {unit}", "without a unit" if question.unit == "1" else "in {unit}")
    return words.replace("{unit}", question.unit).splitlines()


def several_labels(question: Question, at_least: int) -> tuple[str, ...]:
    """Return the labels to choose among.

    Raises:
        AdapterError: There are fewer than `at_least`, or too many, or one cannot be used.
    """
    labels = question.labels
    if len(labels) < at_least:
        needed = "at least two labels" if at_least > 1 else "at least one label"
        raise _refusal(question, f"needs {needed}, {len(labels)} given", "name them in the rule (ask: labels)")
    if len(labels) > _MOST_LABELS:
        raise _refusal(question, f"takes at most {_MOST_LABELS} labels, {len(labels)} given", "split the question")
    for label in labels:
        if not label.strip() or label != label.strip() or not label.isprintable() or len(label) > _LONGEST_LABEL:
            raise _refusal(
                question,
                f"cannot use the label {label[:80]!r}",
                f"give 1 to {_LONGEST_LABEL} printable characters without blanks around them",
            )
    if len({label.casefold() for label in labels}) != len(labels):
        raise _refusal(question, "has a label twice", "name each once")
    return labels


def one_label(question: Question) -> str:
    """Return what is to be counted or measured. Raises `AdapterError` where there is not exactly one label."""
    if len(question.labels) != 1:
        raise _refusal(
            question,
            f"needs one label that names what is meant, {len(question.labels)} given",
            "name it in the rule (ask: labels), and make a question of each where there are several",
        )
    return several_labels(question, 1)[0]


def unit_of(question: Question) -> str:
    """Return the UCUM unit of the number. Raises `AdapterError` where there is none."""
    if not _UCUM.fullmatch(question.unit):
        raise _refusal(
            question,
            f"needs a unit in UCUM of 1 to 16 characters, {question.unit!r} given",
            'give it in the rule (ask: unit), as in "mm", or "1" for a number without a unit',
        )
    return question.unit


def _refusal(question: Question, fault: str, remedy: str) -> AdapterError:
    return AdapterError(f"adapter flare: the question {question.task} {fault}; {remedy}")
