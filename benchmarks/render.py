"""From stored images to the model's input: `python -m benchmarks.render [--rounds N] [--json FILE]`.

A CT series of 300 slices and an XA run of 100 frames, each uncompressed and in JPEG lossless, are made into the
model's input by the adapters and by a plain loop around pydicom's `pixel_array` that does the same: read, order,
choose, window, stack. Both in turns, each in a process of its own, which also tells the memory it took beyond its
imports; the pixels that come out are compared. The table goes to standard error, the JSON document to standard output.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

SLICES, FRAMES, SIDE = 300, 100, 512


def write_studies(folder: Path) -> dict[str, Path]:
    """Write the series and the run in both syntaxes; return their folders by name."""
    from pydicom import dcmread

    from models.phantoms import draw_abdomen_volume, draw_vessel_run
    from worker.demo.phantom_studies import write_ct_series, write_xa_run

    rng = np.random.default_rng(0)
    volume = draw_abdomen_volume(rng, injuries={}, slices=SLICES, size=64).hounsfield
    large = np.repeat(np.repeat(volume, SIDE // 64, axis=1), SIDE // 64, axis=2)
    # Noise as scanners have it: without it a compressed slice is a tenth of a real one's size.
    large = (large + rng.normal(0, 12, large.shape)).astype(np.int16)
    write_ct_series(folder / "ct", large, pixel_spacing_mm=0.75, slice_spacing_mm=1.5)
    run = draw_vessel_run(rng, blocked=True, size=SIDE, frames=FRAMES, difficulty=0.2).pixels
    write_xa_run(folder / "xa", run)
    kinds = {}
    for name, words in (("ct", f"CT, {SLICES} slices"), ("xa", f"XA, {FRAMES} frames")):
        kinds[f"{words}, uncompressed"] = folder / name
        compressed = folder / f"{name}-lossless"
        compressed.mkdir()
        for path in sorted((folder / name).rglob("*.dcm")):
            target = compressed / path.name
            subprocess.run(["dcmcjpeg", "+e1", str(path), str(target)], check=True)
            assert dcmread(target, stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
        kinds[f"{words}, JPEG lossless"] = compressed
    return kinds


def by_adapter(paths: Sequence[Path]) -> Any:
    """Return the images of the adapter's own renderer."""
    from dicom_node.headers import InstanceFile, read_header
    from models.adapter import adapters

    name = "dsa_patency" if len(paths) == 1 else "abdominal_trauma"
    return adapters()[name].render([InstanceFile(read_header(path), path) for path in paths]).images


def by_plain_loop(paths: Sequence[Path]) -> Any:
    """Return the same images as a script would make them: every file read and decoded whole by pydicom."""
    from pydicom import dcmread

    if len(paths) == 1:
        return _plain_run(dcmread(paths[0]))
    slices = []
    for path in paths:
        ds = dcmread(path)
        values = ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        padding = ds.pixel_array == ds.get("PixelPaddingValue", -(2**15))
        slices.append((float(ds.ImagePositionPatient[2]), values, padding))
    slices.sort(key=lambda one: -one[0])
    count = len(slices)
    grey = []
    for _, values, padding in slices:
        shown = np.round(np.clip((values - 50.0) / 400.0 + 0.5, 0, 1) * 255).astype(np.uint8)
        shown[padding] = 0
        grey.append(shown)
    places = sorted({int(place) for place in np.round(np.linspace(0.2 * (count - 1), 0.8 * (count - 1), 8))})
    return [np.stack([grey[max(at - 1, 0)], grey[at], grey[min(at + 1, count - 1)]], axis=-1) for at in places]


def _plain_run(ds: Any) -> list[Any]:
    frames = ds.pixel_array
    small = np.stack([frame.reshape(64, SIDE // 64, 64, SIDE // 64).mean(axis=(1, 3)) for frame in frames])
    filling = -small.astype(np.float32) - (-small.astype(np.float32)).min(axis=0)
    scores = np.clip(filling - 0.02 * filling.max(), 0, None).mean(axis=(1, 2))
    shown = []
    # This run has one peak: the arterial one.
    best = min(max(int(scores.argmax()), 1), len(frames) - 2)
    for index in (best - 1, best, best + 1):
        values = frames[index].astype(np.float32)
        low, high = np.percentile(values.ravel(), (0.5, 99.5))
        grey = np.round(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        shown.append(np.repeat(grey[:, :, None], 3, axis=2))
    return shown


WAYS = {"adapter": by_adapter, "plain pydicom loop": by_plain_loop}


def child(way: str, folder: Path) -> None:
    """Make the input once, after imports and a warm-up; print seconds, the memory it took, and the pixels' digests."""
    paths = sorted(folder.rglob("*.dcm"))
    make = WAYS[way]
    # One run for the imports and the file cache; of three slices, so that it fills no memory.
    make(paths[: 3 if len(paths) > 1 else 1])
    before = _peak_mib()
    started = time.perf_counter()
    images = make(paths)
    took = time.perf_counter() - started
    grown = _peak_mib() - before
    shown = [[image.shape, float(image.mean()), hashlib.sha256(image.tobytes()).hexdigest()] for image in images]
    print(json.dumps({"seconds": took, "grown_mib": grown, "images": shown}))


def _peak_mib() -> float:
    """Return the largest resident size of this process so far (proc(5), VmHWM: ru_maxrss would be the parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def measure(kinds: dict[str, Path], rounds: int) -> list[dict[str, Any]]:
    """Run every way on every study, in turns; return medians."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {(kind, way): [] for kind in kinds for way in WAYS}
    for _ in range(rounds):
        for kind, way in found:
            command = [sys.executable, "-m", "benchmarks.render", "--child", way, str(kinds[kind])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[kind, way].append(json.loads(done.stdout))
    rows = []
    for kind in kinds:
        own, plain = found[kind, "adapter"], found[kind, "plain pydicom loop"]
        for one, other in zip(own[0]["images"], plain[0]["images"], strict=True):
            assert one[0] == other[0] and abs(one[1] - other[1]) < 0.5, f"{kind}: other pixels: {one} and {other}"
        seconds = {way: [run["seconds"] for run in found[kind, way]] for way in WAYS}
        rows.append(
            {
                "study": kind,
                "adapter_s": round(statistics.median(seconds["adapter"]), 3),
                "adapter_range_s": [round(bound(seconds["adapter"]), 3) for bound in (min, max)],
                "plain_s": round(statistics.median(seconds["plain pydicom loop"]), 3),
                "times_as_fast": round(
                    statistics.median(seconds["plain pydicom loop"]) / statistics.median(seconds["adapter"]), 1
                ),
                "adapter_mib": round(max(run["grown_mib"] for run in own), 1),
                "plain_mib": round(max(run["grown_mib"] for run in plain), 1),
                "same_pixels": own[0]["images"] == plain[0]["images"],
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds")
    parser.add_argument("--json", type=Path, help="file for the figures; else standard output")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(write_studies(Path(folder)), arguments.rounds)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}",
        "rounds": arguments.rounds,
        "studies": rows,
    }
    for row in rows:
        print(
            f"{row['study']:32} adapter {row['adapter_s']:7.3f} s {row['adapter_mib']:7.1f} MiB   plain "
            f"{row['plain_s']:7.3f} s {row['plain_mib']:7.1f} MiB   {row['times_as_fast']:5.1f} x",
            file=sys.stderr,
        )
    text = json.dumps(document, indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
