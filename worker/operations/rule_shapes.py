"""What is shown of rules, routes and replays: pure shapes. Fields are only ever added."""

from __future__ import annotations

from datetime import datetime

from worker.operations.shapes import Shape


class RuleInForce(Shape):
    """A rule that decides where a series goes, in the order in which they are looked at."""

    #: "site" or "adapter".
    origin: str
    name: str
    #: What must hold, in words.
    conditions: list[str]
    #: Adapters it leads to; empty: the series is left alone.
    adapters: list[str]
    priority: str


class RuleStep(Shape):
    """A rule that was looked at."""

    rule: str
    matched: bool
    reasons: list[str]


class SeriesRoute(Shape):
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


class StudyRoutes(Shape):
    """All series of a study with their routes."""

    study_id: int
    study_instance_uid: str
    series: list[SeriesRoute]
    #: Series left out, and why, in words.
    left_out: list[str]


class RouteChange(Shape):
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
    #: What differs: "adapters", "questions", "images", "priority" or "doubts".
    differs: list[str]


class RouteCount(Shape):
    """How many series go from one set of adapters to another."""

    before: list[str]
    after: list[str]
    series: int


class ReplayReport(Shape):
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


class Replay(Shape):
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
