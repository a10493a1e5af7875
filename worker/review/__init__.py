"""What is held, who decided what: people claim cases and accept, edit, reject, re-route or pass them on.

Input: a HELD job, or one that is out already and that a person looks at afterwards, with the reviewer and what they
say. Output, in one transaction: the review row (with the findings that are signed, and what was seen), the job's new
state, and for a rejected job the end of its unsent deliveries. Reporting writes what was signed once it can not be
taken back any more. On failure nothing is changed, and `ReviewError` says in words what stands in the way, such as
another person who has the case open, or decided first.
"""

from worker.review.cases import ReviewOutcome, SentObject, seen_digest
from worker.review.claims import ClaimState, claim, next_case, release
from worker.review.decisions import accept, edit, queue, reject, retry
from worker.review.errors import NamedCase, NamedPerson, ReviewError
from worker.review.grace import undo
from worker.review.people import Reviewer, reviewer, same_person, why_no_second_reader
from worker.review.remarks import comment
from worker.review.rerouting import reroute, targets
from worker.review.second_reading import ask_second_reader

__all__ = [
    "ClaimState",
    "NamedCase",
    "NamedPerson",
    "ReviewError",
    "ReviewOutcome",
    "Reviewer",
    "SentObject",
    "accept",
    "ask_second_reader",
    "claim",
    "comment",
    "edit",
    "next_case",
    "queue",
    "reject",
    "release",
    "reroute",
    "retry",
    "reviewer",
    "same_person",
    "seen_digest",
    "targets",
    "undo",
    "why_no_second_reader",
]
