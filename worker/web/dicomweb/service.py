"""What the DICOMweb resources work with: the store, the sandbox for codecs, and the way in for new instances.

Input: settings and the web process's database. Output: one `DicomWeb` for the process; what costs something (a child
process, the writer's thread) is started when it is first needed. On failure `SpoolError`, where the disk is not to be
written, and whatever the sandboxed function raises.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from dicom_node.dicomweb.transcoding import write_explicit
from dicom_node.sandbox import Sandbox
from dicom_node.spool import Spool
from worker.audit.movements import of_associations
from worker.audit.trail import AuditTrail
from worker.celery_app import Doorbell
from worker.db.sessions import Database
from worker.ingest import IngestWriter
from worker.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class DicomWeb:
    """The DICOMweb service of one web process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        limits = settings.rendering
        self._sandbox = Sandbox(
            memory_bytes=limits.memory_mib * 2**20, limit_s=limits.limit_s, decode_limit_s=limits.limit_s / 4
        )
        self._lock = threading.Lock()
        self._spool: Spool | None = None
        self._spool_lock = -1
        self._doorbell: Doorbell | None = None
        self._writer: IngestWriter | None = None

    def sheltered(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the sandbox. Raises `SandboxError` and what the function raises."""
        return self._sandbox.call(function, *args, **kwargs)

    @contextmanager
    def explicit_file(self, path: Path) -> Iterator[Path]:
        """Yield the object at `path` in Explicit VR Little Endian, in a file that is gone afterwards.

        Raises:
            PixelError: Its pixels cannot be decoded.
            SandboxError: Its decoder crashed or took too long.
        """
        target = self.spool.incoming / f"{secrets.token_hex(16)}.part"
        try:
            self.sheltered(write_explicit, path, target)
            yield target
        finally:
            target.unlink(missing_ok=True)

    @property
    def spool(self) -> Spool:
        """The store, with an incoming folder of the web process's own: the node sweeps the other one when it starts."""
        with self._lock:
            if self._spool is None:
                kept = self.settings.disk.keep_free_bytes
                spool = Spool(self.settings.data_dir / "spool", "incoming-web", keep_free_bytes=kept)
                self._spool_lock = os.open(spool.root / "web.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
                try:
                    fcntl.flock(self._spool_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    spool.sweep()
                except BlockingIOError:
                    pass  # another web process on the same data_dir is at work there
                self._spool = spool
            return self._spool

    @property
    def writer(self) -> IngestWriter:
        """What records received instances, as in the node."""
        with self._lock:
            if self._writer is None:
                self._doorbell = Doorbell(self.settings)
                stable_after_s = self.settings.dicom.stable_after_s
                audit = of_associations(AuditTrail(self.settings), self.database)
                self._writer = IngestWriter(self.database, stable_after_s, self._doorbell.ring_assemble, audit)
            return self._writer

    def close(self) -> None:
        """Write what waits, and end what was started."""
        if self._writer is not None:
            self._writer.close()
        if self._doorbell is not None:
            self._doorbell.close()
        self._sandbox.close()
        if self._spool_lock >= 0:
            os.close(self._spool_lock)
