"""A filled ledger for tests of what shows it: three studies, one released, one held, one that no adapter took.

Input: settings with an empty database. Output: rows as the pipeline leaves them, and a real Secondary Capture on disk.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from tests.schema import upgraded
from worker.db.records import Delivery, Instance, Job, Result, Review, Series, Study
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.settings import Settings
from worker.states import DeliveryState, JobState, SeriesState

MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
RELEASED_STUDY, HELD_STUDY, UNROUTED_STUDY = "1.2.826.1.1", "1.2.826.1.2", "1.2.826.1.3"
RELEASED_JOB, HELD_JOB = "a" * 32, "b" * 32
RELEASED_CAPTURE, HELD_CAPTURE = "1.2.826.9.1", "1.2.826.9.2"
#: Addresses of pages: the numbers of the rows.
RELEASED_PAGE, HELD_PAGE, HELD_PICTURE = "/studies/1", "/studies/2", "/results/2.png"
CAPTURE_SHAPE = (96, 128)


def fill_ledger(settings: Settings, *, is_standin: bool = True) -> None:
    """Write the rows; the capture's files lie in data_dir."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.resolved_database_url)
    upgraded(database)
    with database.writing() as session:
        for uid, accession, modality, adapter in (
            (RELEASED_STUDY, "ACC-1", "XA", "dsa_patency"),
            (HELD_STUDY, "ACC-2", "CT", "abdominal_trauma"),
            (UNROUTED_STUDY, "ACC-3", "MR", None),
        ):
            study = Study(
                study_instance_uid=uid,
                accession_number=accession,
                patient_id=f"P-{accession}",
                patient_name="Secret^Name",
                study_description="<script>alert(1)</script>",
                first_received_at=MOMENT,
            )
            series = Series(
                study=study,
                series_instance_uid=f"{uid}.1",
                modality=modality,
                state=SeriesState.ROUTED if adapter else SeriesState.UNROUTED,
                revision=1,
                route_adapter=adapter,
                route_rule=f"adapter: {adapter}" if adapter else "none",
                route_reason="SOP class and modality accepted" if adapter else "modality MR is not accepted",
            )
            series.instances.append(
                Instance(
                    sop_instance_uid=f"{uid}.1.1",
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                    transfer_syntax_uid=ExplicitVRLittleEndian,
                    digest=uid,
                    size_bytes=1000,
                    path=str(settings.data_dir / "none.dcm"),
                    header={},
                    revision=1,
                )
            )
            session.add_all([study, series])
            session.flush()
            record_event(session, "series", series.id, study_id=study.id, reason="sender was done", to_state="stable")
            if adapter:
                session.add(_job(settings.data_dir, study, series, adapter, is_standin=is_standin))
    database.close()


def _job(folder: Path, study: Study, series: Series, adapter: str, *, is_standin: bool) -> Job:
    released = adapter == "dsa_patency"
    capture = RELEASED_CAPTURE if released else HELD_CAPTURE
    job = Job(
        id=RELEASED_JOB if released else HELD_JOB,
        study=study,
        series=series,
        adapter=adapter,
        unit_uid=f"{series.series_instance_uid}.1",
        revision=1,
        state=JobState.RELEASED if released else JobState.HELD,
        attempts=1,
        doubts=[],
        model_input={"incomplete": [] if released else ["gap of 10 mm after slice 14"]},
        generation={"text": "blocked"},
        provenance=_provenance(adapter, is_standin=is_standin),
        findings={"patency": "blocked"}
        if released
        else {"injury_pattern": "liver injury", "organs_involved": ["liver"], "severity_estimate": "moderate"},
        confidence={"probability": 0.93, "calibrated": False, "method": "label likelihood"},
        decision="release" if released else "review",
        decision_reason="probability 0.93 is at or above 0.80" if released else "gap of 10 mm after slice 14",
        answered_at=MOMENT,
    )
    result = Result(
        sop_instance_uid=capture,
        sop_class_uid=SecondaryCaptureImageStorage,
        kind="sc",
        digest=capture,
        path=str(write_capture(folder / f"{capture}.dcm", capture)),
    )
    if released:
        refused = Delivery(destination="pacs", state=DeliveryState.DEAD, attempts=10, last_error="refused: no")
        result.deliveries.append(refused)
    job.results.append(result)
    if released:
        job.reviews.append(Review(action="retry", reviewer_name="Doe^Jane", comment="blurred"))
    return job


def _provenance(adapter: str, *, is_standin: bool) -> dict[str, object]:
    return {
        "base": "base model",
        "base_revision": "r1",
        "base_digest": "d1",
        "adapter": adapter,
        "adapter_revision": "r2",
        "adapter_digest": "d2",
        "engine": "standin" if is_standin else "transformers",
        "dtype": "float32",
        "device": "cpu",
        "software": "transformers 5",
        "is_standin": is_standin,
    }


def write_capture(path: Path, uid: str) -> Path:
    """Write a small RGB Secondary Capture: a red picture with a green corner."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = CAPTURE_SHAPE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    pixels = np.zeros((*CAPTURE_SHAPE, 3), np.uint8)
    pixels[..., 0] = 200
    pixels[:10, :10] = (0, 255, 0)
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB"
    ds.save_as(path, enforce_file_format=True)
    return path
