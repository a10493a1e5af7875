"""Is it alive, can it work, how much is there: /healthz, /readyz and /metrics, for machines that watch.

Input: the database and data_dir. Output: 200 or 503 with what is wrong; Prometheus text. On failure of the database
/readyz and /metrics answer 503, /healthz still answers 200: restarting the web process would not mend it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy.exc import SQLAlchemyError

from worker.db.schema import is_current
from worker.db.sessions import Database
from worker.roles import Role
from worker.web.access import requires
from worker.web.metrics import LedgerCollector

log = structlog.get_logger()
router = APIRouter(tags=["probes"])


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """Answer that the web process is alive."""
    return "ok\n"


@router.get("/readyz")
def readyz(request: Request) -> JSONResponse:
    """Answer whether work can be taken: database at this version's schema, data_dir writable."""
    checks = {
        "database": _database_trouble(request.app.state.database),
        "data_dir": _folder_trouble(request.app.state.settings.data_dir),
    }
    troubles = {name: trouble for name, trouble in checks.items() if trouble}
    return JSONResponse({"ready": not troubles, "troubles": troubles}, status_code=503 if troubles else 200)


@router.get("/metrics", response_class=PlainTextResponse, dependencies=[requires(Role.VIEWER, open_here=True)])
def metrics(request: Request) -> Response:
    """Answer with what the database holds, in Prometheus' text format; to others than this machine with a token."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(request.app.state.database))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _database_trouble(database: Database) -> str | None:
    try:
        return None if is_current(database) else "the schema is of another version: run `dicom-worker db upgrade`"
    except SQLAlchemyError as error:
        # Everybody may ask this; the error names machines and users.
        log.warning("database cannot be reached", action="serve", error=str(error).splitlines()[0])
        return "cannot be reached; see the log and `dicom-worker doctor`"


def _folder_trouble(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}"
