"""Received instances for tests of the steps: small drawn phantoms in a spool, as the node hands them to ingest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pydicom

from dicom_node.headers import read_header
from dicom_node.scp import AssociationRecord
from dicom_node.spool import Spool, StoredFile
from worker.db.arrivals import Arrival
from worker.demo.phantom_studies import Identity, write_ct_series, write_xa_run


class Modality:
    """Draws studies and puts them into a spool; what it returns is what ingest is given."""

    def __init__(self, spool: Spool) -> None:
        """Send into this spool."""
        self.spool = spool
        self._drawn = 0

    def xa_run(self, association_id: str | None = "a1", **identity: Unpack[Identity]) -> Arrival:
        """Return one XA run, different from all others."""
        with tempfile.TemporaryDirectory() as folder:
            return self._store(write_xa_run(Path(folder), self._frames(), **identity), association_id)

    def xa_run_again(self, arrival: Arrival, change: Callable[[pydicom.Dataset], Any]) -> Arrival:
        """Return the run with something changed: the same UIDs (unless they are what is changed), other content."""
        ds = pydicom.dcmread(arrival.stored.path)
        change(ds)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "changed.dcm"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.save_as(path)
            return self._store(path, arrival.association_id)

    def ct_series(
        self, slices: int = 6, association_id: str | None = "a1", **identity: Unpack[Identity]
    ) -> list[Arrival]:
        """Return an abdominal CT of so many slices, head end first."""
        self._drawn += 1
        volume = np.full((slices, 16, 16), self._drawn, np.int16)
        with tempfile.TemporaryDirectory() as folder:
            return [self._store(path, association_id) for path in write_ct_series(Path(folder), volume, **identity)]

    def _frames(self) -> np.ndarray[Any, np.dtype[np.uint16]]:
        self._drawn += 1
        return np.random.default_rng(self._drawn).integers(0, 4096, (3, 16, 16)).astype(np.uint16)

    def _store(self, path: Path, association_id: str | None) -> Arrival:
        stored = self.spool.put_bytes(path.read_bytes())
        return Arrival(stored, read_header(stored.path), datetime.now(UTC), association_id, "MODALITY", "DICOMWORKER")


def stored_again(arrival: Arrival, spool: Spool) -> StoredFile:
    """Put the bytes of an arrival into the spool once more, as a second C-STORE does."""
    return spool.put_bytes(arrival.stored.path.read_bytes())


def association(association_id: str = "a1", *, released: bool = True, instances: int = 1) -> AssociationRecord:
    """Return how an association ended."""
    now = datetime.now(UTC)
    return AssociationRecord(
        association_id=association_id,
        calling_ae_title="MODALITY",
        called_ae_title="DICOMWORKER",
        peer_address="127.0.0.1",
        opened_at=now,
        closed_at=now,
        released=released,
        instances=instances,
    )
