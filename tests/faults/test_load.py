"""Many studies in one go: none lost, none doubled, and the node does not grow with them.

`FAULT_STUDIES=200 python -m pytest tests/faults/test_load.py` sends more.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tests import services
from tests.daemon import Daemon, running, send_until_acknowledged
from tests.faults import workload

STUDIES = int(os.environ.get("FAULT_STUDIES", "60"))
#: Bytes by which the node may grow between the first quarter and the end: caches settle, heaps have slack.
SLACK = 24 * 2**20


@pytest.mark.timeout(120 + 4 * STUDIES)
def test_many_studies_in_one_go(tmp_path: Path, storescp: services.StoreScp) -> None:
    studies = workload.xa_studies(tmp_path / "sent", STUDIES)
    daemon = Daemon(tmp_path, pacs=storescp)
    with running(daemon):
        node = psutil.Process(daemon.pids()["node"])
        first = STUDIES // 4
        for study in studies[:first]:
            send_until_acknowledged(study.files, daemon.port)
        after_the_first = node.memory_info().rss
        # The others over few associations with many studies each, as a PACS forwards them.
        for start in range(first, STUDIES, 25):
            send_until_acknowledged([path for s in studies[start : start + 25] for path in s.files], daemon.port)
        ledger = daemon.wait_settled(STUDIES, 60 + 3 * STUDIES)
        grown = node.memory_info().rss - after_the_first
        print(
            f"node: {after_the_first / 2**20:.0f} MiB after {first} studies, {grown / 2**20:+.1f} MiB after {STUDIES}"
        )
        assert grown < SLACK
        workload.check_nothing_lost(daemon, studies)
        workload.check_one_result_each(ledger, studies, storescp)
        assert workload.doubles_in(storescp) == 0
        assert all(job.attempts == 1 for study in ledger for job in study.jobs)
