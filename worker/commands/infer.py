"""`infer`: one adapter on files, at once and without a daemon.

Input: an adapter's name and DICOM files or folders. Output: for each unit (run or series) findings, confidence, the
decision that policy would take and, with `--out`, the files of its results. Nothing is sent and no ledger is written.
Files that are not DICOM are named and left out; a unit that cannot be worked on is reported and makes the exit code 1.
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
from worker.commands.infer_files import ResultsOption, chosen_results, write_documents, write_inputs
from worker.commands.question_options import (
    LabelOption,
    LanguageOption,
    TaskOption,
    TextOption,
    UnitOption,
    chosen_question,
)

if TYPE_CHECKING:
    from dicom_node.headers import InstanceFile
    from models.adapter import AdapterDefinition
    from models.generation import Engine
    from models.question import Question
    from worker.commands.infer_files import Written
    from worker.rendering import Renderer
    from worker.settings import Settings


@dataclass(slots=True)
class _Inferred:
    """What came of one unit."""

    unit_uid: str
    series_instance_uid: str
    instances: int
    question: dict[str, Any] | None = None
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
    #: SHA-256 over the images that the model saw.
    input_digest: str | None = None
    #: Files of those images and of the record how they were made.
    inputs: list[str] = field(default_factory=list)
    #: The files of its results.
    files: list[str] = field(default_factory=list)


def infer(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="see `dicom-worker adapters list`")],
    paths: PathsArgument,
    config: ConfigOption = None,
    out_dir: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="write the results here")] = None,
    results: ResultsOption = "",
    inputs_dir: Annotated[
        Path | None, typer.Option("--save-inputs", metavar="DIR", help="write the images that the model sees here")
    ] = None,
    task: TaskOption = "",
    text: TextOption = "",
    label: LabelOption = None,
    unit: UnitOption = "",
    language: LanguageOption = "",
    as_json: JsonOption = False,
) -> None:
    """Run one adapter on files, without the daemon; nothing is sent."""
    from models.adapter import AdapterError
    from models.question import Question
    from worker.rendering import renderer
    from worker.settings import SettingsError
    from worker.site import enabled_adapters

    settings = read_settings(config)
    written = chosen_results(settings, out_dir, results)
    alone = settings.model_copy(update={"engine": settings.engine.model_copy(update={"enabled": [adapter]})})
    try:
        definition = enabled_adapters(alone)[adapter]
    except (AdapterError, SettingsError) as error:
        wrong_usage(str(error))
    files, left_out = read_instances(paths)
    if not files:
        fail("none of these is a DICOM file:" + "".join(f"\n  {reason}" for reason in left_out))
    chosen = chosen_question(definition, Question(task, text, tuple(label or ()), unit, language))
    units = []
    try:
        for uid, members in _units(definition, files):
            header = members[0].header
            for question in definition.questions(header) if chosen is None else (chosen,):
                units.append((uid, members, question, definition.asked(question)))
    except AdapterError as error:
        wrong_usage(str(error))
    engine, pictures = _load_engine(alone), renderer(settings.rendering)
    try:
        inferred = [
            _infer_unit(asked, engine, pictures, uid, members, question, written, inputs_dir)
            for uid, members, question, asked in units
        ]
    finally:
        engine.close()
    if as_json:
        from dataclasses import asdict

        print_json({"adapter": adapter, "units": [asdict(one) for one in inferred], "left_out": left_out})
    else:
        for one in inferred:
            _print(one)
        for reason in left_out:
            note(f"left out: {reason}")
    if any(one.error for one in inferred):
        raise typer.Exit(FAILED)


def _load_engine(settings: Settings) -> Engine:
    """Load the engine, or end with exit code 2 and what to download."""
    from models.engines import EngineError, load_engine
    from models.weights import WeightsError
    from worker.engine_setup import engine_config
    from worker.settings import SettingsError

    try:
        return load_engine(engine_config(settings))
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
    pictures: Renderer,
    unit_uid: str,
    files: list[InstanceFile],
    question: Question | None,
    written: Written | None,
    inputs_dir: Path | None,
) -> _Inferred:
    from models.confidence import decide
    from models.generation import GenerationFailure
    from models.parsing import ParseFailure
    from models.prompting import build_request
    from models.rendering import RenderError
    from worker.db.columns import utc_now
    from worker.near_misses import decisive_part
    from worker.routing import SeriesSummary
    from worker.routing import route as decide_route
    from worker.schemas import STANDIN_NOTICE

    inferred = _Inferred(unit_uid, files[0].header.series_instance_uid, len(files))
    inferred.question = None if question is None else question.to_json()
    try:
        model_input = pictures.render(adapter, files)
    except RenderError as error:
        inferred.error = f"the images cannot be shown to the model: {error}"
        return inferred
    inferred.input_digest = model_input.digest()
    if inputs_dir is not None:
        name = unit_uid if question is None else f"{unit_uid}-{question.key}"
        inferred.inputs = write_inputs(model_input, inputs_dir, name)
    generation = engine.generate([build_request(adapter, model_input)])[0]
    if isinstance(generation, GenerationFailure):
        inferred.error = generation.reason
        return inferred
    provenance = engine.provenance(adapter.name)
    parsed = adapter.parse(generation)
    only = {adapter.name: adapter}
    route = decide_route(SeriesSummary(tuple(file.header for file in files)), [], only)
    outside = () if route.assignments else (f"outside intended use: {decisive_part(route.reason)}",)
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
    if written is not None:
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
            question_key="" if question is None else question.key,
        )
        inferred.files = write_documents(answer, pictures, written)
    return inferred


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
        *(("input", file) for file in unit.inputs),
        *(("file", file) for file in unit.files),
    ):
        console.print(Text.assemble((f"  {name}: ", "dim"), str(value)))
