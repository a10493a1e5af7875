"""What the model saw, for people: a recipe's images as PNG, and files of them with their record.

Input: an `InputRecord`, and the instances it names. Output: PNG bytes, or files in a folder. The pixels are those the
model saw, compared by digest; where they cannot be had any more `RenderError` says why. `OSError` where a file cannot
be written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceFile
from models.generation import RgbImage
from models.rendering import InputRecord, RenderError
from worker.db.records import Job
from worker.db.units import instance_files


def png(image: RgbImage) -> bytes:
    """Return an image as PNG, pixel for pixel."""
    data = BytesIO()
    Image.fromarray(image).save(data, format="PNG")
    return data.getvalue()


def seen_by(session: Session, job: Job) -> tuple[InputRecord, list[InstanceFile]]:
    """Return the record of what a job's model saw, and the stored instances behind it.

    Raises:
        RenderError: The job was not shown to a model, or before recipes were kept.
    """
    if job.model_input is None:
        raise RenderError(f"job {job.id} has not been shown to a model; it is {job.state.value}")
    record = InputRecord.from_json(job.model_input)
    if not record.recipe:
        raise RenderError(f"job {job.id} was answered before the making of its images was kept: retry it to see them")
    return record, instance_files(session, job, {of.sop_instance_uid for one in record.recipe for of in one.frames})


def save_inputs(images: Sequence[RgbImage], record: InputRecord, folder: Path, name: str) -> list[Path]:
    """Write each image as PNG, and the record as JSON; return the files.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, image in enumerate(images, 1):
        files.append(folder / f"{name}-{number}.png")
        files[-1].write_bytes(png(image))
    files.append(folder / f"{name}.json")
    files[-1].write_text(json.dumps(record.to_json(), indent=2) + "\n", encoding="utf-8")
    return files
