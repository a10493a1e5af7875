"""No request fills the memory: bodies have a longest length, before anybody asks who sends them.

Input: requests, seen from around the application, which reads forms and JSON before it knows the caller. Output: the
same requests; one that is too long is answered 413, however it says its length. Instances for STOW-RS are not held in
memory and have a limit of their own (`web.largest_instance_mib`).
"""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The longest form is that of rules to try (`worker.operations.rules.LONGEST_TEXT`), each character up to 12 bytes.
LONGEST_BYTES: Final = 4 * 2**20
_TOO_LONG: Final = f"the body is longer than {LONGEST_BYTES} bytes"


class LimitsBodies:
    """Ends requests with a longer body. Plain ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or _is_stow(scope):
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > LONGEST_BYTES:
            await JSONResponse({"detail": _TOO_LONG}, status_code=413)(scope, receive, send)
            return
        taken = 0

        async def receive_some() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LONGEST_BYTES:
                raise HTTPException(413, _TOO_LONG, {"Connection": "close"})
            return message

        await self._app(scope, receive_some, send)


def _is_stow(scope: Scope) -> bool:
    """Whether a body is instances, which are read after it is known who sends them."""
    path: str = scope["path"]
    return path.startswith("/dicom-web/") and Headers(scope=scope).get("content-type", "").startswith(
        "multipart/related"
    )
