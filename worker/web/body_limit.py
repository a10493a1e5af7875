"""No request fills the memory: bodies have a longest length, before anybody asks who sends them.

Input: requests, seen from around the application, which reads forms and JSON before it knows the caller. Output: the
same requests; one that is too long is answered 413, however it says its length. Who is not logged in may send no more
than a log-in takes. Instances for STOW-RS are not held in memory and have a limit of their own
(`web.largest_instance_mib`).
"""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.web.access import identify

#: The longest form is that of rules to try (`worker.operations.rules.LONGEST_TEXT`), each character up to 12 bytes.
LONGEST_BYTES: Final = 4 * 2**20
#: From whom is not known: many connections at once must not hold much.
LONGEST_OF_STRANGERS: Final = 2**16
_TOO_LONG: Final = f"the body is longer than {LONGEST_BYTES} bytes"
_TOO_LONG_FOR_STRANGERS: Final = f"a body longer than {LONGEST_OF_STRANGERS} bytes is read only after a log-in"


class LimitsBodies:
    """Ends requests with a longer body. Plain ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or _is_stow(scope):
            await self._app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        length = int(said[:20]) if said.isascii() and said.isdigit() else 0
        if refused := await _why_not(scope, length):
            await JSONResponse({"detail": refused}, status_code=413)(scope, receive, send)
            return
        taken, allowed = 0, max(length, LONGEST_OF_STRANGERS)

        async def receive_some() -> Message:
            nonlocal taken, allowed
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > allowed:  # it is sent in chunks, which say no length
                if refused := await _why_not(scope, taken):
                    raise HTTPException(413, refused, {"Connection": "close"})
                allowed = LONGEST_BYTES
            return message

        await self._app(scope, receive_some, send)


async def _why_not(scope: Scope, length: int) -> str:
    """Say why so many bytes are not taken; empty where they are."""
    if length > LONGEST_BYTES:
        return _TOO_LONG
    if length <= LONGEST_OF_STRANGERS:
        return ""
    return "" if await run_in_threadpool(identify, Request(scope)) is not None else _TOO_LONG_FOR_STRANGERS


def _is_stow(scope: Scope) -> bool:
    """Whether a body is instances, which are read after it is known who sends them."""
    path: str = scope["path"]
    return path.startswith("/dicom-web/") and Headers(scope=scope).get("content-type", "").startswith(
        "multipart/related"
    )
