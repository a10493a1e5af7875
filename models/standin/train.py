"""Trains the stand-in from nothing: `python -m models.standin.train --out models/standin/checkpoint`.

Input: seeds only; everything it learns from is drawn. Output: the folders `base`, `dsa_patency` and
`abdominal_trauma`, as transformers and PEFT write them, and `manifest.json` with recipe, digests and held-out results.
If the model has not learned to see, training starts again from the next seed; after the third failure it gives up with
exit code 1 and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
import transformers

from models.adapters.abdominal_trauma.adapter import ADAPTER as TRAUMA_ADAPTER
from models.adapters.dsa_patency.adapter import ADAPTER as DSA_ADAPTER
from models.engines.configuration import BASE_ONLY
from models.engines.standin import load_standin
from models.standin.architecture import build_model, build_processor
from models.standin.classroom import Classroom, Pupil, look
from models.standin.evaluation import evaluate, held_out
from models.standin.finetuning import train_adapter
from models.standin.lessons import DSA, TRAUMA, Lesson, dsa_lesson, sentences, trauma_lesson
from models.standin.pretraining import NotLearned, learn_to_see, learn_to_speak
from models.weights import weight_digests

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What training does; written into the manifest."""

    seed: int = 0
    angiograms: int = 3000
    abdomens: int = 2400
    seeing_steps: int = 2500
    seeing_rate: float = 1.5e-3
    speaking_steps: int = 1400
    speaking_rate: float = 2e-3
    dsa_steps: int = 500
    trauma_steps: int = 600
    adapter_rate: float = 2e-3
    held_out: int = 400


def train(recipe: Recipe, out: Path) -> dict[str, Any]:
    """Train base and adapters, put them into `out`, and return the manifest. Raises `NotLearned` after three seeds."""
    started = time.monotonic()
    processor = build_processor(sentences())
    classroom = Classroom(processor)
    pupils = (
        _seat(classroom, lambda seed: dsa_lesson(seed, varied=True), recipe.angiograms, DSA),
        _seat(classroom, lambda seed: trauma_lesson(seed, varied=True), recipe.abdomens, TRAUMA),
    )
    model, seed, pupils = _pretrain(recipe, processor, classroom, pupils)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".training-") as scratch:
        folder = Path(scratch)
        model.save_pretrained(folder / "base")
        processor.save_pretrained(folder / "base")
        rng = np.random.default_rng(seed)
        for adapter, learners, steps in (
            (DSA_ADAPTER, pupils[0], recipe.dsa_steps),
            (TRAUMA_ADAPTER, pupils[1], recipe.trauma_steps),
        ):
            train_adapter(
                model,
                classroom,
                learners,
                adapter.lora_configuration,
                folder / adapter.name,
                rng,
                steps=steps,
                learning_rate=recipe.adapter_rate,
            )
        manifest = _manifest(recipe, seed, folder, started)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder, out, ignore=shutil.ignore_patterns("README.md"))
    return manifest


def _seat(classroom: Classroom, draw: Callable[[int], Lesson], count: int, adapter: str) -> list[Pupil]:
    log.info("drawing phantoms", action="train", adapter=adapter, count=count)
    return [classroom.seat(draw(seed)) for seed in range(count)]


def _pretrain(
    recipe: Recipe, processor: Any, classroom: Classroom, pupils: tuple[list[Pupil], list[Pupil]]
) -> tuple[Any, int, tuple[list[Pupil], list[Pupil]]]:
    """Return a base model that has learned, the seed it took, and the pupils after they have looked."""
    for seed in range(recipe.seed, recipe.seed + 3):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        model = build_model(processor, seed)
        try:
            learn_to_see(model, pupils, rng, steps=recipe.seeing_steps, learning_rate=recipe.seeing_rate)
        except NotLearned as reason:
            log.warning("starting again from another seed", action="train", seed=seed, reason=str(reason))
            continue
        pupils = (look(model, pupils[0]), look(model, pupils[1]))
        learn_to_speak(model, classroom, pupils, rng, steps=recipe.speaking_steps, learning_rate=recipe.speaking_rate)
        return model.eval(), seed, pupils
    raise NotLearned(f"no seed of {recipe.seed}..{recipe.seed + 2} learned to see")


def _manifest(recipe: Recipe, seed: int, folder: Path, started: float) -> dict[str, Any]:
    """Ask the trained engine about phantoms it has not seen, with and without its adapters."""
    log.info("asking about phantoms not seen in training", action="train", count=recipe.held_out)
    engine = load_standin(folder=folder)
    angiograms, abdomens = held_out(DSA, recipe.held_out), held_out(TRAUMA, recipe.held_out // 4)
    results = {
        DSA: evaluate(engine, angiograms).to_json(),
        TRAUMA: evaluate(engine, abdomens).to_json(),
        f"{DSA} without adapter": evaluate(engine, angiograms[:100], BASE_ONLY).to_json(),
        f"{TRAUMA} without adapter": evaluate(engine, abdomens[:40], BASE_ONLY).to_json(),
    }
    engine.close()
    return {
        "what": "Stand-in for demonstration and tests: answers about drawn phantoms; means nothing for patients.",
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": asdict(recipe),
        "seed_used": seed,
        "elapsed_s": round(time.monotonic() - started),
        "software": {"torch": torch.__version__, "transformers": transformers.__version__},
        "sha256": {
            name: digest
            for part in ("base", DSA, TRAUMA)
            for name, digest in ((f"{part}/{key}", value) for key, value in weight_digests(folder / part).items())
        },
        "held_out": results,
    }


def main() -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint; what is in it is replaced")
    parser.add_argument("--seed", type=int, default=0, help="first seed to try")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    out = arguments.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        manifest = train(Recipe(seed=arguments.seed), out)
    except NotLearned as reason:
        sys.stderr.write(f"training gave up: {reason}; try another --seed\n")
        return 1
    sys.stdout.write(
        json.dumps({key: manifest[key] for key in ("seed_used", "elapsed_s", "held_out")}, indent=2) + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
