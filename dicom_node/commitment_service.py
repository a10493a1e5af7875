"""Storage commitment at the node's door (PS3.4 J): requests of others to vouch for instances, and reports to us.

Input: whole N-ACTION and N-EVENT-REPORT requests. Output: for the first the keeper's word, which the response promises
and a notice on the same association reports; for the second the status that the taker of reports returns. On failure
the response says why, and the association lives on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from dicom_node import commitment, dimse, status
from dicom_node.commitment import CommitmentError, Report
from dicom_node.dimse import Notice, Request, Response

log = structlog.get_logger()

#: Status of an N-ACTION response -> when it is given.
ACTION_STATUSES: Final = {
    status.SUCCESS: "the request and the answer to it are recorded; a report follows",
    status.NO_SUCH_SOP_CLASS: "it is not about the Storage Commitment Push Model",
    status.NO_SUCH_SOP_INSTANCE: "it is not addressed to the well-known instance",
    status.NO_SUCH_ACTION: "its action type is not 1",
    status.INVALID_ARGUMENT_VALUE: "its data set cannot be read, or names no instances",
    status.RESOURCE_LIMITATION: f"its data set has more than {commitment.DATA_SET_LIMIT_BYTES >> 20} MiB",
    status.PROCESSING_FAILURE: "it could not be recorded; trying again helps",
}
#: The same of an N-EVENT-REPORT response.
REPORT_STATUSES: Final = {
    status.SUCCESS: "the report is recorded",
    status.NO_SUCH_SOP_CLASS: "it is not about the Storage Commitment Push Model",
    status.NO_SUCH_EVENT_TYPE: "its event type is neither 1 nor 2",
    status.INVALID_ARGUMENT_VALUE: "its data set cannot be read, or its transaction was never asked for",
    status.RESOURCE_LIMITATION: f"its data set has more than {commitment.DATA_SET_LIMIT_BYTES >> 20} MiB",
    status.PROCESSING_FAILURE: "it could not be recorded; trying again helps",
}


class Keeper(Protocol):
    """Who vouches for instances, and who keeps what others vouch for. Called from several threads at once."""

    def vouch(self, request: commitment.Request, calling_ae_title: str) -> Report:
        """Keep the request durably and say what is safe; may raise anything, which refuses the request."""

    def reported(self, transaction_uid: str) -> None:
        """The requester has taken the report of this transaction."""

    def take_report(self, report: Report, calling_ae_title: str) -> int:
        """Keep what another vouches for; return the status to answer."""


class _Collected:
    """An operation that collects a small data set and then works on it."""

    def __init__(self, request: Request, work: Callable[[Request, bytes], Response]) -> None:
        self._request = request
        self._work = work
        self._data = bytearray()

    def write(self, fragment: memoryview) -> None:
        """Keep a piece; beyond the limit only that there is too much."""
        if len(self._data) <= commitment.DATA_SET_LIMIT_BYTES:
            self._data += fragment

    def finish(self) -> Response:
        """Do the work."""
        if len(self._data) > commitment.DATA_SET_LIMIT_BYTES:
            return Response(status.RESOURCE_LIMITATION, "the data set is too long")
        try:
            return self._work(self._request, bytes(self._data))
        except CommitmentError as error:
            return Response(status.INVALID_ARGUMENT_VALUE, str(error))
        except Exception:
            # The edge to the keeper: whatever its reason, the peer must not believe that it was heard.
            log.exception("storage commitment not served", action="commitment")
            return Response(status.PROCESSING_FAILURE, "it could not be recorded")

    def abandon(self) -> None:
        """Nothing to undo."""


@dataclass(frozen=True, slots=True)
class CommitmentService:
    """Answers N-ACTION: the node vouches for what it received and stored."""

    keeper: Keeper

    def start(self, request: Request) -> dimse.Operation:
        """Begin to take a request for commitment."""
        return _Collected(request, self._serve)

    def _serve(self, request: Request, data_set: bytes) -> Response:
        command = request.command
        action = command.values.get(dimse.ACTION_TYPE_ID, b"")
        elements = {dimse.ACTION_TYPE_ID: action} if action else {}
        if command.text(dimse.REQUESTED_SOP_CLASS_UID) != commitment.SOP_CLASS:
            return Response(status.NO_SUCH_SOP_CLASS, elements=elements)
        if command.text(dimse.REQUESTED_SOP_INSTANCE_UID) != commitment.SOP_INSTANCE:
            return Response(status.NO_SUCH_SOP_INSTANCE, elements=elements)
        if int.from_bytes(action, "little") != commitment.REQUEST_COMMITMENT:
            return Response(status.NO_SUCH_ACTION, elements=elements)
        asked = commitment.decode_request(data_set, request.transfer_syntax)
        report = self.keeper.vouch(asked, request.calling_ae_title)
        log.info(
            "storage commitment asked for",
            action="commitment",
            association_id=request.association_id,
            calling_ae_title=request.calling_ae_title,
            transaction_uid=report.transaction_uid,
            committed=len(report.committed),
            failed=len(report.failed),
        )

        def answered(code: int) -> None:
            if code == status.SUCCESS:
                self.keeper.reported(report.transaction_uid)

        encoded = commitment.encode_report(report, request.transfer_syntax)
        notice = Notice(commitment.event_elements(report), encoded, answered)
        return Response(status.SUCCESS, elements=elements, notice=notice)


@dataclass(frozen=True, slots=True)
class EventReportService:
    """Answers N-EVENT-REPORT: what a destination says about instances that we sent it."""

    keeper: Keeper

    def start(self, request: Request) -> dimse.Operation:
        """Begin to take a report."""
        return _Collected(request, self._serve)

    def _serve(self, request: Request, data_set: bytes) -> Response:
        def keep(report: Report) -> int:
            return self.keeper.take_report(report, request.calling_ae_title)

        number = request.command.values.get(dimse.EVENT_TYPE_ID)
        code = commitment.event_status(request.command, data_set, request.transfer_syntax, keep)
        return Response(code, elements={dimse.EVENT_TYPE_ID: number} if number else {})
