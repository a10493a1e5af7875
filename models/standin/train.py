"""Trains the stand-in from nothing: `python -m models.standin.train --out models/standin/checkpoint`.

Input: seeds only; everything it learns from is drawn. Output: the folder `base` and one for each adapter, as
transformers and PEFT write them, and `manifest.json` with recipe, digests and held-out results. With `--keep FOLDER`,
drawn phantoms and finished parts stay there, and a later call with the same recipe goes on where this one ended.
If the model has not learned to see, training starts again from the next seed; after the third failure it gives up with
exit code 1 and leaves the old checkpoint as it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
import transformers

from models.standin.architecture import build_model, build_processor
from models.standin.classroom import Classroom, Lottery, look
from models.standin.curriculum import SUBJECTS, sentences
from models.standin.drawing import draw_pupils
from models.standin.finetuning import train_adapter
from models.standin.lessons import CAPTION, CATARACT, DSA, FLARE, TRAUMA
from models.standin.manifest import make_manifest
from models.standin.pretraining import NotLearned, learn_to_see, learn_to_speak

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What training does; written into the manifest."""

    seed: int = 0
    #: Lessons to see by. What the model says of pictures it has learned to see by is surer than it should be, so it
    #: learns to speak, and the adapters learn, from others.
    seen: Mapping[str, int] = field(
        default_factory=lambda: {DSA: 7500, TRAUMA: 5000, CATARACT: 1200, FLARE: 4000, CAPTION: 1200}
    )
    spoken_of: Mapping[str, int] = field(
        default_factory=lambda: {DSA: 4500, TRAUMA: 4000, CATARACT: 1300, FLARE: 4000, CAPTION: 1300}
    )
    seeing_steps: int = 6500
    seeing_rate: float = 1.5e-3
    #: Loss on angiograms above which a model sees no better than one that guesses (ln 2 is chance).
    seeing_loss: float = 0.45
    speaking_steps: int = 2600
    speaking_rate: float = 2e-3
    adapter_steps: Mapping[str, int] = field(
        default_factory=lambda: {DSA: 500, TRAUMA: 700, CATARACT: 400, FLARE: 900, CAPTION: 500}
    )
    adapter_rate: float = 2e-3
    held_out: Mapping[str, int] = field(
        default_factory=lambda: {DSA: 1000, TRAUMA: 40, CATARACT: 60, FLARE: 240, CAPTION: 80}
    )


def train(recipe: Recipe, out: Path, keep: Path, workers: int) -> dict[str, Any]:
    """Train base and adapters, put them into `out`, and return the manifest. Raises `NotLearned` after three seeds."""
    started = time.monotonic()
    folder, seed = train_weights(recipe, keep, workers)
    manifest = make_manifest(asdict(recipe), recipe.held_out, folder)
    manifest |= {"seed_used": seed, "elapsed_s": round(time.monotonic() - started)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("README.md"))
    return manifest


def train_weights(recipe: Recipe, keep: Path, workers: int) -> tuple[Path, int]:
    """Train base and adapters, or what of them is not in `keep` yet.

    Returns:
        The folder in `keep` that holds `base` and one folder for each adapter, and the seed that learned to see.

    Raises:
        NotLearned: None of three seeds did.
    """
    processor = build_processor(sentences())
    classroom = Classroom(processor)
    drawn = {
        name: draw_pupils(name, recipe.seen[name] + recipe.spoken_of[name], processor, workers=workers, kept=keep)
        for name in SUBJECTS
    }
    model, seed = _sighted(recipe, processor, drawn, keep)
    lotteries = {name: Lottery(look(model, drawn[name][recipe.seen[name] :])) for name in SUBJECTS}
    del drawn
    if not _restore(model, keep / f"spoken-{seed}.pt"):
        rng = np.random.default_rng([seed, 1])
        rate = recipe.speaking_rate
        learn_to_speak(model, classroom, lotteries, rng, steps=recipe.speaking_steps, learning_rate=rate)
        torch.save(model.state_dict(), keep / f"spoken-{seed}.pt")
    folder = keep / "checkpoint"
    model.eval().save_pretrained(folder / "base")
    processor.save_pretrained(folder / "base")
    for name, steps in recipe.adapter_steps.items():
        if not (folder / name).is_dir():
            rate = recipe.adapter_rate
            train_adapter(model, classroom, lotteries, name, folder / name, seed, steps=steps, learning_rate=rate)
    return folder, seed


def _sighted(recipe: Recipe, processor: Any, drawn: Mapping[str, Any], keep: Path) -> tuple[Any, int]:
    """Return a model that has learned to see, and the seed it took."""
    lotteries = {name: Lottery(pupils[: recipe.seen[name]]) for name, pupils in drawn.items()}
    for seed in range(recipe.seed, recipe.seed + 3):
        model = build_model(processor, seed)
        if _restore(model, keep / f"seeing-{seed}.pt"):
            return model, seed
        try:
            rng = np.random.default_rng(seed)
            learn_to_see(
                model,
                lotteries,
                rng,
                steps=recipe.seeing_steps,
                learning_rate=recipe.seeing_rate,
                largest_loss=recipe.seeing_loss,
            )
        except NotLearned as reason:
            log.warning("starting again from another seed", action="train", seed=seed, reason=str(reason))
            continue
        torch.save(model.state_dict(), keep / f"seeing-{seed}.pt")
        return model, seed
    raise NotLearned(f"no seed of {recipe.seed}..{recipe.seed + 2} learned to see")


def _restore(model: Any, file: Path) -> bool:
    """Put kept weights into the model, where there are some."""
    if file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
        log.info("going on from what was kept", action="train", file=str(file))
        return True
    return False


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give the folder to keep things in, or one that is gone afterwards."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="standin-") as scratch:
        yield Path(scratch)


def main() -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint; what is in it is replaced")
    parser.add_argument("--keep", type=Path, help="folder for finished parts; a later call goes on from them")
    parser.add_argument("--seed", type=int, default=0, help="first seed to try")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    out = arguments.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _folder(arguments.keep) as keep:
            manifest = train(Recipe(seed=arguments.seed), out, keep, arguments.threads)
    except NotLearned as reason:
        sys.stderr.write(f"training gave up: {reason}; try another --seed\n")
        return 1
    sys.stdout.write(
        json.dumps({key: manifest[key] for key in ("seed_used", "elapsed_s", "held_out")}, indent=2) + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
