"""A destination that has another name in the settings now -> the ledger calls it by that name, too.

Input: the old and the new name. Output, in one transaction: deliveries and requests for storage commitment of the old
name under the new one, so that corrections, rejection notes and messages go where the object is. What the destination
gets under its new name already is not sent twice: it is left, cancelled where it was still to be sent. On failure
`RenamingError`, and nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import aliased

from worker.db.commitment_records import Commitment
from worker.db.outbox import move, with_job
from worker.db.records import Delivery
from worker.db.refusals import forget
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.states import DeliveryState

log = structlog.get_logger()
_TO_BE_SENT = (DeliveryState.PENDING, DeliveryState.DEAD)


class RenamingError(Exception):
    """A destination cannot be renamed; the message says why."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """What a new name changed."""

    #: Deliveries that have the new name now.
    deliveries: int
    #: Those of them that are dead letters: a person sends them again.
    dead: int
    #: Deliveries that stay under the old name: the destination has, or gets, the same under the new one.
    left: int


def rename_destination(db: Database, old: str, new: str) -> Renamed:
    """Call a destination by its new name wherever the ledger names it.

    Raises:
        RenamingError: The ledger knows nothing under the old name, or something is being sent under it.
    """
    under_old, same = Delivery.destination == old, aliased(Delivery)
    also_new = exists().where(same.result_id == Delivery.result_id, same.destination == new)
    with db.writing() as session:
        counted = select(Delivery.state, func.count()).where(under_old).group_by(Delivery.state)
        states: dict[DeliveryState, int] = dict(session.execute(counted).all())
        if not states:
            raise RenamingError(f"the ledger knows of nothing for a destination {old!r}; `deliveries list` names them")
        if DeliveryState.SENDING in states:
            raise RenamingError(f"{states[DeliveryState.SENDING]} are being sent to {old!r}; try again when they are")
        reason = f"{old} is called {new} now"
        doubled = session.scalars(select(Delivery).where(under_old, also_new).options(with_job())).all()
        for row in doubled:
            if row.state in _TO_BE_SENT:
                move(session, row, DeliveryState.CANCELLED, f"{reason}, and gets it under that name")
        wanted = session.scalars(select(Delivery).where(under_old, ~also_new).options(with_job())).all()
        for row in wanted:
            row.destination = new
            if row.state in _TO_BE_SENT:
                record_event(session, "delivery", row.id, study_id=row.result.job.study_id, reason=reason)
        session.execute(update(Commitment).where(Commitment.destination == old).values(destination=new))
        forget(session, old)
        dead = sum(row.state is DeliveryState.DEAD for row in wanted)
        found = Renamed(len(wanted), dead, len(doubled))
    log.info("destination renamed", action="rename", destination=new, deliveries=found.deliveries)
    return found
