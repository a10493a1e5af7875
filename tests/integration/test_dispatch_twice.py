"""A ring that comes twice: what is being written already is not written a second time beside it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from worker.db.schema import upgrade
from worker.settings import Settings
from worker.tasks import steps
from worker.tasks.steps import StepsWorkplace


def test_results_that_are_being_written_are_not_written_again_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = StepsWorkplace(Settings(data_dir=tmp_path))
    upgrade(workplace.db)
    begun, go_on, written = threading.Event(), threading.Event(), []

    def write_slowly(_db: Any, _spool: Any, _settings: Any, job_id: str, **_: Any) -> tuple[str, ...]:
        written.append(job_id)
        begun.set()
        assert go_on.wait(20)
        return ()

    monkeypatch.setattr(steps.reporting, "write_results", write_slowly)
    with ThreadPoolExecutor(1) as other_thread:
        first = other_thread.submit(workplace.finish, "job-1")
        assert begun.wait(20)
        workplace.finish("job-1")  # rung for again meanwhile: returns at once
        go_on.set()
        workplace.finish("job-2")
        first.result(20)
    workplace.finish("job-1")
    assert written == ["job-1", "job-2", "job-1"]
    workplace.doorbell.close()
    workplace.db.close()
