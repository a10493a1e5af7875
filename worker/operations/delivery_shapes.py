"""What is shown of destinations, deliveries and failed jobs: pure shapes. Fields are only ever added."""

from __future__ import annotations

from datetime import datetime

from worker.operations.shapes import Shape


class RefusedClass(Shape):
    """A kind of object that a destination does not take: until it is asked again, it gets something else instead."""

    sop_class_uid: str
    name: str
    since: datetime
    #: What it said; empty where that was not kept.
    said: str
    #: When it is asked again by itself.
    until: datetime


class DestinationState(Shape):
    """A destination and what is on its way there."""

    name: str
    #: "dicom", "stow" and others; empty for one that the settings do not name any more.
    kind: str
    address: str
    is_known: bool
    results: list[str]
    waiting: int
    sending: int
    dead: int
    unconfirmed: int
    #: In the last 24 hours; `confirmed` is part of `delivered`.
    delivered: int
    confirmed: int
    #: Since when the oldest result that waits is there.
    oldest_since: datetime | None
    #: Nothing is sent before this time; null where it is not paused.
    paused_until: datetime | None
    #: What it said last where something was not taken; null where all was.
    last_error: str | None
    refused: list[RefusedClass]


class DeliveryEntry(Shape):
    """A delivery with what it delivers."""

    id: int
    destination: str
    #: A `DeliveryState`.
    state: str
    kind: str
    attempts: int
    tries: int
    last_error: str | None
    not_before: datetime
    delivered_at: datetime | None
    confirmed_at: datetime | None
    created_at: datetime
    result_id: int
    sop_instance_uid: str
    job_id: str
    adapter: str
    study_id: int
    study_instance_uid: str
    accession_number: str


class DeliveryPage(Shape):
    """Some deliveries, the newest first."""

    deliveries: list[DeliveryEntry]
    #: Ask with this as `before` for those that follow; null where these were the last.
    next_before: int | None


class FailedJob(Shape):
    """A job that has no usable answer."""

    id: str
    adapter: str
    state: str
    attempts: int
    reason: str
    waiting_since: datetime
    study_id: int
    study_instance_uid: str
    accession_number: str
    modality: str


class FailedJobPage(Shape):
    """Some failed jobs, those that wait longest first."""

    jobs: list[FailedJob]
    #: Ask with this as `offset` for those that follow; null where these were the last.
    next_offset: int | None


class Connection(Shape):
    """Whether a destination answered when it was asked."""

    destination: str
    address: str
    answers: bool
    #: Why not; empty where it does.
    trouble: str
    took_s: float


class AskedAgain(Shape):
    """How many kinds of object a destination is offered again."""

    offered_again: int

    @property
    def in_words(self) -> str:
        """What was done, for the audit trail."""
        return f"{self.offered_again} refused kinds of object are offered again"


class TriedNow(Shape):
    """How many deliveries are tried now that would have waited."""

    due_now: int

    @property
    def in_words(self) -> str:
        """What was done, for the audit trail."""
        return f"{self.due_now} waiting deliveries are tried at once"


class Resent(Shape):
    """How many deliveries were put back into the outbox."""

    queued_again: int

    @property
    def in_words(self) -> str:
        """What was done, for the audit trail."""
        return f"{self.queued_again} deliveries are sent again"

    @staticmethod
    def about(destination: str | None) -> str:
        """What was changed, for the audit trail: the one destination that was named, else deliveries."""
        return destination or "deliveries"
