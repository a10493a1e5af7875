"""The demo's tables: what was sent, what came of it by the ledger, and what really lies in the PACS.

Input: the studies sent, the ledger, the receiver's folder. Output: rich tables, and PNGs of the key images. Nothing is
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
from worker.near_misses import decisive_part
from worker.schemas import JobView, StudyView
from worker.web.key_images import PictureError, png_of_capture


def demo_tables(
    sent: Sequence[DemoStudy], ledger: Mapping[str, StudyView], in_pacs: Mapping[str, Sequence[StoredObject]]
) -> list[Table]:
    """Return a table with one row per answer, and one of the studies that no adapter took."""
    answers = _table(("sent", 5), ("route", 4), ("answer", 9), ("how sure", 4), ("released or held, and why", 9))
    answers.add_column("in the PACS", no_wrap=True)
    others = _table(("sent", 1), ("why it was left alone", 3))
    others.caption = "every rule: a study's page, Routes; or `dicom-worker route explain FOLDER`"
    others.caption_justify = "left"
    for study in sent:
        found = ledger.get(study.study_instance_uid)
        if found is None:
            others.add_row(study.title, Text("did not arrive", style="red"))
        elif not found.jobs:
            reasons = dict.fromkeys(decisive_part(series.route.reason or series.state) for series in found.series)
            others.add_row(study.title, Text("; ".join(reasons), style="dim"))
        for job in found.jobs if found else ():
            answers.add_row(study.title, *_cells(job), _contents(in_pacs.get(study.study_instance_uid, ())))
    return [answers, others]


def _table(*columns: tuple[str, int]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, row_styles=["", "on grey11"], expand=True)
    for name, ratio in columns:
        made.add_column(name, ratio=ratio, overflow="fold")
    return made


def _cells(job: JobView) -> tuple[Text, Text, Text, Text]:
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
