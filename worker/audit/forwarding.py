"""The audit files -> a log server, by syslog over TLS with octet counting (RFC 5425 4.3.1).

Input: the files, and beside them the place up to which everything was sent. Output: the messages, in their order, each
at least once. A server that is down loses nothing and holds nobody up: the files are the queue, and what was sent last
is sent again where the connection did not end well. Syslog has no acknowledgement: what a server's machine has taken
off the wire counts as received.
"""

from __future__ import annotations

import fcntl
import json
import socket
import ssl
import struct
import termios
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from worker.audit import trail
from worker.audit_settings import SyslogSettings

log = structlog.get_logger()

#: Beside the audit files: how far they were sent.
PLACE_FILE: Final = "sent.json"
_BATCH_BYTES: Final = 1 << 18
_LOOK_EVERY_S: Final = 0.5
_TIMEOUT_S: Final = 10.0
_RETRY_AFTER_S, _RETRY_AT_MOST_S = 1.0, 60.0
#: Time in which a server that has just gone would tell so.
_SETTLE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Place:
    """How far everything was sent."""

    file: str = ""
    offset: int = 0


class Forwarder:
    """Sends what is in the audit files, in a thread of its own."""

    def __init__(self, folder: Path, server: SyslogSettings) -> None:
        """Nothing is sent before `start`."""
        self._folder, self._server = folder, server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._connection: ssl.SSLSocket | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send what is there, if the server takes it in time, and end."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s, is_down = _RETRY_AFTER_S, False
        while True:
            last_round = self._stop.is_set()
            try:
                while self._send_some():
                    pass
            except (OSError, ValueError) as error:
                self._hang_up()
                if not is_down:
                    log.error(
                        "the log server cannot be reached; audit messages wait in their files",
                        action="audit",
                        server=f"{self._server.host}:{self._server.port}",
                        reason=str(error),
                    )
                is_down = True
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _RETRY_AT_MOST_S)
            else:
                if is_down:
                    log.info("the log server takes audit messages again", action="audit")
                pause_s, is_down = _RETRY_AFTER_S, False
                self._stop.wait(_LOOK_EVERY_S)
            if last_round:
                self._hang_up()
                return

    def _send_some(self) -> bool:
        """Send one batch; return whether there may be more. Raises `OSError` where it did not arrive."""
        place = self._read_place()
        lines, after = self._next_lines(place)
        if lines:
            if self._connection is None:
                self._connection = self._connect()
            self._check(self._connection)
            self._connection.sendall(b"".join(b"%d %s" % (len(line), line) for line in lines))
            self._await_receipt(self._connection)
        if after != place:
            self._write_place(after)
        return after != place

    def _next_lines(self, place: _Place) -> tuple[list[bytes], _Place]:
        """Return whole lines from a place on, and the place behind them."""
        for path in trail.files(self._folder):
            # A file that was moved away was sent before, or it is lost here: the first behind it is the next.
            if trail.comes_before(path.name, place.file):
                continue
            offset = place.offset if path.name == place.file else 0
            with path.open("rb") as file:
                file.seek(offset)
                piece = file.read(_BATCH_BYTES)
                while piece and b"\n" not in piece and (more := file.read(_BATCH_BYTES)):
                    piece += more
            whole = piece[: piece.rfind(b"\n") + 1]
            if whole:
                return whole.splitlines(), _Place(path.name, offset + len(whole))
        return [], place

    def _connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self._server.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._server.certificate is not None:
            context.load_cert_chain(self._server.certificate, self._server.key)
        plain = socket.create_connection((self._server.host, self._server.port), _TIMEOUT_S)
        try:
            return context.wrap_socket(plain, server_hostname=self._server.host)
        except BaseException:
            plain.close()
            raise

    def _await_receipt(self, connection: ssl.SSLSocket) -> None:
        """Wait until the server's machine has taken everything off the wire. Raises `OSError`."""
        deadline = time.monotonic() + _TIMEOUT_S
        while _unacknowledged(connection):
            if time.monotonic() > deadline:
                raise TimeoutError("the server takes nothing any more")
            time.sleep(_SETTLE_S / 10)
        time.sleep(_SETTLE_S)
        self._check(connection)

    def _check(self, connection: ssl.SSLSocket) -> None:
        """Raise `OSError` where the server has hung up; it has nothing to say otherwise."""
        connection.settimeout(0)
        try:
            while connection.recv(4096):
                pass
            raise ConnectionError("the server closed the connection")
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        finally:
            connection.settimeout(_TIMEOUT_S)

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None

    def _read_place(self) -> _Place:
        try:
            kept = json.loads(self._place_file.read_text(encoding="utf-8"))
            return _Place(str(kept["file"]), int(kept["offset"]))
        except FileNotFoundError:
            return _Place()

    def _write_place(self, place: _Place) -> None:
        new = self._place_file.with_suffix(".new")
        new.write_text(json.dumps({"file": place.file, "offset": place.offset}), encoding="utf-8")
        new.replace(self._place_file)

    @property
    def _place_file(self) -> Path:
        return self._folder / PLACE_FILE


def _unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes the peer's TCP has not acknowledged (Linux tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
