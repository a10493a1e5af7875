"""`python -m benchmarks.latency`: last byte of an XA run to its SR in the PACS, less model time; and one ring.

Both brokers: embedded with SQLite, and Redis with PostgreSQL, each on this machine. The table goes to standard error,
the JSON document to standard output or a file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.latency.rings import measure_rings
from benchmarks.latency.runs import FRAMES, SIZE, measure_runs
from tests import services
from worker.settings import Settings

BROKERS = ("embedded", "redis")


def median_and_p95(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    p95 = statistics.quantiles(values, n=20, method="inclusive")[-1]
    return {"median": round(statistics.median(values), 4), "p95": round(p95, 4), "count": len(values)}


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder that another user can enter, too (PostgreSQL does not run as root)."""
    path = Path(tempfile.mkdtemp(prefix=f"dicom-worker-{name}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _stores(broker: str) -> Iterator[tuple[str, str]]:
    """Start what the broker's kind of installation has; yield broker and database URL."""
    if broker == "embedded":
        yield "embedded", ""
        return
    with (
        _folder("redis") as at_redis,
        _folder("postgres") as at_postgres,
        services.running(services.RedisServer(at_redis)) as redis,
        services.running(services.PostgresServer(at_postgres)) as postgres,
    ):
        yield redis.url, postgres.new_database()


def measure(broker: str, runs: int, rings: int) -> dict[str, Any]:
    """Measure one kind of installation."""
    with _stores(broker) as (broker_url, database_url), _folder("latency") as folder:
        rung_ms = measure_rings(Settings(data_dir=folder / "rings", broker_url=broker_url), rings)
        passages = measure_runs(folder, broker_url, database_url, runs)
    return {
        "ring_ms": median_and_p95(rung_ms),
        "own_s": median_and_p95([passage.own_s for passage in passages]),
        "total_s": median_and_p95([passage.total_s for passage in passages]),
        "model_s": median_and_p95([passage.model_s for passage in passages]),
        "stages_s": {
            name: round(statistics.median([passage.stages_s[name] for passage in passages]), 4)
            for name in passages[0].stages_s
        },
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    brokers = list(figures)
    lines = [f"| | {' | '.join(brokers)} |", f"|---|{'---|' * len(brokers)}"]

    def row(title: str, cells: Sequence[str]) -> None:
        lines.append(f"| {title} | {' | '.join(cells)} |")

    own = [figures[b]["own_s"] for b in brokers]
    row("last byte to SR, less model time: median (p95)", [f"{f['median']:.2f} s ({f['p95']:.2f} s)" for f in own])
    for stage in figures[brokers[0]]["stages_s"]:
        row(f"... {stage}", [f"{figures[b]['stages_s'][stage]:.3f} s" for b in brokers])
    model = [figures[b]["model_s"] for b in brokers]
    row("model time (the stand-in's)", [f"{f['median']:.2f} s ({f['p95']:.2f} s)" for f in model])
    rung = [figures[b]["ring_ms"] for b in brokers]
    row("one ring: median (p95)", [f"{f['median']:.0f} ms ({f['p95']:.0f} ms)" for f in rung])
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=25, help="XA runs for each broker (at least 20 for a p95)")
    parser.add_argument("--rings", type=int, default=300, help="rings for each broker")
    parser.add_argument("--broker", choices=BROKERS, action="append", help="only this one")
    parser.add_argument("--json", type=Path, help="write the JSON document to this file instead of standard output")
    chosen = parser.parse_args()
    load_before = os.getloadavg()[0]
    figures = {broker: measure(broker, chosen.runs, chosen.rings) for broker in chosen.broker or BROKERS}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "load_before": round(load_before, 1),
        "run": f"{FRAMES} frames of {SIZE} x {SIZE}",
    }
    print(", ".join(f"{name}: {value}" for name, value in about.items()), table(figures), sep="\n\n", file=sys.stderr)
    document = json.dumps({**about, "figures": figures}, indent=2)
    if chosen.json is None:
        print(document)
    else:
        chosen.json.write_text(document + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
