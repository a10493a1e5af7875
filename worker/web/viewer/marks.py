"""What a job's model saw -> marks on the pictures of the series: its key frames, the part it saw, its boxes.

Input: a job's row, and the adapters of this release. Output: JSON-ready `Marks`. Nothing here fails: a job without a
recipe, or with an answer that this release cannot read, has no marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from dicom_node.report import Region
from models.adapter import AdapterDefinition
from models.confidence import Confidence
from models.generation import ModelProvenance
from models.recipe import FrameOf, RecipeError
from models.rendering import InputRecord
from worker.answers import Answer, report_of
from worker.db.records import Job
from worker.db.units import asked_adapter

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks by place in the arrangement, counted from 0."""

    #: For each picture that the model saw: `input` (its number from 1), `at` (the places of its frames), `shown` (the
    #: place it is about), `is_key`, and `area`: [left, top, right, bottom] in pixels where the rest was made black.
    inputs: tuple[Mapping[str, Any], ...] = ()
    #: The model's boxes: `at`, `outline` ([[column, row], ...] in pixels), `label`.
    boxes: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {"inputs": [dict(one) for one in self.inputs], "boxes": [dict(one) for one in self.boxes]}


def marks_of(job: Job, places: Mapping[FrameOf, int], adapters: Mapping[str, AdapterDefinition]) -> Marks:
    """Return the marks of a job.

    Args:
        job: Its row.
        places: Where each frame stands in the arrangement.
        adapters: All that this release has, by name.
    """
    if job.model_input is None:
        return Marks()
    try:
        record = InputRecord.from_json(job.model_input)
    except RecipeError as error:
        log.warning("no marks", action="view", job_id=job.id, error=str(error))
        return Marks()
    inputs = []
    for index, picture in enumerate(record.recipe):
        at = sorted({places[of] for of in picture.frames if of in places})
        only = picture.only
        inputs.append(
            {
                "input": index + 1,
                "at": at,
                "shown": places.get(picture.shown),
                "is_key": index in record.key_images,
                "area": None if only is None else [only.left, only.top, only.right, only.bottom],
            }
        )
    return Marks(tuple(inputs), tuple(_boxes(job, record, places, adapters)))


def _boxes(
    job: Job, record: InputRecord, places: Mapping[FrameOf, int], adapters: Mapping[str, AdapterDefinition]
) -> list[dict[str, Any]]:
    found = []
    for region in _regions(job, record, adapters):
        frame = region.source.frame_numbers[0] if region.source.frame_numbers else 1
        place = places.get(FrameOf(region.source.sop_instance_uid, frame))
        if place is not None:
            outline = [[column, row] for column, row in region.outline]
            found.append({"at": place, "outline": outline, "label": region.label})
    return found


def _regions(job: Job, record: InputRecord, adapters: Mapping[str, AdapterDefinition]) -> Sequence[Region]:
    """Return what the adapter's own report outlines: only it knows how its model counts."""
    if job.findings is None or job.provenance is None:
        return ()
    try:
        adapter = asked_adapter(adapters, job)
        answer = Answer(
            adapter=adapter,
            findings=adapter.findings.model_validate(job.findings),
            input_record=record,
            provenance=ModelProvenance.from_json(job.provenance),
            confidence=None if job.confidence is None else Confidence.from_json(job.confidence),
            answered_at=job.answered_at or job.created_at,
            revision=job.revision,
            files=(),
            digests=(),
            question_key=job.question_key,
        )
        report = report_of(answer, None)
    except Exception as error:  # noqa: BLE001 - an answer of an earlier release: its marks are no reason to show nothing
        log.warning("no boxes", action="view", job_id=job.id, error=str(error))
        return ()
    return [finding.region for finding in report.findings if finding.region is not None]
