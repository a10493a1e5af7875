"""A PACS of pynetdicom that stores, and answers requests for storage commitment as a test tells it to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from tests import services

AE_TITLE = "PACS"
#: A PACS that opens an association to report does so a moment after its answer.
SOON_S = 0.05


@dataclass
class CommittingPacs:
    """What it does, what it saw."""

    port: int
    #: "same": reports on the requester's association; "other": on one of its own; "silent": never.
    reports: str = "same"
    #: Failure Reason for every instance; None: it vouches for all.
    failure: int | None = None
    #: Status of the N-ACTION response.
    action_status: int = 0x0000
    #: Where reports on associations of its own go.
    report_to_port: int = 0
    #: SOP Instance UIDs of all C-STOREs, and the requests for commitment, in the order they came.
    stored: list[str] = field(default_factory=list)
    asked: list[Dataset] = field(default_factory=list)
    #: Statuses that its reports were answered with.
    answers: list[int] = field(default_factory=list)

    def report(self, request: Dataset, failure: int | None = None) -> None:
        """Report on an association of its own."""
        ae = AE(AE_TITLE)
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        assoc = ae.associate(services.LOCALHOST, self.report_to_port, ae_title="DICOMWORKER", ext_neg=[role])
        assert assoc.is_established
        self._send(assoc, request, self.failure if failure is None else failure)
        assoc.release()

    def on_store(self, event: Any) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def on_action(self, event: Any) -> tuple[int, None]:
        request = event.action_information
        self.asked.append(request)
        if self.action_status == 0x0000 and self.reports != "silent":
            assoc = event.assoc if self.reports == "same" else None
            threading.Thread(target=self._report_soon, args=(assoc, request), daemon=True).start()
        return self.action_status, None

    def _report_soon(self, assoc: Any, request: Dataset) -> None:
        time.sleep(SOON_S)
        if assoc is None:
            self.report(request)
        else:
            self._send(assoc, request, self.failure)

    def _send(self, assoc: Any, request: Dataset, failure: int | None) -> None:
        ds = Dataset()
        ds.TransactionUID = request.TransactionUID
        items = [Dataset() for _ in request.ReferencedSOPSequence]
        for item, asked in zip(items, request.ReferencedSOPSequence, strict=True):
            item.ReferencedSOPClassUID = asked.ReferencedSOPClassUID
            item.ReferencedSOPInstanceUID = asked.ReferencedSOPInstanceUID
            if failure is not None:
                item.FailureReason = failure
        if failure is None:
            ds.ReferencedSOPSequence = items
        else:
            ds.FailedSOPSequence = items
        event_type = 1 if failure is None else 2
        status, _ = assoc.send_n_event_report(
            ds, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        self.answers.append(int(status.get("Status", -1)))


@contextmanager
def committing_pacs(*, offers_commitment: bool = True, **behaviour: Any) -> Iterator[CommittingPacs]:
    """Run the PACS on a free port."""
    pacs = CommittingPacs(services.free_port(), **behaviour)
    ae = AE(AE_TITLE)
    for sop_class in (Verification, Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
        ae.add_supported_context(sop_class)
    if offers_commitment:
        ae.add_supported_context(StorageCommitmentPushModel)
    handlers: list[Any] = [(evt.EVT_C_STORE, pacs.on_store), (evt.EVT_N_ACTION, pacs.on_action)]
    server = ae.start_server((services.LOCALHOST, pacs.port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield pacs
    finally:
        server.shutdown()
