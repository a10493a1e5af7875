"""`calibrate` and `calibrations`: learn from reviewed answers how far an adapter's probabilities can be trusted.

Input: an adapter and the ledger. Output: a new version of its calibration, in use from then on, or the reason why none
can be fitted (exit code 1 where no question of the adapter gave one). `--off` takes what is in use out of use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from worker.commands.console import (
    FAILED,
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
    from worker.calibration import CalibrationOutcome


def calibrate(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="see `dicom-worker adapters list`")],
    config: ConfigOption = None,
    site: Annotated[
        str, typer.Option(metavar="ORGANISATION", help="only what this organisation's people reviewed, and for them")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be fitted, change nothing")] = False,
    off: Annotated[bool, typer.Option("--off", help="take the calibration out of use instead")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit an adapter's calibration on its reviewed answers and use it from now on."""
    from worker.calibration import calibrate as fit_and_store
    from worker.db.calibrations import take_out_of_use
    from worker.settings import SettingsError
    from worker.site import enabled_adapters

    settings = read_settings(config)
    try:
        known = enabled_adapters(settings)
    except SettingsError as error:
        wrong_usage(str(error))
    if adapter not in known:
        wrong_usage(f"no adapter {adapter} is enabled here; there are {', '.join(known)}")
    if off and dry_run:
        wrong_usage("--off and --dry-run do not go together")
    with ledger(settings) as database:
        if off:
            with database.writing() as session:
                count = take_out_of_use(session, adapter, site)
            _say_off(adapter, count, as_json=as_json)
            return
        outcomes = fit_and_store(database, known, adapter, site=site, store=not dry_run)
    if as_json:
        print_json({"adapter": adapter, "site": site, "outcomes": [outcome.to_json() for outcome in outcomes]})
    else:
        for outcome in outcomes:
            _print(adapter, outcome, dry_run=dry_run)
    if not any(outcome.calibration for outcome in outcomes):
        raise typer.Exit(FAILED)


def calibrations(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the calibrations of all adapters, in use and earlier."""
    from worker.db import calibrations as stored

    with ledger(read_settings(config)) as database, database.reading() as session:
        found = [{**_listed(row), "void": stored.why_void(session, row)} for row in stored.calibrations(session)]
    if as_json:
        print_json(found)
        return
    if not found:
        out().print("nothing is calibrated; `dicom-worker calibrate ADAPTER` fits reviewed answers")
        return
    names = ("adapter", "question_key", "site", "version", "method", "cases", "right_cases", "fitted_at")
    rows = [[*(_cell(row[name]) for name in names), _in_use(row)] for row in found]
    heads = ("adapter", "question", "site", "version", "method", "cases", "right", "fitted (UTC)", "in use")
    out().print(table(*heads, rows=rows))


def _listed(row: Any) -> dict[str, Any]:
    names = ("adapter", "question_key", "site", "version", "method", "parameters", "confidence_method")
    more = ("base_digest", "adapter_digest", "dtype", "prompt_digest", "cases", "right_cases", "fitted_at", "active")
    return {name: getattr(row, name) for name in (*names, *more)}


def _in_use(row: dict[str, Any]) -> str:
    return f"void: {row['void']}" if row["void"] else "yes" if row["active"] else "no"


def _cell(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if hasattr(value, "strftime") else str(value)


def _say_off(adapter: str, count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"adapter": adapter, "taken_out_of_use": count})
    elif count:
        out().print(f"{adapter}: its answers are uncalibrated from now on", markup=False)
    else:
        note(f"{adapter} has no calibration in use")


def _print(adapter: str, outcome: CalibrationOutcome, *, dry_run: bool) -> None:
    console = out()
    what = f"{adapter} {outcome.question_key}".strip()
    if outcome.calibration is None or outcome.fitted is None:
        console.print(Text(f"{what}: not calibrated: {outcome.refusal}", style="red"))
    else:
        fitted = outcome.fitted
        state = "would be fitted" if dry_run else f"version {outcome.calibration.version}, in use from now on"
        console.print(Text(f"{what}: {fitted.method.value}, {state}", style="bold"))
        if "temperature" in fitted.parameters:
            console.print(f"  temperature {fitted.parameters['temperature']:g} (1 changes nothing, more is less sure)")
        console.print(f"  {fitted.cases} cases, {fitted.right} of them right")
        console.print(f"  log loss {fitted.log_loss_raw:.3f} raw, {fitted.log_loss_calibrated:.3f} cross-validated")
    for reason, count in outcome.counts.items():
        console.print(Text(f"  {count} {reason}", style="dim"))
    for warning in outcome.warnings:
        console.print(Text(f"  warning: {warning}", style="yellow"))
