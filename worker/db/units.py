"""The stored instances that a job is about."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceFile, InstanceHeader
from models.adapter import AdapterDefinition, Unit
from worker.db.records import Instance, Job
from worker.states import InstanceState


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
    rows = session.scalars(chosen.order_by(Instance.id)).all()
    files = [InstanceFile(InstanceHeader.from_json(row.header), Path(row.path)) for row in rows]
    accepted = [file for file in files if adapter.acceptance.obstacle(file.header) is None]
    return accepted or files
