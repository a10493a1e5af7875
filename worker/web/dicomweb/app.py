"""The DICOMweb service as an application of its own, which the web application has below /dicom-web.

Input: settings and the database. Output: the application; `dicomweb.close()` of its state ends what it started. Pages
of other hosts may use it only where `web.cors_origins` names them. On failure of the database or the disk 503.
"""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, SQLAlchemyError

from dicom_node.spool import SpoolError
from worker.db.sessions import Database
from worker.roles import Role
from worker.settings import Settings
from worker.web.access import RefusedError, refusal, requires
from worker.web.dicomweb import pixels, qido, retrieve, store
from worker.web.dicomweb.service import DicomWeb

log = structlog.get_logger()


def create_dicomweb(settings: Settings, database: Database) -> FastAPI:
    """Return the DICOMweb application."""
    app = FastAPI(title="dicom-worker DICOMweb", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.dicomweb, app.state.database = DicomWeb(settings, database), database
    app.state.settings = settings
    for module in (qido, retrieve, pixels):
        app.include_router(module.router, dependencies=[requires(Role.VIEWER)])
    app.include_router(store.router, dependencies=[requires(Role.REVIEWER)])
    app.add_exception_handler(RefusedError, refusal)
    app.add_exception_handler(SQLAlchemyError, _failed)
    app.add_exception_handler(SpoolError, _failed)
    if settings.web.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.web.cors_origins,
            allow_methods=["GET", "POST", "OPTIONS"],
            allow_headers=["Accept", "Authorization", "Content-Type"],
            expose_headers=["Warning", "Content-Type"],
        )
    return app


async def _failed(_request: Request, error: Exception) -> Response:
    if isinstance(error, DataError):  # a text with NUL in it, say, which PostgreSQL keeps nowhere
        return JSONResponse({"detail": "a value that was sent cannot be looked for"}, status_code=400)
    log.error("the store cannot be used", action="dicomweb", error=str(error).splitlines()[0])
    return JSONResponse({"detail": "the store cannot be used just now; see the log"}, status_code=503)
