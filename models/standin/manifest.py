"""What a trained checkpoint is and how good it is: the manifest that is shipped with it.

Input: the recipe and the checkpoint's folder. Output: JSON-ready values with the digests of all files and the results
on phantoms that training has not seen, with and without the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import torch
import transformers

from models.engines.configuration import BASE_ONLY
from models.engines.standin import load_standin
from models.standin.curriculum import SUBJECTS, held_out
from models.standin.evaluation import evaluate
from models.weights import weight_digests

log = structlog.get_logger()

#: How many phantoms of each adapter the base alone is asked about.
_WITHOUT_ADAPTER = 40


def make_manifest(recipe: Mapping[str, Any], counts: Mapping[str, int], folder: Path) -> dict[str, Any]:
    """Return the manifest; `counts` says how many held-out lessons each adapter is asked."""
    return {
        "what": "Stand-in for demonstration and tests: answers about drawn phantoms; means nothing for patients.",
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": dict(recipe),
        "software": {"torch": torch.__version__, "transformers": transformers.__version__},
        "sha256": {
            f"{part}/{name}": digest
            for part in ("base", *SUBJECTS)
            for name, digest in weight_digests(folder / part).items()
        },
        "held_out": held_out_results(counts, folder),
    }


def held_out_results(counts: Mapping[str, int], folder: Path) -> dict[str, Any]:
    """Ask the trained engine about phantoms it has not seen, with and without its adapters."""
    engine = load_standin(folder=folder)
    results = {}
    for name, count in counts.items():
        log.info("asking about phantoms not seen in training", action="train", adapter=name, count=count)
        lessons = held_out(name, count)
        results[name] = evaluate(engine, lessons).to_json()
        log.info("answered", action="train", adapter=name, accuracy=results[name]["accuracy"])
        without = evaluate(engine, lessons[:_WITHOUT_ADAPTER], BASE_ONLY)
        results[f"{name} without adapter"] = without.to_json()
    engine.close()
    return results
