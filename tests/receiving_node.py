"""The receiving node in this process, and a bare sender that breaks every rule a test tells it to break."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.file_format import read_file_meta
from dicom_node.scp import AssociationRecord, ReceivedInstance, ScpConfig, StoreScp
from dicom_node.spool import Spool
from dicom_node.uids import derive_uid

AE_TITLE = "DICOMWORKER"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


@dataclass
class ReceivingNode:
    """A running node: its spool, and what it handed on."""

    spool: Spool
    instances: list[ReceivedInstance] = field(default_factory=list)
    started: list[AssociationRecord] = field(default_factory=list)
    ended: list[AssociationRecord] = field(default_factory=list)
    #: What the sink answers, or raises.
    answer: Callable[[ReceivedInstance], int] = lambda _received: 0
    scp: StoreScp = field(init=False)

    @property
    def port(self) -> int:
        return self.scp.port

    def sink(self, received: ReceivedInstance) -> int:
        status = self.answer(received)
        if status == 0:
            self.instances.append(received)
        return status

    def wait_until_idle(self, timeout_s: float = 10) -> None:
        """Wait until no association is open: what ended them is recorded then."""
        pause = threading.Event()
        for _ in range(int(timeout_s / 0.01)):
            if not self.scp.associations:
                return
            pause.wait(0.01)
        raise AssertionError(f"{self.scp.associations} associations are still open")

    def objects(self) -> list[Path]:
        """Every object in the spool, each checked to be what its name says."""
        found = list(self.spool.objects())
        for path in found:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
        return found

    def leftovers(self) -> list[Path]:
        return list(self.spool.incoming.iterdir())


@contextmanager
def receiving_node(root: Path, **settings: Any) -> Iterator[ReceivingNode]:
    """A node on a free port, stopped in the end."""
    node = ReceivingNode(Spool(root))
    config = ScpConfig(**{"ae_title": AE_TITLE, "port": 0, **settings})
    node.scp = StoreScp(config, node.spool, node.sink, node.ended.append, node.started.append)
    with node.scp:
        yield node


def data_set_of(path: Path) -> bytes:
    """The bytes of the data set in a DICOM file."""
    with path.open("rb") as fp:
        read_file_meta(fp)
        return fp.read()


def ct_slice(name: str, *, rows: int = 16, **changes: Any) -> pydicom.Dataset:
    """A small CT slice; `name` makes its UIDs. A change to None removes the attribute."""
    ds = pydicom.Dataset()
    ds.SOPClassUID = CT_IMAGE_STORAGE
    ds.SOPInstanceUID = derive_uid("instance", name)
    ds.StudyInstanceUID = derive_uid("study")
    ds.SeriesInstanceUID = derive_uid("series")
    ds.Modality = "CT"
    ds.PatientID = "P1"
    ds.PatientName = "Phantom^Drawn"
    ds.Rows = ds.Columns = rows
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.PixelData = hashlib.sha256(name.encode()).digest() * (rows * rows * 2 // 32)
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def encoded(ds: pydicom.Dataset) -> bytes:
    """The data set in explicit VR little endian."""
    fp = DicomBytesIO()
    fp.is_implicit_VR = False
    fp.is_little_endian = True
    write_dataset(fp, ds)
    return fp.getvalue()


def write_file(ds: pydicom.Dataset, path: Path) -> Path:
    """Write a DICOM file."""
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def command(elements: dict[int, bytes]) -> bytes:
    """Encode a command set: group 0000, implicit VR little endian."""
    body = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in sorted(elements.items()))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def us(number: int) -> bytes:
    return struct.pack("<H", number)


def ui(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def c_store_rq(sop_instance_uid: str, message_id: int = 1, sop_class_uid: str = CT_IMAGE_STORAGE) -> bytes:
    """The command set of a C-STORE request."""
    return command(
        {
            0x0002: ui(sop_class_uid),
            0x0100: us(0x0001),
            0x0110: us(message_id),
            0x0700: us(0),
            0x0800: us(0),
            0x1000: ui(sop_instance_uid),
        }
    )


def c_echo_rq(message_id: int = 1) -> bytes:
    """The command set of a C-ECHO request."""
    return command({0x0002: ui(VERIFICATION), 0x0100: us(0x30), 0x0110: us(message_id), 0x0800: us(0x0101)})


def pdu(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BxL", pdu_type, len(body)) + body


def pdv(context_id: int, data: bytes, *, is_command: bool, is_last: bool) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context_id, is_command | is_last << 1) + data


def p_data(context_id: int, data: bytes, *, is_command: bool, size: int = 16_000) -> bytes:
    """`data` as P-DATA-TF PDUs with fragments of `size` bytes."""
    starts = range(0, max(len(data), 1), size)
    return b"".join(
        pdu(0x04, pdv(context_id, data[at : at + size], is_command=is_command, is_last=at == starts[-1]))
        for at in starts
    )


def _association_item(item_type: int, body: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(body)) + body


def a_associate_rq(
    contexts: Sequence[tuple[int, str, Sequence[str]]], called: bytes = AE_TITLE.encode(), calling: bytes = b"RAW"
) -> bytes:
    """An association request."""
    items = _association_item(0x10, b"1.2.840.10008.3.1.1.1")
    for context_id, abstract_syntax, transfer_syntaxes in contexts:
        syntaxes = b"".join(_association_item(0x40, uid.encode()) for uid in transfer_syntaxes)
        abstract = _association_item(0x30, abstract_syntax.encode())
        items += _association_item(0x20, bytes((context_id, 0, 0, 0)) + abstract + syntaxes)
    limit = _association_item(0x51, struct.pack(">L", 16_384))
    items += _association_item(0x50, limit + _association_item(0x52, b"1.2.3.4"))
    return pdu(0x01, b"\0\1\0\0" + called.ljust(16) + calling.ljust(16) + bytes(32) + items)


CT_CONTEXT = (1, CT_IMAGE_STORAGE, [EXPLICIT_LITTLE])
ECHO_CONTEXT = (3, VERIFICATION, [IMPLICIT_LITTLE])


class RawSender:
    """A TCP connection to a node."""

    def __init__(self, port: int, timeout_s: float = 10) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_pdu(self) -> tuple[int, bytes]:
        """The next PDU, or (0, b"") where the node closed the connection."""
        header = self._read(6)
        if len(header) < 6:
            return 0, b""
        pdu_type, length = struct.unpack(">BxL", header)
        return pdu_type, self._read(length)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                chunk = self.sock.recv(count - len(data))
            except ConnectionResetError:
                return b""
            if not chunk:
                return data
            data += chunk
        return data

    def associate(self, contexts: Sequence[tuple[int, str, Sequence[str]]] = (CT_CONTEXT, ECHO_CONTEXT)) -> None:
        """Make an association that the node accepts."""
        self.send(a_associate_rq(contexts))
        assert self.read_pdu()[0] == 0x02

    def response(self) -> dict[int, bytes]:
        """The command set that the node answers with, by element number."""
        body = b""
        while True:
            pdu_type, data = self.read_pdu()
            assert pdu_type == 0x04, f"PDU type {pdu_type:#x} instead of a response"
            body += data[6:]
            if data[5] & 2:
                break
        elements, at = {}, 0
        while at < len(body):
            _, tag, length = struct.unpack_from("<HHL", body, at)
            elements[tag] = body[at + 8 : at + 8 + length]
            at += 8 + length
        return elements

    def status(self) -> tuple[int, str]:
        """The status that the node answers with, and its Error Comment."""
        elements = self.response()
        return struct.unpack("<H", elements[0x0900])[0], elements.get(0x0902, b"").decode().strip()

    def store(self, ds: pydicom.Dataset, message_id: int = 1) -> tuple[int, str]:
        """Send an instance by C-STORE; return status and Error Comment."""
        self.send(p_data(1, c_store_rq(str(ds.SOPInstanceUID), message_id), is_command=True))
        self.send(p_data(1, encoded(ds), is_command=False))
        return self.status()

    def release(self) -> None:
        self.send(pdu(0x05, bytes(4)))
        assert self.read_pdu()[0] == 0x06
