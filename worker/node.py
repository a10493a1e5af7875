"""The node process: the SCP in front, ingest behind, and spool and database brought together at start.

It serves C-STORE, C-ECHO and storage commitment: requests of senders, and reports of destinations.
"""

from __future__ import annotations

import fcntl
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node import commitment, status
from dicom_node.headers import HeaderError, read_header
from dicom_node.scp import ScpConfig, ScpError, StoreScp
from dicom_node.spool import Spool, SpoolError, StoredFile
from dicom_node.tls import TlsError, server_context
from worker.audit.movements import of_associations
from worker.audit.trail import AuditTrail
from worker.celery_app import Doorbell
from worker.db import commitments
from worker.db.arrivals import Arrival, commit_arrivals
from worker.db.columns import utc_now
from worker.db.records import Instance, Result, Series
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.ingest import BATCH, IngestWriter
from worker.settings import DeliverySettings, Settings, SettingsError
from worker.states import InstanceState

log = structlog.get_logger()


def run_node(settings: Settings) -> None:
    """Receive until SIGTERM; then stop accepting, let associations finish, write what waits.

    Raises:
        SettingsError: the port, the spool or the certificates cannot be used.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    db = Database(settings.resolved_database_url)
    try:
        spool = Spool(settings.data_dir / "spool", keep_free_bytes=settings.disk.keep_free_bytes)
        with _alone(spool.root, settings.grace_s, stop):
            _receive(settings, db, spool, stop)
    except (ScpError, SpoolError, TlsError) as error:
        raise SettingsError(str(error)) from error
    finally:
        db.close()


def _receive(settings: Settings, db: Database, spool: Spool, stop: threading.Event) -> None:
    if stop.is_set():
        return
    reconcile(db, spool, settings.dicom.stable_after_s)
    doorbell = Doorbell(settings)
    audit = of_associations(AuditTrail(settings), db)
    writer = IngestWriter(db, settings.dicom.stable_after_s, doorbell.ring_assemble, audit)
    scp = StoreScp(
        _scp_config(settings),
        spool,
        writer.record,
        writer.association_ended,
        keeper=LedgerKeeper(db, settings.delivery),
    )
    try:
        scp.start()
        stop.wait()
        # Half the grace is the associations', the rest is for writing and for the other processes.
        scp.stop(settings.grace_s / 2)
    finally:
        writer.close()
        doorbell.close()


class LedgerKeeper:
    """Storage commitment at the node (`dicom_node.commitment_service.Keeper`), with the database behind it."""

    def __init__(self, db: Database, settings: DeliverySettings) -> None:
        self._db = db
        self._settings = settings

    def vouch(self, request: commitment.Request, calling_ae_title: str) -> commitment.Report:
        """Keep a sender's request, and say which instances are safe here."""
        return commitments.vouch(self._db, request, calling_ae_title)

    def reported(self, transaction_uid: str) -> None:
        """The sender has taken our answer on its own association."""
        commitments.reported(self._db, transaction_uid)

    def take_report(self, report: commitment.Report, calling_ae_title: str) -> int:
        """Keep what a destination vouches for; a report on a request that was never made is refused."""
        if commitments.take_report(self._db, self._settings, report):
            return status.SUCCESS
        log.warning(
            "report on an unknown storage commitment",
            action="commitment",
            calling_ae_title=calling_ae_title,
            transaction_uid=report.transaction_uid,
        )
        return status.INVALID_ARGUMENT_VALUE


def _scp_config(settings: Settings) -> ScpConfig:
    dicom = settings.dicom
    return ScpConfig(
        ae_title=dicom.ae_title,
        bind=dicom.bind,
        port=dicom.port,
        calling_ae_titles=frozenset(dicom.calling_ae_titles),
        require_called_ae_title=dicom.require_called_ae_title,
        max_associations=dicom.max_associations,
        max_pdu_bytes=dicom.max_pdu_bytes,
        idle_timeout_s=dicom.idle_timeout_s,
        tls=None if dicom.tls is None else server_context(dicom.tls.certificate, dicom.tls.key, dicom.tls.ca),
    )


@contextmanager
def _alone(root: Path, wait_s: float, stop: threading.Event) -> Iterator[None]:
    """Hold the spool for this node alone: another one's start would sweep away what this one is receiving.

    A node whose supervisor was killed finishes its associations first; whoever starts the daemon again meanwhile waits
    for it instead of failing.
    """
    deadline = time.monotonic() + wait_s
    with (root / "node.lock").open("w") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise SettingsError(
                        f"data_dir: another node receives into {root}; stop it, or give this one a data_dir of its own"
                    ) from None
            stop.wait(0.1)
        yield


def reconcile(db: Database, spool: Spool, stable_after_s: float) -> tuple[int, int]:
    """Make spool and database agree at start.

    Half files are removed (they were never acknowledged); whole files without a row, and those that are back, are
    adopted; rows whose file is gone are flagged `missing`.

    Returns:
        Number of files adopted and of rows flagged.
    """
    removed = spool.sweep()
    on_disk = {path.stem: path for path in spool.objects()}
    with db.reading() as session:
        rows = session.execute(select(Instance.id, Instance.digest, Instance.state)).all()
        results = set(session.scalars(select(Result.digest)))
    # A file that was put back (from a backup) is received again, which ends its row's being `missing`.
    in_rows = {digest for _, digest, state in rows if state is not InstanceState.MISSING}
    adopted = [a for digest, path in on_disk.items() if digest not in in_rows | results and (a := _adoptable(path))]
    for start in range(0, len(adopted), BATCH):
        commit_arrivals(db, adopted[start : start + BATCH], timedelta(seconds=stable_after_s))
    there = [(row_id, digest) for row_id, digest, state in rows if state is not InstanceState.MISSING]
    # Looked for once more: what came by STOW-RS meanwhile has a row and was not there when the disk was looked through.
    gone = [row_id for row_id, digest in there if digest not in on_disk and not spool.path_of(digest).exists()]
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
