"""Lines that somebody else keeps are written when they come, or by whoever keeps them: never by both."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import services
from worker.audit import writing
from worker.audit.writing import LineWriter


@pytest.mark.parametrize("is_full", [False, True])
def test_what_nobody_waits_for_any_more_is_not_written_from_memory(
    monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    monkeypatch.setattr(writing, "PATIENCE_S", 0.2)
    writer, begun, answers, written = LineWriter(Path("audit")), threading.Event(), threading.Event(), []

    def append(lines: bytes) -> None:
        begun.set()
        answers.wait(10)
        if is_full:
            raise OSError("no room")
        written.append(lines)

    def is_on_disk(line: bytes) -> bool:
        return writer.write([line], append, keep=False)

    with ThreadPoolExecutor(3) as people:
        first = people.submit(is_on_disk, b"a\n")
        assert begun.wait(10)  # it is in the system call, and the others wait for it
        assert not any(people.map(is_on_disk, [b"b\n", b"c\n"]))
        assert not first.result()
    assert not is_on_disk(b"d\n")
    assert not writer.write([b"look\n"], append, keep=True)
    answers.set()
    services.wait_until(lambda: writer.waiting == int(is_full), 10, "the disk's answer")
    assert written == ([] if is_full else [b"a\n", b"look\n"])
