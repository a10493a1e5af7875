"""Broker and PACS that go away, in the hospital's own form: Redis, PostgreSQL, each role started by itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import services
from tests.daemon import Daemon, running, send_until_acknowledged
from tests.faults import workload
from tests.faults.workload import SentStudy


@dataclass
class Hospital:
    """Three daemons on one database and broker, a PACS, and what was sent so far."""

    node: Daemon
    pacs: services.StoreScp
    redis: services.RedisServer
    folder: Path
    sent: list[SentStudy] = field(default_factory=list)

    def send(self, studies: list[SentStudy]) -> None:
        for study in studies:
            send_until_acknowledged(study.files, self.node.port)
        self.sent += studies

    def check_all_arrived(self, timeout_s: float = 90) -> None:
        ledger = self.node.wait_settled(len(self.sent), timeout_s)
        workload.check_nothing_lost(self.node, self.sent)
        workload.check_one_result_each(ledger, self.sent, self.pacs)


@pytest.fixture(scope="module")
def hospital(
    redis_server: services.RedisServer,
    postgres_server: services.PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    (folder / "pacs").mkdir()
    database_url = postgres_server.new_database()
    with contextlib.ExitStack() as stack:
        pacs = stack.enter_context(services.running(services.StoreScp(folder / "pacs")))
        node = Daemon(folder, roles=["node"], pacs=pacs, broker_url=redis_server.url, database_url=database_url)
        for daemon in (node, node.with_roles("worker"), node.with_roles("dispatcher")):
            stack.enter_context(running(daemon))
        yield Hospital(node, pacs, redis_server, folder / "sent")
    postgres_server.drop_database(database_url)


@pytest.mark.timeout(300)
def test_roles_on_redis_and_postgresql_bring_results_back(hospital: Hospital) -> None:
    hospital.send([*workload.xa_studies(hospital.folder, 3), workload.ct_study(hospital.folder)])
    hospital.check_all_arrived()


@pytest.mark.timeout(180)
def test_what_comes_while_redis_is_down_is_done_once_it_is_back(hospital: Hospital) -> None:
    hospital.redis.stop()
    hospital.send(workload.xa_studies(hospital.folder, 3))  # acknowledged all the same
    time.sleep(2)
    hospital.redis.start()  # with nothing in it
    hospital.check_all_arrived()


@pytest.mark.timeout(180)
def test_what_is_ready_while_the_pacs_is_down_is_sent_once_it_is_back(hospital: Hospital) -> None:
    hospital.pacs.stop()
    before = len(hospital.pacs.files())
    hospital.send(workload.xa_studies(hospital.folder, 3))

    def waiting_for_the_pacs() -> bool:
        deliveries = [
            delivery
            for study in hospital.node.ledger()
            for job in study.jobs
            for result in job.results
            for delivery in result.deliveries
            if delivery.state == "pending" and delivery.tries > 1
        ]
        return bool(deliveries) and all(d.attempts == 0 and d.last_error for d in deliveries)

    hospital.node.wait_for(waiting_for_the_pacs, 60, "deliveries that were tried and cost no attempt")
    assert len(hospital.pacs.files()) == before
    hospital.pacs.start()
    hospital.check_all_arrived()
