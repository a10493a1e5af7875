"""A first reader's opinion, which binds nobody: another person must decide.

Input: a HELD job, who asks, and what they think. Output: the opinion as a review row, and the mark on the job that the
same person cannot decide about it. On failure `ReviewError`, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicom_node.report import Person
from models.adapter import AdapterDefinition
from worker.audit.owed import telling
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.review.cases import ReviewOutcome, add_review, find_case, open_case
from worker.review.errors import NamedCase, ReviewError
from worker.review.forms import in_form
from worker.review.people import check_person
from worker.review.repeating import is_last_word
from worker.review.shown import Shown
from worker.states import JobState


def ask_second_reader(
    db: Database,
    job_id: str,
    reviewer: Person,
    opinion: str,
    findings: Mapping[str, Any] | None = None,
    *,
    adapters: Mapping[str, AdapterDefinition] | None = None,
    seen: str = "",
    frames_seen: int | None = None,
) -> ReviewOutcome:
    """Ask for another person's decision; `findings` are what the first one would sign.

    Raises:
        ReviewError: It is not held, a second reader is asked already, or the findings do not have the adapter's form.
    """
    check_person(reviewer)
    if not opinion.strip():
        raise ReviewError("say in a few words what the second reader should look at")
    with telling(db) as session:
        shown, job = Shown(seen, frames_seen), find_case(session, job_id)
        waits = f"job {job.id} waits for a second reader"
        if job.second_reader and job.state is JobState.HELD and is_last_word(job, "opinion", reviewer, opinion):
            return ReviewOutcome(job.id, job.state, waits)  # the same, sent again
        open_case(session, job.id, reviewer, "opinion", shown=shown, states=(JobState.HELD,))
        if job.second_reader:
            raise ReviewError(NamedCase(job.id), ": a second reader is asked already; decide about it")
        kept = None if findings is None else in_form(job, findings, adapters)
        said = add_review(session, job, "opinion", reviewer, opinion, from_state=job.state, shown=shown, findings=kept)
        job.second_reader = True
        reason = f"{reviewer.name} asks a second reader: {opinion.strip()}"
        record_event(session, "job", job.id, study_id=job.study_id, reason=reason)
        return ReviewOutcome(job.id, job.state, waits, shown=said)
