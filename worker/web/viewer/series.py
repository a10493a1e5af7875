"""What is to be seen: a series, or the unit of a job, out of the database.

Input: a session of `Database.reading()` and the number of a series, or the id of a job. Output: `Scope`: the stored
images with their numbers in the database, which are all that addresses name. On failure `LookupError` in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceFile, InstanceHeader
from worker.db.records import Instance, Job, Series
from worker.states import InstanceState

#: Images that tell what a page's heading says of a series.
_SAMPLE: Final = 5


@dataclass(frozen=True, slots=True)
class Scope:
    """The images that a viewer shows."""

    series_id: int
    study_id: int
    modality: str
    #: SeriesDescription, as an image has it; names of people do not belong there, but nobody can be sure.
    description: str
    #: Number in the database and file, in order of arrival.
    images: tuple[tuple[int, InstanceFile], ...]
    job_id: str = ""
    adapter: str = ""

    @property
    def files(self) -> list[InstanceFile]:
        """The files alone."""
        return [file for _, file in self.images]

    @property
    def numbers(self) -> dict[str, int]:
        """SOP Instance UID -> number in the database."""
        return {file.header.sop_instance_uid: number for number, file in self.images}


def of_series(session: Session, series_id: int, *, sample: bool = False) -> Scope:
    """Return all images of a series, or with `sample` some that speak for it. Raises `LookupError`."""
    series = session.get(Series, series_id)
    if series is None:
        raise LookupError(f"there is no series {series_id} here; open it from its study")
    return _scope(session, series, select(Instance).where(Instance.series_id == series_id), sample=sample)


def of_job(session: Session, job: Job, *, sample: bool = False) -> Scope:
    """Return the images of a job's unit: the run, or the series as of the job's revision. Raises `LookupError`."""
    chosen = select(Instance).where(Instance.series_id == job.series_id)
    if job.unit_uid == job.series.series_instance_uid:
        chosen = chosen.where(Instance.revision <= job.revision)
    else:
        chosen = chosen.where(Instance.sop_instance_uid == job.unit_uid)
    return _scope(session, job.series, chosen, job, sample=sample)


def image(session: Session, series_id: int, instance_id: int) -> InstanceFile:
    """Return one stored image of a series. Raises `LookupError`."""
    row = session.get(Instance, instance_id)
    if row is None or row.series_id != series_id or row.state is not InstanceState.STORED:
        raise LookupError(f"there is no image {instance_id} here any more; load the page again")
    return _file(row)


def _scope(
    session: Session, series: Series, chosen: Select[Instance], job: Job | None = None, *, sample: bool
) -> Scope:
    wanted = chosen.where(Instance.state == InstanceState.STORED).order_by(Instance.id)
    images = _images(session, wanted.limit(_SAMPLE)) if sample else []
    images = images or _images(session, wanted)
    if not images:
        raise LookupError("there are no images in this series: its objects are reports or other documents, or are gone")
    header = images[0][1].header
    return Scope(
        series_id=series.id,
        study_id=series.study_id,
        modality=series.modality or header.modality,
        description=header.series_description,
        images=tuple(images),
        job_id="" if job is None else job.id,
        adapter="" if job is None else job.adapter,
    )


def _images(session: Session, wanted: Select[Instance]) -> list[tuple[int, InstanceFile]]:
    found = [(row.id, _file(row)) for row in session.scalars(wanted)]
    return [(number, file) for number, file in found if file.header.has_pixel_data]


def _file(row: Instance) -> InstanceFile:
    return InstanceFile(InstanceHeader.from_json(row.header), Path(row.path))
