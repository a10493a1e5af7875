"""An address that leads nowhere, or a way of asking that it does not know -> an answer that says what to do next.

Input: Starlette's `HTTPException`. Output: its status; for a browser a page with ways on, for a program JSON as ever.
Nothing fails here.
"""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.exception_handlers import http_exception_handler
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from worker.web.access import is_browser
from worker.web.page import render

_NO_PAGE = (
    "There is no page at this address. It may have been typed wrongly, or lead to something that is not kept any more."
)


async def tell_missing(request: Request, error: Exception) -> Response:
    """Answer a request that no page and no route takes."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code != 404 or not is_browser(request) or request.url.path.startswith("/api/"):
        return await http_exception_handler(request, error)
    words = _NO_PAGE if error.detail == "Not Found" else f"{error.detail[:1].upper()}{error.detail[1:]}."
    context = {"title": "Not found", "message": words}
    return await run_in_threadpool(render, request, "message.html", context, error.status_code)
