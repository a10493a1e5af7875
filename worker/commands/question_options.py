"""The options that put a question to an adapter, for every command that asks one.

Input: `--task`, `--text`, `--label`, `--unit`, `--language` and the adapter. Output: the `Question` they make, or
`None` where none of them was given. On failure: exit code 2, with what the adapter can be asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.console import wrong_usage

if TYPE_CHECKING:
    from models.adapter import AdapterDefinition
    from models.question import Question

TaskOption = Annotated[
    str, typer.Option("--task", metavar="TASK", help="kind of question, for an adapter that has several")
]
TextOption = Annotated[str, typer.Option("--text", help="the question in your own words")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="what to choose among, to detect or to count")]
UnitOption = Annotated[str, typer.Option("--unit", metavar="UCUM", help="unit of a number that is asked for")]
LanguageOption = Annotated[str, typer.Option("--language", metavar="TAG", help="language of free text (BCP 47)")]


def chosen_question(adapter: AdapterDefinition, wanted: Question) -> Question | None:
    """Return what the options ask of the adapter, or `None` where they ask nothing.

    The task of an adapter that has but one need not be named. Whether the adapter can be asked this is for
    `AdapterDefinition.asked` to say.
    """
    if not any((wanted.task, wanted.text, wanted.labels, wanted.unit, wanted.language)):
        return None
    if wanted.task:
        return adapter.in_own_language(wanted)
    if len(adapter.tasks) != 1:
        known = f"the tasks {', '.join(sorted(adapter.tasks))}" if adapter.tasks else "but one question"
        wrong_usage(f"--text, --label, --unit and --language go with --task; {adapter.name} has {known}")
    return adapter.in_own_language(replace(wanted, task=next(iter(adapter.tasks))))
