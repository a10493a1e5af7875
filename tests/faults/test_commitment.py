"""Power fails between the request for storage commitment and the PACS's word: nothing is lost, nothing is doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import services
from tests.committing_pacs import committing_pacs
from tests.daemon import Daemon, running, send_until_acknowledged
from tests.faults import workload


@pytest.mark.timeout(180)
def test_a_daemon_killed_between_request_and_report_has_its_results_confirmed(tmp_path: Path) -> None:
    with committing_pacs(reports="silent") as pacs:
        address = {"ae_title": "PACS", "host": services.LOCALHOST, "port": pacs.port}
        destinations = [{"name": "pacs", **address, "commitment": True}]
        patient = {"confirm_wait_s": 0.2, "confirm_after_s": 600}
        daemon = Daemon(tmp_path, destinations=destinations, delivery=patient)
        with running(daemon):
            (study,) = workload.xa_studies(tmp_path / "sent", 1)
            send_until_acknowledged(study.files, daemon.port)
            services.wait_until(lambda: bool(pacs.asked), 90, "the request for storage commitment")
            assert states(daemon) == {"delivered"}
            daemon.kill_everything()
        with running(daemon.with_roles("node")) as again:
            pacs.report_to_port = again.port
            for request in pacs.asked:
                pacs.report(request)
            assert states(again) == {"confirmed"}
        stored = [*pacs.stored]
        assert len(stored) == len(set(stored)), "nothing is sent twice"
        assert set(pacs.answers) == {0}


def states(daemon: Daemon) -> set[str]:
    return {
        delivery.state
        for study in daemon.ledger()
        for job in study.jobs
        for result in job.results
        for delivery in result.deliveries
    }
