"""The services of the node: C-STORE (PS3.4 B) and C-ECHO (PS3.4 A), on whole requests, knowing nothing of sockets.

Input: a request and the fragments of its data set. Output: the durable instance handed to the sink, and the response.
Success is answered only after the file, its directory entry and the sink's own record are durable. On failure the
response says why, the log says it too, nothing of the instance is kept, and the association lives on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from dicom_node import dimse, status
from dicom_node.dimse import Request, Response
from dicom_node.file_format import file_meta
from dicom_node.headers import HeaderDefect, HeaderError, InstanceHeader, read_header
from dicom_node.spool import Spool, SpoolError, SpoolWriter, StoredFile
from dicom_node.uids import is_acceptable_uid

log = structlog.get_logger()

#: Status of a C-STORE response -> when it is given.
STORE_STATUSES: Final = {
    status.SUCCESS: "the instance, its directory entry and its row in the database are durable",
    status.OUT_OF_RESOURCES: "too little storage is free, or the database is away; trying again helps",
    status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "the data set has another SOP class or instance than the request",
    status.CANNOT_UNDERSTAND: "the data set cannot be read, is empty, or cannot be recorded",
    status.MISSING_IDENTIFIER: "the Study, Series or SOP Instance UID or the SOP Class UID is missing",
    status.INVALID_IDENTIFIER: "such a UID is malformed",
    status.INVALID_SOP_INSTANCE: "Affected SOP Instance UID is malformed",
    status.SOP_CLASS_NOT_SUPPORTED: "Affected SOP Class UID is malformed",
    status.PROCESSING_FAILURE: "the instance could not be recorded; trying again helps",
}
_STATUS_OF_DEFECT: Final = {
    HeaderDefect.UNREADABLE: status.CANNOT_UNDERSTAND,
    HeaderDefect.MISSING_IDENTIFIER: status.MISSING_IDENTIFIER,
    HeaderDefect.INVALID_IDENTIFIER: status.INVALID_IDENTIFIER,
}


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """An instance that is durable in the spool and not yet acknowledged."""

    stored: StoredFile
    header: InstanceHeader
    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    #: When the last byte had come (aware, UTC).
    received_at: datetime


#: Records an instance durably and returns the DIMSE status to answer. It may block.
Sink = Callable[[ReceivedInstance], int]


class EchoService:
    """Answers C-ECHO."""

    def start(self, request: Request) -> dimse.Operation:
        """Begin to serve a C-ECHO."""
        return FixedAnswer(Response(status.SUCCESS))


class FixedAnswer:
    """An operation whose answer is known from the start; a data set, if one comes, is dropped."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def write(self, fragment: memoryview) -> None:
        """Drop a piece of the data set."""

    def finish(self) -> Response:
        """Return the answer."""
        return self._response

    def abandon(self) -> None:
        """Nothing to undo."""


class StoreService:
    """Takes instances by C-STORE into the spool."""

    def __init__(
        self, spool: Spool, sink: Sink, on_stored: Callable[[str], None] = lambda _association_id: None
    ) -> None:
        """`on_stored` is called with the association's id for every instance that was acknowledged as stored."""
        self._spool = spool
        self._sink = sink
        self._on_stored = on_stored

    def start(self, request: Request) -> dimse.Operation:
        """Begin to receive an instance."""
        command = request.command
        sop_class_uid = command.text(dimse.AFFECTED_SOP_CLASS_UID)
        sop_instance_uid = command.text(dimse.AFFECTED_SOP_INSTANCE_UID)
        if not command.has_data_set:
            return self._refuse(request, status.CANNOT_UNDERSTAND, "the request has no data set")
        if not is_acceptable_uid(sop_class_uid):
            return self._refuse(request, status.SOP_CLASS_NOT_SUPPORTED, "Affected SOP Class UID is not a UID")
        if not is_acceptable_uid(sop_instance_uid):
            return self._refuse(request, status.INVALID_SOP_INSTANCE, "Affected SOP Instance UID is not a UID")
        meta = file_meta(sop_class_uid, sop_instance_uid, request.transfer_syntax)
        try:
            writer = self._spool.begin(meta)
        except SpoolError as error:
            return self._refuse(request, status.OUT_OF_RESOURCES, "out of storage", cause=str(error))
        return _StoreOperation(self, request, writer)

    def _refuse(self, request: Request, code: int, comment: str, *, cause: str = "") -> FixedAnswer:
        return FixedAnswer(self.refusal(request, code, comment, cause=cause))

    def refusal(self, request: Request, code: int, comment: str, *, cause: str = "") -> Response:
        """Log why an instance is not taken, and return the response that says so."""
        log.warning(
            "instance refused",
            action="c-store",
            association_id=request.association_id,
            calling_ae_title=request.calling_ae_title,
            sop_instance_uid=request.command.text(dimse.AFFECTED_SOP_INSTANCE_UID)[:64],
            status=f"0x{code:04X}",
            reason=cause or comment,
        )
        return Response(code, comment)

    def keep(self, request: Request, writer: SpoolWriter) -> Response:
        """Check a whole instance, make it durable and hand it to the sink."""
        header = read_header(writer.path)
        for keyword, stated, found in (
            ("SOPClassUID", request.command.text(dimse.AFFECTED_SOP_CLASS_UID), header.sop_class_uid),
            ("SOPInstanceUID", request.command.text(dimse.AFFECTED_SOP_INSTANCE_UID), header.sop_instance_uid),
        ):
            if stated != found:
                comment = f"{keyword} differs between command and data set"
                return self.refusal(request, status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, comment)
        received_at = datetime.now(UTC)
        received = ReceivedInstance(
            stored=writer.commit(),
            header=header,
            association_id=request.association_id,
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            peer_address=request.peer_address,
            received_at=received_at,
        )
        code = self._sink(received)
        if status.status_class(code) is status.StatusClass.FAILURE:
            # The file stays: the same object may have been acknowledged to someone else, and what is whole is adopted
            # when spool and database are brought together.
            return self.refusal(request, code, status.status_name(code), cause="the instance could not be recorded")
        self._on_stored(request.association_id)
        return Response(code)


class _StoreOperation:
    """One instance on its way in."""

    def __init__(self, service: StoreService, request: Request, writer: SpoolWriter) -> None:
        self._service = service
        self._request = request
        self._writer = writer
        self._meta_size = writer.size
        self._disk_error: SpoolError | None = None

    def write(self, fragment: memoryview) -> None:
        if self._disk_error is not None:
            return
        try:
            self._writer.write(fragment)
        except SpoolError as error:
            self._disk_error = error
            self._writer.discard()  # at once: the disk is full, and much may still come

    def finish(self) -> Response:
        try:
            if self._disk_error is not None:
                return self._refuse(status.OUT_OF_RESOURCES, "out of storage", cause=str(self._disk_error))
            if self._writer.size == self._meta_size:
                return self._refuse(status.CANNOT_UNDERSTAND, "the data set is empty")
            return self._service.keep(self._request, self._writer)
        except HeaderError as error:
            return self._refuse(_STATUS_OF_DEFECT[error.defect], error.reason)
        except (SpoolError, OSError) as error:
            return self._refuse(status.OUT_OF_RESOURCES, "out of storage", cause=str(error))
        except Exception:
            # The edge to the sink: whatever its reason, the sender must learn that the instance is not safe here.
            log.exception("instance not recorded", action="c-store", association_id=self._request.association_id)
            return self._refuse(status.PROCESSING_FAILURE, "the instance could not be recorded")
        finally:
            self._writer.discard()

    def abandon(self) -> None:
        self._writer.discard()

    def _refuse(self, code: int, comment: str, *, cause: str = "") -> Response:
        return self._service.refusal(self._request, code, comment, cause=cause)
