"""Each destination gets what its rules say, in order, over as many associations as it allows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from tests import services
from tests.integration.hospital import ADA, Hospital, at_once, hospital_with, released
from worker import review
from worker.db.records import Delivery, Instance
from worker.delivery import deliver
from worker.reporting import write_results
from worker.settings import DestinationConditions, DicomDestination, SettingsError, load_settings
from worker.site import check_destinations
from worker.states import DeliveryState


def destination(name: str, port: int = 104, **options: Any) -> DicomDestination:
    return DicomDestination(name=name, ae_title="PACS", host=services.LOCALHOST, port=port, **options)


def rule(**conditions: Any) -> DestinationConditions:
    return DestinationConditions(**conditions)


@dataclass
class SlowPacs:
    """Takes its time with each object; counts associations."""

    port: int
    pause_s: float
    stored: list[str] = field(default_factory=list)
    associations: int = 0
    open_now: int = 0
    open_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def opened(self, _event: Any) -> None:
        with self.lock:
            self.associations += 1
            self.open_now += 1
            self.open_at_once = max(self.open_at_once, self.open_now)

    def closed(self, _event: Any) -> None:
        with self.lock:
            self.open_now -= 1

    def on_store(self, event: Any) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        time.sleep(self.pause_s)
        return 0


@contextmanager
def slow_pacs(pause_s: float) -> Iterator[SlowPacs]:
    pacs = SlowPacs(services.free_port(), pause_s)
    ae = AE("PACS")
    for sop_class in (Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
        ae.add_supported_context(sop_class)
    handlers: list[Any] = [
        (evt.EVT_ACCEPTED, pacs.opened),
        (evt.EVT_CONN_CLOSE, pacs.closed),
        (evt.EVT_C_STORE, pacs.on_store),
    ]
    server = ae.start_server((services.LOCALHOST, pacs.port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield pacs
    finally:
        server.shutdown()


def targets(hospital: Hospital, job_id: str) -> dict[str, int]:
    names = [row.destination for row in hospital.deliveries(job_id)]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def test_results_go_where_adapter_decision_and_source_say(tmp_path: Path, sqlite_url: str) -> None:
    wanted = [
        destination("all"),
        destination("vessels", when=rule(adapters=["dsa_patency"])),
        destination("trauma", when=rule(adapters=["abdominal_trauma"])),
        destination("unsigned", when=rule(decisions=["release"])),
        destination("signed", when=rule(decisions=["accept", "edit"])),
        destination("angio", when=rule(calling_ae_titles=["XA1", "XA2"])),
        destination("elsewhere", when=rule(calling_ae_titles=["CT9"], adapters=["dsa_patency"])),
    ]
    with hospital_with(tmp_path, sqlite_url, *wanted) as hospital:
        job_id = hospital.decided_run()
        with hospital.db.writing() as session:
            for row in session.query(Instance):
                row.calling_ae_title = "XA1"
        names = write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        assert names == ("all", "vessels", "unsigned", "angio")
        assert targets(hospital, job_id).keys() == set(names)
        review.accept(hospital.db, job_id, ADA)
        signed = write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        assert signed == ("all", "vessels", "signed", "angio")


def test_names_that_are_not_there_are_errors_with_the_remedy(tmp_path: Path) -> None:
    def settings(when: str, dicom: str = "{}") -> Any:
        file = tmp_path / "worker.yaml"
        file.write_text(
            f"dicom: {dicom}\ndestinations: [{{name: pacs, ae_title: P, host: h, port: 1, when: {when}}}]\n"
        )
        return load_settings(file)

    with pytest.raises(SettingsError, match=r"destinations: pacs: when.adapters names flair; adapters are .*flare"):
        check_destinations(settings("{adapters: [flair]}").destinations)
    check_destinations(settings("{adapters: [flare]}").destinations)
    with pytest.raises(SettingsError, match=r"destinations.0.when.decisions.0: .*'release', 'accept', 'edit'"):
        settings("{decisions: [sometimes]}")
    with pytest.raises(SettingsError, match=r"waits for images from CT9, which dicom.calling_ae_titles does not"):
        settings("{calling_ae_titles: [CT9]}", "{calling_ae_titles: [CT1]}")
    with pytest.raises(SettingsError, match=r"when.adapter: unknown setting"):
        settings("{adapter: flare}")


def test_one_association_at_a_time_keeps_studies_together_and_in_order(tmp_path: Path, database_url: str) -> None:
    with slow_pacs(0.02) as pacs, hospital_with(tmp_path, database_url, destination("pacs", pacs.port)) as hospital:
        jobs = [released(hospital, accession, number) for number in (1, 2) for accession in ("A1", "B1")]
        in_parallel(hospital, 3)
        by_study = [jobs[0], jobs[2], jobs[1], jobs[3]]
        expected = [result.sop_instance_uid for job_id in by_study for result in hospital.results(job_id)]
        assert pacs.stored == expected
        assert (pacs.associations, pacs.open_at_once) == (1, 1)


def test_more_associations_are_used_where_the_settings_allow_them_and_no_more(
    tmp_path: Path, database_url: str
) -> None:
    target = destination("pacs", 1, associations=2)
    with slow_pacs(0.15) as pacs:
        target = target.model_copy(update={"port": pacs.port})
        with hospital_with(tmp_path, database_url, target, batch=2) as hospital:
            jobs = [released(hospital, f"A{number}") for number in range(5)]
            in_parallel(hospital, 4)
            assert all(hospital.delivery_states(job_id) == {DeliveryState.DELIVERED} for job_id in jobs)
    assert pacs.open_at_once == 2
    assert len(pacs.stored) == len(set(pacs.stored)) == 10


def in_parallel(hospital: Hospital, count: int) -> None:
    """Ring so many bells at once, and again until nothing is left."""

    def work(_: int) -> None:
        while deliver(hospital.db, hospital.settings, "pacs"):
            pass

    at_once(work, range(count))
    work_left = deliver(hospital.db, hospital.settings, "pacs")
    assert work_left is False


def test_a_pacs_that_is_too_slow_is_asked_later_and_has_each_object_once_in_effect(
    tmp_path: Path, sqlite_url: str
) -> None:
    with slow_pacs(1.0) as pacs:
        target = destination("pacs", pacs.port)
        with hospital_with(
            tmp_path, sqlite_url, target, timeout_s=0.4, retry_after_s=60, retry_at_most_s=60
        ) as hospital:
            job_id = released(hospital)
            deliver(hospital.db, hospital.settings, "pacs")
            first, second = hospital.deliveries(job_id)
            assert (first.state, first.attempts, first.tries) == (DeliveryState.PENDING, 0, 1)
            assert "sent nothing in time" in (first.last_error or "")
            assert second.state is DeliveryState.PENDING
            pacs.pause_s = 0
            with hospital.db.writing() as session:
                for row in session.query(Delivery):
                    row.not_before = row.result.created_at
            deliver(hospital.db, hospital.settings, "pacs")
            assert hospital.delivery_states(job_id) == {DeliveryState.DELIVERED}
            assert set(pacs.stored) == {result.sop_instance_uid for result in hospital.results(job_id)}
