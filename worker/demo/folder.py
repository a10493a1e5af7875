"""A folder of its own for every demo, so that running it twice, or twice at once, mixes nothing.

Input: the folder that holds all demos. Output: a new, empty folder, locked while the demo runs. Folders of earlier
demos that have ended are removed, so that the disk does not fill up.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

#: Marks a folder as made by a demo: nothing else is ever removed.
LOCK_FILE = ".demo-lock"


@contextmanager
def fresh_folder(demos: Path) -> Iterator[Path]:
    """Make and lock a new folder under `demos`; it stays when the demo ends, for a look at what it holds."""
    demos.mkdir(parents=True, exist_ok=True)
    for earlier in demos.iterdir():
        _remove_if_ended(earlier)
    folder = demos / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    folder.mkdir()
    with (folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def _remove_if_ended(folder: Path) -> None:
    lock_file = folder / LOCK_FILE
    if not lock_file.is_file():
        return
    with lock_file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # that demo still runs
        shutil.rmtree(folder, ignore_errors=True)
