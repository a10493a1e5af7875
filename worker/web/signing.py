"""The last look before a correction is signed: whose images, the report in full, and what was changed.

Input: findings that a person typed and that have the adapter's form. Output: the page; nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request, Response

from worker.db.queries import review_case
from worker.db.records import Job
from worker.db.review_records import standing_signature
from worker.review import Reviewer
from worker.states import JobState
from worker.web.case import renew_every_s
from worker.web.changes import is_unchanged, rows
from worker.web.page import render
from worker.web.patients import patient_of
from worker.web.reading_room import site_adapters
from worker.web.report_preview import preview

#: Fields of the form that the page asks itself.
_ASKED_HERE = frozenset({"csrf_token", "step", "comment"})


def sign_page(
    request: Request, job_id: str, person: Reviewer, findings: Mapping[str, Any], sent: Sequence[tuple[str, str]]
) -> Response:
    """Return the page.

    Args:
        request: The request.
        job_id: The case, which is there.
        person: Who would sign.
        findings: What they would sign.
        sent: The fields of the form as they were sent: they come back with the next step.
    """
    settings = request.app.state.settings.review
    with request.app.state.database.reading() as session:
        job = session.get_one(Job, job_id)
        signed = standing_signature(job) if job.state is JobState.VERIFIED else None
        was = job.findings if signed is None else signed.findings
        shown = review_case(session, job_id)
        context = {
            "case": shown,
            "patient": patient_of(session, job),
            "preview": preview(site_adapters(request), job, findings, person),
            "rows": rows(findings, was),
            "is_unchanged": is_unchanged(findings, was),
            "can_sign": signed is None or not is_unchanged(findings, was),
            "was": "What is signed" if signed else "The model's",
            "can_ask": job.state is JobState.HELD and not job.second_reader,
        }
    context["fields"] = [(name, text) for name, text in sent if name not in _ASKED_HERE]
    context["comment"] = dict(sent).get("comment", "")
    context |= {"person": person, "undo_s": settings.undo_s, "renew_every_s": renew_every_s(settings.claim_s)}
    return render(request, "sign.html", context, jobs=[shown])
