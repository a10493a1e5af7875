"""`review`: what waits for a person, and the person's decision.

Input: a job (its id, the beginning of it, or an accession number), the decision and who takes it. Output: the
decision in the ledger; what was signed is then written and sent by the daemon, which is rung for. A decision that
cannot be taken (somebody was faster, the findings are malformed) ends with exit code 1 and changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from worker.commands.auditing import audit_decision, audit_list, audit_looks
from worker.commands.console import (
    ConfigOption,
    JsonOption,
    fail,
    ledger,
    out,
    print_json,
    read_settings,
    table,
    wrong_usage,
)
from worker.commands.studies import print_job

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dicom_node.report import Person
    from worker.db.sessions import Database
    from worker.review import ReviewOutcome
    from worker.settings import Settings

app = typer.Typer(help="What waits for a person: list, show, accept, edit, reject, retry.", no_args_is_help=True)

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="job id, its first 4 characters or more, or an accession number")
]
ReviewerOption = Annotated[
    str,
    typer.Option(
        "--reviewer", envvar="DICOM_REVIEWER", metavar="NAME", help="who decides, as Family^Given; it is in the report"
    ),
]
OrganizationOption = Annotated[
    str,
    typer.Option(
        "--organization",
        envvar="DICOM_REVIEWER_ORGANIZATION",
        help="the reviewer's organisation [default: setting review.organization]",
    ),
]
CommentOption = Annotated[str, typer.Option(help="a remark for the ledger")]


@app.command("list")
def list_held(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the answers that wait for a person, the most urgent first."""
    from worker import review, wording

    settings = read_settings(config)
    with ledger(settings) as database:
        cases = review.queue(database)
    audit_list(settings, "review list")
    if as_json:
        print_json([case.model_dump(mode="json") for case in cases])
        return
    rows = [
        [
            case.id[:8],
            case.accession_number,
            case.patient_id,
            case.adapter,
            wording.findings_in_words(case.findings),
            wording.confidence_in_words(case),
            case.decision_reason or "",
        ]
        for case in cases
    ]
    if not rows:
        out().print("nothing waits for a person")
        return
    out().print(table("job", "accession", "patient ID", "adapter", "answer", "how sure", "why it is held", rows=rows))


@app.command()
def show(
    job: JobArgument,
    config: ConfigOption = None,
    inputs_dir: Annotated[
        Path | None, typer.Option("--save-inputs", metavar="DIR", help="write the images that the model saw here")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one answer with everything a decision needs."""
    from worker.db import queries

    settings = read_settings(config)
    try:
        with ledger(settings) as database, database.reading() as session:
            case = queries.review_case(session, job)
            if inputs_dir is not None:
                _save_inputs(settings, session, case.id, inputs_dir)
    except queries.QueryError as error:
        fail(str(error))
    audit_looks(settings, [case])
    if as_json:
        print_json(case.model_dump(mode="json"))
        return
    console = out()
    console.print(Text(f"accession number {case.accession_number}, patient ID {case.patient_id}"))
    if case.notice:
        console.print(Text(case.notice, style="bold yellow"))
    print_job(console, case)
    if case.answer_text:
        console.print(Text(f"  word for word: {case.answer_text}"))


def _save_inputs(settings: Settings, session: Session, job_id: str, folder: Path) -> None:
    from models.recipe import RecipeError
    from models.rendering import RenderError
    from worker.db.records import Job
    from worker.model_inputs import save_inputs, seen_by
    from worker.rendering import renderer

    try:
        record, files = seen_by(session, session.get_one(Job, job_id))
        save_inputs(renderer(settings.rendering).replay(record, files), record, folder, job_id)
    except (RenderError, RecipeError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"--save-inputs {folder}: cannot be written: {error.strerror}")


@app.command()
def accept(
    job: JobArgument,
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    comment: CommentOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an answer as it is: a VERIFIED report with your name is written and sent."""
    from worker import review

    _decide(config, as_json, "accept", reviewer, lambda db, settings: review.accept(
        db, job, _person(settings, reviewer, organization), comment
    ))  # fmt: skip


@app.command()
def edit(
    job: JobArgument,
    findings: Annotated[
        Path, typer.Option(metavar="FILE", help="JSON file with the findings you sign; - reads standard input")
    ],
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    comment: CommentOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign other findings than the model's (see the form with `review show JOB --json`)."""
    from worker import review

    signed = _read_findings(findings)
    _decide(config, as_json, "edit", reviewer, lambda db, settings: review.edit(
        db, job, signed, _person(settings, reviewer, organization), comment
    ))  # fmt: skip


@app.command()
def reject(
    job: JobArgument,
    reason: Annotated[str, typer.Option(help="why; it is what the ledger shows")],
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Discard an answer: nothing (more) of it is sent."""
    from worker import review

    _decide(config, as_json, "reject", reviewer, lambda db, settings: review.reject(
        db, job, _person(settings, reviewer, organization), reason
    ))  # fmt: skip


@app.command()
def retry(
    job: JobArgument,
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a held answer back into the queue, as if it had never run."""
    from worker import review

    _decide(config, as_json, "retry", reviewer, lambda db, settings: review.retry(
        db, job, _person(settings, reviewer, organization)
    ))  # fmt: skip


def _decide(
    config: Path | None,
    as_json: bool,
    action: str,
    reviewer: str,
    decision: Callable[[Database, Settings], ReviewOutcome],
) -> None:
    """Take a decision, then ring for the daemon (a ring that is lost is made up for by the dispatcher)."""
    from dataclasses import asdict

    from worker.celery_app import Doorbell
    from worker.review import ReviewError
    from worker.states import JobState

    settings = read_settings(config)
    with ledger(settings) as database:
        try:
            outcome = decision(database, settings)
        except ReviewError as error:
            fail(str(error))
        with database.reading() as session:
            audit_decision(settings, session, outcome.job_id, action, reviewer)
    doorbell = Doorbell(settings)
    if outcome.state is JobState.ACCEPTED:
        doorbell.ring_finish(outcome.job_id)
    elif outcome.state is JobState.QUEUED:
        doorbell.ring_infer(outcome.job_id)
    doorbell.close()
    if as_json:
        print_json(asdict(outcome))
    else:
        out().print(Text(outcome.message))


def _person(settings: Settings, name: str, organization: str) -> Person:
    from worker import review

    if not name.strip():
        wrong_usage("who decides? Give --reviewer 'Family^Given', or set DICOM_REVIEWER")
    return review.reviewer(settings, name, organization)


def _read_findings(file: Path) -> dict[str, Any]:
    try:
        findings = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        wrong_usage(f"--findings {file}: cannot be read as JSON: {error}")
    if not isinstance(findings, dict):
        wrong_usage(f"--findings {file}: it must hold one JSON object, as `findings` in `review show JOB --json`")
    return findings
