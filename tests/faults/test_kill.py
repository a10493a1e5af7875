"""kill -9 at any moment: every acknowledged image is there, every unit has exactly one result, in the PACS once.

`FAULT_ROUNDS=200 FAULT_SEED=7 python -m pytest tests/faults` runs longer, or repeats a run that failed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import services
from tests.daemon import Daemon, running, send_until_acknowledged
from tests.faults import workload
from tests.faults.workload import SentStudy

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "25"))
SEED = int(os.environ.get("FAULT_SEED", str(random.SystemRandom().randrange(10_000))))
GRACE_S = 20
VICTIMS = ("node", "steps", "dispatcher", "inference", "inference child")


@contextmanager
def sending(studies: Sequence[SentStudy], port: int, pause_s: float, timeout_s: float = 90) -> Iterator[None]:
    """Send studies one after another in the background; leaving the block waits until all are acknowledged."""

    def send() -> None:
        for study in studies:
            send_until_acknowledged(study.files, port, timeout_s)
            time.sleep(pause_s)

    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(send)
        yield
        sent.result()


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_processes_killed_at_random_moments(tmp_path: Path, storescp: services.StoreScp) -> None:
    print(f"FAULT_SEED={SEED} FAULT_ROUNDS={ROUNDS}")  # shown when the test fails
    rng = random.Random(SEED)
    folder = tmp_path / "sent"
    several_runs = workload.xa_studies(folder, max(2, ROUNDS // 8), runs=2)
    studies = [*workload.xa_studies(folder, max(4, ROUNDS)), *several_runs, workload.ct_study(folder)]
    rng.shuffle(studies)
    daemon = Daemon(tmp_path, pacs=storescp)
    with running(daemon):
        still_to_kill = rng.sample([VICTIMS[number % len(VICTIMS)] for number in range(ROUNDS)], ROUNDS)
        killed: list[str] = []
        with sending(studies, daemon.port, pause_s=0.5):
            while still_to_kill:
                time.sleep(rng.uniform(0.05, 1.5))
                # The first on the list that is up; what was killed last is often still on its way back.
                if victim := next((name for name in still_to_kill if daemon.kill(name)), None):
                    still_to_kill.remove(victim)
                    killed.append(victim)
        print(killed)
        ledger = daemon.wait_settled(len(studies), 120)
        assert daemon.stop() == 0
        workload.check_nothing_lost(daemon, studies)
        workload.check_one_result_each(ledger, studies, storescp)


@pytest.mark.timeout(240)
def test_the_whole_daemon_killed_and_started_again(tmp_path: Path, storescp: services.StoreScp) -> None:
    print(f"FAULT_SEED={SEED}")
    rng = random.Random(SEED)
    studies = [*workload.xa_studies(tmp_path / "sent", 14), workload.ct_study(tmp_path / "sent")]
    daemon = Daemon(tmp_path, pacs=storescp)
    with running(daemon):
        with sending(studies, daemon.port, pause_s=0.7):
            time.sleep(rng.uniform(1, 4))
            daemon.kill_everything()
            daemon.start()
            time.sleep(rng.uniform(1, 4))
            daemon.kill_supervisor()  # what it left behind must make way for the new ones
            daemon.start()
        ledger = daemon.wait_settled(len(studies), 120)
        assert daemon.stop() == 0
        workload.check_nothing_lost(daemon, studies)
        workload.check_one_result_each(ledger, studies, storescp)


@pytest.mark.timeout(240)
def test_a_stop_with_work_under_way_is_in_order_and_a_start_finishes_it(
    tmp_path: Path, storescp: services.StoreScp
) -> None:
    studies = workload.xa_studies(tmp_path / "sent", 12)
    daemon = Daemon(tmp_path, pacs=storescp, grace_s=GRACE_S)
    with running(daemon):
        for study in studies:
            send_until_acknowledged(study.files, daemon.port)
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < GRACE_S, daemon.log_tail()
        assert any(study.state in ("receiving", "processing", "delivering") for study in daemon.ledger())
        daemon.start()
        ledger = daemon.wait_settled(len(studies), 90)
        assert daemon.stop() == 0
        workload.check_nothing_lost(daemon, studies)
        workload.check_one_result_each(ledger, studies, storescp)
        assert workload.doubles_in(storescp) == 0  # what was under way was finished or handed back
