"""The tables (SQLAlchemy 2). One schema for SQLite and PostgreSQL; times are aware and UTC."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, ForeignKey, Index, String, Text, UniqueConstraint, event, false, select
from sqlalchemy.orm import Mapped, Mapper, mapped_column, relationship

from worker.db.columns import (
    Record,
    given_name_key,
    given_parsed,
    given_probability,
    given_seconds,
    state_column,
    utc_now,
)
from worker.states import DeliveryState, InstanceState, JobState, SeriesState


class Association(Record):
    """One DICOM association that delivered instances."""

    __tablename__ = "associations"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    called_ae_title: Mapped[str] = mapped_column(String(16))
    peer_address: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    #: True after A-RELEASE: the sender said it was done. Aborted or lost associations stay False.
    released: Mapped[bool] = mapped_column(default=False)


class Study(Record):
    """A study (PS3.3 C.7.2); its state is derived, see `worker.db.queries`."""

    __tablename__ = "studies"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    accession_number: Mapped[str] = mapped_column(String(64), default="", index=True)
    patient_id: Mapped[str] = mapped_column(String(128), default="", index=True)
    #: With the patient ID, what tells whether another study is of the same person; empty where it is not stated.
    issuer_of_patient_id: Mapped[str] = mapped_column(String(64), default="")
    patient_birth_date: Mapped[str] = mapped_column(String(16), default="")
    patient_name: Mapped[str] = mapped_column(String(512), default="")
    study_date: Mapped[str] = mapped_column(String(16), default="")
    study_description: Mapped[str] = mapped_column(String(256), default="")
    first_received_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    series: Mapped[list[Series]] = relationship(back_populates="study", order_by="Series.id")
    jobs: Mapped[list[Job]] = relationship(back_populates="study", order_by="Job.created_at, Job.id")


class Series(Record):
    """A series, its clock and its route."""

    __tablename__ = "series"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    modality: Mapped[str] = mapped_column(String(16), default="")
    state: Mapped[SeriesState] = mapped_column(state_column(SeriesState), default=SeriesState.RECEIVING)
    #: Counts the times this series was whole; results of a later revision supersede those of an earlier one.
    revision: Mapped[int] = mapped_column(default=0)
    last_instance_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: When assembly looks next; empty when there is nothing to wait for. The clock lives here, not in a process.
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    #: Instances of it that its source has, as it said last; empty where it is not asked, or did not say.
    at_source: Mapped[int | None]
    #: Times the source was asked to send what is missing, and when it may be asked again.
    fetch_tries: Mapped[int] = mapped_column(default=0, server_default="0")
    fetch_after: Mapped[datetime | None]
    #: Names of the adapters that took it, in order, joined by commas.
    route_adapter: Mapped[str | None] = mapped_column(String(256))
    route_rule: Mapped[str | None] = mapped_column(String(128))
    route_reason: Mapped[str | None] = mapped_column(Text)
    study: Mapped[Study] = relationship(back_populates="series")
    instances: Mapped[list[Instance]] = relationship(back_populates="series", order_by="Instance.id")
    __table_args__ = (
        UniqueConstraint("study_id", "series_instance_uid"),
        Index("ix_series_state", "state", "last_instance_at"),
    )


class Instance(Record):
    """A received SOP instance and where its bytes lie."""

    __tablename__ = "instances"
    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    state: Mapped[InstanceState] = mapped_column(state_column(InstanceState), default=InstanceState.STORED)
    #: SHA-256 of the file: what tells the same instance from another with the same UID.
    digest: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int]
    path: Mapped[str] = mapped_column(Text)
    header: Mapped[dict[str, Any]]
    #: Empty where the instance was adopted from the spool at start.
    association_id: Mapped[str | None] = mapped_column(String(32), index=True)
    calling_ae_title: Mapped[str] = mapped_column(String(16), default="")
    called_ae_title: Mapped[str] = mapped_column(String(16), default="")
    received_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: Revision of the series that this instance came into; empty until assembly has seen it.
    revision: Mapped[int | None]
    #: Transaction in which the sender asked this node last to keep the instance (PS3.4 J): a sign that it is done.
    commitment_uid: Mapped[str | None] = mapped_column(String(64))
    series: Mapped[Series] = relationship(back_populates="instances")
    __table_args__ = (UniqueConstraint("sop_instance_uid", "digest"),)


class Job(Record):
    """One adapter's work on one unit: a run (SOP instance) or a series."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=lambda: uuid.uuid4().hex)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    adapter: Mapped[str] = mapped_column(String(64))
    #: Of its series (`_take_modality`), kept here for lists.
    modality: Mapped[str] = mapped_column(String(16), default="", server_default="")
    #: `Question.to_json`; empty where the adapter has but one.
    question: Mapped[dict[str, Any] | None]
    #: `Question.key`: tells the jobs of several questions about one unit from one another.
    question_key: Mapped[str] = mapped_column(String(64), default="")
    #: SOP Instance UID or Series Instance UID, as the adapter's `Unit` says.
    unit_uid: Mapped[str] = mapped_column(String(64))
    revision: Mapped[int]
    state: Mapped[JobState] = mapped_column(state_column(JobState), default=JobState.QUEUED)
    priority: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    attempts: Mapped[int] = mapped_column(default=0)
    #: Nothing is done with it before this time: a retry after a failure, or a decision that can still be taken back.
    not_before: Mapped[datetime] = mapped_column(default=utc_now)
    claim_token: Mapped[str | None] = mapped_column(String(32))
    claimed_by: Mapped[str | None] = mapped_column(String(128))
    claim_expires_at: Mapped[datetime | None]
    #: Why this unit is at the edge of the adapter's intended use; each sentence forces review.
    doubts: Mapped[list[Any]] = mapped_column(default=list)
    #: What the model saw: `ModelInput.to_json`.
    model_input: Mapped[dict[str, Any] | None]
    #: The raw answer: `Generation.to_json`.
    generation: Mapped[dict[str, Any] | None]
    #: What was asked: `models.prompting.prompt_digest`; empty before an answer, and for answers of early versions.
    prompt_digest: Mapped[str] = mapped_column(String(64), default="")
    provenance: Mapped[dict[str, Any] | None]
    findings: Mapped[dict[str, Any] | None]
    #: `Confidence` as a dictionary.
    confidence: Mapped[dict[str, Any] | None]
    decision: Mapped[str | None] = mapped_column(String(16))
    decision_reason: Mapped[str | None] = mapped_column(Text)
    answered_at: Mapped[datetime | None]
    #: The last failure, in words.
    error: Mapped[str | None] = mapped_column(Text)
    #: When it came before a person last; until then, when it was made.
    waiting_since: Mapped[datetime] = mapped_column(default=utc_now)
    #: Of `confidence`, kept apart for lists (`worker.db.transitions.move_job`).
    probability: Mapped[float | None] = mapped_column(default=given_probability)
    #: Seconds the engine spent on the answer, and whether the answer had the adapter's form; empty until it is known.
    answer_s: Mapped[float | None] = mapped_column(default=given_seconds)
    parsed: Mapped[bool | None] = mapped_column(default=given_parsed)
    #: One person gave an opinion; another must decide.
    second_reader: Mapped[bool] = mapped_column(default=False)
    study: Mapped[Study] = relationship(back_populates="jobs")
    series: Mapped[Series] = relationship()
    results: Mapped[list[Result]] = relationship(back_populates="job", order_by="Result.id")
    reviews: Mapped[list[Review]] = relationship(back_populates="job", order_by="Review.id")
    __table_args__ = (
        UniqueConstraint("adapter", "question_key", "unit_uid", "revision", name="uq_jobs_unit"),
        Index("ix_jobs_next", "state", "priority", "created_at"),
        Index("ix_jobs_answered", "adapter", "answered_at", "answer_s", "parsed"),
        Index("ix_jobs_failed", "state", "parsed", "waiting_since"),
        # Everything that the work list filters and sorts by: a row's answer is read for the lines shown only.
        Index(
            "ix_jobs_waiting",
            *("state", "priority", "waiting_since", "id", "adapter", "probability"),
            *("second_reader", "modality", "study_id"),
        ),
    )


@event.listens_for(Job, "before_insert")
def _take_modality(_mapper: Mapper[Job], connection: Connection, job: Job) -> None:
    """Take the modality of a new job over from its series, where whoever made it did not."""
    if not job.modality:
        job.modality = connection.scalar(select(Series.modality).where(Series.id == job.series_id)) or ""


class Result(Record):
    """A DICOM object this software wrote, or a message to another system."""

    __tablename__ = "results"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    #: Of a message, a UID that is its own.
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    #: Empty for a message (`worker.result_kinds.MESSAGES`): it is no DICOM object.
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    #: Of `worker.result_kinds`.
    kind: Mapped[str] = mapped_column(String(16))
    #: True for what a person signed.
    verified: Mapped[bool] = mapped_column(default=False)
    digest: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    predecessor_sop_instance_uid: Mapped[str | None] = mapped_column(String(64))
    #: SOP Instance UID of the report of the same answer: what was written together has the same.
    report_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    job: Mapped[Job] = relationship(back_populates="results")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="result", order_by="Delivery.id")


class Delivery(Record):
    """One result on its way to one destination: the outbox."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[DeliveryState] = mapped_column(state_column(DeliveryState), default=DeliveryState.PENDING)
    #: Tries that reached the destination and were refused; a destination that is down costs none.
    attempts: Mapped[int] = mapped_column(default=0)
    #: All tries, for the back-off.
    tries: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime] = mapped_column(default=utc_now)
    claim_token: Mapped[str | None] = mapped_column(String(32))
    claim_expires_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    #: When the destination took it last, or may have: it was sent, and the answer was lost.
    delivered_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    #: When the destination is asked next whether it keeps the object; empty where it is not asked.
    confirm_at: Mapped[datetime | None] = mapped_column(index=True)
    #: Times it was asked since the object was sent last, and times it said that it has not got it.
    asks: Mapped[int] = mapped_column(default=0)
    denials: Mapped[int] = mapped_column(default=0)
    #: The storage commitment that was asked for last (`worker.db.commitment_records.Commitment`).
    transaction_uid: Mapped[str | None] = mapped_column(String(64))
    #: It was cancelled because its job was rejected, and for nothing else: it is sent where that is taken back.
    stopped_by_decision: Mapped[bool] = mapped_column(default=False, server_default=false())
    result: Mapped[Result] = relationship(back_populates="deliveries")
    __table_args__ = (
        UniqueConstraint("result_id", "destination"),
        Index("ix_deliveries_next", "state", "not_before"),
        Index("ix_deliveries_listed", "state", "id"),
        Index("ix_deliveries_counted", "state", "destination", "delivered_at", "id"),
    )


class Review(Record):
    """What a person decided about a job, and on what."""

    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    #: "accept", "edit", "reject", "retry", "reroute", "opinion" (of a first reader) or "comment".
    action: Mapped[str] = mapped_column(String(16))
    #: Whose log-in it was (`User.id`); empty from the command line.
    account: Mapped[str] = mapped_column(String(64), default="")
    reviewer_name: Mapped[str] = mapped_column(String(256))
    #: What the name is compared by (`worker.db.identity`).
    name_key: Mapped[str] = mapped_column(String(256), default=given_name_key, server_default="")
    reviewer_organization: Mapped[str] = mapped_column(String(256), default="")
    comment: Mapped[str] = mapped_column(Text, default="")
    #: The findings the person signs (the model's own, or as edited).
    findings: Mapped[dict[str, Any] | None]
    #: What it was decided on: a digest of findings, model input and revision (`worker.review.seen_digest`).
    seen: Mapped[str] = mapped_column(String(64), default="")
    #: What the person had before them (`worker.review.shown`); empty where nobody knows.
    shown: Mapped[dict[str, Any] | None]
    #: Ids of the jobs that the decision began; they end where it is taken back.
    started: Mapped[list[Any] | None]
    #: State of the job that it was decided in.
    from_state: Mapped[str] = mapped_column(String(32), default="")
    decided_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: When the same person took it back, before anything had left.
    undone_at: Mapped[datetime | None]
    job: Mapped[Job] = relationship(back_populates="reviews")
    __table_args__ = (Index("ix_reviews_decided", "decided_at", "action", "undone_at", "job_id"),)


class Event(Record):
    """One thing that happened: every state change, with its reason. Rows are only ever added."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("studies.id"), index=True)
    #: "instance", "series", "job", "delivery", "calibration".
    subject: Mapped[str] = mapped_column(String(16))
    subject_id: Mapped[str] = mapped_column(String(64))
    from_state: Mapped[str | None] = mapped_column(String(32))
    to_state: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text, default="")
    __table_args__ = (Index("ix_events_at", "subject", "to_state", "at"),)
