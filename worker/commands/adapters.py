"""`adapters`: which adapters there are, whether their weights are in place, and one merged into its base.

Input: the adapters' folders and the engine's settings. Output: a table or JSON; `merge` writes a model. `check` ends
with exit code 1 and what to download, from where and under which licence, where weights are missing; `merge` with exit
code 1 and nothing written where the merged model would not answer the same.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.adapter import AdapterDefinition
    from models.engines.merging import Merge
    from models.weights_inspection import WeightsState

app = typer.Typer(help="The model adapters: list, check, merge.", no_args_is_help=True)


class MergedDtype(StrEnum):
    """Number format of merged weights."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


@app.command("list")
def list_adapters(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the adapters: what each takes, its weights and when an answer is held."""
    from worker.settings import SettingsError
    from worker.site import enabled_adapters

    settings = read_settings(config)
    enabled = set(settings.engine.enabled)
    _adapters()
    everything = settings.model_copy(update={"engine": settings.engine.model_copy(update={"enabled": []})})
    try:
        known = enabled_adapters(everything)
    except SettingsError as error:
        wrong_usage(str(error))
    found = [
        {
            "name": adapter.name,
            "title": adapter.title,
            "version": adapter.version,
            "enabled": not enabled or adapter.name in enabled,
            "base": adapter.base.hub_id,
            "lora": adapter.lora.hub_id,
            "licence": adapter.base.licence,
            "unit": adapter.unit.value,
            "general": adapter.general,
            "tasks": sorted(adapter.tasks),
            "language": adapter.language,
            "languages": sorted(adapter.languages),
            "modalities": sorted(adapter.acceptance.modalities),
            "unasked_modalities": sorted(
                adapter.acceptance.modalities if adapter.unasked_modalities is None else adapter.unasked_modalities
            ),
            "body_regions": sorted(adapter.acceptance.body_regions),
            "min_age_years": adapter.acceptance.min_age_years,
            "release_at": dict(adapter.policy.release_at),
            "rationale": adapter.policy.rationale,
            "limitations": list(adapter.limitations),
        }
        for adapter in known.values()
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        [
            f"{entry['name']} {entry['version']}" + ("" if entry["enabled"] else " (not enabled)"),
            f"{entry['title']}" + "".join(f"\n- {task}" for task in sorted(adapter.tasks)),
            _takes(adapter),
            f"{entry['lora']}\non {entry['base']}",
            "; ".join(adapter.limitations),
        ]
        for entry, adapter in zip(found, known.values(), strict=True)
    ]
    out().print(table("adapter", "title, tasks", "takes", "weights", "limitations", rows=rows))


def _takes(adapter: AdapterDefinition) -> str:
    """Say what an adapter takes by itself, and what only where a site rule asks for it."""
    accepted = adapter.acceptance.modalities
    unasked = accepted if adapter.unasked_modalities is None else adapter.unasked_modalities
    words = ", ".join([*sorted(unasked), *sorted(adapter.acceptance.body_regions)])
    return words + (f"; by rule also {', '.join(sorted(accepted - unasked))}" if accepted - unasked else "")


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check that the weights of the enabled adapters are there, whole, the ones meant, and for their base model."""
    from models.adapter import AdapterError
    from models.engines import EngineError
    from models.weights_inspection import inspect_weights
    from worker.engine_setup import engine_config
    from worker.settings import SettingsError

    settings = read_settings(config)
    known = _adapters()
    try:
        engine = engine_config(settings)
    except (SettingsError, AdapterError, EngineError) as error:
        wrong_usage(str(error))
    states = [_as_json(state, known, settings.engine.kind) for state in inspect_weights(engine, hashed=True)]
    problems = [problem for state in states for problem in state["problems"]]
    if engine.server is not None and settings.engine.kind == "openai":
        from models.engines.openai import check_server

        problems += check_server(engine)
    if as_json:
        print_json({"engine": settings.engine.kind, "ok": not problems, "problems": problems, "weights": states})
    else:
        _show(states, problems, settings.engine.kind)
    if problems:
        raise typer.Exit(FAILED)


@app.command()
def merge(
    name: Annotated[str, typer.Argument(metavar="NAME", help="adapter to merge into its base")],
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder to make, not there yet or empty")],
    dtype: Annotated[MergedDtype, typer.Option(help="number format of the merged weights")] = MergedDtype.BFLOAT16,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an adapter and its base as one model that transformers and vLLM load, when both answer the same."""
    from models.adapter import AdapterError
    from models.engines import Dtype, EngineError
    from models.merge_questions import merge_questions
    from models.weights import WeightsError
    from worker.engine_setup import engine_config
    from worker.settings import SettingsError

    settings = read_settings(config)
    definition = _adapters().get(name)
    if definition is None:
        wrong_usage(f"there is no adapter {name!r}; there are {', '.join(sorted(_adapters()))}")
    try:
        engine = engine_config(settings)
    except (SettingsError, AdapterError, EngineError) as error:
        wrong_usage(str(error))
    from models.engines.merging import merge_adapter

    try:
        made = merge_adapter(
            engine,
            name,
            folder,
            dtype=Dtype(dtype.value),
            questions=merge_questions(definition),
            progress=lambda step: note(f"{step} ..."),
        )
    except (WeightsError, EngineError) as error:
        fail(str(error))
    if as_json:
        print_json({"folder": made.folder, "record": made.record.to_json(), **_comparison(made)})
    else:
        out().print(_told(made, settings.engine.kind), markup=False, soft_wrap=True)


def _comparison(made: Merge) -> dict[str, Any]:
    return {
        "questions": made.questions,
        "tokens": made.tokens,
        "same_tokens": True,
        "logit_difference": made.logit_difference,
        "saved_same_tokens": made.saved_same,
        "saved_logit_difference": made.saved_logit_difference,
        "tied_embeddings": made.tied_embeddings,
    }


def _told(made: Merge, kind: str) -> str:
    lines = [
        f"{made.folder}: {made.record.base} with {made.record.adapter} merged in, {made.record.dtype}",
        f"in float32, merged and unmerged gave the same {made.tokens} tokens to {made.questions} questions "
        f"(greatest logit difference {made.logit_difference:.2g})",
        f"as written in {made.record.dtype}: the same tokens to {made.saved_same:.0%} of the questions "
        f"(greatest logit difference {made.saved_logit_difference:.2g} against float32)",
    ]
    if not made.tied_embeddings:
        lines.append("its output embeddings are its own (not tied to the input's); not every server loads that")
    if kind != "standin":
        lines.append(f"to use it here: engine.adapters.{made.record.name}: {made.folder}")
    return "\n".join(lines)


def _as_json(state: WeightsState, known: Mapping[str, AdapterDefinition], kind: str) -> dict[str, Any]:
    lora, merged, found = state.lora, state.merged, state.found
    return {
        "adapter": state.name or None,
        "hub_id": state.reference.hub_id,
        "base": state.base,
        "revision": found.revision if found else state.reference.revision,
        "folder": found.folder if found else state.reference.folder,
        "digest": state.digest or None,
        "lora": lora and {"r": lora.r, "lora_alpha": lora.lora_alpha, "target_modules": lora.target_modules},
        "shape": lora.shape if lora else None,
        "merged": merged and {"base": merged.base, "base_revision": merged.base_revision, "dtype": merged.dtype},
        "ok": not state.problems,
        "problems": list(state.problems),
        # The stand-in's adapters are of their own making.
        "warnings": [] if kind == "standin" else _warnings(state, known),
    }


def _warnings(state: WeightsState, known: Mapping[str, AdapterDefinition]) -> list[str]:
    from models.lora import differences

    found = []
    if state.lora is not None and (differing := differences(state.lora, known[state.name].lora_configuration)):
        found.append(f"{'; '.join(differing)}. The adapter's own file counts")
    reference = state.reference
    if state.found is not None and reference.folder is None and reference.revision != state.found.revision:
        found.append(
            f"revision {reference.revision!r} is whatever was downloaded last; pin it: "
            f"engine.revisions: {{{reference.hub_id}: {state.found.revision}}}"
        )
    return found


def _show(states: list[dict[str, Any]], problems: list[str], kind: str) -> None:
    rows = [
        [
            state["adapter"] or "(base model)",
            f"{state['hub_id']} {state['revision']}" + (f"\non {state['base']}" if state["adapter"] else ""),
            f"{state['folder'] or 'not found'}\n{state['digest'] or ''}",
            state["shape"] or ("merged into its base" if state["merged"] else ""),
            "ok" if state["ok"] else "WRONG, see below",
        ]
        for state in states
    ]
    if rows:
        out().print(table("adapter", "weights", "folder, combined SHA-256", "LoRA", "state", rows=rows))
    for state in states:
        for warning in state["warnings"]:
            note(f"note: {state['adapter'] or state['hub_id']}: {warning}")
    for problem in problems:
        note(f"error: {problem}")
    if not problems:
        said = "the server has what is needed" if kind == "openai" else "all weights are in place"
        out().print(f"engine {kind}: {said}", markup=False)


def _adapters() -> Mapping[str, AdapterDefinition]:
    from models.adapter import AdapterError, adapters

    try:
        return adapters()
    except AdapterError as error:
        wrong_usage(str(error))
