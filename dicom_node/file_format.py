"""The DICOM file format (PS3.10 7): preamble and File Meta Information before the data set, written and opened.

Input: the identity of an instance, or a path. Output: the bytes to put before a data set, or an open file positioned at
its data set. On failure `FileFormatError`, saying what the file is instead.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, cast

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.elements import ElementError, read_elements
from dicom_node.inflated import InflatedFile, InflateError
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREAMBLE: Final = b"\0" * 128 + b"DICM"
_GROUP_LENGTH: Final = 0x00020000
_TRANSFER_SYNTAX: Final = 0x00020010
#: A deflated data set is inflated up to this size, which none of the field reaches: it bounds the time. Little of it is
#: held at a time.
MAX_INFLATED_BYTES: Final = 1 << 29
_META_LIMIT_BYTES: Final = 1 << 16


class FileFormatError(ValueError):
    """Not a DICOM file, or one that ends too early."""


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble and File Meta Information (PS3.10 table 7.1-1), explicit VR little endian.

    The bytes depend on the three UIDs alone. Nothing of the sender is in it, and pydicom's writer is not used, so that
    neither another route nor another release of a library gives the same instance another digest.
    """
    body = b"".join(
        (
            struct.pack("<HH2sHLH", 0x0002, 0x0001, b"OB", 0, 2, 0x0100),
            _short(0x0002, b"UI", sop_class_uid),
            _short(0x0003, b"UI", sop_instance_uid),
            _short(0x0010, b"UI", transfer_syntax_uid),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return _PREAMBLE + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(body)) + body


def _short(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What File Meta Information says, and where it ends."""

    transfer_syntax_uid: str
    #: Offset of the data set in the file.
    data_set_offset: int


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file opened at its data set. `fp` must be closed by who asked for it."""

    fp: BinaryIO
    #: Size of the stream that `fp` reads: of the file, or of what a deflated data set inflates to.
    end: int
    transfer_syntax_uid: str
    explicit_vr: bool
    little_endian: bool


def open_data_set(path: Path) -> OpenFile:
    """Open the DICOM file at `path` and go to its data set. Raises `FileFormatError` and `OSError`."""
    fp: BinaryIO = path.open("rb")
    try:
        end = os.fstat(fp.fileno()).st_size
        transfer_syntax_uid = read_file_meta(fp).transfer_syntax_uid
        if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            inflated = InflatedFile(fp)
            end = inflated.measure(MAX_INFLATED_BYTES)
            fp = cast(BinaryIO, inflated)
    except InflateError as error:
        fp.close()
        raise FileFormatError(str(error)) from error
    except BaseException:
        fp.close()
        raise
    return OpenFile(
        fp=fp,
        end=end,
        transfer_syntax_uid=transfer_syntax_uid,
        explicit_vr=transfer_syntax_uid != ImplicitVRLittleEndian,
        little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
    )


def read_file_meta(fp: BinaryIO) -> FileMeta:
    """Read the File Meta Information of an open file and leave `fp` at the data set. Raises `FileFormatError`."""
    end = os.fstat(fp.fileno()).st_size
    if end == 0:
        raise FileFormatError("the file is empty")
    if fp.read(132)[128:] != b"DICM":
        raise FileFormatError(
            "it is not a DICOM file: the prefix DICM is not at byte 128 (PS3.10 7.1); if it is a bare data set, give "
            "it File Meta Information (dcmtk: dcmconv --read-dataset)"
        )
    start = fp.tell()
    length = _meta_length(fp, start, end)
    fp.seek(start)
    meta = BytesIO(fp.read(length))
    try:
        found = read_elements(meta, length, {_TRANSFER_SYNTAX}, explicit_vr=True, little_endian=True)
    except ElementError as error:
        raise FileFormatError(f"its File Meta Information cannot be read: {error}") from error
    element = found.elements.get(_TRANSFER_SYNTAX)
    if element is None or not element.value.strip(b"\0 "):
        raise FileFormatError("its File Meta Information has no TransferSyntaxUID")
    return FileMeta(element.value.decode("ascii", "replace").strip("\0 "), start + length)


def _meta_length(fp: BinaryIO, start: int, end: int) -> int:
    """Return the length of group 2. Its group length element is not trusted: writers in the field get it wrong."""
    while (header := fp.read(8)) and len(header) == 8:
        group, _number, vr, length = struct.unpack("<HH2sH", header)
        if group != 0x0002:
            return fp.tell() - 8 - start
        if vr in (b"OB", b"UN", b"OW", b"UT"):
            (length,) = struct.unpack("<L", fp.read(4).ljust(4, b"\xff"))
        if fp.tell() + length > end or length > _META_LIMIT_BYTES:
            raise FileFormatError("it ends inside the File Meta Information")
        fp.seek(length, os.SEEK_CUR)
    return fp.tell() - len(header) - start
