"""Storage commitment (PS3.4 J): asking a peer to vouch for instances, and telling another what we vouch for.

Input: references to instances and a transaction UID. Output: the data sets of N-ACTION and N-EVENT-REPORT, read and
written; `ask` sends a request and hands on what is reported on the same association, `tell` reports on an association
of its own, with the SCP role (PS3.4 J.3.3). On failure `CommitmentError` (a data set that does not say what it must),
`NotOfferedError` (the peer will never answer this) or `RequestError` (the network).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node import dimse, status
from dicom_node.dimse import CommandField
from dicom_node.outgoing import Message, OutgoingAssociation, RequestError
from dicom_node.peer import Peer, check_ae_title
from dicom_node.uids import is_acceptable_uid

SOP_CLASS: Final = "1.2.840.10008.1.20.1"
#: The well-known instance that requests are addressed to (PS3.4 J.3.5).
SOP_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
SYNTAXES: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
#: Action Type ID (PS3.4 table J.3-1) and Event Type IDs (PS3.4 table J.3-2).
REQUEST_COMMITMENT: Final = 1
ALL_COMMITTED, FAILURES_EXIST = 1, 2
#: A request for tens of thousands of instances stays below this; more is no request but an attack.
DATA_SET_LIMIT_BYTES: Final = 16 << 20

#: Failure Reason (0008,1197), PS3.3 C.14.1.1.
NO_SUCH_OBJECT: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
_REASONS: Final = {
    0x0110: "processing failure",
    NO_SUCH_OBJECT: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "referenced SOP class not supported",
    CLASS_INSTANCE_CONFLICT: "class/instance conflict",
    0x0131: "duplicate transaction UID",
}


#: What this node says of instances that it does not vouch for.
GIVEN_REASONS: Final = (NO_SUCH_OBJECT, CLASS_INSTANCE_CONFLICT)


class CommitmentError(ValueError):
    """A request or report does not say what it must (PS3.4 J.3.2, J.3.3)."""


class NotOfferedError(Exception):
    """The peer offers no storage commitment, or refuses the request for good; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance that is asked for or spoken of."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked to be kept."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What the keeper says about a transaction."""

    transaction_uid: str
    committed: tuple[Reference, ...] = ()
    #: Instance and Failure Reason.
    failed: tuple[tuple[Reference, int], ...] = field(default=())

    @property
    def event_type_id(self) -> int:
        """Event Type ID."""
        return FAILURES_EXIST if self.failed else ALL_COMMITTED


def failure_in_words(reason: int) -> str:
    """Return a Failure Reason with its meaning."""
    return f"0x{reason:04X} {_REASONS.get(reason, 'unknown reason')}"


def encode_request(request: Request, transfer_syntax: str) -> bytes:
    """Return the Action Information (PS3.4 table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = UID(request.transaction_uid)
    ds.ReferencedSOPSequence = [_item(reference) for reference in request.references]
    return encode(ds, transfer_syntax)


def decode_request(encoded: bytes, transfer_syntax: str) -> Request:
    """Read Action Information. Raises `CommitmentError`."""
    ds = _decode(encoded, transfer_syntax)
    references = tuple(_reference(item) for item in _items(ds, "ReferencedSOPSequence"))
    if not references:
        raise CommitmentError("Referenced SOP Sequence is empty")
    return Request(_transaction(ds), references)


def encode_report(report: Report, transfer_syntax: str) -> bytes:
    """Return the Event Information (PS3.4 table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = UID(report.transaction_uid)
    if report.committed:
        ds.ReferencedSOPSequence = [_item(reference) for reference in report.committed]
    if report.failed:
        ds.FailedSOPSequence = [_item(reference, reason) for reference, reason in report.failed]
    return encode(ds, transfer_syntax)


def decode_report(encoded: bytes, transfer_syntax: str) -> Report:
    """Read Event Information. Raises `CommitmentError`.

    An instance that is named in both sequences counts as failed: nothing is called safe on a contradiction.
    """
    ds = _decode(encoded, transfer_syntax)
    failed = tuple((_reference(item), int(item.get("FailureReason") or 0)) for item in _items(ds, "FailedSOPSequence"))
    denied = {reference.sop_instance_uid for reference, _ in failed}
    committed = (_reference(item) for item in _items(ds, "ReferencedSOPSequence"))
    kept = tuple(reference for reference in committed if reference.sop_instance_uid not in denied)
    return Report(_transaction(ds), kept, failed)


def encode(ds: Dataset, transfer_syntax: str) -> bytes:
    """Return a data set in implicit or explicit VR little endian."""
    fp = DicomBytesIO()
    fp.is_little_endian, fp.is_implicit_VR = True, transfer_syntax == ImplicitVRLittleEndian
    write_dataset(fp, ds)
    return bytes(fp.getvalue())


def ask(
    peer: Peer,
    request: Request,
    *,
    calling_ae_title: str,
    on_report: Callable[[Report], int],
    wait_s: float,
    connect_timeout_s: float,
    timeout_s: float,
) -> None:
    """Ask `peer` to vouch for the instances; wait up to `wait_s` for its report on the same association.

    `on_report` keeps a report and returns the status to answer. Whether a report came, it knows best: one can also come
    later, on an association of the peer's own.

    Raises:
        NotOfferedError, RequestError: The request was not taken.
    """
    open_for = {}

    def receive(message: Message) -> int:
        answer = event_status(message.command, message.data_set, message.transfer_syntax, on_report)
        open_for["is over"] = answer == status.SUCCESS
        return answer

    contexts = [(SOP_CLASS, syntax) for syntax in SYNTAXES]
    with OutgoingAssociation(
        peer,
        check_ae_title(calling_ae_title),
        contexts,
        connect_timeout_s=connect_timeout_s,
        timeout_s=timeout_s,
        on_event=receive,
    ) as association:
        context_id, syntax = association.first_context(contexts)
        if context_id is None:
            raise NotOfferedError(f"{peer} does not accept Storage Commitment Push Model")
        command = {
            dimse.REQUESTED_SOP_CLASS_UID: dimse.uid(SOP_CLASS),
            dimse.REQUESTED_SOP_INSTANCE_UID: dimse.uid(SOP_INSTANCE),
            dimse.ACTION_TYPE_ID: REQUEST_COMMITMENT.to_bytes(2, "little"),
        }
        code = association.request(
            context_id, CommandField.N_ACTION_RQ, command, encode_request(request, syntax)
        ).command.number(dimse.STATUS)
        _judge(peer, code)
        association.listen(wait_s, until=lambda: bool(open_for.get("is over")))


def _judge(peer: Peer, code: int) -> None:
    """Raise what the status of an N-ACTION response means, unless it is success or a warning."""
    if status.status_class(code) in (status.StatusClass.SUCCESS, status.StatusClass.WARNING):
        return
    words = f"{peer} refuses the request for storage commitment: 0x{code:04X} {status.status_name(code)}"
    if code in (status.PROCESSING_FAILURE, status.RESOURCE_LIMITATION):
        raise RequestError(words)
    raise NotOfferedError(words)


def tell(peer: Peer, report: Report, *, calling_ae_title: str, connect_timeout_s: float, timeout_s: float) -> None:
    """Report to `peer`, who had asked, on an association of our own. Raises `RequestError`."""
    contexts = [(SOP_CLASS, syntax) for syntax in SYNTAXES]
    with OutgoingAssociation(
        peer,
        check_ae_title(calling_ae_title),
        contexts,
        connect_timeout_s=connect_timeout_s,
        timeout_s=timeout_s,
        as_scp=(SOP_CLASS,),
    ) as association:
        context_id, syntax = association.first_context(contexts)
        if context_id is None:
            raise RequestError(f"{peer} takes no storage commitment reports from us", is_permanent=True)
        command = event_elements(report)
        data_set = encode_report(report, syntax)
        answer = association.request(context_id, CommandField.N_EVENT_REPORT_RQ, command, data_set)
        code = answer.command.number(dimse.STATUS)
        if status.status_class(code) not in (status.StatusClass.SUCCESS, status.StatusClass.WARNING):
            raise RequestError(f"{peer} answers the report with 0x{code:04X} {status.status_name(code)}")


def event_elements(report: Report) -> dict[int, bytes]:
    """Return the elements of an N-EVENT-REPORT request that say what it is about (PS3.7 10.1.1)."""
    return {
        dimse.AFFECTED_SOP_CLASS_UID: dimse.uid(SOP_CLASS),
        dimse.AFFECTED_SOP_INSTANCE_UID: dimse.uid(SOP_INSTANCE),
        dimse.EVENT_TYPE_ID: report.event_type_id.to_bytes(2, "little"),
    }


def event_status(
    command: dimse.CommandSet, encoded: bytes, transfer_syntax: str, on_report: Callable[[Report], int]
) -> int:
    """Read an N-EVENT-REPORT request and hand it on; return the status to answer."""
    if command.text(dimse.AFFECTED_SOP_CLASS_UID) != SOP_CLASS:
        return status.NO_SUCH_SOP_CLASS
    try:
        if command.number(dimse.EVENT_TYPE_ID) not in (ALL_COMMITTED, FAILURES_EXIST):
            return status.NO_SUCH_EVENT_TYPE
        report = decode_report(encoded, transfer_syntax)
    except (CommitmentError, dimse.CommandError):
        return status.INVALID_ARGUMENT_VALUE
    return on_report(report)


def references(pairs: Iterable[Sequence[str]]) -> tuple[Reference, ...]:
    """Return references from pairs of SOP Class and SOP Instance UID."""
    return tuple(Reference(sop_class_uid, sop_instance_uid) for sop_class_uid, sop_instance_uid in pairs)


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
    if reason is not None:
        item.FailureReason = reason
    return item


def _decode(encoded: bytes, transfer_syntax: str) -> Dataset:
    try:
        is_implicit = transfer_syntax == ImplicitVRLittleEndian
        ds = read_dataset(BytesIO(encoded), is_implicit_VR=is_implicit, is_little_endian=True)
        list(ds.iterall())  # pydicom reads values late: what cannot be read is found out here
    except Exception as error:  # what a decoder makes of a stranger's bytes is not for us to list
        raise CommitmentError(f"the data set cannot be read: {error!r}") from error
    return ds


def _items(ds: Dataset, keyword: str) -> list[Dataset]:
    sequence = ds.get(keyword)
    return [] if sequence is None else list(sequence)


def _transaction(ds: Dataset) -> str:
    uid = str(ds.get("TransactionUID") or "")
    if not is_acceptable_uid(uid):
        raise CommitmentError("Transaction UID is missing or malformed")
    return uid


def _reference(item: Dataset) -> Reference:
    found = Reference(str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or ""))
    if not (is_acceptable_uid(found.sop_class_uid) and is_acceptable_uid(found.sop_instance_uid)):
        raise CommitmentError("a referenced UID is missing or malformed")
    return found
