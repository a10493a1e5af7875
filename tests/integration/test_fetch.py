"""`fetch` brings what an archive has and this node lacks, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select
from typer.testing import CliRunner

from dicom_node.scp import ScpConfig, StoreScp
from dicom_node.scu import Peer, c_store
from dicom_node.spool import Spool
from dicom_node.uids import derive_uid
from tests import services
from tests.archive import Archive
from tests.receiving_node import ct_slice, write_file
from tests.schema import upgraded
from worker.cli import app
from worker.db.records import Association, Instance
from worker.db.sessions import Database
from worker.ingest import IngestWriter
from worker.settings import load_settings


class Site:
    """A running node with its ledger, and an archive that knows it."""

    def __init__(self, folder: Path, db: Database, port: int, archive: Archive | services.Orthanc) -> None:
        self.folder, self.db, self.archive = folder, db, archive
        self.node = Peer("DICOMWORKER", services.LOCALHOST, port)
        self.configure()

    def configure(self, **of_source: str) -> None:
        """Write the settings file."""
        place = {"ae_title": self.archive.ae_title, "host": services.LOCALHOST, "port": self.archive.port}
        sources = [{"name": "pacs", **place, **of_source}]
        (self.folder / "worker.yaml").write_text(yaml.safe_dump({"data_dir": str(self.folder), "sources": sources}))

    def send(self, slices: list[Dataset], *peers: Peer) -> None:
        paths = [write_file(ds, self.folder / f"{number}.dcm") for number, ds in enumerate(slices)]
        for peer in peers:
            assert all(outcome.is_delivered for outcome in c_store(peer, paths, calling_ae_title="DICOMWORKER"))

    def fetch(self, *arguments: str) -> Any:
        config = ["--config", str(self.folder / "worker.yaml")]
        return CliRunner().invoke(app, ["fetch", *arguments, *config])

    def here(self) -> set[str]:
        with self.db.reading() as session:
            return set(session.scalars(select(Instance.sop_instance_uid)))

    @property
    def pacs(self) -> Peer:
        return Peer(self.archive.ae_title, services.LOCALHOST, self.archive.port)


@contextmanager
def an_archive(request: pytest.FixtureRequest, port: int | None) -> Iterator[Archive | services.Orthanc]:
    """Run the archive that a test is for; it sends to the node on this port, or to none."""
    if request.param == "orthanc":
        orthanc: services.Orthanc = request.getfixturevalue("orthanc")
        orthanc.add_modality("worker", "DICOMWORKER", port or 1, AllowMove=port is not None)
        yield orthanc
        return
    with (
        request.getfixturevalue("service_folder")("archive") as folder,
        services.running(Archive(folder, knows=("DICOMWORKER", port) if port else ("SOMEBODY", 1))) as archive,
    ):
        yield archive


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump({"data_dir": str(tmp_path)}))
    database = Database(load_settings(tmp_path / "worker.yaml").resolved_database_url)
    upgraded(database)
    yield database
    database.close()


@pytest.fixture(params=["dcmqrscp", "orthanc"])
def site(request: pytest.FixtureRequest, tmp_path: Path, db: Database) -> Iterator[Site]:
    """A node that runs, and an archive that knows it."""
    writer = IngestWriter(db, 600, lambda _series_id: None)
    config = ScpConfig("DICOMWORKER", port=0)
    with (
        StoreScp(config, Spool(tmp_path / "spool"), writer.record, writer.association_ended) as scp,
        an_archive(request, scp.port) as archive,
    ):
        yield Site(tmp_path, db, scp.port, archive)
    writer.close()


@pytest.fixture(params=["dcmqrscp", "orthanc"])
def stranger(request: pytest.FixtureRequest, tmp_path: Path, db: Database) -> Iterator[Site]:
    """An archive that knows no address of this node, which is not running."""
    with an_archive(request, None) as archive:
        yield Site(tmp_path, db, 1, archive)


def slices(study: str, count: int, **attributes: Any) -> list[Dataset]:
    return [
        ct_slice(
            f"{study} {number}",
            StudyInstanceUID=derive_uid("study", study),
            SeriesInstanceUID=derive_uid("series", study),
            **{"StudyTime": "101500", "StudyID": "1", "SeriesNumber": 1, "InstanceNumber": number + 1, **attributes},
        )
        for number in range(count)
    ]


def uids(images: list[Dataset]) -> set[str]:
    return {str(ds.SOPInstanceUID) for ds in images}


def test_missing_slices_and_priors_come(site: Site) -> None:
    current = slices("now", 4, AccessionNumber="A1", StudyDate="20260302")
    prior = slices("before", 2, AccessionNumber="A0", StudyDate="20250101")
    older = slices("long ago", 1, AccessionNumber="A00", StudyDate="20200101")
    stranger = slices("other", 1, AccessionNumber="B1", StudyDate="20250202", PatientID="P2")
    site.send([*current, *prior, *older, *stranger], site.pacs)
    site.send(current[:1], site.node)
    answer = site.fetch("A1", "--from", "pacs", "--json")
    assert answer.exit_code == 0, answer.output
    (study,) = json.loads(answer.stdout)["studies"]
    assert (study["at_archive"], study["here"], study["sent"], study["failed"]) == (4, 1, 3, 0)
    assert site.here() == uids(current)
    with_prior = site.fetch("A1", "--from", f"{site.pacs}", "--priors", "1")
    assert with_prior.exit_code == 0, with_prior.output
    assert "20250101" in with_prior.stdout
    assert site.here() == uids([*current, *prior])


def test_what_is_not_there_or_not_known_is_said(site: Site) -> None:
    for arguments, code, words in (
        (("NOWHERE", "--from", "pacs"), 1, "has no study with accession number 'NOWHERE'"),
        (("A*", "--from", "pacs"), 1, "is not an accession number"),
        (("A1", "--from", "archive"), 2, "`sources` has no such name (pacs)"),
        (("A1", "--from", f"PACS@{services.LOCALHOST}:{services.free_port()}"), 1, "cannot be reached"),
    ):
        answer = site.fetch(*arguments)
        assert answer.exit_code == code, answer.output
        assert words in " ".join(answer.output.split())


def test_images_come_by_c_get_from_an_archive_that_does_not_know_this_node(stranger: Site) -> None:
    images = slices("now", 3, AccessionNumber="A1", StudyDate="20260302")
    stranger.send(images, stranger.pacs)
    stranger.configure(retrieve="move")
    answer = stranger.fetch("A1", "--from", "pacs")
    assert answer.exit_code == 1
    words = {"ORTHANC": "aborted the association", "ARCHIVE": "does not know 'DICOMWORKER' as a destination"}
    assert words[stranger.archive.ae_title] in " ".join(answer.output.split())
    assert stranger.here() == set()
    for way, expected in (("auto", (3, 0, 3, 0)), ("get", (3, 3, 0, 0))):
        stranger.configure(retrieve=way)
        answer = stranger.fetch("A1", "--from", "pacs", "--json")
        assert answer.exit_code == 0, answer.output
        (study,) = json.loads(answer.stdout)["studies"]
        assert (study["at_archive"], study["here"], study["sent"], study["failed"]) == expected, "and nothing twice"
    assert stranger.here() == uids(images)
    with stranger.db.reading() as session:
        rows = session.scalars(select(Instance)).all()
        assert {row.calling_ae_title for row in rows} == {stranger.archive.ae_title}
        assert {dcmread(row.path).PixelData for row in rows} == {ds.PixelData for ds in images}
        assert session.scalars(select(Association.released)).all() == [True], "assembly sees that they are whole"
    assert list((stranger.folder / "spool" / "incoming-get").iterdir()) == []
    # Room that is kept free for results is not given to images that are fetched either.
    more = slices("more", 1, AccessionNumber="A2", StudyDate="20260302")
    stranger.send(more, stranger.pacs)
    file = stranger.folder / "worker.yaml"
    file.write_text(file.read_text() + "disk: {keep_free_gib: 1.0e+6}\n")
    assert stranger.fetch("A2", "--from", "pacs").exit_code == 1
    assert stranger.here() == uids(images)
