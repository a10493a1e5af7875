"""`run`: the daemon, whole or some of its roles; with `--profile demo` also something to look at.

Input: roles, settings. Output: a daemon that runs until SIGTERM or Ctrl-C. Settings that cannot work (a port that is
taken, weights that are missing) end with exit code 2 and the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.console import ConfigOption, fail, hide_password, out, read_settings, wrong_usage

if TYPE_CHECKING:
    from worker.children import Child
    from worker.settings import Settings


class Role(StrEnum):
    """A part of the daemon that can run on a machine of its own."""

    #: Receives images.
    NODE = "node"
    #: Runs the models, writes results and sends them.
    WORKER = "worker"
    #: Rings for waiting work and rescues what died.
    DISPATCHER = "dispatcher"
    #: Serves the pages.
    WEB = "web"


class Profile(StrEnum):
    """Settings that come with the software."""

    #: The stand-in model, a PACS of its own, demo studies.
    DEMO = "demo"


def run(
    roles: Annotated[
        list[Role] | None, typer.Argument(metavar="[ROLE]...", help="node, worker, dispatcher, web; none means all")
    ] = None,
    config: ConfigOption = None,
    profile: Annotated[
        Profile | None, typer.Option(help="demo: everything on this machine, with studies to look at")
    ] = None,
    exit_after_demo: Annotated[
        bool, typer.Option("--exit-after-demo", help="with --profile demo: end after the table")
    ] = False,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    if exit_after_demo and profile is not Profile.DEMO:
        wrong_usage("--exit-after-demo belongs to --profile demo")
    if profile is Profile.DEMO and roles:
        wrong_usage("the demo runs all roles: leave the roles out")
    try:
        code = _run_demo(config, exit_after_demo) if profile is Profile.DEMO else _run_roles(config, roles or [])
    except _configuration_errors() as error:
        wrong_usage(str(error))
    raise typer.Exit(code)


def _configuration_errors() -> tuple[type[Exception], ...]:
    """Return what only a person can mend; looked up when something was raised, for their imports take half a second."""
    from models.adapter import AdapterError
    from models.engines import EngineError
    from models.weights import WeightsError
    from worker.settings import SettingsError

    return SettingsError, WeightsError, EngineError, AdapterError


def _run_demo(config: Path | None, exit_afterwards: bool) -> int:
    from worker.demo.run import run_demo

    return run_demo(config, out(), exit_afterwards=exit_afterwards)


def _run_roles(config: Path | None, roles: list[Role]) -> int:
    settings = read_settings(config)
    from worker.children import children_of

    # What follows is imported while the children import theirs.
    with children_of([role.value for role in roles]) as children:
        return _supervise(settings, children)


def _supervise(settings: Settings, children: Sequence[Child]) -> int:
    from sqlalchemy.exc import SQLAlchemyError

    from worker import supervisor

    try:
        show = _show_password if sys.stdout.isatty() else None  # what is no terminal may be a log file
        return supervisor.run(settings, children, show_password=show)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        fail(f"the database {hide_password(settings.resolved_database_url)} cannot be used: {reason}")
    except OSError as error:
        fail(f"data_dir {settings.data_dir}: {error.strerror or error}")


def _show_password(login: str, password: str) -> None:
    """Show the first user's password on the terminal: once, and nowhere else."""
    typer.echo(f"\nLog in at the pages as {login} with the password {password}")
    typer.echo("It is shown this once and has to be changed at the first log-in. Others: dicom-worker users add\n")
