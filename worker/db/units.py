"""What a job is about: the adapter with its question, and the stored instances."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceFile, InstanceHeader
from models.adapter import AdapterDefinition, AdapterError, Unit
from models.question import Question
from worker.db.records import Instance, Job
from worker.states import InstanceState


def asked_adapter(adapters: Mapping[str, AdapterDefinition], job: Job) -> AdapterDefinition:
    """Return the adapter as it answers the job's question.

    Raises:
        LookupError: The adapter is not enabled here, or cannot be asked this any more; the message says what to do.
    """
    if job.adapter not in adapters:
        raise LookupError(
            f"adapter {job.adapter!r} is not enabled here (engine.enabled): enable it, then retry the job"
        )
    question = None if job.question is None else Question.from_json(job.question)
    try:
        return adapters[job.adapter].asked(question)
    except AdapterError as error:
        raise LookupError(str(error)) from error


def unit_files(session: Session, job: Job, adapter: AdapterDefinition) -> list[InstanceFile]:
    """Return the files of a job's unit as of its revision, in order of arrival.

    Instances the adapter does not accept (a localizer among the slices) are left out, unless a site rule sent a series
    of which it accepts none: then it gets them all, and the answer is held.
    """
    chosen = select(Instance).where(Instance.series_id == job.series_id, Instance.state == InstanceState.STORED)
    if adapter.unit is Unit.INSTANCE:
        chosen = chosen.where(Instance.sop_instance_uid == job.unit_uid)
    else:
        chosen = chosen.where(Instance.revision <= job.revision)
    files = _files(session, chosen)
    accepted = [file for file in files if adapter.acceptance.obstacle(file.header) is None]
    return accepted or files


def shown_instances(job: Job) -> Select[Instance]:
    """Return the query for the stored instances that a person is shown: the run, or the series as of the revision."""
    chosen = select(Instance).where(Instance.series_id == job.series_id, Instance.state == InstanceState.STORED)
    if job.unit_uid == job.series.series_instance_uid:
        return chosen.where(Instance.revision <= job.revision).order_by(Instance.id)
    return chosen.where(Instance.sop_instance_uid == job.unit_uid).order_by(Instance.id)


def count_images(session: Session, job: Job) -> int:
    """Count the images (frames) that a person can be shown of a case, as the headers tell."""
    found = session.scalars(shown_instances(job).with_only_columns(Instance.header))
    # Of hundreds of slices, a whole `InstanceHeader` each would be made for nothing.
    return sum(header.get("number_of_frames") or 1 for header in found if header.get("has_pixel_data"))


def instance_files(session: Session, job: Job, sop_instance_uids: Collection[str]) -> list[InstanceFile]:
    """Return the stored files of some instances of a job's series; one that is not there any more is left out."""
    chosen = select(Instance).where(
        Instance.series_id == job.series_id,
        Instance.state == InstanceState.STORED,
        Instance.sop_instance_uid.in_(sop_instance_uids),
    )
    return _files(session, chosen)


def _files(session: Session, chosen: Select[Instance]) -> list[InstanceFile]:
    rows = session.scalars(chosen.order_by(Instance.id)).all()
    return [InstanceFile(InstanceHeader.from_json(row.header), Path(row.path)) for row in rows]
