"""The audit files: one syslog message (RFC 5424) a line, written by every process of this machine, only ever appended.

Input: an `AuditEvent`. Output: a line that is on the disk when `write` returns; a new file each day and at a size. The
files are never changed or removed here: a site moves them to its archive. On failure (no room, no rights, a disk that
hangs) nobody is kept from a patient's images for it: the log says so loudly, and the line waits in memory
(`worker.audit.writing`), or where it is owed for a change in the database (`worker.audit.owed`).
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from worker.audit.codes import Outcome
from worker.audit.events import System
from worker.audit.message import AuditEvent, to_xml
from worker.audit.writing import LineWriter
from worker.settings import Settings

#: ``audit-20260304-000.log``: by day, then counted.
NAME: Final = re.compile(r"audit-(\d{8})-(\d{3,})\.log")
_FACILITY: Final = 10  # security and authorization (RFC 5424 6.2.1, PS3.15 A.6)
_SEVERITY: Final = {Outcome.SUCCESS: 5, Outcome.MINOR_FAILURE: 4, Outcome.SERIOUS_FAILURE: 3}
_MESSAGE_ID: Final = "DICOM+RFC3881"
_BOM: Final = "\ufeff"
#: Folder -> who writes there, for every `AuditTrail` of this process.
_writers: Final[dict[Path, LineWriter]] = {}


class AuditTrail:
    """The audit files of this machine, as one process writes them."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before the first event."""
        self._settings = settings.audit
        self.folder = folder_of(settings)
        self._host = socket.gethostname()
        self.system = System(str(os.getpid()), settings.dicom.ae_title, self._host)
        self._last: Path | None = None

    def write(self, event: AuditEvent) -> None:
        """Append an event, after those that could not be written before; it is on the disk afterwards."""
        self._writer.write([f"{self.line_of(event)}\n".encode()], self._append, keep=True)

    def write_owed(self, lines: Sequence[str]) -> bool:
        """Append lines that are kept elsewhere until they are written; return whether they are on the disk."""
        return self._writer.write([f"{line}\n".encode() for line in lines], self._append, keep=False)

    def line_of(self, event: AuditEvent) -> str:
        """Return the line of an event, without its line break."""
        return syslog_line(event, self._host, self._settings.source, self._settings.site).decode()

    def flush(self) -> int:
        """Write what could not be written before; return how many lines still wait."""
        self._writer.write([], self._append, keep=True)
        return self._writer.waiting

    @property
    def _writer(self) -> LineWriter:
        # Of two that are made at once the first is taken, by both.
        return _writers.get(self.folder) or _writers.setdefault(self.folder, LineWriter(self.folder))

    def _append(self, lines: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            file = os.open(self._current(), os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(file).st_size
                if os.write(file, lines) != len(lines):
                    os.ftruncate(file, before)  # half a line would spoil the next one, too
                    raise OSError("no room")
                os.fsync(file)
            finally:
                os.close(file)
        finally:
            os.close(lock)

    def _current(self) -> Path:
        """Return the file of this moment, of today and not too large; years of files are looked through once a file."""
        today = f"{datetime.now(UTC):%Y%m%d}"
        if self._last is None or today not in self._last.name or not self._has_room(self._last):
            self._last = self._newest(today)
        return self._last

    def _newest(self, today: str) -> Path:
        existing = files(self.folder)
        last = NAME.fullmatch(existing[-1].name) if existing else None
        if last is None or last[1] < today:
            return self.folder / f"audit-{today}-000.log"
        if self._has_room(existing[-1]):
            return existing[-1]
        return self.folder / f"audit-{last[1]}-{int(last[2]) + 1:03d}.log"

    def _has_room(self, file: Path) -> bool:
        """Whether the file is there (still) and not too large."""
        try:
            return file.stat().st_size < self._settings.largest_mib * 2**20
        except FileNotFoundError:
            return False


def folder_of(settings: Settings) -> Path:
    """Return where the audit files lie."""
    return settings.audit.folder or settings.data_dir / "audit"


def files(folder: Path) -> list[Path]:
    """Return the audit files, the oldest first."""
    found = (path for path in folder.glob("audit-*.log") if NAME.fullmatch(path.name))
    return sorted(found, key=lambda path: _key(path.name))


def comes_before(name: str, other: str) -> bool:
    """Return whether an audit file is older than another, by their names; nothing is older than none."""
    return bool(other) and _key(name) < _key(other)


def _key(name: str) -> tuple[int, int]:
    parts = NAME.fullmatch(name)
    return (int(parts[1]), int(parts[2])) if parts else (0, 0)


def syslog_line(event: AuditEvent, host: str, source: str = "", site: str = "") -> bytes:
    """Return an event as a syslog message without line breaks (RFC 5424 6), as PS3.15 A.6 wants it."""
    priority = _FACILITY * 8 + _SEVERITY[event.outcome]
    moment = event.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    name = re.sub(r"[^!-~]", "-", host)[:255] or "-"
    header = f"<{priority}>1 {moment} {name} dicom-worker {os.getpid()} {_MESSAGE_ID} - "
    return f"{header}{_BOM}{to_xml(event, source or host, site)}".encode()
