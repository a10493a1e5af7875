"""Settings of the site's own routing rules: what a rule looks at, whom it asks, and what.

Input: the values of a settings file or of rules on trial. Output: frozen sections of `worker.settings.Settings`. An
unknown key or a wrong value raises pydantic's `ValidationError`, which `worker.settings_mistakes` puts in words.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from worker.engine_settings import Section


class RouteConditions(Section):
    """What a site rule looks at: shell-style patterns, case-insensitive; all that are given must match."""

    calling_ae_title: str | None = None
    called_ae_title: str | None = None
    modality: str | None = None
    sop_class_uid: str | None = None
    station_name: str | None = None
    institution_name: str | None = None
    study_description: str | None = None
    series_description: str | None = None
    protocol_name: str | None = None
    body_part_examined: str | None = None
    body_region: str | None = None


class RouteQuestion(Section):
    """A question to an adapter that answers several kinds (`dicom-worker adapters list` shows them)."""

    task: str = Field(description="kind of question")
    text: str = Field("", description="the site's own words; empty means the adapter's")
    labels: list[str] = Field([], description="what to choose among, to detect or to count")
    unit: str = Field("", description="UCUM unit of a number that is asked for")
    language: str = Field("", description="language of free text (BCP 47); empty means the adapter's")


class RouteRule(Section):
    """A site's own rule, looked at before what the adapters accept."""

    name: str = Field(min_length=1, description="name in the ledger")
    when: RouteConditions = Field(description="all conditions must match")
    adapter: str | list[str] | None = Field(description="adapter to use, or several; null leaves the series alone")
    ask: list[RouteQuestion] = Field(
        [], description="questions to put, each a job of its own, to an adapter that has several kinds"
    )
    priority: Literal["routine", "high", "stat"] = Field("routine", description="urgency of the jobs")
