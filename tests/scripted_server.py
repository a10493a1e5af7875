"""An HTTP server of another system, which answers as a test tells it to and keeps what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.services.process import LOCALHOST

Answer = tuple[int, object]


@dataclass
class ScriptedServer:
    """Answers (status, body) in turn, the last one again and again; None closes the connection without an answer."""

    answers: list[Answer | None]
    #: Without a path.
    url: str = ""
    port: int = 0
    #: "POST /path" for each request, with its headers and body.
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def answer(self) -> Answer | None:
        """Return the next answer."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _handler(state: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            state.requests.append(f"{self.command} {self.path}")
            state.headers.append(dict(self.headers))
            state.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            answer = state.answer()
            self.close_connection = True
            if answer is None:
                return
            content = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _reply

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def scripted_server(
    *answers: Answer | None, tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[ScriptedServer]:
    """Run the server on a port of its own, or the one that is named."""
    state = ScriptedServer(list(answers))
    with HTTPServer((LOCALHOST, port), _handler(state)) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        state.port = server.server_port
        state.url = f"{'https' if tls else 'http'}://{LOCALHOST}:{server.server_port}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
