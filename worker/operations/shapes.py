"""What the pages of operations and the API show of the daemon: pure shapes. Fields are only ever added."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """Base of what is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(Shape):
    """One place on the way of the data: how much is there, since when, and how much passed."""

    name: str
    #: What it counts, in words.
    means: str
    count: int = Field(ge=0)
    #: Since when the oldest of them is there; null where there is none.
    oldest_since: datetime | None
    #: How many got there in the last hour; null where that is not counted.
    last_hour: int | None


class Disk(Shape):
    """The file system of `data_dir`, in bytes."""

    folder: str
    free: int
    total: int
    #: Less than this is said to be little.
    little: int
    is_little: bool
    #: Less than this, and images are refused.
    kept_free: int
    is_too_little: bool


class ProcessState(Shape):
    """One process of the daemon, as its supervisor sees it."""

    place: str
    name: str
    pid: int | None
    alive: bool
    up_s: int
    restarts: int
    #: How it ended before it was started again; null where it never did.
    exit_code: int | None


class EngineState(Shape):
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


class BrokerState(Shape):
    """The broker, as the dispatcher sees it; `reachable` is null where no dispatcher has said anything lately."""

    reachable: bool | None
    #: Queue -> rings that nobody has heard yet.
    rings: dict[str, int | None]
    at: datetime | None


class Pipeline(Shape):
    """The state of everything at one moment."""

    at: datetime
    stages: list[Stage]
    disk: Disk | None
    broker: BrokerState
    processes: list[ProcessState]
    engines: list[EngineState]
    #: What somebody should do something about, in words; empty where all is well.
    troubles: list[str]


class Reason(Shape):
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


class WhyNot(Shape):
    """Why a study has no result yet, or not all of it."""

    study_id: int
    #: True where at least one result has arrived at a destination.
    has_result: bool
    reasons: list[Reason]


class Agreement(Shape):
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


class CalibrationInUse(Shape):
    """A calibration that is applied to an adapter's probabilities."""

    question_key: str
    site: str
    version: int
    method: str
    cases: int
    fitted_at: datetime
    #: Why it does not apply to the last answer; empty where it does.
    void: str


class AdapterState(Shape):
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
    #: Wilson interval of `parsed` / `parse_known`, 95 %; null where nothing is known.
    parsed_low: float | None
    parsed_high: float | None
    #: Answers that `median_answer_s` is about.
    timed: int
    agreement: Agreement
    calibrations: list[CalibrationInUse]


class EventData(Shape):
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
