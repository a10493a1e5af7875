"""`review accept`, `edit`, `reject` and the other decisions: a person's word about an answer.

Input: a job (its id, the beginning of it, or an accession number), the decision and who takes it. Output: the decision
in the ledger; what was signed is then written and sent by the daemon, which is rung for. A decision that cannot be
taken (somebody was faster or has the case open, the findings are malformed) ends with exit code 1 and changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from worker.commands.auditing import witness
from worker.commands.console import ConfigOption, JsonOption, fail, ledger, out, print_json, read_settings, wrong_usage

if TYPE_CHECKING:
    from dicom_node.report import Person
    from worker.db.sessions import Database
    from worker.review import ReviewOutcome
    from worker.settings import Settings

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
UndoOption = Annotated[
    float,
    typer.Option("--undo-s", min=0, help="seconds in which `review undo` can take it back; nothing leaves before"),
]


def accept(
    job: JobArgument,
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    comment: CommentOption = "",
    undo_s: UndoOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an answer as it is: a VERIFIED report with your name is written and sent."""
    from worker import review

    _decide(config, as_json, lambda db, settings: review.accept(
        db, job, _person(settings, reviewer, organization), comment, undo_s=undo_s
    ))  # fmt: skip


def edit(
    job: JobArgument,
    findings: Annotated[
        Path, typer.Option(metavar="FILE", help="JSON file with the findings you sign; - reads standard input")
    ],
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    comment: CommentOption = "",
    undo_s: UndoOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign other findings than the model's, or correct what is signed (form: `review show JOB --json`)."""
    from worker import review

    signed = _read_findings(findings)
    _decide(config, as_json, lambda db, settings: review.edit(
        db, job, signed, _person(settings, reviewer, organization), comment, undo_s=undo_s
    ))  # fmt: skip


def reject(
    job: JobArgument,
    reason: Annotated[str, typer.Option(help="why; it is what the ledger shows")],
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    undo_s: UndoOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Discard an answer: nothing (more) of it is sent."""
    from worker import review

    _decide(config, as_json, lambda db, settings: review.reject(
        db, job, _person(settings, reviewer, organization), reason, undo_s=undo_s
    ))  # fmt: skip


def retry(
    job: JobArgument,
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a held answer back into the queue, as if it had never run."""
    from worker import review

    _decide(config, as_json, lambda db, settings: review.retry(
        db, job, _person(settings, reviewer, organization)
    ))  # fmt: skip


def reroute(
    job: JobArgument,
    adapter: Annotated[str, typer.Option(help="adapter to ask instead")],
    task: Annotated[str, typer.Option(help="its kind of question, where it has several")] = "",
    reason: Annotated[str, typer.Option(help="a remark for the ledger")] = "",
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    undo_s: UndoOption = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wrong adapter: end this answer and ask another adapter about the same images."""
    from worker import review
    from worker.site import enabled_adapters

    _decide(config, as_json, lambda db, settings: review.reroute(
        db, job, adapter, _person(settings, reviewer, organization), reason, task=task,
        adapters=enabled_adapters(settings), undo_s=undo_s,
    ))  # fmt: skip


def second_reader(
    job: JobArgument,
    opinion: Annotated[str, typer.Option(help="your opinion, and what another person should look at")],
    findings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file with the findings you would sign; - standard input")
    ] = None,
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let another person decide; your opinion is kept and binds nobody."""
    from worker import review

    kept = None if findings is None else _read_findings(findings)
    _decide(config, as_json, lambda db, settings: review.ask_second_reader(
        db, job, _person(settings, reviewer, organization), opinion, kept
    ))  # fmt: skip


def comment(
    job: JobArgument,
    text: Annotated[str, typer.Option(help="what the ledger keeps")],
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a remark with an answer; it decides nothing."""
    from worker import review

    _decide(config, as_json, lambda db, settings: review.comment(
        db, job, _person(settings, reviewer, organization), text
    ))  # fmt: skip


def undo(
    job: JobArgument,
    reviewer: ReviewerOption = "",
    organization: OrganizationOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take your last decision back, while its time (--undo-s, on the pages review.undo_s) is not over."""
    from worker import review

    _decide(config, as_json, lambda db, settings: review.undo(
        db, job, _person(settings, reviewer, organization)
    ))  # fmt: skip


def _decide(
    config: Path | None,
    as_json: bool,
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
            fail("".join(error.worded(_here)))
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


def _here(moment: datetime) -> str:
    """Return a time in this machine's zone, which it names."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _person(settings: Settings, name: str, organization: str) -> Person:
    from worker import review

    if not name.strip():
        wrong_usage("who decides? Give --reviewer 'Family^Given', or set DICOM_REVIEWER")
    return review.reviewer(settings, name, organization, witness=witness(settings, name))


def _read_findings(file: Path) -> dict[str, Any]:
    try:
        findings = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        wrong_usage(f"--findings {file}: cannot be read as JSON: {error}")
    if not isinstance(findings, dict):
        wrong_usage(f"--findings {file}: it must hold one JSON object, as `findings` in `review show JOB --json`")
    return findings
