"""One DICOM file from the network on its way into the spool (PS3.18 10.5, PS3.10 7.1): pieces in, a durable file out.

Input: the pieces of a file, cut anywhere. Output: `Taken`, the durable file and its header. File Meta Information is
written anew, as for C-STORE, so that the same instance has the same digest by whichever way it comes. On failure
`IntakeError` with the status that says why; nothing is kept then.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from dicom_node import status
from dicom_node.file_format import file_meta
from dicom_node.headers import HeaderDefect, HeaderError, InstanceHeader, read_header
from dicom_node.spool import Spool, SpoolError, SpoolWriter, StoredFile
from dicom_node.uids import is_acceptable_uid

_PREAMBLE: Final = 132
_MOST_META_BYTES: Final = 1 << 16
_LONG_VRS: Final = (b"OB", b"OW", b"UN", b"UT", b"SQ", b"UC", b"UR")
_SOP_CLASS, _SOP_INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010
_STATUS_OF_DEFECT: Final = {
    HeaderDefect.UNREADABLE: status.CANNOT_UNDERSTAND,
    HeaderDefect.MISSING_IDENTIFIER: status.MISSING_IDENTIFIER,
    HeaderDefect.INVALID_IDENTIFIER: status.INVALID_IDENTIFIER,
}


class IntakeError(Exception):
    """The instance is not taken."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        #: A status of the Storage Service Class (PS3.4 B.2.3), which STOW-RS uses too (PS3.18 I.2.2).
        self.code = code


@dataclass(frozen=True, slots=True)
class Taken:
    """A durable instance that is not yet acknowledged."""

    stored: StoredFile
    header: InstanceHeader


class Intake:
    """Takes one file. Exactly one of `finish` and `abandon` is the last call."""

    def __init__(self, spool: Spool, most_bytes: int) -> None:
        self._spool = spool
        self._most_bytes = most_bytes
        self._size = 0
        #: What has come of preamble and File Meta Information; empty once that is whole.
        self._head = bytearray()
        self._writer: SpoolWriter | None = None
        self._error: IntakeError | None = None
        #: Of File Meta Information: element number -> UID.
        self._uids: dict[int, str] = {}
        #: As File Meta Information names them; "" where it does not.
        self.sop_class_uid = ""
        self.sop_instance_uid = ""

    def write(self, piece: bytes) -> None:
        """Take a piece; what is wrong with it is said by `finish`."""
        if self._error is not None:
            return
        self._size += len(piece)
        if self._size > self._most_bytes:
            self._fail(IntakeError(status.OUT_OF_RESOURCES, f"it has more than the {self._most_bytes} bytes allowed"))
            return
        try:
            if self._writer is None:
                self._head += piece
                self._begin()
            else:
                self._writer.write(piece)
        except IntakeError as error:
            self._fail(error)
        except SpoolError as error:
            self._fail(IntakeError(status.OUT_OF_RESOURCES, str(error)))

    def finish(self, study_instance_uid: str = "") -> Taken:
        """Check the whole instance and make it durable. Raises `IntakeError`.

        Args:
            study_instance_uid: The study that it has to belong to; "" for any.
        """
        try:
            if self._error is not None:
                raise self._error
            if self._writer is None:
                raise IntakeError(status.CANNOT_UNDERSTAND, "it ends inside its File Meta Information")
            header = read_header(self._writer.path)
            self._check(header, study_instance_uid)
            return Taken(self._writer.commit(), header)
        except HeaderError as error:
            raise IntakeError(_STATUS_OF_DEFECT[error.defect], error.reason) from error
        except (SpoolError, OSError) as error:
            raise IntakeError(status.OUT_OF_RESOURCES, str(error)) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Keep nothing."""
        if self._writer is not None:
            self._writer.discard()

    def _fail(self, error: IntakeError) -> None:
        self._error = error
        self._head.clear()
        self.abandon()  # at once: the disk may be full, and much may still come

    def _check(self, header: InstanceHeader, study_instance_uid: str) -> None:
        for name, stated, found in (
            ("SOPClassUID", self.sop_class_uid, header.sop_class_uid),
            ("SOPInstanceUID", self.sop_instance_uid, header.sop_instance_uid),
        ):
            if stated != found:
                reason = f"{name} differs between File Meta Information and data set"
                raise IntakeError(status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, reason)
        if study_instance_uid and header.study_instance_uid != study_instance_uid:
            reason = "it belongs to another study than the address names"
            raise IntakeError(status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, reason)

    def _begin(self) -> None:
        """Start the file in the spool as soon as File Meta Information is whole."""
        if self._head[128:_PREAMBLE] != b"DICM"[: max(0, len(self._head) - 128)]:
            raise IntakeError(status.CANNOT_UNDERSTAND, "it is no DICOM file: DICM is not at byte 128 (PS3.10 7.1)")
        if (end := self._meta_end()) is None:
            return
        syntax = self._uids.get(_SYNTAX, "")
        self.sop_class_uid, self.sop_instance_uid = self._uids.get(_SOP_CLASS, ""), self._uids.get(_SOP_INSTANCE, "")
        uids = {
            "TransferSyntaxUID": syntax,
            "MediaStorageSOPClassUID": self.sop_class_uid,
            "MediaStorageSOPInstanceUID": self.sop_instance_uid,
        }
        for name, uid in uids.items():
            if not is_acceptable_uid(uid):
                code = status.INVALID_IDENTIFIER if uid else status.MISSING_IDENTIFIER
                raise IntakeError(code, f"{name} {uid[:64]!r} of its File Meta Information is no UID")
        self._writer = self._spool.begin(file_meta(self.sop_class_uid, self.sop_instance_uid, syntax))
        rest = bytes(self._head[end:])
        self._head.clear()
        self._writer.write(rest)

    def _meta_end(self) -> int | None:
        """Return where group 2 ends; None where more has to come. Its length element is not trusted."""
        head, at = self._head, _PREAMBLE
        while len(head) >= at + 12:
            group, number, vr, length = struct.unpack_from("<HH2sH", head, at)
            if group != 2:
                return at
            start = at + 8
            if vr in _LONG_VRS:
                length, start = struct.unpack_from("<L", head, start)[0], at + 12
            if start + length > _MOST_META_BYTES:
                break
            if number in (_SOP_CLASS, _SOP_INSTANCE, _SYNTAX) and len(head) >= start + length:
                self._uids[number] = head[start : start + length].decode("ascii", "replace").strip("\0 ")
            at = start + length
        if len(head) > _MOST_META_BYTES or at > _MOST_META_BYTES:
            raise IntakeError(status.CANNOT_UNDERSTAND, "its File Meta Information does not end")
        return None
