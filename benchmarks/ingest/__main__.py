"""`python -m benchmarks.ingest`: throughput of four nodes over the same slices, in one run, as a table and as JSON.

dcmtk's dcmsend sends 400 CT slices (with TCP_NODELAY=1 in its environment: without, Nagle's algorithm costs 40 ms per
image and hides every difference). Every node is started fresh for each repeat, warmed up with other slices, and must
have all of them in the end. The nodes take turns, so that a slow minute of the machine hits them all; the median of the
repeats counts. Only our node has everything on disk, synced, when it says Success.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.ingest.nodes import NODES, Node, cpu_seconds
from benchmarks.ingest.slices import write_slices
from tests.services import running
from tests.services.process import LOCALHOST, dcmtk, wait_until

_WARM_UP = 20


@dataclass(frozen=True)
class Figures:
    """One node over one number of associations: medians over the repeats."""

    node: str
    associations: int
    mb_per_s: float
    images_per_s: float
    server_cpu_s: float
    #: Slowest and fastest repeat.
    mb_per_s_range: tuple[float, float]


def send(node: Node, files: list[Path], associations: int) -> float:
    """Send `files` over so many associations at once; return the seconds until all have released."""
    shares = [files[number::associations] for number in range(associations)]
    command = [dcmtk("dcmsend"), "--decompress-never", "-aec", node.ae_title, LOCALHOST, str(node.port)]
    started = time.perf_counter()
    senders = [
        subprocess.Popen([*command, *map(str, share)], env={**os.environ, "TCP_NODELAY": "1"}, stderr=subprocess.PIPE)
        for share in shares
    ]
    failures = [sender.communicate()[1].decode(errors="replace") for sender in senders if sender.wait() or False]
    elapsed = time.perf_counter() - started
    if failures:
        raise SystemExit(f"{node.title}: dcmsend failed: {failures[0]}")
    return elapsed


def measure(kind: type[Node], files: list[Path], warm_up: list[Path], associations: int) -> tuple[float, float]:
    """Return seconds and server CPU seconds of one repeat."""
    with tempfile.TemporaryDirectory(prefix="ingest-", ignore_cleanup_errors=True) as folder:
        node = kind(Path(folder))
        with running(node):
            send(node, warm_up, 1)
            before = cpu_seconds(node)
            elapsed = send(node, files, associations)
            wait_until(lambda: node.received() >= len(files) + len(warm_up), 30, f"{node.title} has all slices")
            return elapsed, cpu_seconds(node) - before


def table(figures: list[Figures]) -> str:
    """Return the figures as a table for people."""
    lines = [f"{'node':<24}{'associations':>13}{'MB/s':>8}{'images/s':>10}{'server CPU s':>14}   MB/s, all repeats"]
    for row in figures:
        low, high = row.mb_per_s_range
        lines.append(
            f"{row.node:<24}{row.associations:>13}{row.mb_per_s:>8.1f}{row.images_per_s:>10.1f}"
            f"{row.server_cpu_s:>14.2f}   {low:.1f} to {high:.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--json", type=Path, help="write the JSON document to this file instead of standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-slices-") as folder:
        files = write_slices(Path(folder) / "study", options.slices, "MEASURED")
        warm_up = write_slices(Path(folder) / "warm-up", _WARM_UP, "WARMUP")
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        repeats: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for repeat in range(options.repeats):
            for associations in options.associations:
                for kind in NODES:
                    print(f"repeat {repeat + 1}: {kind.title}, {associations}", file=sys.stderr, flush=True)
                    repeats.setdefault((kind.title, associations), []).append(
                        measure(kind, files, warm_up, associations)
                    )
    figures = []
    for (title, associations), measured in repeats.items():
        seconds = statistics.median(elapsed for elapsed, _ in measured)
        rates = [megabytes / elapsed for elapsed, _ in measured]
        figures.append(
            Figures(
                node=title,
                associations=associations,
                mb_per_s=round(megabytes / seconds, 1),
                images_per_s=round(len(files) / seconds, 1),
                server_cpu_s=round(statistics.median(cpu for _, cpu in measured), 2),
                mb_per_s_range=(round(min(rates), 1), round(max(rates), 1)),
            )
        )
    document = json.dumps(
        {
            "slices": len(files),
            "megabytes": round(megabytes, 1),
            "repeats": options.repeats,
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "figures": [asdict(row) for row in figures],
        },
        indent=2,
    )
    print(table(figures))
    if options.json is None:
        print(document)
    else:
        options.json.write_text(document + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
