"""A small PACS inside the demo's process: takes what the daemon delivers and keeps it as files.

Input: associations with C-STORE and C-ECHO. Output: one file per instance in a folder, named by its SOP Instance UID;
what lies there is what the demo shows as "in the PACS". A file that cannot be written is answered A700 (out of
resources).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import structlog
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from dicom_node import status
from dicom_node.file_format import file_meta
from dicom_node.uids import is_acceptable_uid

log = structlog.get_logger()

AE_TITLE = "DEMOPACS"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that lies in the receiver."""

    path: Path
    study_instance_uid: str
    sop_class_uid: str
    modality: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver that runs."""

    folder: Path
    port: int

    def objects(self) -> list[StoredObject]:
        """Read back what lies in the folder, in order of name."""
        return [_stored(path) for path in sorted(self.folder.glob("*.dcm"))]


@contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    """Run a receiver on a free port of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    ae = AE(AE_TITLE)
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: _keep(event, folder))]
    )
    try:
        yield Receiver(folder, server.socket.getsockname()[1])
    finally:
        server.shutdown()


def _keep(event: Any, folder: Path) -> int:
    """Write one instance as it came; a file appears under its name only when it is whole."""
    request = event.request
    uid = str(request.AffectedSOPInstanceUID)
    if not is_acceptable_uid(uid):
        return status.INVALID_IDENTIFIER
    head = file_meta(str(request.AffectedSOPClassUID), uid, str(event.context.transfer_syntax))
    try:
        partial = folder / f"{uid}.part"
        partial.write_bytes(head + event.encoded_dataset(include_meta=False))
        partial.rename(folder / f"{uid}.dcm")
    except OSError as error:
        log.error("demo PACS cannot store", action="receive", sop_instance_uid=uid, error=str(error))
        return status.OUT_OF_RESOURCES
    return status.SUCCESS


def _stored(path: Path) -> StoredObject:
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return StoredObject(path, str(ds.StudyInstanceUID), str(ds.SOPClassUID), str(ds.get("Modality", "")))
