"""`settings`: the values in effect, and what can be set.

Input: the settings file and the environment. Output: the values (passwords hidden) as YAML or JSON, or the list of all
settings. Wrong settings end with exit code 2 and a message that names the setting and the file.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from worker.commands.console import ConfigOption, JsonOption, hide_password, out, print_json, read_settings, table


def settings(
    config: ConfigOption = None,
    help_all: Annotated[
        bool, typer.Option("--help-all", help="list every setting with default, unit and help")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="the same list as docs/settings.md")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the settings in effect, or list all there are."""
    if help_all or markdown:
        _print_reference(markdown=markdown, as_json=as_json)
        return
    values: dict[str, Any] = json.loads(read_settings(config).model_dump_json())
    for name in ("database_url", "broker_url"):
        values[name] = hide_password(values[name])
    if as_json:
        print_json(values)
        return
    import yaml

    typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), nl=False)


def _print_reference(*, markdown: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from worker.commands.settings_reference import as_markdown, setting_lines

    if markdown:
        typer.echo(as_markdown(), nl=False)
        return
    lines = setting_lines()
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    rows = [[line.name, line.default, line.unit, line.help] for line in lines]
    out().print(table("setting", "default", "unit", "meaning", rows=rows))
    out().print("Environment: dicom.port is DICOM_WORKER_DICOM__PORT, and so on.", markup=False)
