"""The daemon as its operator sees it: it comes up whole, stays up, says what is wrong, and ends in order."""

from __future__ import annotations

import fcntl
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests import services
from tests.daemon import Daemon, running

EVERY_PROCESS = {"node", "dispatcher", "inference", "inference child", "steps", "web"}


@pytest.mark.timeout(180)
def test_processes_that_die_are_started_again_and_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    with running(daemon):
        daemon.wait_for(lambda: daemon.pids().keys() == EVERY_PROCESS, 60, "every process")
        before = daemon.pids()
        model = psutil.Process(before["inference child"])
        daemon.kill("inference")
        daemon.kill("dispatcher")
        daemon.wait_for(lambda: not model.is_running(), 20, "the orphan with the model ends: it would hold the GPU")

        def all_back() -> bool:
            now = daemon.pids()
            return now.keys() == EVERY_PROCESS and now["inference"] != before["inference"]

        daemon.wait_for(all_back, 60, "every process again")
        assert daemon.pids()["node"] == before["node"]  # the others were left alone
        assert daemon.stop() == 0  # which looks for leftovers
    assert '"exit_code": -9' in daemon.log.read_text()


@pytest.mark.timeout(120)
def test_a_port_that_is_taken_stops_everything_with_a_message(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    with socket.create_server((services.LOCALHOST, daemon.port)):
        daemon.start(wait=False)
        code = daemon.exit_code(60)
    daemon.end()
    assert code == 2
    log = daemon.log.read_text()
    assert "Traceback" not in log
    (reason,) = [line for line in log.splitlines() if str(daemon.port) in line and '"error"' in line]
    assert "dicom.port" in reason


@pytest.mark.timeout(120)
def test_children_end_when_their_supervisor_is_gone(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, roles=["dispatcher", "web"])
    with running(daemon):
        daemon.wait_for(lambda: len(daemon.pids()) == 2, 30, "both processes")
        orphans = [psutil.Process(pid) for pid in daemon.pids().values()]
        daemon.kill_supervisor()
        gone, alive = psutil.wait_procs(orphans, timeout=30)
        assert (len(gone), alive) == (2, [])


@pytest.mark.timeout(120)
def test_a_start_waits_for_the_node_that_a_killed_daemon_left_behind(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, roles=["node"], grace_s=20)
    spool = tmp_path / "data" / "spool"
    spool.mkdir(parents=True)
    with (spool / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as that node does until its last association is over
        daemon.start(wait=False)
        try:
            daemon.wait_for(daemon.pids, 30, "the node process")
            time.sleep(3)
            assert not services.answers_on(daemon.port)
            fcntl.flock(lock, fcntl.LOCK_UN)
            daemon.wait_for(lambda: services.answers_on(daemon.port), 30, "the node listens")
            assert daemon.stop() == 0
        finally:
            daemon.end()


@pytest.mark.timeout(120)
def test_two_nodes_on_one_spool_are_refused(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, roles=["node"], grace_s=1)
    spool = tmp_path / "data" / "spool"
    spool.mkdir(parents=True)
    with (spool / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        daemon.start(wait=False)
        code = daemon.exit_code(60)
    daemon.end()
    assert code == 2
    assert f"another node receives into {spool}" in daemon.log.read_text()
