"""`evaluate`: an adapter on cases with known truth, by its author's figures.

Input: an adapter, a manifest (docs/evaluation.md) and, for an adapter with several tasks, which. Output: a table or one
JSON document; with `--out` also a page with plots, the JSON and every answer. A manifest that is wrong ends with exit
code 2 before a model is loaded; exit code 1 where no case at all could be answered.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from worker.commands.console import (
    FAILED,
    ConfigOption,
    JsonOption,
    fail,
    note,
    out,
    print_json,
    read_settings,
    table,
    wrong_usage,
)
from worker.commands.question_options import (
    LabelOption,
    LanguageOption,
    TaskOption,
    TextOption,
    UnitOption,
    chosen_question,
)

if TYPE_CHECKING:
    from models.adapter import AdapterDefinition
    from models.calibration import Calibration
    from models.evaluation.families import Family
    from models.evaluation.manifest import Case
    from models.generation import ModelProvenance
    from models.question import Question
    from worker.evaluation import Evaluation
    from worker.settings import Settings


def evaluate(
    adapter: Annotated[str, typer.Option("--adapter", metavar="ADAPTER", help="see `dicom-worker adapters list`")],
    manifest: Annotated[Path, typer.Option("--manifest", metavar="FILE", help="cases with truths, JSON or JSON lines")],
    config: ConfigOption = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="write page, JSON and answers here")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="the first so many cases only")] = None,
    task: TaskOption = "",
    text: TextOption = "",
    label: LabelOption = None,
    unit: UnitOption = "",
    language: LanguageOption = "",
    as_json: JsonOption = False,
) -> None:
    """Measure an adapter on cases with known truth."""
    from models.evaluation.manifest import ManifestError, read_manifest
    from models.question import Question

    settings = read_settings(config)
    alone = settings.model_copy(update={"engine": settings.engine.model_copy(update={"enabled": [adapter]})})
    wanted = Question(task, text, tuple(label or ()), unit, language)
    asked, family, question = _asked(alone, adapter, wanted)
    try:
        cases = read_manifest(manifest, asked, family.truth, limit)
    except ManifestError as error:
        wrong_usage(str(error))
    evaluation = _run(alone, asked, family, question, cases)
    document = evaluation.to_json(str(manifest))
    if out_dir is not None:
        _write(out_dir, evaluation, document)
    if as_json:
        print_json(document)
    else:
        _print(document)
    if out_dir is not None:
        note(f"written: {out_dir / 'evaluation.html'}, evaluation.json and answers.jsonl beside it")
    if document["failed"] == document["entries"]:
        raise typer.Exit(FAILED)


def _asked(settings: Settings, name: str, wanted: Question) -> tuple[AdapterDefinition, Family, Question | None]:
    """Return the adapter as asked, its figures and the question, or end with exit code 2 and what there is."""
    from models.adapter import AdapterError
    from models.evaluation.families import family_of
    from models.question import Question
    from worker.settings import SettingsError
    from worker.site import enabled_adapters

    try:
        definition = enabled_adapters(settings)[name]
        question = chosen_question(definition, wanted)
        if question is None and len(definition.tasks) > 1:
            wrong_usage(f"--task is missing; {name} has {', '.join(sorted(definition.tasks))}")
        if question is None and not definition.tasks:
            return definition, family_of(name, ""), None
        question = question or definition.in_own_language(Question(next(iter(definition.tasks))))
        return definition.asked(question), family_of(name, question.task), question
    except (AdapterError, SettingsError, LookupError) as error:
        wrong_usage(str(error))


def _run(
    settings: Settings, adapter: AdapterDefinition, family: Family, question: Question | None, cases: list[Case]
) -> Evaluation:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from models.engines import EngineError, load_engine
    from models.weights import WeightsError
    from worker.engine_setup import engine_config
    from worker.evaluation import evaluate as measure
    from worker.rendering import renderer
    from worker.settings import SettingsError

    try:
        engine_settings = engine_config(settings)
        engine = load_engine(engine_settings)
    except (EngineError, WeightsError, SettingsError) as error:
        wrong_usage(str(error))
    key = "" if question is None else question.key
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            bar = shown.add_task(adapter.name, total=len(cases))
            return measure(
                engine,
                renderer(settings.rendering).sheltered(adapter),
                family,
                "" if question is None else question.task,
                cases,
                batch=engine_settings.batch,
                calibration_of=lambda provenance: _calibration(settings, adapter, key, provenance),
                progress=lambda done: shown.advance(bar, done),
            )
    finally:
        engine.close()


def _calibration(
    settings: Settings, adapter: AdapterDefinition, key: str, provenance: ModelProvenance
) -> Calibration | None:
    """Return the calibration in use, where there is a database that has one; an evaluation needs no database."""
    from sqlalchemy.exc import SQLAlchemyError

    from models.prompting import prompt_digest
    from worker.db.calibrations import active_calibration
    from worker.db.schema import is_current
    from worker.db.sessions import Database

    url = settings.resolved_database_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        return None
    database = Database(url)
    try:
        if not is_current(database):
            note("the database has another version's schema: calibrations are not looked at")
            return None
        with database.reading() as session:
            site, asked = settings.review.organization, prompt_digest(adapter)
            return active_calibration(session, adapter.name, key, site, provenance, asked)
    except SQLAlchemyError:
        note("the database cannot be reached: calibrations are not looked at")
        return None
    finally:
        database.close()


def _write(folder: Path, evaluation: Evaluation, document: dict[str, Any]) -> None:
    from models.evaluation.page import page

    lines = "".join(json.dumps(answer.to_json(), ensure_ascii=False) + "\n" for answer in evaluation.answers)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "answers.jsonl").write_text(lines, encoding="utf-8")
        stored = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / "evaluation.json").write_text(stored + "\n", encoding="utf-8")
        (folder / "evaluation.html").write_text(page(document), encoding="utf-8")
    except OSError as error:
        fail(f"--out {folder}: cannot be written: {error.strerror}")


def _print(document: dict[str, Any]) -> None:
    from models.evaluation.page import counts_words, interval_words, subject_words, value_words

    console = out()
    console.print(Text(subject_words(document), style="bold"))
    console.print(counts_words(document))
    of_curves = [
        {**figure, "name": f"{figure['name']}, {curve['kind']}"}
        for curve in document["reliability"]
        for figure in curve["figures"]
    ]
    rows = [
        [figure["name"], value_words(figure), interval_words(figure), str(figure["n"]), figure["remark"]]
        for figure in (*document["figures"], *of_curves)
    ]
    console.print(table("figure", "value", "95 % interval", "n", "", rows=rows))
    for warning in (document["notice"], *document["warnings"]):
        if warning:
            console.print(Text(f"warning: {warning}", style="yellow"))
