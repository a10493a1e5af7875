"""What the demo sends: real images out of pydicom's own test data, and drawn phantoms with true headers.

Input: a folder for the phantoms' files. Output: studies with a title that says what they are. Nothing is fetched: the
real files lie inside the installed pydicom package.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
from pydicom.uid import generate_uid

from dicom_node.headers import read_header
from models.phantoms import draw_abdomen_volume, draw_vessel_run
from models.phantoms.captions import draw_captioned_picture
from models.phantoms.general import SPOTS, draw_general_picture
from models.phantoms.surgery import draw_surgical_scene
from worker.demo.phantom_pictures import write_chest_xray, write_fundus_photograph
from worker.demo.phantom_studies import Identity, write_ct_localizer, write_ct_series, write_dose_screen, write_xa_run
from worker.demo.phantom_video import write_video

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
#: Title -> file or folder in pydicom's test data.
REAL = {
    "CT of the head (real)": "dicomdirtests/77654033/CT2",
    "CT scout (real)": "dicomdirtests/98892001/CT2N",
    "CT slice, body region not named (real)": "CT_small.dcm",
    "MR slice (real)": "MR_small.dcm",
    "ultrasound still (real)": "examples_rgb_color.dcm",
}
#: What the demo's site asks of the general adapters, and what it keeps from them: the stand-in knows only drawings.
ROUTES: list[dict[str, Any]] = [
    {"name": "real MR images are left alone", "when": {"modality": "MR"}, "adapter": None},
    {"name": "real ultrasound is left alone", "when": {"modality": "US"}, "adapter": None},
    {"name": "chest films are described", "when": {"modality": "DX"}, "adapter": "clinical_caption"},
    {
        "name": "lesions of the fundus are sought",
        "when": {"modality": "OP"},
        "adapter": "flare",
        "ask": [{"task": "multi_label", "labels": list(SPOTS["OP"])}],
    },
]


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """A study to send."""

    title: str
    study_instance_uid: str
    files: tuple[Path, ...]


def demo_studies(folder: Path) -> list[DemoStudy]:
    """Draw the phantoms into `folder` and return everything that is to be sent."""
    return [
        *_xa_phantoms(folder),
        *_ct_phantoms(folder),
        *_other_phantoms(folder),
        *(_study(title, TEST_FILES / name) for title, name in REAL.items()),
    ]


def _xa_phantoms(folder: Path) -> Iterator[DemoStudy]:
    """Yield vessel runs: a plain open one, a plain blocked one, a faint one of unknown age, and a child's."""
    cases = (
        ("XA run, vessel open (phantom)", 11, False, 0.1, "061Y"),
        ("XA run, vessel blocked (phantom)", 12, True, 0.1, "067Y"),
        ("XA run, hard to tell, age unknown (phantom)", 19, False, 0.95, ""),
        ("XA run of a child (phantom)", 14, False, 0.1, "009Y"),
    )
    for number, (title, seed, blocked, difficulty, age) in enumerate(cases, start=1):
        run = draw_vessel_run(np.random.default_rng(seed), blocked=blocked, difficulty=difficulty)
        into = folder / f"xa-{number}"
        write_xa_run(into, run.pixels, age=age, accession_number=f"DEMO-XA{number}", patient_id=f"DEMO-{number}")
        yield _study(title, into)


def _ct_phantoms(folder: Path) -> Iterator[DemoStudy]:
    """Yield abdominal CTs with and without an injury, each with its topogram, and a dose screen by itself."""
    cases: tuple[tuple[str, int, dict[str, str], str], ...] = (
        ("abdominal CT, injured (phantom)", 23, {"liver": "moderate"}, "034Y"),
        ("abdominal CT, not injured (phantom)", 22, {}, "045Y"),
    )
    for number, (title, seed, injuries, age) in enumerate(cases, start=1):
        drawn = draw_abdomen_volume(np.random.default_rng(seed), injuries=injuries, subtle=False)
        into = folder / f"ct-{number}"
        study_uid, patient_id, accession_number = generate_uid(), f"DEMO-CT{number}", f"DEMO-CT{number}"
        whose: Identity = {
            "study_uid": study_uid,
            "patient_id": patient_id,
            "accession_number": accession_number,
            "age": age,
            "study_description": "CT abdomen, trauma",
        }
        slices: Identity = {**whose, "series_number": 2}
        write_ct_localizer(into, **whose)
        write_ct_series(
            into,
            drawn.hounsfield,
            pixel_spacing_mm=drawn.pixel_spacing_mm,
            slice_spacing_mm=drawn.slice_spacing_mm,
            **slices,
        )
        yield _study(title, into)
    write_dose_screen(folder / "dose", accession_number="DEMO-DOSE", patient_id="DEMO-DOSE")
    yield _study("CT dose screen (phantom)", folder / "dose")


def _other_phantoms(folder: Path) -> Iterator[DemoStudy]:
    """Yield one study for each of the other adapters."""
    film = draw_captioned_picture(np.random.default_rng(31), modality="DX", finding="right pleural effusion")
    write_chest_xray(folder / "dx", film.pixels, accession_number="DEMO-DX", patient_id="DEMO-DX")
    yield _study("chest X-ray, pleural effusion (phantom)", folder / "dx")
    fundus = draw_general_picture(np.random.default_rng(32), modality="OP", spots=("hemorrhage", "exudate"))
    write_fundus_photograph(folder / "op", fundus.pixels, accession_number="DEMO-OP", patient_id="DEMO-OP")
    yield _study("fundus photograph, two lesions (phantom)", folder / "op")
    scene = draw_surgical_scene(np.random.default_rng(33), phase="phacoemulsification", safe=True, frames=24)
    write_video(folder / "video", scene.pixels, accession_number="DEMO-OR", patient_id="DEMO-OR")
    yield _study("cataract surgery, video (phantom)", folder / "video")


def _study(title: str, path: Path) -> DemoStudy:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    by_study: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_study[read_header(file).study_instance_uid].append(file)
    ((uid, members),) = by_study.items()
    return DemoStudy(title, uid, tuple(members))
