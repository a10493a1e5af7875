"""`conformance`: the DICOM conformance statement of this installation.

Input: the settings file and the environment. Output: Markdown; with `--defaults` that of the default settings, which is
docs/conformance.md. Wrong settings end with exit code 2 and a message that names the setting and the file.
"""

from __future__ import annotations

from typing import Annotated

import typer

from worker.commands.console import ConfigOption, read_settings


def conformance(
    config: ConfigOption = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="with the default settings: docs/conformance.md")
    ] = False,
) -> None:
    """Print the DICOM conformance statement (Markdown), as this node negotiates."""
    from worker.conformance.statement import as_markdown
    from worker.settings import Settings

    settings = Settings.model_construct() if defaults else read_settings(config)
    typer.echo(as_markdown(settings), nl=False)
