"""Settings -> the web application, and the process that serves it.

Input: HTTP requests; the database says what there is to show. Output: pages, read-only JSON, probes and metrics.
Every route says who may ask (`worker.web.access`); one that does not ends the start. On failure: `SettingsError` where
the port cannot be had; a page whose data cannot be read answers 503 with the reason.
"""

from __future__ import annotations

import errno
import gc
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

import worker
from worker.audit.trail import AuditTrail
from worker.db.sessions import Database
from worker.people.oidc import Provider
from worker.settings import Settings, SettingsError
from worker.web import (
    access,
    account,
    api,
    api_events,
    api_operations,
    api_people,
    api_review,
    auditing,
    case,
    decisions,
    login,
    pages,
    people,
    probes,
    provider,
    worklist,
)
from worker.web.answer_headers import AddHeaders
from worker.web.api_document import describe_security
from worker.web.body_limit import LimitsBodies
from worker.web.broken import broken, database_failed
from worker.web.connections import Connection
from worker.web.dicomweb.app import create_dicomweb
from worker.web.invalid import tell_invalid
from worker.web.missing import tell_missing
from worker.web.operations import pages as operations_pages
from worker.web.operations import routes as operations_routes
from worker.web.operations.parts import prepare
from worker.web.viewer import routes as viewer
from worker.web.viewer.store import FrameStore
from worker.web_settings import is_local

log = structlog.get_logger()

#: Objects more than were freed after which Python looks for garbage; of itself it does so after 700.
GARBAGE_AT_LEAST = 20_000
#: Names under which a page bound to this machine is asked for; any other is another site's doing (DNS rebinding).
LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]
#: Longest time that a process outlives the supervisor that was killed above it.
PORT_HELD_AT_MOST_S = 10.0
#: Open to whoever reaches the port: they tell nothing of any patient.
OPEN_TO_ALL = frozenset(
    {"/healthz", "/readyz", "/static", "/login", "/login/provider", "/login/back", "/api/openapi.json"}
)


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its database connections close with it."""
    database = Database(settings.resolved_database_url)
    dicomweb = create_dicomweb(settings, database)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        dicomweb.state.dicomweb.close()
        app.state.frames.close()
        app.state.replays.close()
        database.close()

    app = FastAPI(
        title="dicom-worker",
        version=worker.__version__,
        description="The ledger. Nothing here is a diagnosis. Show a token: Authorization: Bearer ...",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,  # its page would load scripts from another host
        redoc_url=None,
    )
    app.state.settings, app.state.database = settings, database
    app.state.audit, app.state.told = AuditTrail(settings), auditing.Told(settings.audit.repeat_after_s)
    app.state.provider = None if settings.web.oidc is None else Provider(settings.web.oidc)
    app.state.frames = FrameStore(settings.rendering)
    app.include_router(probes.router)
    prepare(app)
    for part in (api, api_operations, api_review, api_people, api_events):
        app.include_router(part.router)
    describe_security(app)
    for module in (login, provider, account, people, worklist, decisions, case, pages):
        app.include_router(module.router)
    for module in (operations_pages, operations_routes):
        app.include_router(module.router)
    app.include_router(viewer.router)
    app.mount("/dicom-web", dicomweb)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_exception_handler(SQLAlchemyError, database_failed)
    app.add_exception_handler(access.RefusedError, access.refusal)
    app.add_exception_handler(RequestValidationError, tell_invalid)
    app.add_exception_handler(HTTPException, tell_missing)
    app.add_exception_handler(Exception, broken)
    app.add_middleware(auditing.Audits, trail=app.state.audit, database=database, told=app.state.told)
    app.add_middleware(LimitsBodies)
    if is_local(settings.web.bind):
        # A proxy on this machine may pass on the name that it was asked for.
        public = urlsplit(settings.web.public_url).hostname
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_NAMES, *([public] if public else [])])
    app.add_middleware(AddHeaders)  # outermost, for every answer
    if forgotten := access.undeclared(app, OPEN_TO_ALL):
        raise RuntimeError(f"routes that do not say who may see them: {', '.join(forgotten)}")
    if forgotten := auditing.unaudited(app):
        raise RuntimeError(f"routes whose audit message nobody has thought of: {', '.join(forgotten)}")
    return app


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished within `grace_s`.

    Raises:
        SettingsError: `web.bind` and `web.port` cannot be listened on.
    """
    if not (is_local(settings.web.bind) or settings.web.public_url.startswith("https://")):
        log.warning(
            "the pages are served beyond this machine without https: passwords and patient data can be read on the way;"
            " put a proxy with https before them and name it in web.public_url, or set web.bind to 127.0.0.1",
            action="serve",
            bind=settings.web.bind,
            port=settings.web.port,
        )
    server, listener = server_of(settings), listen(settings)
    spare_the_collector()
    # Until uvicorn listens to signals itself none may be lost: who holds the port must end when it is told to. It also
    # raises the one that stopped it once more when it is done; by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    log.info("pages are served", action="serve", url=settings.web.address)
    server.run(sockets=[listener])


def spare_the_collector() -> None:
    """Let Python's garbage collector leave alone what is loaded for good, and look less often.

    A page makes thousands of objects and frees them at once; looking through all others now and then made some wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AT_LEAST, 10, 10)


def server_of(settings: Settings) -> Server:
    """Return the server of the application, which waits for no client for ever."""
    return Server(
        uvicorn.Config(
            create_app(settings),
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.web.proxies,
            timeout_graceful_shutdown=max(1, int(settings.grace_s)),
        )
    )


class Server(uvicorn.Server):
    """Ends the streams of events first: they would keep it from ending until `grace_s` is over."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way, and end."""
        app: FastAPI = self.config.app  # type: ignore[assignment]
        app.state.feed.end()
        await super().shutdown(sockets)


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket; wait a little for a port that a killed daemon's process is about to give up.

    Raises:
        SettingsError: `web.bind` and `web.port` cannot be listened on.
    """
    bind, port = settings.web.bind, settings.web.port
    give_up_at = time.monotonic() + PORT_HELD_AT_MOST_S
    while True:
        try:
            family = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((bind, port), family=family, reuse_port=False)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < give_up_at:
                time.sleep(0.1)
                continue
            raise SettingsError(
                f"web.bind {bind}, web.port {port}: cannot listen there: {error.strerror or error}; "
                "choose another web.port"
            ) from None
