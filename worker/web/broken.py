"""What broke while a request was served -> an answer that says what to do, and nothing of what broke.

Input: an exception that nobody caught. Output: a page for a browser, JSON for a program. Neither holds a word of the
error, which may name a patient; the log has it. Nothing fails here.
"""

from __future__ import annotations

from typing import Final

import structlog
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy.exc import DataError
from starlette.concurrency import run_in_threadpool

from worker.web.access import is_browser
from worker.web.answer_headers import HEADERS
from worker.web.page import render

log = structlog.get_logger()

_BROKEN: Final = "something broke here; it is in the log"
_NO_DATABASE: Final = "the database cannot be read; see the log and `dicom-worker doctor`"
_ASK_AGAIN: Final = "The database cannot be reached just now. Load this page again in a moment."
#: The connection may have broken after the database had kept it.
_LOOK_FIRST: Final = (
    "The database cannot be reached just now, so nobody can say whether what you sent was kept. Look at it again before"
    " you send it once more: what was decided already is not decided twice."
)


async def database_failed(request: Request, error: Exception) -> Response:
    """Answer where the database refuses a value, or cannot be reached."""
    if isinstance(error, DataError):  # a text with NUL in it, say, which PostgreSQL keeps nowhere
        log.warning("value refused", action="serve", error=type(error.orig).__name__)
        return JSONResponse({"detail": "a value that was sent cannot be kept or looked for"}, status_code=400)
    log.error("database cannot be read", action="serve", error=str(error).splitlines()[0])
    if not is_browser(request):
        return JSONResponse({"detail": _NO_DATABASE}, status_code=503)
    message = _ASK_AGAIN if request.method == "GET" else _LOOK_FIRST
    return await run_in_threadpool(render, request, "message.html", {"title": "Not now", "message": message}, 503)


async def broken(request: Request, _error: Exception) -> Response:
    """Answer where there is an error in this software: by itself, for templates may be what broke."""
    if not is_browser(request):
        return JSONResponse({"detail": _BROKEN}, status_code=500, headers=HEADERS)
    page = f'<!doctype html><title>Broken</title><p>Sorry: {_BROKEN}. <a href="/">To the work list</a>'
    return HTMLResponse(page, status_code=500, headers=HEADERS)
