"""The demo's table: what was sent, what came of it by the ledger, and what really lies in the PACS.

Input: the studies sent, the ledger, the receiver's folder. Output: a rich table, and PNGs of the key images. Nothing is
known here beforehand: every cell is read from the database or from the objects that arrived.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from worker import wording
from worker.demo.receiver import StoredObject
from worker.demo.studies import DemoStudy
from worker.schemas import JobView, StudyView
from worker.web.key_images import PictureError, png_of_capture


def demo_table(
    sent: Sequence[DemoStudy], ledger: Mapping[str, StudyView], in_pacs: Mapping[str, Sequence[StoredObject]]
) -> Table:
    """Return the table; one row per answer, or per study that no adapter took."""
    made = Table(box=box.SIMPLE_HEAD, show_lines=False, pad_edge=False, row_styles=["", "on grey11"])
    for name, ratio in (("sent", 5), ("route", 4), ("answer", 8), ("how sure", 3), ("decision", 9), ("in the PACS", 3)):
        made.add_column(name, ratio=ratio, overflow="fold")
    for study in sent:
        found = ledger.get(study.study_instance_uid)
        if found is None:
            made.add_row(study.title, Text("did not arrive", style="red"), "", "", "", "")
            continue
        objects = in_pacs.get(study.study_instance_uid, ())
        jobs: list[JobView | None] = [*found.jobs] or [None]
        for job in jobs:
            made.add_row(study.title, *_cells(found, job), _contents(objects))
    return made


def _cells(study: StudyView, job: JobView | None) -> tuple[Text, Text, Text, Text]:
    if job is None:
        reasons = "; ".join(dict.fromkeys(series.route.reason or series.state for series in study.series))
        return Text("left alone", style="dim"), Text(""), Text(""), Text(reasons, style="dim")
    style = {"release": "green", "review": "yellow"}.get(job.decision or "", "red")
    decision = Text.assemble((job.state, f"bold {style}"), f": {job.decision_reason or job.error or ''}")
    answer = Text(wording.findings_in_words(job.findings))
    return Text(job.adapter), answer, Text(wording.confidence_in_words(job)), decision


def _contents(objects: Sequence[StoredObject]) -> Text:
    """Count the objects of a study in the PACS by what they are."""
    names = Counter("SR" if stored.modality == "SR" else "SC" for stored in objects)
    return Text(", ".join(f"{count} {name}" for name, count in sorted(names.items(), reverse=True)) or "nothing")


def write_key_images(
    sent: Sequence[DemoStudy], ledger: Mapping[str, StudyView], folder: Path
) -> list[tuple[str, Path]]:
    """Write the Secondary Captures as PNG, held ones too; return each with what it belongs to."""
    folder.mkdir(exist_ok=True)
    written: list[tuple[str, Path]] = []
    for study in sent:
        found = ledger.get(study.study_instance_uid)
        captures = [
            (job, result) for job in (found.jobs if found else []) for result in job.results if result.kind == "sc"
        ]
        for number, (job, result) in enumerate(captures, start=1):
            name = "-".join(re.findall(r"[a-z0-9]+", study.title.lower()))
            path = folder / f"{name}-{number}.png"
            try:
                path.write_bytes(png_of_capture(Path(result.path)))
            except PictureError as error:
                written.append((f"no picture: {error}", Path(result.path)))
                continue
            written.append((f"{study.title}, {job.state}", path))
    return written
