"""The files that `infer` writes: results of an answer, and the images that the model saw.

Input: what is asked for on the command line, an answer, a model input. Output: the paths of what was written. A kind of
result that is not known ends with exit code 2, a folder that cannot be written with exit code 1, each with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.console import fail, wrong_usage
from worker.result_kinds import ResultKind

if TYPE_CHECKING:
    from models.rendering import ModelInput
    from worker.documents import Answer
    from worker.rendering import Renderer
    from worker.settings import Settings

ResultsOption = Annotated[
    str,
    typer.Option(
        "--results",
        metavar="KIND,...",
        help=f"what --out writes: {', '.join(ResultKind)}, or all; by default sr, sc and what the destinations ask for",
    ),
]


@dataclass(frozen=True, slots=True)
class Written:
    """Which results are written where."""

    folder: Path
    kinds: frozenset[ResultKind]


def chosen_results(settings: Settings, folder: Path | None, kinds: str) -> Written | None:
    """Return what `--out` and `--results` ask for, None where nothing; or end with exit code 2."""
    from worker.destination_rules import kinds_to_write

    if folder is None:
        if kinds:
            wrong_usage("--results says what --out writes: name a folder with --out")
        return None
    if not kinds:
        return Written(folder, kinds_to_write(settings.destinations))
    named = [name.strip() for name in kinds.split(",") if name.strip()]
    if named == ["all"]:
        named = list(ResultKind)
    if unknown := [name for name in named if name not in set(ResultKind)]:
        wrong_usage(
            f"--results {kinds}: there is no kind {', '.join(unknown)}; there are {', '.join(ResultKind)}, or all"
        )
    return Written(folder, frozenset(ResultKind(name) for name in named))


def write_documents(answer: Answer, pictures: Renderer, written: Written) -> list[str]:
    """Write the results of an answer; return their paths, or end with exit code 1."""
    from worker.documents import build_documents

    paths = []
    try:
        written.folder.mkdir(parents=True, exist_ok=True)
        for document in build_documents(answer, pictures=pictures, kinds=written.kinds):
            path = written.folder / f"{document.kind}-{document.sop_instance_uid}.dcm"
            path.write_bytes(document.data)
            paths.append(str(path))
    except OSError as error:
        fail(f"--out {written.folder}: cannot be written: {error.strerror}")
    return paths


def write_inputs(model_input: ModelInput, folder: Path, name: str) -> list[str]:
    """Write the images that the model saw; return their paths, or end with exit code 1."""
    from worker.model_inputs import save_inputs

    try:
        return [str(file) for file in save_inputs(model_input.images, model_input.input_record(), folder, name)]
    except OSError as error:
        fail(f"--save-inputs {folder}: cannot be written: {error.strerror}")
