"""`deliveries`: results on their way to the destinations, and what a person can do for them.

Input: conditions. Output: a table or JSON; `resend` puts dead letters, and what no destination vouched for, back into
the outbox and rings for the daemon; `try-now` ends a pause; `ask-again` forgets what a destination was learned not to
take; `rename` follows a destination to its new name in the settings. Nothing to do ends with exit code 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.auditing import audit_configured
from worker.commands.console import (
    ConfigOption,
    JsonOption,
    fail,
    ledger,
    note,
    out,
    print_json,
    read_settings,
    table,
    wrong_usage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from worker.settings import Settings

app = typer.Typer(help="Results on their way: list, resend, and what destinations need.", no_args_is_help=True)

DestinationArgument = Annotated[str, typer.Argument(metavar="DESTINATION", help="its name in the settings")]

SHOWN_AT_MOST = 200


@app.command("list")
def list_deliveries(
    state: Annotated[str, typer.Option(help="only this state: pending, delivered, unconfirmed, dead, ...")] = "",
    destination: Annotated[str, typer.Option(help="only this destination")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help=f"at most so many [default: {SHOWN_AT_MOST}]")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, the newest first."""
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    from worker.db.records import Delivery, Job, Result
    from worker.states import DeliveryState

    if state and state not in set(DeliveryState):
        wrong_usage(f"--state {state}: states are {', '.join(DeliveryState)}")
    settings = read_settings(config)
    wanted = select(Delivery).options(joinedload(Delivery.result).joinedload(Result.job).joinedload(Job.study))
    if state:
        wanted = wanted.where(Delivery.state == DeliveryState(state))
    if destination:
        wanted = wanted.where(Delivery.destination == destination)
    shown = limit or SHOWN_AT_MOST
    with ledger(settings) as database, database.reading() as session:
        found = [_entry(row) for row in session.scalars(wanted.order_by(Delivery.id.desc()).limit(shown))]
    if as_json:
        print_json(found)
        return
    columns = ("id", "accession_number", "kind", "destination", "state", "attempts", "last_error")
    rows = [["" if entry[name] is None else str(entry[name]) for name in columns] for entry in found]
    out().print(table("id", "accession", "kind", "destination", "state", "attempts", "remark", rows=rows))
    if len(found) == shown:
        note(f"the newest {shown} deliveries; --limit for more")


@app.command()
def resend(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="deliveries, by their number")] = None,
    job: Annotated[str, typer.Option(help="all dead or unconfirmed ones of this job")] = "",
    destination: Annotated[str, typer.Option(help="all dead or unconfirmed ones for this destination")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put dead letters, and what nobody vouched for, back into the outbox."""
    from worker import delivery
    from worker.celery_app import Doorbell
    from worker.operations.delivery_shapes import Resent

    if not (ids or job or destination):
        wrong_usage("say what to send again: delivery numbers, --job or --destination")
    settings = read_settings(config)
    with ledger(settings) as database:
        count = delivery.resend(database, delivery_ids=ids or None, job_id=job or None, destination=destination or None)
    if count:
        doorbell = Doorbell(settings)
        for known in settings.destinations:
            doorbell.ring_deliver(known.name)
        doorbell.close()
        done = Resent(queued_again=count)
        audit_configured(settings, done.about(destination), done.in_words)
    nothing = "no dead letter fits: `dicom-worker deliveries list --state dead` shows them, `unconfirmed` others"
    _told(count, {"queued_again": count}, "queued again", nothing, as_json=as_json)


@app.command()
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="name that the settings had for it")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="name that the settings have for it now")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a destination to its new name; only for the same system, which has what it was sent under the old one."""
    from dataclasses import asdict

    from worker.db.renaming import RenamingError, rename_destination

    settings = read_settings(config)
    names = [known.name for known in settings.destinations]
    if new not in names:
        wrong_usage(f"{new}: no destination in the settings has this name; they have {', '.join(names) or 'none'}")
    if old in names:
        wrong_usage(f"{old}: the settings still have a destination of this name; what is sent there stays there")
    with ledger(settings) as database:
        try:
            renamed = rename_destination(database, old, new)
        except RenamingError as error:
            fail(str(error))
    if as_json:
        print_json(asdict(renamed))
        return
    out().print(f"{renamed.deliveries} deliveries are {new}'s now; {renamed.left} it had already", markup=False)
    if renamed.dead:
        out().print(
            f"{renamed.dead} are dead letters: `dicom-worker deliveries resend --destination {new}`", markup=False
        )


@app.command("try-now")
def try_now(destination: DestinationArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Try at once what waits for its next try: the destination is well again."""
    from worker.celery_app import Doorbell
    from worker.operations import destinations

    settings = _settings_naming(destination, config)
    with ledger(settings) as database:
        tried = destinations.try_now(database, destination)
    if tried.due_now:
        audit_configured(settings, destination, tried.in_words)
        doorbell = Doorbell(settings)
        doorbell.ring_deliver(destination)
        doorbell.close()
    nothing = f"nothing waits for its next try at {destination}"
    _told(tried.due_now, tried.model_dump(), "tried now", nothing, as_json=as_json)


@app.command("ask-again")
def ask_again(
    destination: DestinationArgument,
    sop_class: Annotated[str, typer.Option(metavar="UID", help="only this SOP class [default: all it refused]")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Offer a destination again what it was learned not to take; what was sent instead stays."""
    from worker.operations import destinations

    settings = _settings_naming(destination, config)
    with ledger(settings) as database:
        asked = destinations.ask_again(database, destination, sop_class or None)
    if asked.offered_again:
        audit_configured(settings, destination, asked.in_words)
    nothing = f"{destination} is not known to have refused {sop_class or 'anything'}"
    done = "kinds of object will be offered again"
    _told(asked.offered_again, asked.model_dump(), done, nothing, as_json=as_json)


def _settings_naming(destination: str, config: Path | None) -> Settings:
    """Return the settings; a destination that they do not name ends with exit code 2."""
    settings = read_settings(config)
    names = [known.name for known in settings.destinations]
    if destination not in names:
        wrong_usage(f"no destination is named {destination!r}; the settings have {', '.join(names) or 'none'}")
    return settings


def _told(count: int, values: dict[str, int], done: str, nothing: str, *, as_json: bool) -> None:
    """Print what was done, or end with exit code 1 where there was nothing to do."""
    if as_json:
        print_json(values)
    elif count:
        out().print(f"{count} {done}", markup=False)
    if not count:
        fail(nothing)


def _entry(row: Any) -> dict[str, Any]:
    study = row.result.job.study
    return {
        "id": row.id,
        "destination": row.destination,
        "state": row.state.value,
        "attempts": row.attempts,
        "tries": row.tries,
        "last_error": row.last_error,
        "not_before": row.not_before.isoformat(),
        "delivered_at": row.delivered_at.isoformat() if row.delivered_at else None,
        "confirmed_at": row.confirmed_at.isoformat() if row.confirmed_at else None,
        "asks": row.asks,
        "kind": row.result.kind,
        "sop_instance_uid": row.result.sop_instance_uid,
        "job": row.result.job_id,
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
    }
