"""`route explain`: what routing would do with files, and why.

Input: files or folders, and the site's rules. Output: for each series every rule, matched or why not, and the adapter
chosen. Files that are not DICOM are named and left out; where none is, exit code 1.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from worker.commands.console import ConfigOption, JsonOption, fail, note, out, print_json, read_settings, wrong_usage
from worker.commands.dicom_files import PathsArgument, read_instances
from worker.commands.route_replay import replay

if TYPE_CHECKING:
    from dicom_node.headers import InstanceHeader
    from worker.routing import RouteDecision

app = typer.Typer(help="Why a series goes where it goes: explain, replay.", no_args_is_help=True)
app.command()(replay)


@app.callback()
def route() -> None:
    """Routing."""


@app.command()
def explain(
    paths: PathsArgument,
    calling_ae_title: Annotated[str, typer.Option(help="AE title of the sender, for rules that ask for it")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each series which rules match or why not, and which adapter it goes to."""
    from models.adapter import AdapterError
    from worker.routing import SeriesSummary
    from worker.routing import route as decide
    from worker.series_preference import best_series_only
    from worker.settings import SettingsError
    from worker.site import enabled_adapters

    settings = read_settings(config)
    files, left_out = read_instances(paths)
    if not files:
        fail("none of these is a DICOM file:" + "".join(f"\n  {reason}" for reason in left_out))
    try:
        enabled = enabled_adapters(settings)
    except (SettingsError, AdapterError) as error:
        wrong_usage(str(error))
    by_series: dict[tuple[str, str], list[InstanceHeader]] = defaultdict(list)
    for file in files:
        by_series[file.header.study_instance_uid, file.header.series_instance_uid].append(file.header)
    decisions: list[tuple[list[InstanceHeader], RouteDecision]] = []
    for study in dict.fromkeys(study for study, _ in by_series):
        routed = []
        for headers in (headers for (of_study, _), headers in by_series.items() if of_study == study):
            summary = SeriesSummary(tuple(headers), calling_ae_title, settings.dicom.ae_title)
            routed.append((summary, decide(summary, settings.routes, enabled)))
        found = best_series_only(routed, enabled)
        decisions += [(list(summary.headers), decision) for (summary, _), decision in zip(routed, found, strict=True)]
    if as_json:
        print_json({"series": [_as_json(headers, decision) for headers, decision in decisions], "left_out": left_out})
        return
    for headers, decision in decisions:
        _print(headers, decision)
    for reason in left_out:
        note(f"left out: {reason}")


def _as_json(headers: list[InstanceHeader], decision: RouteDecision) -> dict[str, Any]:
    first = headers[0]
    return {
        "study_instance_uid": first.study_instance_uid,
        "series_instance_uid": first.series_instance_uid,
        "accession_number": first.accession_number,
        "modality": first.modality,
        "instances": len(headers),
        "adapter": next(iter(decision.adapters), None),
        "adapters": list(decision.adapters),
        "questions": [
            None if assignment.question is None else assignment.question.to_json()
            for assignment in decision.assignments
        ],
        "rule": decision.rule,
        "reason": decision.reason,
        "priority": decision.priority.value,
        "accepted_instances": max((len(one.accepted_uids) for one in decision.assignments), default=0),
        "doubts": list(decision.doubts),
        "trace": [
            {"rule": step.rule, "matched": step.matched, "reasons": list(step.reasons)} for step in decision.trace
        ],
    }


def _print(headers: list[InstanceHeader], decision: RouteDecision) -> None:
    from worker.db.preferred import RULE

    console = out()
    first = headers[0]
    described = first.series_description or first.study_description
    title = f"series {first.series_instance_uid}: {first.modality or '?'}, {len(headers)} instances, {described!r}"
    console.print(Text(title, style="bold"))
    for step in decision.trace:
        mark = Text("  matches       ", style="green") if step.matched else Text("  does not match", style="dim")
        console.print(Text.assemble(mark, f"  {step.rule}: {'; '.join(step.reasons)}"))
    for assignment in decision.assignments:
        asked = "" if assignment.question is None else f" ({assignment.question.key})"
        console.print(
            Text.assemble((f"  -> {assignment.adapter}{asked}", "bold green"), f", {decision.priority.value}")
        )
    if not decision.assignments:
        why = f", {decision.reason}" if decision.rule == RULE else ""
        console.print(Text(f"  -> left alone{why}", style="bold"))
    for doubt in decision.doubts:
        console.print(Text(f"     held for review: {doubt}", style="yellow"))
