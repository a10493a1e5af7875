"""Small manifests of phantom files for `evaluate`: every adapter, and every kind of question, with known truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.phantoms import (
    abdomen_truth,
    draw_abdomen_volume,
    draw_captioned_picture,
    draw_general_picture,
    draw_injuries,
    draw_surgical_scene,
    draw_vessel_run,
)
from models.phantoms.general import SPOTS, GeneralPicture
from models.phantoms.surgery import PHASES
from models.standin.surgery_lessons import answer
from worker.demo.phantom_pictures import write_chest_xray, write_fundus_photograph
from worker.demo.phantom_studies import write_ct_series, write_xa_run
from worker.demo.phantom_video import write_video

_FINDINGS = ("none", "right pleural effusion", "left pneumothorax", "enlarged heart")
_BOX_SCALE = 1000

Entry = dict[str, Any]


def _vessel(folder: Path, number: int) -> Entry:
    blocked = number % 2 == 0
    run = draw_vessel_run(np.random.default_rng(300 + number), blocked=blocked, difficulty=0.2)
    path = write_xa_run(folder, run.pixels)
    return {"paths": [path.name], "truth": {"patency": "blocked" if blocked else "patent"}}


def _abdomen(folder: Path, number: int) -> Entry:
    rng = np.random.default_rng(310 + number)
    injuries = draw_injuries(rng)
    volume = draw_abdomen_volume(rng, injuries=injuries, slices=12, size=128, subtle=False)
    write_ct_series(folder / f"ct{number}", volume.hounsfield)
    truth = abdomen_truth(injuries)
    return {"paths": [f"ct{number}"], "truth": {name: truth[name] for name in ("organs_involved", "severity_estimate")}}


def _surgery(folder: Path, number: int) -> Entry:
    rng, video = np.random.default_rng(320 + number), number == 0
    scene = draw_surgical_scene(rng, phase=PHASES[number % len(PHASES)], safe=number % 2 == 0, frames=8 if video else 1)
    truth = {"final_answer": answer(scene.phase, scene.safe).split("Final Answer:")[1].strip()}
    if video:
        return {"paths": [write_video(folder, scene.pixels, fps=4).name], "truth": truth}
    Image.fromarray(scene.pixels[0]).save(folder / f"still{number}.png")
    return {"image": f"still{number}.png", "truth": truth}


def _caption(language: str) -> Callable[[Path, int], Entry]:
    def entry(folder: Path, number: int) -> Entry:
        finding = _FINDINGS[number % len(_FINDINGS)]
        film = draw_captioned_picture(np.random.default_rng(330 + number), modality="DX", finding=finding)
        path = write_chest_xray(folder, film.pixels)
        return {"paths": [path.name], "truth": {"caption": film.caption(language)}}

    return entry


def _general(truth: Callable[[GeneralPicture], dict[str, Any]], most: int = 3) -> Callable[[Path, int], Entry]:
    """Return entries of fundus photographs with none to `most` spots of one kind."""

    def entry(folder: Path, number: int) -> Entry:
        name = SPOTS["OP"][number % 2]
        count = number % (most + 1) if most > 1 else 1
        picture = draw_general_picture(np.random.default_rng(340 + number), modality="OP", spots=(name,) * count)
        path = write_fundus_photograph(folder, picture.pixels)
        return {"paths": [path.name], "truth": truth(picture)}

    return entry


def _objects(picture: GeneralPicture) -> dict[str, Any]:
    boxes = []
    for spot in picture.spots:
        left, top, right, bottom = (round(_BOX_SCALE * side) for side in spot.box)
        boxes.append({"box_2d": [top, left, bottom, right], "label": spot.name})
    return {"objects": boxes}


@dataclass(frozen=True, slots=True)
class Asked:
    """One way of calling `evaluate`."""

    adapter: str
    #: Task and its options.
    words: tuple[str, ...]
    entry: Callable[[Path, int], Entry]
    #: What the author reports first.
    figures: tuple[str, ...]


_SPOT_LABELS = ("--label", SPOTS["OP"][0], "--label", SPOTS["OP"][1])
ASKED = {
    "vessels": Asked("dsa_patency", (), _vessel, ("balanced accuracy", "sensitivity", "specificity")),
    "trauma": Asked("abdominal_trauma", (), _abdomen, ("format adherence", "organ identification accuracy")),
    "cataract": Asked("cataract_surgery", (), _surgery, ("format adherence", "BLEU", "ROUGE-L")),
    "caption": Asked("clinical_caption", (), _caption("en"), ("BLEU", "ROUGE-L", "entity F1")),
    "caption, German": Asked("clinical_caption", ("--language", "de"), _caption("de"), ("BLEU", "chrF", "ROUGE-L")),
    "classification": Asked(
        "flare",
        ("--task", "classification", "--label", "normal", *_SPOT_LABELS),
        _general(lambda picture: {"label": picture.names[0] if picture.names else "normal"}),
        ("balanced accuracy", "weighted F1"),
    ),
    "multi-label": Asked(
        "flare",
        ("--task", "multi_label", *_SPOT_LABELS),
        _general(lambda picture: {"labels": list(picture.names)}),
        ("sample-wise F1",),
    ),
    "detection": Asked("flare", ("--task", "detection", *_SPOT_LABELS), _general(_objects), ("F1 at IoU > 0.5",)),
    "counting": Asked(
        "flare",
        ("--task", "counting", "--label", SPOTS["OP"][0]),
        _general(lambda picture: {"count": sum(spot.name == SPOTS["OP"][0] for spot in picture.spots)}),
        ("mean absolute error",),
    ),
    "regression": Asked(
        "flare",
        ("--task", "regression", "--label", "spot diameter", "--unit", "mm"),
        _general(lambda picture: {"value": round(picture.widest_mm, 1)}, most=1),
        ("mean absolute error",),
    ),
    "report": Asked(
        "flare", ("--task", "report"), _general(lambda picture: {"report": picture.report}), ("GREEN", "ROUGE-L")
    ),
}


def write_manifest(folder: Path, asked: Asked, cases: int) -> Path:
    """Write so many cases and their manifest into a folder that is made; return the manifest."""
    folder.mkdir(parents=True)
    entries = [asked.entry(folder, number) for number in range(cases)]
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return manifest
