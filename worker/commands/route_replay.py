"""`route replay`: what other rules would have done with the series of the last days.

Input: a YAML file with rules (a list, or a settings file's `routes:`), and the ledger, which is only read. Output: how
many series would go another way, and which. Rules that cannot be used end with exit code 2 and what is wrong, line by
line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.console import (
    ConfigOption,
    JsonOption,
    ledger,
    note,
    out,
    print_json,
    read_settings,
    table,
    wrong_usage,
)

if TYPE_CHECKING:
    from worker.operations.rule_shapes import ReplayReport

DAYS, DAYS_AT_MOST, SERIES, SERIES_AT_MOST = 7.0, 366.0, 2000, 50_000


def replay(
    rules: Annotated[Path, typer.Option("--rules", metavar="FILE", help="YAML: a list of rules, or `routes:` with it")],
    days: Annotated[
        float, typer.Option(min=0.01, max=DAYS_AT_MOST, help="days to look back, by when a study came")
    ] = DAYS,
    series: Annotated[
        int, typer.Option(min=1, max=SERIES_AT_MOST, help="series to look at, at most, the newest first")
    ] = SERIES,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try other rules on the series of the last days; nothing is changed."""
    from rich.console import Console
    from rich.progress import Progress

    from models.adapter import AdapterError
    from worker.operations import replay as replaying
    from worker.operations.rules import RulesError, read_rules
    from worker.settings import SettingsError
    from worker.site import enabled_adapters

    settings = read_settings(config)
    try:
        enabled = enabled_adapters(settings)
        tried = read_rules(rules.read_text(encoding="utf-8"), enabled)
    except (SettingsError, AdapterError) as error:
        wrong_usage(str(error))
    except (OSError, UnicodeDecodeError) as error:
        wrong_usage(f"--rules {rules}: cannot be read: {error}")
    except RulesError as error:
        lines = "".join(f"\n  {line}" for line in str(error).splitlines())
        wrong_usage(f"--rules {rules}: these rules cannot be used:{lines}")
    with ledger(settings) as database, Progress(console=Console(stderr=True), transient=True, disable=as_json) as shown:
        task = shown.add_task("series", total=None)
        report = replaying.replay(
            database,
            settings.routes,
            tried,
            enabled,
            days=days,
            series_at_most=series,
            progress=lambda done, of: shown.update(task, completed=done, total=of),
        )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _print(report)


def _print(report: ReplayReport) -> None:
    def goes(names: list[str]) -> str:
        return ", ".join(names) or "nobody"

    console = out()
    console.print(
        f"{report.changed} of {report.series} series of the last {report.days:g} days would go another way",
        markup=False,
    )
    if report.series_in_time > report.series:
        note(f"there are {report.series_in_time} series in that time; --series for more")
    if not report.counts:
        return
    rows = [[goes(count.before), goes(count.after), str(count.series)] for count in report.counts]
    console.print(table("goes now to", "would go to", "series", rows=rows))
    rows = [
        [
            change.series_instance_uid,
            change.modality,
            f"{goes(change.before)}, {change.priority_before}",
            f"{goes(change.after)}, {change.priority_after}",
            change.rule_after,
        ]
        for change in report.changes
    ]
    console.print(table("series", "modality", "now", "then", "by", rows=rows))
    if report.is_cut:
        note(f"the first {len(report.changes)} changes; all are counted above")
