"""Words about a case that decide nothing.

Input: a job in any state, and what is said. Output: a review row. The same words of the same person again within a
minute are one remark: a program whose answer was lost sends it again. On failure `ReviewError`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from dicom_node.report import Person
from worker.audit.owed import telling
from worker.db.columns import utc_now
from worker.db.sessions import Database
from worker.review.cases import ReviewOutcome, add_review, find_case
from worker.review.errors import ReviewError
from worker.review.people import check_person
from worker.review.repeating import is_last_word

#: Within this time the same words are the same remark.
ONE_REMARK: Final = timedelta(minutes=1)


def comment(db: Database, job_id: str, reviewer: Person, text: str) -> ReviewOutcome:
    """Keep a remark with a case, whatever its state.

    Raises:
        ReviewError: There is no such job, or nothing is said.
    """
    check_person(reviewer)
    if not text.strip():
        raise ReviewError("a comment needs words")
    with telling(db) as session:
        job = find_case(session, job_id)
        is_new = not job.reviews or utc_now() - job.reviews[-1].decided_at > ONE_REMARK
        if is_new or not is_last_word(job, "comment", reviewer, text):
            add_review(session, job, "comment", reviewer, text, from_state=job.state)
        return ReviewOutcome(job.id, job.state, f"the comment on job {job.id} is kept")
