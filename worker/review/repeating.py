"""The same decision, sent again: a program or a proxy that lost the answer to it gets the same answer.

Input: a locked case, and a decision about it. Output: that decision's row, where it stands; or None. A decision is the
same where one person says the same of the same answer (RFC 9110 9.2.2 calls such a request idempotent); one that does
not say which answer it is about is never taken for another. Nothing fails here.
"""

from __future__ import annotations

from dicom_node.report import Person
from worker.db.records import Job, Review
from worker.review import shown as sight
from worker.review.cases import FINAL, PAST, ReviewOutcome
from worker.review.people import same_person
from worker.review.shown import Shown
from worker.states import JobState

#: States that a decision leads to.
DECIDED = (JobState.ACCEPTED, JobState.VERIFIED, JobState.REJECTED)


def same_decision(job: Job, action: str, person: Person, comment: str, shown: Shown) -> ReviewOutcome | None:
    """Return what came of this decision before, where it is the last one and stands; else None.

    Args:
        job: The case.
        action: What is decided.
        person: Who decides.
        comment: What they say.
        shown: The answer that it is about. Whether the same findings are signed, the caller sees.
    """
    standing = [review for review in job.reviews if review.action in FINAL and review.undone_at is None]
    if job.state not in DECIDED or not standing or not _is_same(standing[-1], action, person, comment, shown):
        return None
    words = f"job {job.id} is {PAST[action]}, by this decision, which came before"
    return ReviewOutcome(job.id, job.state, words, shown=sight.in_words(standing[-1].shown))


def is_last_word(job: Job, action: str, person: Person, text: str) -> bool:
    """Tell whether the last that was said about a case is this, by this person."""
    if not job.reviews:
        return False
    last = job.reviews[-1]
    return (last.action, last.comment) == (action, text.strip()) and same_person(
        person, last.account, last.reviewer_name
    )


def _is_same(last: Review, action: str, person: Person, comment: str, shown: Shown) -> bool:
    said = (last.action, last.comment, last.seen)
    is_same = said == (action, comment.strip(), shown.answer)
    return is_same and bool(shown.answer) and same_person(person, last.account, last.reviewer_name)
