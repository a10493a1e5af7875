"""What the pages of operations and the API show: pure shapes. Fields are only ever added."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Shape):
    """One place on the way of the data: how much is there, since when, and how much passed."""

    name: str
    #: What it counts, in words.
    means: str
    count: int = Field(ge=0)
    #: Since when the oldest of them is there; null where there is none.
    oldest_since: datetime | None
    #: How many got there in the last hour; null where that is not counted.
    last_hour: int | None


class Disk(_Shape):
    """The file system of `data_dir`, in bytes."""

    folder: str
    free: int
    total: int
    #: Less than this is said to be little.
    little: int
    is_little: bool


class ProcessState(_Shape):
    """One process of the daemon, as its supervisor sees it."""

    place: str
    name: str
    pid: int | None
    alive: bool
    up_s: int
    restarts: int
    #: How it ended before it was started again; null where it never did.
    exit_code: int | None


class EngineState(_Shape):
    """What an inference process holds in memory."""

    place: str
    at: datetime
    #: False where it was silent for a while: it is believed to be gone.
    is_fresh: bool
    kind: str
    device: str
    device_name: str
    #: Base model -> adapters that answer on it.
    resident: dict[str, list[str]]
    memory_used: int | None
    memory_total: int | None


class BrokerState(_Shape):
    """The broker, as the dispatcher sees it; `reachable` is null where no dispatcher has said anything lately."""

    reachable: bool | None
    #: Queue -> rings that nobody has heard yet.
    rings: dict[str, int | None]
    at: datetime | None


class Pipeline(_Shape):
    """The state of everything at one moment."""

    at: datetime
    stages: list[Stage]
    disk: Disk | None
    broker: BrokerState
    processes: list[ProcessState]
    engines: list[EngineState]
    #: What somebody should do something about, in words; empty where all is well.
    troubles: list[str]


class Reason(_Shape):
    """One thing that stands between a study and its result."""

    #: "study", "series", "job" or "delivery".
    about: str
    #: Which one: Series Instance UID, job id or number of the delivery.
    reference: str
    #: State of it, or a word for what is wrong.
    state: str
    text: str
    #: What can be done; empty where nothing need be.
    remedy: str = ""
    #: When something happens next by itself; null where that is not known.
    next_at: datetime | None = None


class WhyNot(_Shape):
    """Why a study has no result yet, or not all of it."""

    study_id: int
    #: True where at least one result has arrived at a destination.
    has_result: bool
    reasons: list[Reason]


class DestinationState(_Shape):
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


class DeliveryEntry(_Shape):
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


class DeliveryPage(_Shape):
    """Some deliveries, the newest first."""

    deliveries: list[DeliveryEntry]
    #: Ask with this as `before` for those that follow; null where these were the last.
    next_before: int | None


class FailedJob(_Shape):
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


class FailedJobPage(_Shape):
    """Some failed jobs, those that wait longest first."""

    jobs: list[FailedJob]
    #: Ask with this as `offset` for those that follow; null where these were the last.
    next_offset: int | None


class Agreement(_Shape):
    """How often people let an adapter's answer stand."""

    accepted: int
    edited: int
    rejected: int
    n: int
    #: Accepted as they were, of all; null where nobody decided anything.
    share: float | None
    #: Wilson interval of the share, 95 %.
    low: float | None
    high: float | None


class CalibrationInUse(_Shape):
    """A calibration that is applied to an adapter's probabilities."""

    question_key: str
    site: str
    version: int
    method: str
    cases: int
    fitted_at: datetime
    #: Why it does not apply to the last answer; empty where it does.
    void: str


class AdapterState(_Shape):
    """An adapter: can it be used, what answers, how fast, and do people agree with it."""

    name: str
    title: str
    version: str
    enabled: bool
    usable: bool
    #: What stands in the way; empty where nothing does.
    problems: list[str]
    #: True where an inference process has it in memory now.
    resident: bool
    base: str
    lora: str
    revision: str
    #: Of the weights that gave the last answer; null before there is one.
    digest: str | None
    answered_last: datetime | None
    answers_last_day: int
    #: The last answers that the figures below are about.
    answers: int
    median_answer_s: float | None
    #: Answers that had the adapter's form, of `answers` for which this is known.
    parsed: int
    parse_known: int
    agreement: Agreement
    calibrations: list[CalibrationInUse]


class RuleInForce(_Shape):
    """A rule that decides where a series goes, in the order in which they are looked at."""

    #: "site" or "adapter".
    origin: str
    name: str
    #: What must hold, in words.
    conditions: list[str]
    #: Adapters it leads to; empty: the series is left alone.
    adapters: list[str]
    priority: str


class RuleStep(_Shape):
    """A rule that was looked at."""

    rule: str
    matched: bool
    reasons: list[str]


class SeriesRoute(_Shape):
    """Where the rules in force send a series, and where it went when it was routed."""

    series_instance_uid: str
    modality: str
    series_description: str
    instances: int
    adapters: list[str]
    rule: str
    reason: str
    priority: str
    doubts: list[str]
    steps: list[RuleStep]
    routed_adapters: list[str]
    routed_rule: str | None
    routed_reason: str | None


class StudyRoutes(_Shape):
    """All series of a study with their routes."""

    study_id: int
    study_instance_uid: str
    series: list[SeriesRoute]
    #: Series left out, and why, in words.
    left_out: list[str]


class RouteChange(_Shape):
    """A series that other rules would send elsewhere."""

    study_id: int
    series_instance_uid: str
    modality: str
    instances: int
    before: list[str]
    after: list[str]
    rule_before: str
    rule_after: str
    reason_after: str
    priority_before: str
    priority_after: str


class RouteCount(_Shape):
    """How many series go from one set of adapters to another."""

    before: list[str]
    after: list[str]
    series: int


class ReplayReport(_Shape):
    """What other rules would have done with the series of the last days. Nothing was changed."""

    days: float
    #: Series that were looked at, and all there are in that time.
    series: int
    series_in_time: int
    changed: int
    counts: list[RouteCount]
    #: The first of them, the newest first.
    changes: list[RouteChange]
    #: True where there are more changes than are listed.
    is_cut: bool


class Replay(_Shape):
    """A replay that somebody asked for."""

    id: str
    #: "running", "done", "failed" or "stopped".
    state: str
    by: str
    started_at: datetime
    done: int
    of: int
    #: Why it failed; null where it did not.
    error: str | None
    report: ReplayReport | None


class Resent(_Shape):
    """How many deliveries were put back into the outbox."""

    queued_again: int


class EventData(_Shape):
    """One change, as the stream of events tells it: numbers and states, nothing of a patient."""

    id: int
    at: datetime
    study_id: int | None
    subject: str
    subject_id: str
    from_state: str | None
    to_state: str | None


#: JSON of a `RouteRule` as a settings file holds it.
RuleJson = dict[str, Any]
