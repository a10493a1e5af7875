"""`doctor`: is everything in place on this machine, and if not, what to do.

Input: the settings. Output: one line per check, or JSON. Exit code 0 when nothing failed (remarks do not count), 1 when
something did, 2 when the settings themselves are wrong. It changes nothing and sends no images: destinations get a
C-ECHO or what their kind has in its place.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from worker.commands.console import FAILED, ConfigOption, JsonOption, hide_password, out, print_json, read_settings

if TYPE_CHECKING:
    from worker.settings import Settings

TIMEOUT_S = 5.0
OK, REMARK, TROUBLE = "ok", "remark", "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    #: "ok", "remark" or "failed".
    state: str
    message: str


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check settings, folders, database, broker, ports, weights and destinations."""
    settings = read_settings(config)
    findings = [finding for check in CHECKS for finding in check(settings)]
    if as_json:
        healthy = all(finding.state != TROUBLE for finding in findings)
        print_json({"ok": healthy, "checks": [asdict(finding) for finding in findings]})
    else:
        styles = {OK: "green", REMARK: "yellow", TROUBLE: "bold red"}
        for finding in findings:
            mark = Text(f"{finding.state:<7}", styles[finding.state])
            out().print(Text.assemble(mark, f" {finding.check}: {finding.message}"))
    if any(finding.state == TROUBLE for finding in findings):
        raise typer.Exit(FAILED)


def _data_dir(settings: Settings) -> Iterator[Finding]:
    """Write and flush a file: C-STORE answers success only after the same."""
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"doctor")
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("data_dir", TROUBLE, f"{folder} cannot be written: {error.strerror}; mend it or change data_dir")
        return
    room = f"{free / (1 << 30):.1f} GiB free"
    if free < settings.disk.keep_free_bytes:
        kept = f"{settings.disk.keep_free_gib:g} GiB (disk.keep_free_gib)"
        yield Finding("data_dir", TROUBLE, f"{folder}: {room}, images are refused below {kept}; make room")
        return
    state = OK if free >= settings.disk.warn_below_bytes else REMARK
    yield Finding("data_dir", state, f"{folder} can be written, {room}")


def _database(settings: Settings) -> Iterator[Finding]:
    from sqlalchemy.exc import SQLAlchemyError

    from worker.db.schema import is_current
    from worker.db.sessions import Database

    url = settings.resolved_database_url
    shown = hide_password(url)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        yield Finding("database", REMARK, f"{shown} is not there yet: `run` or `db upgrade` makes it")
        return
    database = Database(url)
    try:
        current = is_current(database)
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        yield Finding("database", TROUBLE, f"{shown} cannot be reached: {reason}")
        return
    finally:
        database.close()
    if current:
        yield Finding("database", OK, f"{shown} has this version's schema")
    else:
        yield Finding("database", TROUBLE, f"{shown} has another version's schema: run `dicom-worker db upgrade`")


def _broker(settings: Settings) -> Iterator[Finding]:
    from worker.celery_app import make_celery
    from worker.settings import SettingsError

    shown = hide_password(settings.broker_url)
    try:
        connection = make_celery(settings).connection_for_write(connect_timeout=TIMEOUT_S)
        connection.ensure_connection(max_retries=1, timeout=TIMEOUT_S)
        connection.release()
    except SettingsError as error:
        yield Finding("broker", TROUBLE, str(error))
    except Exception as error:  # noqa: BLE001 - each broker has its own errors; all mean that it cannot be reached
        yield Finding("broker", TROUBLE, f"{shown} cannot be reached: {error}")
    else:
        yield Finding("broker", OK, f"{shown} can be reached")


def _dicom_port(settings: Settings) -> Iterator[Finding]:
    from dicom_node.scu import EchoError, c_echo
    from dicom_node.tls import TlsError
    from worker.commands.network import peer_of
    from worker.settings import DicomDestination

    bind, port = settings.dicom.bind, settings.dicom.port
    trouble = _listening_trouble(bind, port)
    if trouble is None:
        yield Finding("dicom port", OK, f"{bind}:{port} is free")
        return
    title = settings.dicom.ae_title
    here = DicomDestination(
        name="here", ae_title=title, host=_reached_at(bind), port=port, tls=settings.dicom.tls is not None
    )
    try:
        c_echo(peer_of(here, settings), calling_ae_title=title)
    except (EchoError, TlsError) as error:
        yield Finding("dicom port", TROUBLE, f"{bind}:{port}: {trouble}, and no node answers there: {error}")
    else:
        yield Finding("dicom port", OK, f"{settings.dicom.ae_title} answers on {bind}:{port}")


def _web_port(settings: Settings) -> Iterator[Finding]:
    bind, port = settings.web.bind, settings.web.port
    trouble = _listening_trouble(bind, port)
    if trouble is None:
        yield Finding("web port", OK, f"{bind}:{port} is free")
        return
    try:
        with urllib.request.urlopen(f"http://{_reached_at(bind)}:{port}/readyz", timeout=TIMEOUT_S):
            yield Finding("web port", OK, f"the pages are served on {bind}:{port}")
    except urllib.error.HTTPError as error:
        yield Finding(
            "web port", TROUBLE, f"{bind}:{port} answers {error.code}: {error.read(300).decode(errors='replace')}"
        )
    except OSError as error:
        yield Finding("web port", TROUBLE, f"{bind}:{port}: {trouble}, and no pages are served there: {error}")


def _engine(settings: Settings) -> Iterator[Finding]:
    from models.adapter import AdapterError
    from models.weights_inspection import check_weights
    from worker.engine_setup import engine_config
    from worker.settings import SettingsError

    try:
        problems = check_weights(engine_config(settings))
    except (SettingsError, AdapterError) as error:
        yield Finding("weights", TROUBLE, str(error))
        return
    for problem in problems:
        yield Finding("weights", TROUBLE, problem)
    if settings.engine.kind == "standin":
        yield Finding("weights", REMARK, "the stand-in answers: its results mean nothing")
    elif not problems:
        yield Finding("weights", OK, f"all weights for engine {settings.engine.kind} are in place")


def _destinations(settings: Settings) -> Iterator[Finding]:
    from worker.channels import UnreachableError, channel_of

    if not settings.destinations:
        yield Finding("destinations", REMARK, "none: results are written but sent nowhere")
    for destination in settings.destinations:
        name = f"destination {destination.name}"
        try:
            channel_of(destination).check(settings, destination)
        except UnreachableError as error:
            yield Finding(name, TROUBLE, f"{destination.address} does not answer: {error}")
        else:
            yield Finding(name, OK, f"{destination.address} answers")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    *(_data_dir, _database, _broker, _dicom_port, _web_port, _engine, _destinations),
)


def _listening_trouble(bind: str, port: int) -> str | None:
    """Return why nobody could start listening there now; None where it is free."""
    try:
        with socket.create_server((bind, port), family=socket.AF_INET6 if ":" in bind else socket.AF_INET):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _reached_at(bind: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared, not bound
