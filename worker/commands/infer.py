"""`infer`: one adapter on files, at once and without a daemon.

Input: an adapter's name and DICOM files or folders. Output: for each unit (run or series) findings, confidence, the
decision that policy would take and, with `--out`, the SR and SC files. Nothing is sent and no ledger is written. Files
that are not DICOM are named and left out; a unit that cannot be worked on is reported and makes the exit code 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from dicom_node.report import probability_text
from worker.commands.console import (
    FAILED,
    ConfigOption,
    JsonOption,
    fail,
    note,
    out,
    print_json,
    read_settings,
    wrong_usage,
)
from worker.commands.dicom_files import PathsArgument, read_instances

if TYPE_CHECKING:
    from dicom_node.headers import InstanceFile
    from models.adapter import AdapterDefinition
    from models.generation import Engine
    from worker.settings import Settings


@dataclass(slots=True)
class _Inferred:
    """What came of one unit."""

    unit_uid: str
    series_instance_uid: str
    instances: int
    error: str | None = None
    answer_text: str | None = None
    findings: dict[str, Any] | None = None
    confidence: float | None = None
    calibrated: bool | None = None
    decision: str | None = None
    decision_reason: str | None = None
    provenance: dict[str, Any] | None = None
    notice: str | None = None
    elapsed_s: float | None = None
    files: list[str] = field(default_factory=list)


def infer(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="see `dicom-worker adapters list`")],
    paths: PathsArgument,
    config: ConfigOption = None,
    out_dir: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="write the SR and SC files here")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run one adapter on files, without the daemon; nothing is sent."""
    from models.adapter import AdapterError

    settings = read_settings(config)
    try:
        from models.adapter import adapters

        known = adapters()
    except AdapterError as error:
        wrong_usage(str(error))
    if adapter not in known:
        wrong_usage(f"there is no adapter {adapter!r}; there are {', '.join(known)}")
    files, left_out = read_instances(paths)
    if not files:
        fail("none of these is a DICOM file:" + "".join(f"\n  {reason}" for reason in left_out))
    engine = _load_engine(settings, adapter)
    try:
        inferred = [
            _infer_unit(known[adapter], engine, settings, uid, unit, out_dir)
            for uid, unit in _units(known[adapter], files)
        ]
    finally:
        engine.close()
    if as_json:
        from dataclasses import asdict

        print_json({"adapter": adapter, "units": [asdict(unit) for unit in inferred], "left_out": left_out})
    else:
        for unit in inferred:
            _print(unit)
        for reason in left_out:
            note(f"left out: {reason}")
    if any(unit.error for unit in inferred):
        raise typer.Exit(FAILED)


def _load_engine(settings: Settings, adapter: str) -> Engine:
    """Load the engine with this adapter only, or end with exit code 2 and what to download."""
    from models.engines import EngineError, load_engine
    from models.weights import WeightsError
    from worker.engine_setup import engine_config
    from worker.settings import SettingsError

    alone = settings.model_copy(update={"engine": settings.engine.model_copy(update={"enabled": [adapter]})})
    try:
        return load_engine(engine_config(alone))
    except (EngineError, WeightsError, SettingsError) as error:
        wrong_usage(str(error))


def _units(adapter: AdapterDefinition, files: list[InstanceFile]) -> Iterator[tuple[str, list[InstanceFile]]]:
    """Group files as the adapter works on them: each run, or each series."""
    from models.adapter import Unit

    groups: dict[str, list[InstanceFile]] = defaultdict(list)
    for file in files:
        header = file.header
        uid = header.sop_instance_uid if adapter.unit is Unit.INSTANCE else header.series_instance_uid
        groups[uid].append(file)
    for uid, members in groups.items():
        accepted = [file for file in members if adapter.acceptance.obstacle(file.header) is None]
        yield uid, accepted or members


def _infer_unit(
    adapter: AdapterDefinition,
    engine: Engine,
    settings: Settings,
    unit_uid: str,
    files: list[InstanceFile],
    out_dir: Path | None,
) -> _Inferred:
    from models.confidence import decide
    from models.parsing import ParseFailure
    from models.prompting import build_request
    from models.rendering import RenderError
    from worker.db.records import utc_now
    from worker.routing import SeriesSummary, enabled_adapters
    from worker.routing import route as decide_route
    from worker.schemas import STANDIN_NOTICE

    inferred = _Inferred(unit_uid, files[0].header.series_instance_uid, len(files))
    try:
        model_input = adapter.render(files)
    except RenderError as error:
        inferred.error = f"the images cannot be shown to the model: {error}"
        return inferred
    generation = engine.generate([build_request(adapter, model_input)])[0]
    provenance = engine.provenance(adapter.name)
    parsed = adapter.parse(generation)
    only = enabled_adapters([adapter.name])
    route = decide_route(SeriesSummary(tuple(file.header for file in files)), [], only)
    outside = () if route.adapter else (f"outside intended use: {route.reason}",)
    decision = decide(
        adapter,
        parsed,
        generation,
        incomplete=model_input.incomplete,
        doubts=(*outside, *route.doubts),
        audit_fraction=0,
        audit_key=unit_uid,
    )
    inferred.answer_text, inferred.elapsed_s = generation.text, generation.elapsed_s
    inferred.decision, inferred.decision_reason = decision.outcome.value, decision.reason
    inferred.provenance = provenance.to_json()
    inferred.notice = STANDIN_NOTICE if provenance.is_standin else None
    if decision.confidence:
        inferred.confidence, inferred.calibrated = decision.confidence.probability, decision.confidence.calibrated
    if isinstance(parsed, ParseFailure):
        return inferred
    inferred.findings = parsed.model_dump(mode="json")
    if out_dir is not None:
        from worker.documents import Answer

        digests = tuple(sorted(_sha256(file.path) for file in files))
        answer = Answer(
            adapter,
            parsed,
            model_input.input_record(),
            provenance,
            decision.confidence,
            utc_now(),
            1,
            tuple(files),
            digests,
        )
        inferred.files = _write_documents(answer, out_dir)
    return inferred


def _write_documents(answer: Any, out_dir: Path) -> list[str]:
    from worker.documents import build_documents

    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        written = []
        for document in build_documents(answer):
            path = out_dir / f"{document.kind}-{document.sop_instance_uid}.dcm"
            path.write_bytes(document.data)
            written.append(str(path))
    except OSError as error:
        fail(f"--out {out_dir}: cannot be written: {error.strerror}")
    return written


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _print(unit: _Inferred) -> None:
    from worker import wording

    console = out()
    console.print(Text(f"{unit.unit_uid} ({unit.instances} instances)", style="bold"))
    if unit.error:
        console.print(Text(f"  {unit.error}", style="red"))
        return
    if unit.notice:
        console.print(Text(f"  {unit.notice}", style="yellow"))
    sure = "unknown" if unit.confidence is None else probability_text(unit.confidence)
    if unit.confidence is not None and not unit.calibrated:
        sure += " (uncalibrated)"
    for name, value in (
        ("answer", wording.findings_in_words(unit.findings)),
        ("how sure", sure),
        ("decision", f"{unit.decision}: {unit.decision_reason}"),
        ("word for word", unit.answer_text),
        *(("file", file) for file in unit.files),
    ):
        console.print(Text.assemble((f"  {name}: ", "dim"), str(value)))
