"""A ledger with answered jobs on real DICOM files: what reporting, review and delivery start from.

The files are drawn phantoms with true headers, rendered by the real adapters; only the model's answer is written by
hand, because these steps begin after it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid

from dicom_node.headers import read_header
from dicom_node.report import Person
from dicom_node.spool import Spool
from models.adapter import adapters
from models.generation import Generation, ModelProvenance
from models.phantoms import draw_abdomen_volume, draw_vessel_run
from tests.schema import upgraded
from worker.db.records import Delivery, Instance, Job, Result, Series, Study
from worker.db.sessions import Database
from worker.db.units import unit_files
from worker.reporting import write_results
from worker.settings import Destination, Settings
from worker.states import DeliveryState, JobState, SeriesState

T = TypeVar("T")
A = TypeVar("A")

ADA = Person("Lovelace^Ada", "St Elsewhere")
BOB = Person("Broca^Bob", "St Elsewhere")
ANSWERED_AT = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)

BLOCKED = {"patency": "blocked", "probabilities": {"patent": 0.07, "blocked": 0.93}}
INJURED = {
    "injury_pattern": "liver injury",
    "organs_involved": ["liver"],
    "bleeding_description": "small hematoma, no active bleeding",
    "severity_estimate": "mild",
    "differential_diagnosis": ["laceration"],
}


def xa_run(study_uid: str, accession: str, *, number: int = 1, seed: int = 5) -> Dataset:
    """Return a small XA run of a blocked vessel."""
    run = draw_vessel_run(np.random.default_rng(seed + number), blocked=True, frames=4, size=64)
    ds = _image(XRayAngiographicImageStorage, study_uid, f"{study_uid}.1", f"{study_uid}.1.{number}", accession)
    ds.Modality, ds.ImageType, ds.InstanceNumber = "XA", ["ORIGINAL", "PRIMARY", "SINGLE PLANE"], number
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = 4, "250", 0x00181063
    ds.PixelIntensityRelationship = "LIN"
    _pixels(ds, run.pixels, signed=False)
    return ds


def ct_slices(study_uid: str, accession: str, numbers: Sequence[int]) -> list[Dataset]:
    """Return some slices of one small abdominal CT."""
    volume = draw_abdomen_volume(np.random.default_rng(3), injuries={"liver": "mild"}, slices=16, size=64)
    return [_slice(study_uid, accession, number, volume.hounsfield[number]) for number in numbers]


def _slice(study_uid: str, accession: str, number: int, values: Any) -> Dataset:
    ds = _image(CTImageStorage, study_uid, f"{study_uid}.2", f"{study_uid}.2.{number + 1}", accession)
    ds.Modality, ds.ImageType, ds.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], number + 1
    ds.FrameOfReferenceUID, ds.BodyPartExamined = f"{study_uid}.9", "ABDOMEN"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, -5 * number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [5, 5], 5
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    _pixels(ds, values, signed=True)
    return ds


def _image(sop_class: str, study_uid: str, series_uid: str, sop_uid: str, accession: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = study_uid, series_uid, 1
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Jürgen", "P-1", "19600101", "M"
    ds.AccessionNumber, ds.StudyID, ds.StudyDate, ds.StudyTime = accession, "1", "20260302", "101500"
    ds.StudyDescription, ds.ReferringPhysicianName, ds.Manufacturer = "Angio", "", "Phantom Imaging"
    return ds


def _pixels(ds: Dataset, values: Any, *, signed: bool) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = (16, 16, 15) if signed else (16, 12, 11)
    ds.PixelRepresentation = int(signed)
    ds.PixelData = np.ascontiguousarray(values).astype("<i2" if signed else "<u2").tobytes()


def dicom_bytes(ds: Dataset) -> bytes:
    """Return the data set as a file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


class Hospital:
    """A database, a spool and settings, with methods that make answered jobs."""

    def __init__(self, folder: Path, url: str, destinations: Sequence[Destination], **delivery: Any) -> None:
        timing = {"timeout_s": 5, "retry_after_s": 0.01, "retry_at_most_s": 0.02, **delivery}
        self.settings = Settings(
            data_dir=folder,
            destinations=list(destinations),
            delivery=timing,
            review={"organization": "City Hospital"},
            web={"login": "off"},
        )
        self.db = upgraded(Database(url))
        self.spool = Spool(folder / "spool")

    def decided_run(self, accession: str = "A1", *, decision: str = "release", number: int = 1, **columns: Any) -> str:
        """Return the id of a DECIDED job on a new XA run; runs of one accession number are one study."""
        study_uid = self._study_uid(accession)
        series_id = self._receive([xa_run(study_uid, accession, number=number)], revision=1)
        columns = {"findings": BLOCKED, "decision": decision, **columns}
        return self._decided(series_id, "dsa_patency", f"{study_uid}.1.{number}", 1, columns)

    def decided_volume(
        self, accession: str, slices: Sequence[int], revision: int, *, decision: str = "release", **columns: Any
    ) -> str:
        """Return the id of a DECIDED job on a CT series to which `slices` came with this revision."""
        study_uid = self._study_uid(accession)
        series_id = self._receive(ct_slices(study_uid, accession, slices), revision=revision)
        columns = {"findings": INJURED, "decision": decision, **columns}
        return self._decided(series_id, "abdominal_trauma", f"{study_uid}.2", revision, columns)

    def job(self, job_id: str) -> Job:
        """Return the job as it is now."""
        with self.db.reading() as session:
            found = session.get_one(Job, job_id)
            _ = found.reviews
            return found

    def results(self, job_id: str) -> list[Result]:
        """Return the job's results, with their deliveries."""
        with self.db.reading() as session:
            found = session.get_one(Job, job_id).results
            for result in found:
                _ = result.deliveries
            return found

    def deliveries(self, job_id: str) -> list[Delivery]:
        """Return the deliveries of all results of the job."""
        return [delivery for result in self.results(job_id) for delivery in result.deliveries]

    def delivery_states(self, job_id: str) -> set[DeliveryState]:
        """Return the states in which the job's deliveries are."""
        return {delivery.state for delivery in self.deliveries(job_id)}

    def killed_while(self, act: Callable[[Database], object]) -> None:
        """Have another process do something, in which it calls `killed`, on a connection of its own."""
        self.db.engine.dispose()  # a copied connection would be used by two
        process = os.fork()
        if process == 0:
            try:
                act(Database(self.db.url))
            finally:
                os._exit(1)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "it was done before anything killed it"

    def _study_uid(self, accession: str) -> str:
        return f"1.2.826.0.1.3680043.10.1.{int.from_bytes(accession.encode(), 'big')}"

    def _receive(self, images: Sequence[Dataset], revision: int) -> int:
        """Write rows for received images as ingest does; return the id of their series."""
        with self.db.writing() as session:
            ds = images[0]
            study = session.query(Study).filter_by(study_instance_uid=ds.StudyInstanceUID).one_or_none()
            if study is None:
                study = Study(
                    study_instance_uid=ds.StudyInstanceUID,
                    accession_number=ds.AccessionNumber,
                    patient_id=ds.PatientID,
                    patient_name=str(ds.PatientName),
                )
                session.add(study)
                session.flush()
            of_study = session.query(Series).filter_by(study_id=study.id)
            series = of_study.filter_by(series_instance_uid=ds.SeriesInstanceUID).one_or_none()
            if series is None:
                series = Series(
                    study_id=study.id, series_instance_uid=ds.SeriesInstanceUID, modality=ds.Modality, revision=1
                )
                session.add(series)
            series.state, series.revision = SeriesState.ROUTED, revision
            series.route_reason, series.route_rule = "it is one", "adapter's own"
            session.flush()
            for image in images:
                stored = self.spool.put_bytes(dicom_bytes(image))
                header = read_header(stored.path)
                session.add(
                    Instance(
                        series_id=series.id,
                        sop_instance_uid=header.sop_instance_uid,
                        sop_class_uid=header.sop_class_uid,
                        transfer_syntax_uid=header.transfer_syntax_uid,
                        digest=stored.sha256,
                        size_bytes=stored.size,
                        path=str(stored.path),
                        header=header.to_json(),
                        revision=revision,
                    )
                )
            return series.id

    def _decided(self, series_id: int, adapter: str, unit_uid: str, revision: int, columns: dict[str, Any]) -> str:
        with self.db.writing() as session:
            series = session.get_one(Series, series_id)
            series.route_adapter = adapter
            job = Job(
                **{
                    "study_id": series.study_id,
                    "series_id": series.id,
                    "adapter": adapter,
                    "unit_uid": unit_uid,
                    "revision": revision,
                    "state": JobState.DECIDED,
                    "attempts": 1,
                    "provenance": provenance().to_json(),
                    "generation": Generation("the answer", (), None, "stop", 10, 0.1).to_json(),
                    "confidence": {"probability": 0.93, "calibrated": False, "method": "label likelihood"},
                    "decision_reason": "0.93 reaches 0.80",
                    "answered_at": ANSWERED_AT,
                    **columns,
                }
            )
            session.add(job)
            session.flush()
            if "model_input" not in columns:
                files = unit_files(session, job, adapters()[adapter])
                job.model_input = adapters()[adapter].render(files).to_json()
            return job.id


def killed(*_: object, **__: object) -> None:
    """End this process at once, as a power failure does."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def hospital_with(folder: Path, url: str, *destinations: Destination, **timing: Any) -> Iterator[Hospital]:
    """Open a hospital, and close its database afterwards."""
    made = Hospital(folder, url, destinations, **timing)
    try:
        yield made
    finally:
        made.db.close()


def at_once(act: Callable[[T], A], each: Iterable[T]) -> list[A]:
    """Do something for each in a thread of its own, all at the same time; return what came of each, in their order.

    What one of them raises is raised here once all are through.
    """
    everyone = list(each)
    start = threading.Barrier(len(everyone))

    def begin(one: T) -> A:
        start.wait()
        return act(one)

    with ThreadPoolExecutor(len(everyone)) as threads:
        return list(threads.map(begin, everyone))


def released(hospital: Hospital, accession: str = "A1", number: int = 1) -> str:
    """Return the id of a released job whose results wait for their destinations."""
    job_id = hospital.decided_run(accession, number=number)
    write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    return job_id


def provenance(*, is_standin: bool = False) -> ModelProvenance:
    """Return a provenance."""
    return ModelProvenance(
        base="google/medgemma-1.5-4b-it",
        base_revision="abc",
        base_digest="b" * 64,
        adapter="s0close/medgemma-dsa-lora",
        adapter_revision="def",
        adapter_digest="a" * 64,
        engine="transformers",
        dtype="bfloat16",
        device="cpu",
        software="transformers 5.23.0",
        is_standin=is_standin,
    )


def new_uid() -> str:
    """Return a fresh UID."""
    return str(generate_uid())
