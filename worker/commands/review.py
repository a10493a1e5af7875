"""`review`: what waits for a person, and one case with everything a decision needs.

Input: nothing, or a job (its id, the beginning of it, or an accession number). Output: a table, a case, or JSON. A job
that is not there ends with exit code 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from worker.commands.auditing import audit_list, audit_looks
from worker.commands.console import (
    ConfigOption,
    JsonOption,
    fail,
    ledger,
    out,
    print_json,
    read_settings,
    table,
)
from worker.commands.decisions import (
    JobArgument,
    accept,
    comment,
    edit,
    reject,
    reroute,
    retry,
    second_reader,
    undo,
)
from worker.commands.studies import print_job

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.settings import Settings

app = typer.Typer(
    help="What waits for a person: list, show, accept, edit, reject, retry, reroute, second-reader, comment, undo.",
    no_args_is_help=True,
)


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


for decision in (accept, edit, reject, retry, reroute, comment, undo):
    app.command()(decision)
app.command("second-reader")(second_reader)
