"""The JSON that scripts and the web pages see: the ledger of studies, jobs, results and deliveries (docs: CONTRACT).

Pure shapes: `worker.db.queries` fills them from rows. Fields are only ever added; one that is not known is null, not
absent, so that a script may index without asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

#: Goes with every answer of the stand-in, wherever it is shown.
STANDIN_NOTICE = (
    "Answered by the built-in stand-in, which knows only drawn phantoms: this result means nothing and must not be "
    "used for any patient."
)


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeliveryView(_View):
    """One result on its way to one destination."""

    id: int
    destination: str
    #: A `DeliveryState`.
    state: str
    #: The destination vouched for the object, beyond having answered success.
    confirmed: bool
    #: Tries that the destination refused; a destination that is down costs none.
    attempts: int
    tries: int
    #: The last failure, or the remark that came with a success, in words.
    last_error: str | None
    not_before: datetime
    delivered_at: datetime | None
    confirmed_at: datetime | None


class ResultView(_View):
    """A DICOM object or a message that was written, and where it went."""

    #: This software's own number for it, which addresses of pages have in place of its UID.
    id: int
    #: Of a message, a UID that is its own.
    sop_instance_uid: str
    #: Empty for a message.
    sop_class_uid: str
    #: Of `worker.result_kinds`.
    kind: str
    #: Signed by a person.
    verified: bool
    predecessor_sop_instance_uid: str | None
    #: The file on the disk of this software.
    path: str
    created_at: datetime
    deliveries: list[DeliveryView]


class ProvenanceView(_View):
    """Which weights answered, on what (`models.generation.ModelProvenance`)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    base: str
    base_revision: str
    base_digest: str
    adapter: str
    adapter_revision: str
    adapter_digest: str
    engine: str
    dtype: str
    device: str
    software: str
    is_standin: bool
    #: Weight or configuration file -> SHA-256.
    files: dict[str, str]


class ShownView(_View):
    """What a person had before them when they decided: as their browser, or a program, said."""

    #: Images (frames) of the case that were on the screen, each counted once; null where nobody said.
    frames_shown: int | None
    #: Images there were to see; null where `frames_shown` is.
    frames: int | None
    #: Revision of the series whose answer was shown; null, as all that follows, where nobody said which was.
    revision: int | None
    answered_at: datetime | None
    #: SHA-256 of the adapter's weights that gave the answer.
    adapter_digest: str | None
    #: The model's answer, as it was shown.
    findings: dict[str, Any] | None
    #: What was signed until then, where a signed answer was corrected or rejected.
    signed_findings: dict[str, Any] | None


class ReviewView(_View):
    """What a person decided about a job."""

    #: "accept", "edit", "reject", "retry", "reroute", "opinion" (of a first reader) or "comment".
    action: str
    reviewer_name: str
    reviewer_organization: str
    comment: str
    #: The findings that were signed.
    findings: dict[str, Any] | None
    decided_at: datetime
    #: When the same person took it back; null where it stands.
    undone_at: datetime | None
    #: Digest of what it was decided on (`JobDetail.seen`); empty for decisions of early versions.
    seen: str
    #: Null where it is not known.
    shown: ShownView | None


class JobView(_View):
    """One adapter's work on one unit."""

    id: str
    adapter: str
    #: What was asked (`models.adapter.Question`); null where the adapter has but one question.
    question: dict[str, Any] | None
    series_instance_uid: str
    #: SOP Instance UID of the run, or Series Instance UID.
    unit_uid: str
    revision: int
    #: A `JobState`.
    state: str
    priority: int
    created_at: datetime
    attempts: int
    #: Why this unit is at the edge of the intended use.
    doubts: list[str]
    #: What the model found; what a person signed stands in the reviews.
    findings: dict[str, Any] | None
    #: Probability of the answer in [0, 1].
    confidence: float | None
    #: Whether that probability was compared with reviewed cases.
    calibrated: bool | None
    method: str | None
    #: "release" or "review".
    decision: str | None
    decision_reason: str | None
    provenance: ProvenanceView | None
    is_standin: bool
    #: What must be read with the answer; null where nothing must.
    notice: str | None
    answered_at: datetime | None
    error: str | None
    results: list[ResultView]


class RouteView(_View):
    """Why a series went to an adapter, or to none."""

    #: The first of `adapters`.
    adapter: str | None
    #: Every adapter that took the series.
    adapters: list[str]
    rule: str | None
    reason: str | None


class SeriesView(_View):
    """A series and its route."""

    series_instance_uid: str
    modality: str
    #: Instances in use.
    instances: int
    #: Instances kept aside: an earlier one has the same SOP Instance UID and other content.
    conflicts: int
    #: Instances whose file is gone or damaged.
    missing: int
    #: A `SeriesState`.
    state: str
    revision: int
    route: RouteView


class StudyView(_View):
    """A study in the ledger."""

    #: This software's own number for it, which addresses of pages have in place of its UID.
    id: int
    study_instance_uid: str
    accession_number: str
    patient_id: str
    patient_name: str
    study_date: str
    study_description: str
    #: A `StudyState`.
    state: str
    #: The highest revision of its series.
    revision: int
    instances: int
    conflicts: int
    missing: int
    first_received_at: datetime
    series: list[SeriesView]
    jobs: Sequence[JobView]


class EventView(_View):
    """One thing that happened."""

    at: datetime
    #: "instance", "series", "job" or "delivery".
    subject: str
    subject_id: str
    from_state: str | None
    to_state: str | None
    reason: str


class InputView(_View):
    """What the model was shown."""

    #: How many images.
    images: int
    #: SHA-256 over the images' shapes and pixels, hexadecimal.
    digest: str
    #: How frames were chosen, what was left out, how each instance was decoded.
    record: dict[str, Any]
    #: What makes the same pixels again: frames, masks, windows and sizes; empty before that was kept.
    recipe: list[dict[str, Any]]


class JobDetail(JobView):
    """A job with what people decided about it."""

    #: What the model said, word for word.
    answer_text: str | None
    #: What made the input incomplete or doubtful.
    incomplete: list[str]
    #: What the model was shown; null where it was shown nothing yet.
    model_input: InputView | None
    reviews: list[ReviewView]
    #: Digest of the answer as it stands: goes with a decision, which is refused where it has changed.
    seen: str
    #: Since when a person is waited for, or since when there is the job.
    waiting_since: datetime
    #: One person gave an opinion; another must decide.
    second_reader: bool
    #: Nothing is done with it before: until then a decision can be taken back.
    not_before: datetime


class StudyDetail(StudyView):
    """A study with everything that happened to it, in order."""

    jobs: Sequence[JobDetail]
    history: list[EventView]


class ReviewCase(JobDetail):
    """A job as a reviewer sees it: with its study."""

    #: `StudyView.id`.
    study_id: int
    study_instance_uid: str
    accession_number: str
    patient_id: str
    patient_name: str
    study_date: str
    study_description: str
