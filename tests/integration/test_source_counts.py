"""A series waits for the slices that its source has; a source that cannot be asked holds nothing up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.scp import ScpConfig, StoreScp
from dicom_node.scu import Peer, c_store
from dicom_node.spool import Spool
from tests import services
from tests.archive import Archive
from tests.receiving_node import ct_slice, write_file
from tests.schema import upgraded
from worker.db.columns import utc_now
from worker.db.records import Event, Instance, Series
from worker.db.sessions import Database
from worker.ingest import IngestWriter
from worker.settings import Settings, Source
from worker.tasks.steps import StepsWorkplace

#: Slices without a position: their geometry never says that they are all.
NAMES = ("a", "b", "c", "d")


class Site:
    """A node's ledger, and the archive that sends to it."""

    def __init__(
        self, folder: Path, archive: Archive | services.Orthanc, db: Database, port: int, **asked: Any
    ) -> None:
        place = {"ae_title": archive.ae_title, "host": services.LOCALHOST, "port": archive.port}
        source = Source(name="pacs", **place, count=True, **asked)
        url = f"sqlite:///{folder}/ledger.db"
        self.settings = Settings(data_dir=folder, database_url=url, sources=[source], delivery={"timeout_s": 3})
        self.steps = StepsWorkplace(self.settings)
        self.archive, self.db = archive, db
        self.paths = {name: write_file(ct_slice(name), folder / f"{name}.dcm") for name in NAMES}
        self.pacs = Peer(archive.ae_title, services.LOCALHOST, archive.port)
        self.node = Peer("DICOMWORKER", services.LOCALHOST, port)

    def send(self, peer: Peer, *names: str) -> None:
        paths = [self.paths[name] for name in names]
        assert all(sent.is_delivered for sent in c_store(peer, paths, calling_ae_title=self.archive.ae_title))

    def look(self, quiet_s: float) -> str:
        """Let so much time pass without an image, and look; return why the series is whole, or ""."""
        with self.db.writing() as session:
            series = session.scalars(select(Series)).one()
            series.last_instance_at = utc_now() - timedelta(seconds=quiet_s)
        before = len(reasons(self.db))
        self.steps.assemble(series.id)
        self.steps.db.close()
        self.fetched = len(reasons(self.db)) > before
        with self.db.reading() as session:
            return session.scalar(select(Event.reason).where(Event.to_state == "stable")) or ""


@pytest.fixture(params=["dcmqrscp", "orthanc"])
def archive(request: pytest.FixtureRequest, service_folder: Any) -> Iterator[Archive | services.Orthanc]:
    if request.param == "orthanc":
        orthanc: services.Orthanc = request.getfixturevalue("orthanc")
        orthanc.add_modality("worker", "DICOMWORKER", 1)
        yield orthanc
        return
    with service_folder("archive") as folder, services.running(Archive(folder)) as started:
        yield started


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[tuple[Database, int]]:
    db = Database(f"sqlite:///{tmp_path}/ledger.db")
    upgraded(db)
    writer = IngestWriter(db, 10, lambda _series_id: None)
    config = ScpConfig("DICOMWORKER", port=0)
    with StoreScp(config, Spool(tmp_path / "spool"), writer.record, writer.association_ended) as scp:
        yield db, scp.port
    writer.close()
    db.close()


def test_a_series_waits_for_what_its_source_has(
    tmp_path: Path, archive: Archive | services.Orthanc, ledger: tuple[Database, int]
) -> None:
    site = Site(tmp_path, archive, *ledger)
    site.send(site.pacs, *NAMES)
    site.send(site.node, "a", "b")
    assert site.look(quiet_s=1) == "", "it is not quiet yet, and nobody is asked"
    assert site.look(quiet_s=60) == ""
    with site.db.reading() as session:
        series = session.scalars(select(Series)).one()
        assert series.at_source == 4
        assert series.due_at is not None
        assert series.due_at > utc_now(), "it is looked at again, but not at once"
    site.send(site.node, "c", "d")
    assert site.look(quiet_s=11) == "all 4 images that the source has are here"


def test_what_the_source_never_sends_is_not_waited_for_for_ever(
    tmp_path: Path, archive: Archive | services.Orthanc, ledger: tuple[Database, int]
) -> None:
    site = Site(tmp_path, archive, *ledger)
    site.send(site.pacs, *NAMES)
    site.send(site.node, "a", "b")
    assert site.look(quiet_s=301) == "no new image for 300 s, though the source has 4 and 2 are here"


def test_a_source_that_does_not_answer_or_does_not_know_it_holds_nothing_up(
    tmp_path: Path, service_folder: Any, ledger: tuple[Database, int]
) -> None:
    with service_folder("archive") as folder:
        site = Site(tmp_path, Archive(folder), *ledger)
        site.send(site.node, "a", "b")
        assert site.look(quiet_s=11) == "no new image for 10 s"


def reasons(db: Database) -> list[str]:
    """Return what the ledger tells of asking the source for images."""
    with db.reading() as session:
        told = session.scalars(select(Event.reason).where(Event.subject == "series").order_by(Event.id)).all()
    return [reason for reason in told if "pacs was asked" in reason]


def test_missing_slices_are_fetched_from_a_source_that_may_be_asked_for_them(
    tmp_path: Path, archive: Archive | services.Orthanc, ledger: tuple[Database, int]
) -> None:
    site = Site(tmp_path, archive, *ledger, fetch_missing=True, retrieve="get")
    site.send(site.pacs, *NAMES)
    site.send(site.node, "a", "b")
    assert site.look(quiet_s=1) == "", "it is not quiet yet, and nobody is asked"
    assert not site.fetched
    site.look(quiet_s=60)
    assert site.fetched
    assert reasons(site.db) == ["pacs was asked for the missing images, try 1 of 3: 2 of 2 sent"]
    with site.db.reading() as session:
        rows = session.scalars(select(Instance.sop_instance_uid)).all()
    assert len(rows) == len(set(rows)) == 4
    assert site.look(quiet_s=11) == "all 4 images that the source has are here"
    assert not site.fetched


def test_a_source_that_cannot_send_is_asked_three_times_and_then_no_more(
    tmp_path: Path, service_folder: Any, ledger: tuple[Database, int]
) -> None:
    with service_folder("archive") as folder, services.running(Archive(folder, knows=("SOMEBODY", 1))) as archive:
        site = Site(tmp_path, archive, *ledger, fetch_missing=True, retrieve="move")
        site.send(site.pacs, *NAMES)
        site.send(site.node, "a")
        tries = []
        for _ in range(5):
            assert site.look(quiet_s=60) == ""
            tries.append(site.fetched)
            assert site.look(quiet_s=60) == "", "it is not asked again at once"
            assert not site.fetched
            with site.db.writing() as session:
                session.scalars(select(Series)).one().fetch_after = utc_now()
        assert tries == [True, True, True, False, False]
        assert len(reasons(site.db)) == 3
        assert "try 3 of 3: that failed" in reasons(site.db)[-1]
        assert "does not know 'DICOMWORKER'" in reasons(site.db)[-1]
        assert site.look(quiet_s=301) == "no new image for 300 s, though the source has 4 and 1 are here"


def test_what_is_missing_is_only_known_by_a_count() -> None:
    with pytest.raises(ValueError, match="fetch_missing needs count: true"):
        Source(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, fetch_missing=True)
