"""The node process: C-STORE/C-ECHO SCP in front, ingest behind, and spool and database brought together at start."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.headers import HeaderError, read_header
from dicom_node.scp import ScpConfig, StoreScp
from dicom_node.spool import Spool, SpoolError, StoredFile
from worker.celery_app import Doorbell
from worker.db.records import Instance, Result, Series, utc_now
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.ingest import BATCH, Arrival, commit_arrivals
from worker.states import InstanceState

log = structlog.get_logger()


def reconcile(db: Database, spool: Spool, stable_after_s: float) -> tuple[int, int]:
    """Make spool and database agree at start.

    Half files are removed (they were never acknowledged); whole files without a row are adopted; rows whose file is
    gone are flagged `missing`.

    Returns:
        Number of files adopted and of rows flagged.
    """
    removed = spool.sweep()
    on_disk = {path.stem: path for path in spool.objects()}
    with db.reading() as session:
        rows = session.execute(select(Instance.id, Instance.digest, Instance.state)).all()
        results = set(session.scalars(select(Result.digest)))
    in_rows = {digest for _, digest, _ in rows}
    adopted = [a for digest, path in on_disk.items() if digest not in in_rows | results and (a := _adoptable(path))]
    for start in range(0, len(adopted), BATCH):
        commit_arrivals(db, adopted[start : start + BATCH], timedelta(seconds=stable_after_s))
    gone = [row_id for row_id, digest, state in rows if digest not in on_disk and state is not InstanceState.MISSING]
    with db.writing() as session:
        for row_id in gone:
            _flag_missing(session, row_id)
    log.info("spool reconciled", action="reconcile", removed=removed, adopted=len(adopted), missing=len(gone))
    return len(adopted), len(gone)


def _adoptable(path: Path) -> Arrival | None:
    """Read a whole file that has no row: its sender got no answer, but what is whole is not thrown away."""
    try:
        header = read_header(path)
    except HeaderError as error:
        log.warning("file in the spool is not usable and stays there", action="reconcile", error=str(error))
        return None
    if header.is_own_result:
        return None  # a result whose transaction did not commit: reporting writes it again
    return Arrival(StoredFile(path, path.stem, path.stat().st_size), header, utc_now())


def _flag_missing(session: Session, instance_id: int) -> None:
    instance = session.get_one(Instance, instance_id)
    instance.state = InstanceState.MISSING
    series = session.get_one(Series, instance.series_id)
    reason = f"the file of SOP instance {instance.sop_instance_uid} is gone from the spool: send the study again"
    log.error("file of an instance is gone", action="reconcile", sop_instance_uid=instance.sop_instance_uid)
    record_event(
        session, "instance", instance.id, study_id=series.study_id, reason=reason, to_state=InstanceState.MISSING
    )
