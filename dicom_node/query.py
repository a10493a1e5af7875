"""Asking an archive: C-FIND for what it has, C-MOVE to have it sent (PS3.4 C), with the study root model.

Input: a peer and keys. Output: matches as data sets; what became of a retrieval. On failure `QueryError`, which says
whether the same question can be answered later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node import dimse, status
from dicom_node.commitment import encode
from dicom_node.dimse import CommandField
from dicom_node.outgoing import OutgoingAssociation, RequestError
from dicom_node.peer import Peer, check_ae_title

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_SYNTAXES: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
#: C-MOVE: move destination unknown (PS3.4 table C.4-2).
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
_COUNTS: Final = (dimse.COMPLETED, dimse.FAILED, dimse.WARNING)


class QueryError(Exception):
    """The archive did not answer the question; the message names it and the reason."""

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        #: Asking again will not help.
        self.is_permanent = is_permanent


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What became of the sub-operations of a C-MOVE (PS3.4 C.4.2.1.6)."""

    completed: int
    failed: int
    warning: int


def find(
    peer: Peer,
    level: str,
    keys: Mapping[str, str],
    *,
    calling_ae_title: str,
    connect_timeout_s: float = 10.0,
    timeout_s: float = 30.0,
) -> list[Dataset]:
    """Ask what matches (C-FIND).

    Args:
        peer: The archive.
        level: "STUDY", "SERIES" or "IMAGE".
        keys: Attribute keyword -> value to match; "" asks for the value.
        calling_ae_title: Ours.
        connect_timeout_s: Seconds to wait for the connection.
        timeout_s: Longest silence of the archive, in seconds.

    Raises:
        QueryError: There is no answer.
    """
    matches: list[Dataset] = []
    with _associated(peer, STUDY_ROOT_FIND, calling_ae_title, connect_timeout_s, timeout_s) as (association, number):
        identifier, syntax = _identifier(level, keys), association[1]
        elements = {dimse.AFFECTED_SOP_CLASS_UID: dimse.uid(STUDY_ROOT_FIND)}
        for message in association[0].query(number, CommandField.C_FIND_RQ, elements, encode(identifier, syntax)):
            code = message.command.number(dimse.STATUS)
            if status.status_class(code) is status.StatusClass.PENDING:
                matches.append(_read(peer, message.data_set, syntax))
            elif code != status.SUCCESS:
                raise QueryError(
                    f"{peer} answers C-FIND with 0x{code:04X} {status.status_name(code)}" + _comment(message.command),
                    is_permanent=code not in (0xA700, status.PROCESSING_FAILURE),
                )
    return matches


def move(
    peer: Peer,
    level: str,
    keys: Mapping[str, str],
    *,
    to_ae_title: str,
    calling_ae_title: str,
    connect_timeout_s: float = 10.0,
    timeout_s: float = 300.0,
) -> Retrieval:
    """Have the archive send what matches to an AE title that it knows (C-MOVE); wait until it has.

    Arguments and errors as in `find`.
    """
    done = Retrieval(0, 0, 0)
    with _associated(peer, STUDY_ROOT_MOVE, calling_ae_title, connect_timeout_s, timeout_s) as (association, number):
        title = check_ae_title(to_ae_title).encode("ascii")
        elements = {
            dimse.AFFECTED_SOP_CLASS_UID: dimse.uid(STUDY_ROOT_MOVE),
            dimse.MOVE_DESTINATION: title + b" " * (len(title) % 2),
        }
        identifier = encode(_identifier(level, keys), association[1])
        for message in association[0].query(number, CommandField.C_MOVE_RQ, elements, identifier):
            code, command = message.command.number(dimse.STATUS), message.command
            # A response need not repeat the counts (PS3.4 C.4.2.1): the last that was stated holds.
            before = (done.completed, done.failed, done.warning)
            stated = (command.values.get(element) for element in _COUNTS)
            done = Retrieval(*(int.from_bytes(n, "little") if n else b for n, b in zip(stated, before, strict=True)))
            kind = status.status_class(code)
            if kind in (status.StatusClass.FAILURE, status.StatusClass.CANCEL):
                raise QueryError(_refusal(peer, code, to_ae_title) + _comment(command), is_permanent=True)
    return done


def _refusal(peer: Peer, code: int, to_ae_title: str) -> str:
    if code == MOVE_DESTINATION_UNKNOWN:
        return (
            f"{peer} does not know {to_ae_title!r} as a destination: enter this node's AE title, address and port there"
        )
    return f"{peer} answers C-MOVE with 0x{code:04X} {status.status_name(code)}"


def _comment(command: dimse.CommandSet) -> str:
    comment = command.text(dimse.ERROR_COMMENT)
    return f": {comment}" if comment else ""


@contextmanager
def _associated(
    peer: Peer, sop_class_uid: str, calling_ae_title: str, connect_timeout_s: float, timeout_s: float
) -> Iterator[tuple[tuple[OutgoingAssociation, str], int]]:
    """Yield the association with its transfer syntax, and the context. Raises `QueryError`."""
    contexts = [(sop_class_uid, syntax) for syntax in _SYNTAXES]
    try:
        with OutgoingAssociation(
            peer,
            check_ae_title(calling_ae_title),
            contexts,
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
        ) as association:
            number, syntax = association.first_context(contexts)
            if number is None:
                what = "C-FIND" if sop_class_uid == STUDY_ROOT_FIND else "C-MOVE"
                raise QueryError(f"{peer} offers no {what} in the study root model", is_permanent=True)
            yield (association, syntax), number
    except RequestError as error:
        raise QueryError(str(error), is_permanent=error.is_permanent) from error
    except dimse.CommandError as error:
        raise QueryError(f"{peer}: {error}") from error


def _identifier(level: str, keys: Mapping[str, str]) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


def _read(peer: Peer, encoded: bytes, transfer_syntax: str) -> Dataset:
    try:
        is_implicit = transfer_syntax == ImplicitVRLittleEndian
        ds = read_dataset(BytesIO(encoded), is_implicit_VR=is_implicit, is_little_endian=True)
        list(ds.iterall())
    except Exception as error:  # what a decoder makes of a stranger's bytes is not for us to list
        raise QueryError(f"{peer}: a match cannot be read: {error!r}") from error
    return ds
