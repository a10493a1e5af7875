"""A ledger of stored files for tests of the viewer: a study, a series for each set of files, and jobs that saw them.

Input: files, drawn by `tests.phantoms`. Output: rows as ingest and the pipeline leave them; the numbers of the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from dicom_node.headers import InstanceFile, read_header
from models.drawing import drawn_input
from models.recipe import Picture
from worker.db.records import Instance, Job, Series, Study
from worker.db.sessions import Database
from worker.states import JobState, SeriesState

STUDY_UID = "1.2.826.0.1.3680043.10.77"
PATIENT = {"patient_name": "Secret^Name", "patient_id": "SECRET-1"}
PROVENANCE = {
    "base": "google/medgemma-4b-it",
    "base_revision": "r1",
    "base_digest": "0" * 64,
    "adapter": "a/flare",
    "adapter_revision": "r2",
    "adapter_digest": "1" * 64,
    "engine": "standin",
    "dtype": "float32",
    "device": "cpu",
    "software": "none",
    "is_standin": True,
    "files": {},
}


class ViewedStore:
    """Rows about files that lie where they were drawn."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.writing() as session:
            study = Study(study_instance_uid=STUDY_UID, accession_number="A1", **PATIENT)
            session.add(study)
            session.flush()
            self.study_id = study.id

    def other_study(self, **columns: Any) -> int:
        """Write another study of the patient; return its number."""
        with self.database.writing() as session:
            study = Study(study_instance_uid=f"{STUDY_UID}.0.{session.query(Study).count()}", **PATIENT | columns)
            session.add(study)
            session.flush()
            return study.id

    def series(self, paths: Sequence[Path], modality: str = "", study_id: int | None = None) -> int:
        """Write a series of these files, all of which came with revision 1; return its number."""
        headers = [read_header(path) for path in paths]
        with self.database.writing() as session:
            study = session.get_one(Study, study_id or self.study_id)
            series = Series(
                study_id=study.id,
                series_instance_uid=f"{study.study_instance_uid}.{len(study.series) + 1}",
                modality=modality or headers[0].modality,
                state=SeriesState.ROUTED,
                revision=1,
            )
            session.add(series)
            for path, header in zip(paths, headers, strict=True):
                instance = Instance(
                    sop_instance_uid=header.sop_instance_uid,
                    sop_class_uid=header.sop_class_uid,
                    transfer_syntax_uid=header.transfer_syntax_uid,
                    digest=sha256(str(path).encode()).hexdigest(),
                    size_bytes=path.stat().st_size,
                    path=str(path),
                    header=header.to_json(),
                    revision=1,
                )
                series.instances.append(instance)
            session.flush()
            return series.id

    def job(self, series_id: int, recipe: Sequence[Picture], *, unit_uid: str = "", **columns: Any) -> str:
        """Write a held job whose model saw this recipe of the series' files; return its id."""
        with self.database.writing() as session:
            series = session.get_one(Series, series_id)
            files = [InstanceFile(read_header(Path(row.path)), Path(row.path)) for row in series.instances]
            seen = drawn_input(recipe, files, record={}, key_images=columns.pop("key_images", None))
            job = Job(
                study_id=series.study_id,
                series_id=series_id,
                unit_uid=unit_uid or series.series_instance_uid,
                revision=1,
                state=JobState.HELD,
                model_input=seen.to_json(),
                provenance=PROVENANCE,
                answered_at=datetime(2026, 3, 4, tzinfo=UTC),
                **{"adapter": "abdominal_trauma", **columns},
            )
            session.add(job)
            session.flush()
            return job.id
