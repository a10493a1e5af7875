"""How good the shipped stand-in is on phantoms it has not seen: `python -m benchmarks.standin_accuracy [--json FILE]`.

Prints accuracy, confidence, area under the risk-coverage curve and seconds per request of every adapter, and of the
base without it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from models.engines import BASE_ONLY
from models.engines.standin import load_standin
from models.generation import Engine
from models.standin.curriculum import SUBJECTS
from models.standin.evaluation import Score, evaluate, held_out
from models.standin.lessons import DSA


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=400, help="angiograms; half as many of the other adapters'")
    parser.add_argument("--first-seed", type=int, default=4_000_000, help="first seed drawn; training used 0 to 11999")
    parser.add_argument("--adapter", choices=list(SUBJECTS), action="append", help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    engine = load_standin()
    rows: list[dict[str, Any]] = []
    for adapter in arguments.adapter or SUBJECTS:
        count = arguments.phantoms if adapter == DSA else arguments.phantoms // 2
        rows += _measure(engine, adapter, count, arguments.first_seed)
    engine.close()
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _measure(engine: Engine, adapter: str, count: int, first_seed: int) -> list[dict[str, Any]]:
    """Ask the adapter about its phantoms, and the base about a quarter of them."""
    lessons = held_out(adapter, count, first_seed)
    rows = []
    for asked, some in ((adapter, lessons), (BASE_ONLY, lessons[: max(1, count // 4)])):
        started = time.monotonic()
        score = evaluate(engine, some, asked)
        seconds = (time.monotonic() - started) / len(some)
        rows.append({"phantoms_of": adapter, "asked": asked, "seconds_per_request": seconds, **score.to_json()})
        print(f"{adapter:17} asked {asked:17} n={len(some):4}  {_in_words(score)}  {seconds:.3f} s/request")
    return rows


def _in_words(score: Score) -> str:
    accuracy = ", ".join(f"{key} {value:.3f}" for key, value in score.accuracy.items())
    errors = "".join(f", mean error {key} {value:.2f}" for key, value in score.mean_error.items())
    wrong = "none wrong" if score.mean_confidence_wrong is None else f"{score.mean_confidence_wrong:.2f} wrong"
    return (
        f"parsed {score.parsed:.2f}  {accuracy}{errors}  confidence {score.mean_confidence_right:.2f} right, {wrong}  "
        f"AURC {score.area_under_risk_coverage:.4f}"
    )


if __name__ == "__main__":
    main()
