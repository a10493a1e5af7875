"""How good the shipped stand-in is on phantoms it has not seen: `python -m benchmarks.standin_accuracy [--json FILE]`.

Prints accuracy, confidence, area under the risk-coverage curve and seconds per request, with and without adapters.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from models.engines import BASE_ONLY
from models.engines.standin import load_standin
from models.standin.evaluation import evaluate, held_out
from models.standin.lessons import DSA, TRAUMA


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=400, help="angiograms; a quarter as many abdomens")
    parser.add_argument("--first-seed", type=int, default=4_000_000, help="first seed drawn; training used 0 to 2999")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    engine = load_standin()
    rows: list[dict[str, Any]] = []
    for adapter, count in ((DSA, arguments.phantoms), (TRAUMA, arguments.phantoms // 4)):
        lessons = held_out(adapter, count, arguments.first_seed)
        for asked in (adapter, BASE_ONLY):
            started = time.monotonic()
            score = evaluate(engine, lessons, asked)
            seconds = (time.monotonic() - started) / count
            rows.append({"phantoms_of": adapter, "asked": asked, "seconds_per_request": seconds, **score.to_json()})
            accuracy = ", ".join(f"{key} {value:.3f}" for key, value in score.accuracy.items())
            wrong = "none wrong" if score.mean_confidence_wrong is None else f"{score.mean_confidence_wrong:.2f} wrong"
            print(
                f"{adapter:17} asked {asked:17} n={count:4} parsed {score.parsed:.2f}  {accuracy}  "
                f"confidence {score.mean_confidence_right:.2f} right, {wrong}  "
                f"AURC {score.area_under_risk_coverage:.4f}  {seconds:.3f} s/request"
            )
    engine.close()
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
