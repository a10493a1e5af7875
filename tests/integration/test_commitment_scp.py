"""The node vouches for what it received, to senders that wait and to those that do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)
from sqlalchemy import select

from dicom_node.associate_items import selected_roles
from dicom_node.commitment import CommitmentError, Reference, Report, decode_report, decode_request, encode_report
from dicom_node.scp import ScpConfig, StoreScp
from dicom_node.scu import Peer, c_store
from dicom_node.spool import Spool
from models.adapter import adapters
from tests import services
from tests.receiving_node import EXPLICIT_LITTLE, IMPLICIT_LITTLE, ct_slice, write_file
from tests.schema import upgraded
from tests.services.process import wait_until
from worker.assembly import assemble
from worker.confirmation import report_to_sender
from worker.db.columns import utc_now
from worker.db.commitment_records import CommitmentRequest
from worker.db.commitments import due_reports
from worker.db.records import Event, Instance, Series
from worker.db.sessions import Database
from worker.ingest import IngestWriter
from worker.node import LedgerKeeper
from worker.settings import Settings, Source

TRANSACTION = "1.2.826.0.1.3680043.10.77.1"


@dataclass
class Node:
    """A node with its ledger, as the daemon runs it."""

    db: Database
    settings: Settings
    port: int
    folder: Path

    def requests(self) -> list[CommitmentRequest]:
        with self.db.reading() as session:
            return list(session.scalars(select(CommitmentRequest)))

    def receive(self, *names: str) -> list[Dataset]:
        """Send slices to it; return them."""
        slices = [ct_slice(name) for name in names]
        paths = [write_file(ds, self.folder / f"{number}.dcm") for number, ds in enumerate(slices)]
        sent = c_store(Peer("DICOMWORKER", services.LOCALHOST, self.port), paths, calling_ae_title="MODALITY")
        assert all(outcome.is_delivered for outcome in sent)
        return slices

    def report_now(self) -> list[bool]:
        """Let the time pass that a sender has to take the report where it asked; report to those that did not."""
        with self.db.writing() as session:
            for row in session.query(CommitmentRequest).filter(CommitmentRequest.not_before.is_not(None)):
                row.not_before = utc_now() - timedelta(seconds=1)
        with self.db.reading() as session:
            due = due_reports(session, utc_now())
        return [report_to_sender(self.db, self.settings, request_id) for request_id in due]


@pytest.fixture
def source_port() -> int:
    return services.free_port()


@pytest.fixture
def node(tmp_path: Path, source_port: int) -> Iterator[Node]:
    source = Source(name="ct", ae_title="MODALITY", host=services.LOCALHOST, port=source_port)
    settings = Settings(data_dir=tmp_path, sources=[source], delivery={"timeout_s": 5})
    db = Database(f"sqlite:///{tmp_path}/ledger.db")
    upgraded(db)
    writer = IngestWriter(db, 600, lambda _series_id: None)
    keeper = LedgerKeeper(db, settings.delivery)
    config = ScpConfig("DICOMWORKER", port=0)
    with StoreScp(config, Spool(tmp_path / "spool"), writer.record, writer.association_ended, keeper=keeper) as scp:
        yield Node(db, settings, scp.port, tmp_path)
    writer.close()
    db.close()


@dataclass
class Sender:
    """A modality that asks for commitment and keeps what it is told."""

    reports: list[tuple[int, Dataset]] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def on_event(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        self.came.set()
        return 0x0000, None

    def ask(self, port: int, references: list[tuple[str, str]], *, wait_s: float, action: int = 1) -> int:
        """Ask; stay on the association for up to `wait_s`; return the status of the answer."""
        ae = AE("MODALITY")
        ae.add_requested_context(StorageCommitmentPushModel)
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self.on_event)]
        assoc = ae.associate(services.LOCALHOST, port, ae_title="DICOMWORKER", evt_handlers=handlers)
        assert assoc.is_established
        ds = Dataset()
        ds.TransactionUID = TRANSACTION
        ds.ReferencedSOPSequence = []
        for sop_class_uid, uid in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, uid
            ds.ReferencedSOPSequence.append(item)
        status, _ = assoc.send_n_action(ds, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        self.came.wait(wait_s)
        time.sleep(0.05 if wait_s else 0)  # the answer to the report is on its way
        assoc.release()
        return int(status.Status)


@contextmanager
def listening(sender: Sender, port: int) -> Iterator[None]:
    """The sender as an SCU of storage commitment that is associated with (PS3.4 J.3.3)."""
    ae = AE("MODALITY")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    ae.add_supported_context(Verification)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, sender.on_event)]
    server = ae.start_server((services.LOCALHOST, port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield
    finally:
        server.shutdown()


def test_a_sender_that_waits_is_told_on_its_own_association(node: Node) -> None:
    (ds,) = node.receive("a")
    sender = Sender()
    assert sender.ask(node.port, [(ds.SOPClassUID, ds.SOPInstanceUID)], wait_s=5) == 0
    ((event_type, report),) = sender.reports
    assert (event_type, report.TransactionUID) == (1, TRANSACTION)
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [ds.SOPInstanceUID]
    assert "FailedSOPSequence" not in report
    wait_until(lambda: node.requests()[0].reported_at is not None, 5, "the answer to be kept")
    assert node.report_now() == []


def test_a_sender_that_leaves_is_told_on_an_association_of_ours(node: Node, source_port: int) -> None:
    first, second = node.receive("a", "b")
    sender = Sender()
    with node.db.reading() as session:
        path = session.scalar(select(Instance.path).where(Instance.sop_instance_uid == second.SOPInstanceUID))
    Path(str(path)).unlink()
    references = [
        (CTImageStorage, first.SOPInstanceUID),
        (CTImageStorage, second.SOPInstanceUID),
        ("1.2.840.10008.5.1.4.1.1.4", first.SOPInstanceUID),
        (CTImageStorage, "1.2.3.4.5"),
    ]
    assert sender.ask(node.port, references, wait_s=0) == 0
    assert sender.reports == []
    assert node.report_now() == [False], "nobody listens yet"
    assert "cannot be reached" in (node.requests()[0].last_error or "")
    with listening(sender, source_port):
        assert node.report_now() == [True]
        assert node.report_now() == []
    ((event_type, report),) = sender.reports
    assert event_type == 2
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [first.SOPInstanceUID]
    failed = [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in report.FailedSOPSequence]
    assert failed == [(second.SOPInstanceUID, 0x0112), (first.SOPInstanceUID, 0x0119), ("1.2.3.4.5", 0x0112)]
    assert node.requests()[0].reported_at is not None


def test_a_sender_without_an_address_is_named_in_the_ledger(node: Node) -> None:
    nameless = Node(node.db, node.settings.model_copy(update={"sources": []}), node.port, node.folder)
    assert Sender().ask(node.port, [(CTImageStorage, "1.2.3")], wait_s=0) == 0
    assert nameless.report_now() == [False]
    (row,) = node.requests()
    assert "no address is known for MODALITY: enter it in `sources`" in (row.last_error or "")
    assert row.not_before is None


def test_what_is_no_request_is_refused(node: Node) -> None:
    assert Sender().ask(node.port, [(CTImageStorage, "1.2.3")], wait_s=0, action=7) == 0x0123
    assert Sender().ask(node.port, [], wait_s=0) == 0x0115
    assert node.requests() == []


def test_orthanc_is_told_what_the_node_keeps(node: Node, orthanc: services.Orthanc, tmp_path: Path) -> None:
    ds = ct_slice("a")
    orthanc.upload(write_file(ds, tmp_path / "slice.dcm").read_bytes())
    orthanc.add_modality("worker", "DICOMWORKER", node.port)
    orthanc.send("worker")
    asked = [[ds.SOPClassUID, ds.SOPInstanceUID], [ds.SOPClassUID, "1.2.3.4.5"]]
    answer = orthanc.rest("POST", "/modalities/worker/storage-commitment", json={"DicomInstances": asked}).json()
    source = Source(name="orthanc", ae_title=orthanc.ae_title, host=services.LOCALHOST, port=orthanc.port)
    knowing = Node(node.db, node.settings.model_copy(update={"sources": [source]}), node.port, node.folder)
    assert knowing.report_now() == [True]
    report = orthanc.rest("GET", f"/storage-commitment/{answer['ID']}").json()
    assert report["Status"] == "Failure"
    assert [item["SOPInstanceUID"] for item in report["Success"]] == [ds.SOPInstanceUID]
    assert [(item["SOPInstanceUID"], item["FailureReason"]) for item in report["Failures"]] == [("1.2.3.4.5", 0x0112)]


def test_a_request_for_all_images_together_says_that_the_series_is_whole(node: Node) -> None:
    slices = node.receive("a", "b", "c")
    references = [(str(ds.SOPClassUID), str(ds.SOPInstanceUID)) for ds in slices]
    with node.db.reading() as session:
        series_id = session.scalars(select(Series.id)).one()

    def stable_because() -> list[str]:
        assemble(node.db, node.settings, adapters(), series_id)
        with node.db.reading() as session:
            return list(session.scalars(select(Event.reason).where(Event.to_state == "stable")))

    assert Sender().ask(node.port, references[:1], wait_s=0) == 0
    assert stable_because() == [], "some senders ask after each image"
    assert Sender().ask(node.port, references, wait_s=0) == 0
    assert stable_because() == ["the sender asked for storage commitment of all 3 new images together"]


@pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE, EXPLICIT_LITTLE])
def test_a_report_that_contradicts_itself_counts_as_a_failure(syntax: str) -> None:
    ours, other = Reference(CTImageStorage, "1.2.3"), Reference(CTImageStorage, "1.2.4")
    report = Report(TRANSACTION, (ours, other), ((ours, 0x0110),))
    assert decode_report(encode_report(report, syntax), syntax) == Report(TRANSACTION, (other,), ((ours, 0x0110),))


@pytest.mark.parametrize("data", [b"", b"\x08\x00", b"\xff" * 40, b"\x08\x00\x95\x11UI\x02\x00x\x00"])
def test_garbage_is_no_request(data: bytes) -> None:
    with pytest.raises(CommitmentError):
        decode_request(data, EXPLICIT_LITTLE)


def test_roles_are_answered_as_they_are_proposed(node: Node) -> None:
    ae = AE("PACS")
    ae.add_requested_context(StorageCommitmentPushModel)
    for scu_role, scp_role in ((False, True), (True, True)):
        role = build_role(StorageCommitmentPushModel, scu_role=scu_role, scp_role=scp_role)
        assoc = ae.associate(services.LOCALHOST, node.port, ae_title="DICOMWORKER", ext_neg=[role])
        (context,) = assoc.accepted_contexts
        assert (context.as_scu, context.as_scp) == (scu_role, scp_role)
        assoc.release()


@pytest.mark.parametrize("item", [b"", b"\0", b"\0\x05abc", b"\0\x40" + b"1" * 10])
def test_a_malformed_role_selection_is_no_reason_to_refuse_images(item: bytes) -> None:
    encoded = b"\x54\0" + len(item).to_bytes(2, "big") + item
    whole = b"\x50\0" + len(encoded).to_bytes(2, "big") + encoded
    assert selected_roles(whole) == {}
