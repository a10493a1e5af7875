"""`adapters`: which adapters there are, and whether their weights are in place.

Input: the adapters' folders and the engine's settings. Output: a table or JSON. `check` ends with exit code 1 and
what to download, from where and under which licence, where weights are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from worker.commands.console import (
    FAILED,
    ConfigOption,
    JsonOption,
    out,
    print_json,
    read_settings,
    table,
    wrong_usage,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.adapter import AdapterDefinition

app = typer.Typer(help="The model adapters: list, check.", no_args_is_help=True)


@app.command("list")
def list_adapters(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the adapters: what each takes, its weights and when an answer is held."""
    settings = read_settings(config)
    enabled = set(settings.engine.enabled)
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
            "modalities": sorted(adapter.acceptance.modalities),
            "body_regions": sorted(adapter.acceptance.body_regions),
            "min_age_years": adapter.acceptance.min_age_years,
            "release_at": dict(adapter.policy.release_at),
            "rationale": adapter.policy.rationale,
            "limitations": list(adapter.limitations),
        }
        for adapter in _adapters().values()
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        [
            f"{entry['name']} {entry['version']}" + ("" if entry["enabled"] else " (not enabled)"),
            f"{entry['title']}",
            ", ".join([*adapter.acceptance.modalities, *adapter.acceptance.body_regions]),
            f"{entry['lora']}\non {entry['base']}",
            "; ".join(adapter.limitations),
        ]
        for entry, adapter in zip(found, _adapters().values(), strict=True)
    ]
    out().print(table("adapter", "title", "takes", "weights", "limitations", rows=rows))


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check that the weights of the enabled adapters are there and belong to their base model."""
    from models.engines import EngineError
    from models.weights import check_weights
    from worker.engine_setup import engine_config
    from worker.settings import SettingsError

    settings = read_settings(config)
    try:
        problems = check_weights(engine_config(settings))
    except (SettingsError, EngineError) as error:
        wrong_usage(str(error))
    if as_json:
        print_json({"engine": settings.engine.kind, "ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            typer.echo(f"error: {problem}", err=True)
    else:
        out().print(f"engine {settings.engine.kind}: all weights are in place", markup=False)
    if problems:
        raise typer.Exit(FAILED)


def _adapters() -> Mapping[str, AdapterDefinition]:
    from models.adapter import AdapterError, adapters

    try:
        return adapters()
    except AdapterError as error:
        wrong_usage(str(error))
