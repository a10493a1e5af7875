"""What the log server has not got yet: how much of the audit files, and since when.

Input: the audit files and the place up to which they were sent (`worker.audit.forwarding`). Output: a `Backlog`, for
pages. What cannot be read counts as nothing: whoever sends it says so in the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from worker.audit import trail
from worker.audit.forwarding import PLACE_FILE


@dataclass(frozen=True, slots=True)
class Backlog:
    """Audit messages that wait to be sent."""

    bytes: int
    #: When the oldest of them was written (aware, UTC).
    since: datetime


def backlog(folder: Path) -> Backlog | None:
    """Return what waits in a folder of audit files; None where everything was sent."""
    try:
        kept = json.loads((folder / PLACE_FILE).read_text(encoding="utf-8"))
        sent_file, sent_bytes = str(kept["file"]), int(kept["offset"])
    except (OSError, ValueError, KeyError, TypeError):
        sent_file, sent_bytes = "", 0
    size, since = 0, None
    for path in trail.files(folder):
        if trail.comes_before(path.name, sent_file):
            continue
        offset = sent_bytes if path.name == sent_file else 0
        try:
            waits = path.stat().st_size - offset
            if waits > 0 and since is None:
                since = _written_at(path, offset)
        except (OSError, ValueError, IndexError):
            continue
        size += max(waits, 0)
    return None if since is None else Backlog(size, since)


def _written_at(path: Path, offset: int) -> datetime:
    """Return the time stamp of the line that begins there (RFC 5424 6.2.3)."""
    with path.open("rb") as file:
        file.seek(offset)
        return datetime.fromisoformat(file.read(100).split(b" ")[1].decode())
