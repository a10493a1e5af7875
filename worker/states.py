"""States and allowed transitions, one table each: the whole machine on one page (drawn in docs/state-machine.md).

Every change goes through `worker.db.transitions`, which refuses what is not in these tables.
"""

from __future__ import annotations

from enum import StrEnum


class InstanceState(StrEnum):
    """What became of a received SOP instance."""

    #: On disk and in the database; the instance that is used.
    STORED = "stored"
    #: Same SOP Instance UID as an earlier one but other content: kept, flagged, not used.
    CONFLICT = "conflict"
    #: The row is there but the file is gone or damaged (found at start).
    MISSING = "missing"


class SeriesState(StrEnum):
    """Where a series is on its way to the adapters."""

    #: Images are still expected.
    RECEIVING = "receiving"
    #: Whole by the best sign at hand.
    STABLE = "stable"
    #: An adapter took it; its jobs are committed.
    ROUTED = "routed"
    #: No adapter took it; the reason is recorded and it is left alone.
    UNROUTED = "unrouted"


class JobState(StrEnum):
    """One adapter at work on one unit (a run, a series)."""

    #: Committed, waiting for an inference worker.
    QUEUED = "queued"
    #: A worker holds it, as long as its lease is renewed.
    RUNNING = "running"
    #: The raw answer is saved, not yet parsed.
    GENERATED = "generated"
    #: Parsed and scored: release or review is decided, nothing is written yet.
    DECIDED = "decided"
    #: SR and SC are in the outbox, unverified.
    RELEASED = "released"
    #: Waits in the review queue for a person.
    HELD = "held"
    #: A person accepted or edited it, and may take that back for a while; the verified objects are not yet written.
    ACCEPTED = "accepted"
    #: The verified SR is in the outbox.
    VERIFIED = "verified"
    #: A person rejected it; nothing (more) is sent.
    REJECTED = "rejected"
    #: A newer revision stands in its place, or a better series of the study is asked instead.
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """One result on its way to one destination."""

    #: Waits for its turn (or for `not_before`).
    PENDING = "pending"
    #: A worker is sending it, as long as its lease holds.
    SENDING = "sending"
    #: The destination answered success.
    DELIVERED = "delivered"
    #: The destination vouched for it (storage commitment or query).
    CONFIRMED = "confirmed"
    #: The destination answered success, but did not vouch for it, however often it was asked: a person should look.
    UNCONFIRMED = "unconfirmed"
    #: Refused for good or too often: a person must re-send it.
    DEAD = "dead"
    #: Superseded or rejected before it was sent, or something else is sent that the destination takes.
    CANCELLED = "cancelled"


class StudyState(StrEnum):
    """Where a study stands, derived from its series, jobs and deliveries (`worker.db.queries.study_state`)."""

    #: Images are still expected.
    RECEIVING = "receiving"
    #: Jobs are queued, running or being written.
    PROCESSING = "processing"
    #: At least one answer waits for a person.
    HELD = "held"
    #: Results are on their way.
    DELIVERING = "delivering"
    #: A delivery is a dead letter.
    DELIVERY_FAILED = "delivery_failed"
    #: Nothing moves any more, but a destination did not vouch for something that it was sent.
    UNCONFIRMED = "unconfirmed"
    #: Nothing is left to do.
    DONE = "done"
    #: No adapter takes any of its series.
    UNROUTED = "unrouted"


class Priority(StrEnum):
    """Urgency of a job; the number is what rows are sorted by."""

    ROUTINE = "routine"
    HIGH = "high"
    STAT = "stat"

    @property
    def rank(self) -> int:
        """Higher is served first."""
        return {"routine": 0, "high": 5, "stat": 9}[self.value]


S, J, D = SeriesState, JobState, DeliveryState

#: state -> states it may change to.
SERIES_TRANSITIONS: dict[SeriesState, frozenset[SeriesState]] = {
    S.RECEIVING: frozenset({S.STABLE}),
    S.STABLE: frozenset({S.ROUTED, S.UNROUTED}),
    S.ROUTED: frozenset({S.RECEIVING}),
    S.UNROUTED: frozenset({S.RECEIVING}),
}

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    J.QUEUED: frozenset({J.RUNNING, J.DECIDED, J.SUPERSEDED}),
    J.RUNNING: frozenset({J.GENERATED, J.DECIDED, J.QUEUED, J.SUPERSEDED}),
    J.GENERATED: frozenset({J.DECIDED, J.SUPERSEDED}),
    J.DECIDED: frozenset({J.RELEASED, J.HELD, J.SUPERSEDED}),
    J.RELEASED: frozenset({J.ACCEPTED, J.REJECTED, J.SUPERSEDED}),
    J.HELD: frozenset({J.ACCEPTED, J.REJECTED, J.QUEUED, J.SUPERSEDED}),
    # Back to the person who takes a signature back in time, or where what was signed cannot be written.
    J.ACCEPTED: frozenset({J.VERIFIED, J.HELD, J.RELEASED}),
    # A correction of what is signed is signed itself.
    J.VERIFIED: frozenset({J.ACCEPTED, J.REJECTED, J.SUPERSEDED}),
    # A rejection that is taken back in time leaves everything as it was.
    J.REJECTED: frozenset({J.HELD, J.RELEASED, J.VERIFIED}),
    J.SUPERSEDED: frozenset(),
}

DELIVERY_TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    D.PENDING: frozenset({D.SENDING, D.CANCELLED}),
    D.SENDING: frozenset({D.DELIVERED, D.PENDING, D.DEAD, D.CANCELLED}),
    D.DELIVERED: frozenset({D.CONFIRMED, D.UNCONFIRMED, D.PENDING, D.DEAD}),
    D.UNCONFIRMED: frozenset({D.CONFIRMED, D.PENDING, D.DEAD}),
    D.CONFIRMED: frozenset(),
    D.DEAD: frozenset({D.PENDING, D.CANCELLED}),
    D.CANCELLED: frozenset({D.PENDING}),
}
