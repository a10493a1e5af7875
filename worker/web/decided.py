"""What a person has just decided, for the line at the top of the next page, with the way back while there is one.

Input: the id of the decided case, out of the address. Output: a `Decided`, or None where there is nothing to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from worker.db.columns import utc_now
from worker.db.records import Job
from worker.people.user import User
from worker.review.grace import UNDOABLE
from worker.states import JobState
from worker.web.reading_room import account_of

#: Action of a review -> how the line says it.
WORDS = {
    "accept": "Accepted and signed",
    "edit": "Signed with your changes",
    "reject": "Rejected",
    "reroute": "Re-routed: another adapter is asked",
    "retry": "Queued for another try",
    "opinion": "Passed to a second reader",
}


#: Action of a review -> what follows when it is final, and what to say then.
FOLLOWS = {
    "accept": ("Its report is written and sent", "Its report is being written and sent."),
    "edit": ("Its report is written and sent", "Its report is being written and sent."),
    "reject": ("Final, and nothing of it is sent,", "It is final: nothing of it is sent."),
    "reroute": ("The other adapter is asked", "The other adapter is being asked."),
}
#: Of an answer that had been sent before.
TAKEN_BACK = ("A rejection note follows what was sent", "A rejection note follows what was sent.")


@dataclass(frozen=True, slots=True)
class Decided:
    """The last decision of this person about a case."""

    job_id: str
    words: str
    #: What follows, and what to say when it has begun.
    follows: str
    begun: str
    accession_number: str
    adapter: str
    #: Seconds in which it can still be taken back; 0 where it cannot.
    undo_s: int
    until: datetime


def decided_banner(session: Session, user: User, job_id: str) -> Decided | None:
    """Return what to say about a case that this user decided."""
    job = session.get(Job, job_id) if job_id else None
    account = account_of(user)
    own = [review for review in job.reviews if review.account == account and account] if job is not None else []
    if job is None or not own or own[-1].action not in WORDS or own[-1].undone_at is not None:
        return None
    last = own[-1]
    can_undo = last.action in UNDOABLE and job.state in (JobState.ACCEPTED, JobState.REJECTED)
    left = (job.not_before - utc_now()).total_seconds() if can_undo else 0
    was_sent = last.action == "reject" and last.from_state != JobState.HELD
    follows, begun = TAKEN_BACK if was_sent else FOLLOWS.get(last.action, ("", ""))
    return Decided(
        job_id=job.id,
        words=WORDS[last.action],
        follows=follows,
        begun=begun,
        accession_number=job.study.accession_number,
        adapter=job.adapter,
        undo_s=max(int(left), 0),
        until=job.not_before,
    )
