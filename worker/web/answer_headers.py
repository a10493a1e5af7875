"""The headers of every answer: what browsers may do with it, and that nobody keeps a copy.

Input: answers, seen from around the application. Output: the same with `HEADERS`, where they do not say otherwise.
Nothing fails here.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # To ourselves only; without any, browsers would not say which page a form comes from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # No page of another origin, such as another port of this host, may show our images. Where `web.cors_origins` lets
    # a viewer in, it asks with CORS, of which this says nothing.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # Pages hold patient data: no copy in the browser's or a proxy's cache.
    "Cache-Control": "no-store",
}


class AddHeaders:
    """Adds `HEADERS` to every answer. Plain ASGI: Starlette's base class ends an answer that broke off as if whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
