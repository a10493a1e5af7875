"""Asking an archive: C-FIND for what it has, C-MOVE or C-GET to have it sent (PS3.4 C), with the study root model.

Input: a peer and keys. Output: matches as data sets; what became of a retrieval. Objects of a C-GET come on the same
association and go to a storage service. On failure `QueryError`, which says whether the same question can be answered
later, or another way of asking may help.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicom_node import dimse, status
from dicom_node.commitment import encode
from dicom_node.dimse import CommandField, Service
from dicom_node.outgoing import MAX_CONTEXTS, OutgoingAssociation, RequestError
from dicom_node.peer import Peer, check_ae_title

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
SYNTAXES: Final = (str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian))
_NAMES: Final = {STUDY_ROOT_FIND: "C-FIND", STUDY_ROOT_MOVE: "C-MOVE", STUDY_ROOT_GET: "C-GET"}
#: Transfer syntaxes that objects of a C-GET are taken in, the likely ones first: all whose pixels can be read here.
RETRIEVED_SYNTAXES: Final = tuple(
    str(syntax)
    for syntax in (
        *(*SYNTAXES, uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless),
        *(uid.JPEGBaseline8Bit, uid.JPEG2000, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLSNearLossless),
        *(uid.DeflatedExplicitVRLittleEndian, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K),
        *(*uid.MPEGTransferSyntaxes, uid.ExplicitVRBigEndian),
    )
)
#: C-MOVE: move destination unknown (PS3.4 table C.4-2).
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
_COUNTS: Final = (dimse.COMPLETED, dimse.FAILED, dimse.WARNING)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one kind of C-FIND (PS3.4 C.6.2.1)."""

    purpose: str
    #: "STUDY", "SERIES" or "IMAGE".
    level: str
    #: Attribute keywords with a value to match.
    matched: tuple[str, ...]
    #: Attribute keywords whose value is asked for.
    returned: tuple[str, ...]

    def identifier(self, *values: str) -> dict[str, str]:
        """Return keyword -> value, with the values of `matched` in their order."""
        return dict(zip(self.matched, values, strict=True)) | dict.fromkeys(self.returned, "")


_ABOUT_A_STUDY: Final = ("StudyInstanceUID", "StudyDescription")
_IN_SERIES: Final = ("StudyInstanceUID", "SeriesInstanceUID")
STUDIES_OF_ORDER: Final = Keys(
    "studies of an accession number", "STUDY", ("AccessionNumber",), (*_ABOUT_A_STUDY, "StudyDate", "PatientID")
)
PRIOR_STUDIES: Final = Keys("earlier studies of a patient", "STUDY", ("PatientID", "StudyDate"), _ABOUT_A_STUDY)
SERIES_OF_STUDY: Final = Keys("series of a study", "SERIES", ("StudyInstanceUID",), ("SeriesInstanceUID",))
IMAGES_OF_SERIES: Final = Keys("images of a series", "IMAGE", _IN_SERIES, ("SOPInstanceUID", "SOPClassUID"))
COUNT_OF_SERIES: Final = Keys("how many images a series has", "SERIES", _IN_SERIES, ("NumberOfSeriesRelatedInstances",))
ONE_IMAGE: Final = Keys("whether an object is there", "IMAGE", (*_IN_SERIES, "SOPInstanceUID"), ())
#: All that is asked by C-FIND.
QUERIES: Final = (STUDIES_OF_ORDER, PRIOR_STUDIES, SERIES_OF_STUDY, IMAGES_OF_SERIES, COUNT_OF_SERIES, ONE_IMAGE)


class QueryError(Exception):
    """The archive did not answer the question; the message names it and the reason."""

    def __init__(self, message: str, *, is_permanent: bool = False, is_not_for_us: bool = False) -> None:
        super().__init__(message)
        #: Asking again will not help.
        self.is_permanent = is_permanent
        #: The archive does not offer this, or not to us: another way of asking may help.
        self.is_not_for_us = is_not_for_us


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What became of the sub-operations of a C-MOVE or C-GET (PS3.4 C.4.2.1.6, C.4.3.1.4)."""

    completed: int = 0
    failed: int = 0
    warning: int = 0

    def after(self, command: dimse.CommandSet) -> Retrieval:
        """Return what a further response says; it need not repeat the counts: the last that was stated holds."""
        before = (self.completed, self.failed, self.warning)
        stated = (command.values.get(element) for element in _COUNTS)
        return Retrieval(*(int.from_bytes(n, "little") if n else b for n, b in zip(stated, before, strict=True)))


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
    done = Retrieval()
    with _associated(peer, STUDY_ROOT_MOVE, calling_ae_title, connect_timeout_s, timeout_s) as (association, number):
        title = check_ae_title(to_ae_title).encode("ascii")
        elements = {
            dimse.AFFECTED_SOP_CLASS_UID: dimse.uid(STUDY_ROOT_MOVE),
            dimse.MOVE_DESTINATION: title + b" " * (len(title) % 2),
        }
        identifier = encode(_identifier(level, keys), association[1])
        for message in association[0].query(number, CommandField.C_MOVE_RQ, elements, identifier):
            done = done.after(message.command)
            code = message.command.number(dimse.STATUS)
            if code == MOVE_DESTINATION_UNKNOWN:
                words = f"{peer} does not know {to_ae_title!r} as a destination: enter this node's AE title, address"
                raise QueryError(f"{words} and port there", is_permanent=True, is_not_for_us=True)
            _demand_success(peer, "C-MOVE", code, message.command)
    return done


def get(
    peer: Peer,
    level: str,
    keys: Mapping[str, str],
    *,
    contexts: Sequence[tuple[str, str]],
    storage: Service,
    calling_ae_title: str,
    connect_timeout_s: float = 10.0,
    timeout_s: float = 300.0,
) -> Retrieval:
    """Have the archive send what matches on this association (C-GET); wait until it has.

    Arguments and errors as in `find`, and:

    Args:
        contexts: SOP class and transfer syntax of what may come (`retrieval_contexts`).
        storage: Takes the objects.
    """
    done = Retrieval()
    with _associated(peer, STUDY_ROOT_GET, calling_ae_title, connect_timeout_s, timeout_s, contexts, storage) as (
        association,
        number,
    ):
        elements = {dimse.AFFECTED_SOP_CLASS_UID: dimse.uid(STUDY_ROOT_GET)}
        identifier = encode(_identifier(level, keys), association[1])
        for message in association[0].query(number, CommandField.C_GET_RQ, elements, identifier):
            done = done.after(message.command)
            _demand_success(peer, "C-GET", message.command.number(dimse.STATUS), message.command)
    return done


def retrieval_contexts(sop_class_uids: Iterable[str]) -> list[tuple[str, str]]:
    """Return what C-GET proposes for objects of these classes: as many contexts as there may be, likely ones first."""
    classes = list(dict.fromkeys(sop_class_uids))
    pairs = [(sop_class_uid, syntax) for syntax in RETRIEVED_SYNTAXES for sop_class_uid in classes]
    return pairs[: MAX_CONTEXTS - len(SYNTAXES)]


def _demand_success(peer: Peer, what: str, code: int, command: dimse.CommandSet) -> None:
    kind = status.status_class(code)
    if kind in (status.StatusClass.FAILURE, status.StatusClass.CANCEL):
        words = f"{peer} answers {what} with 0x{code:04X} {status.status_name(code)}"
        raise QueryError(words + _comment(command), is_permanent=True)


def _comment(command: dimse.CommandSet) -> str:
    comment = command.text(dimse.ERROR_COMMENT)
    return f": {comment}" if comment else ""


@contextmanager
def _associated(
    peer: Peer,
    sop_class_uid: str,
    calling_ae_title: str,
    connect_timeout_s: float,
    timeout_s: float,
    retrieved: Sequence[tuple[str, str]] = (),
    storage: Service | None = None,
) -> Iterator[tuple[tuple[OutgoingAssociation, str], int]]:
    """Yield the association with its transfer syntax, and the context. Raises `QueryError`."""
    contexts = [(sop_class_uid, syntax) for syntax in SYNTAXES]
    try:
        with OutgoingAssociation(
            peer,
            check_ae_title(calling_ae_title),
            [*contexts, *retrieved],
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
            as_scp=list(dict.fromkeys(pair[0] for pair in retrieved)),
            storage=storage,
        ) as association:
            number, syntax = association.first_context(contexts)
            if number is None:
                what = f"no {_NAMES[sop_class_uid]} in the study root model"
                raise QueryError(f"{peer} offers {what}", is_permanent=True, is_not_for_us=True)
            yield (association, syntax), number
    except RequestError as error:
        # Some archives abort where they do not know the destination of a C-MOVE.
        is_not_for_us = error.is_broken_off and sop_class_uid == STUDY_ROOT_MOVE
        raise QueryError(str(error), is_permanent=error.is_permanent, is_not_for_us=is_not_for_us) from error
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
        is_implicit = transfer_syntax == uid.ImplicitVRLittleEndian
        ds = read_dataset(BytesIO(encoded), is_implicit_VR=is_implicit, is_little_endian=True)
        list(ds.iterall())
    except Exception as error:  # what a decoder makes of a stranger's bytes is not for us to list
        raise QueryError(f"{peer}: a match cannot be read: {error!r}") from error
    return ds
