"""The stand-in's training goes from nothing to a checkpoint that answers, and goes on where it was stopped."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from models.engines.standin import load_standin
from models.generation import Generation
from models.standin.curriculum import SUBJECTS
from models.standin.evaluation import held_out, request_for
from models.standin.lessons import DSA, FLARE
from models.standin.train import Recipe, train_weights

FEW = dict.fromkeys(SUBJECTS, 6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for the old name
@pytest.mark.filterwarnings("ignore:(Could not find a config file|Unable to fetch remote file):UserWarning")
def test_training_makes_a_checkpoint_and_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    recipe = Recipe(
        seen=FEW,
        spoken_of=FEW,
        seeing_steps=3,
        seeing_loss=math.inf,
        speaking_steps=2,
        adapter_steps=dict.fromkeys(SUBJECTS, 2),
    )
    folder, seed = train_weights(recipe, tmp_path, workers=1)
    assert seed == recipe.seed
    weights = weights_in(folder)
    assert len(weights) == 1 + len(SUBJECTS)
    # It can be loaded and asked, though it has learned next to nothing.
    engine = load_standin(folder=folder)
    (answer,) = engine.generate([request_for(held_out(DSA, 1)[0])])
    engine.close()
    assert isinstance(answer, Generation)
    # One adapter is lost: it comes out the same again, and nothing else is made anew.
    shutil.rmtree(folder / FLARE)
    train_weights(recipe, tmp_path, workers=1)
    assert weights_in(folder) == weights


def weights_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}
