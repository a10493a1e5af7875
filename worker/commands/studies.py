"""`studies` and `study`: the ledger, as a table or as JSON.

Input: a search, or a Study Instance UID or accession number. Output: what the database holds. A study that is not there
ends with exit code 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from worker.commands.auditing import audit_list, audit_looks
from worker.commands.console import ConfigOption, JsonOption, fail, ledger, note, out, print_json, read_settings, table

if TYPE_CHECKING:
    from worker.schemas import JobDetail, JobView, StudyDetail, StudyView

SHOWN_AT_MOST = 50


def studies(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    search: Annotated[
        str,
        typer.Option(
            help="beginning of an accession number, patient ID, patient name or word of the description; a study UID"
        ),
    ] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"the newest so many [default: {SHOWN_AT_MOST}, with --json all]")
    ] = None,
) -> None:
    """List the studies, the newest first, with what became of them."""
    from worker.db import queries

    settings = read_settings(config)
    with ledger(settings) as database, database.reading() as session:
        shown = limit or (None if as_json else SHOWN_AT_MOST)
        found = queries.studies(session, limit=shown, search=search)
    audit_list(settings, "studies", search)
    if as_json:
        print_json([study.model_dump(mode="json") for study in found])
        return
    _print_standin_notice([job for study in found for job in study.jobs])
    rows = [_study_row(study) for study in found]
    out().print(table("accession", "patient ID", "state", "images", "route", "answer", "results", rows=rows))
    if shown is not None and len(found) == shown:
        note(f"the newest {shown} studies; --limit or --search for others")


def study(
    reference: Annotated[str, typer.Argument(metavar="UID|ACCESSION", help="Study Instance UID or accession number")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one study: images, routes, answers, decisions, results, deliveries and its whole history."""
    from worker.db import queries

    settings = read_settings(config)
    try:
        with ledger(settings) as database, database.reading() as session:
            found = queries.study(session, reference)
    except queries.QueryError as error:
        fail(str(error))
    audit_looks(settings, found)
    if as_json:
        if len(found) > 1:
            uids = "".join(f"\n  {study.study_instance_uid}" for study in found)
            fail(f"the accession number {reference!r} has {len(found)} studies, name one by its UID:{uids}")
        print_json(found[0].model_dump(mode="json"))
        return
    for one in found:
        _print_study(one)


def _study_row(study: StudyView) -> list[str]:
    from worker import wording

    jobs = [job for job in study.jobs if job.state != "superseded"]
    undecided = {"unrouted": "left alone"}
    routes = [f"{row.modality or '?'}: {row.route.adapter or undecided.get(row.state, '...')}" for row in study.series]
    answers = [
        f"{wording.findings_in_words(job.findings)}, {wording.confidence_in_words(job)} [{job.state}]"
        for job in jobs
        if job.decision
    ]
    return [
        study.accession_number,
        study.patient_id,
        study.state,
        str(study.instances),
        "\n".join(dict.fromkeys(routes)),
        "\n".join(answers),
        "\n".join(wording.deliveries_in_words(job.results) for job in jobs),
    ]


def _print_study(study: StudyDetail) -> None:
    from worker.near_misses import decisive_part

    console = out()
    console.print(Text(f"study {study.study_instance_uid}", style="bold"))
    facts = [
        ("accession number", study.accession_number),
        ("patient ID", study.patient_id),
        ("state", study.state),
        ("images", f"{study.instances} (in conflict {study.conflicts}, missing {study.missing})"),
        ("revision", study.revision),
    ]
    _print_facts(console, facts)
    _print_standin_notice(study.jobs)
    rows = [
        [
            series.series_instance_uid,
            series.modality,
            str(series.instances),
            series.state,
            series.route.adapter or "",
            series.route.rule or "",
            decisive_part(series.route.reason or ""),
        ]
        for series in study.series
    ]
    console.print(table("series", "modality", "images", "state", "adapter", "rule", "why", rows=rows))
    for job in study.jobs:
        print_job(console, job)
    history = [
        [f"{event.at:%Y-%m-%d %H:%M:%S.%f}"[:-3], event.subject, event.to_state or "", event.reason]
        for event in study.history
    ]
    console.print(table("time (UTC)", "what", "state", "why", rows=history, title="history"))


def print_job(console: Any, job: JobDetail) -> None:
    """Print one job with its answer, decision, reviews and results."""
    from worker import wording

    console.print(Text(f"job {job.id}: {job.adapter}, {job.state}", style="bold"))
    facts: list[tuple[str, Any]] = [
        (wording.label(k), wording.value_in_words(v)) for k, v in (job.findings or {}).items()
    ]
    if not job.findings:
        facts.append(("answer", job.answer_text or "none yet"))
    facts += [
        ("how sure", wording.confidence_in_words(job)),
        ("decision", f"{job.decision}: {job.decision_reason}" if job.decision else "not yet"),
        *(("doubt", doubt) for doubt in [*job.doubts, *job.incomplete]),
        *((review.action, _review_in_words(review)) for review in job.reviews),
        ("failure", job.error),
        ("weights", job.provenance and f"{job.provenance.adapter} on {job.provenance.base} ({job.provenance.engine})"),
    ]
    _print_facts(console, facts)
    rows = []
    for result in job.results:
        start = [f"{result.kind}{' verified' if result.verified else ''}", result.sop_instance_uid]
        rows += [[*start, sent.destination, sent.state, sent.last_error or ""] for sent in result.deliveries]
        if not result.deliveries:
            rows.append([*start, "", "not sent", ""])
    if rows:
        console.print(table("result", "SOP Instance UID", "destination", "state", "remark", rows=rows))


def _review_in_words(review: Any) -> str:
    who = f"{review.reviewer_name}, {review.reviewer_organization}".removesuffix(", ")
    return f"{who}, {review.decided_at:%Y-%m-%d %H:%M} UTC" + (f": {review.comment}" if review.comment else "")


def _print_facts(console: Any, facts: Sequence[tuple[str, Any]]) -> None:
    for name, value in facts:
        if value not in (None, ""):
            console.print(Text.assemble((f"  {name}: ", "dim"), str(value)))


def _print_standin_notice(jobs: Sequence[JobView]) -> None:
    if any(job.is_standin for job in jobs):
        from worker.schemas import STANDIN_NOTICE

        out().print(Text(STANDIN_NOTICE, style="bold yellow"))
