"""A server process of a test: found, started on a free port, waited for, and ended for certain.

Input: Debian's packages (`make test` installs them). Output: a running server with its log in a folder of its own.
A missing program is a `MissingProgramError` that names the package; a server that does not answer in time is a
`ServiceError` that shows the end of its log. Nothing outlives the test run: every server is the leader of its own
process group, which is ended by `stop`, and the kernel ends it if the test run is killed (PR_SET_PDEATHSIG, so `start`
belongs in the main thread: the signal comes when the *thread* that started it ends).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TextIO, TypeVar

LOCALHOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02


class ServiceError(AssertionError):
    """A server did not start, stop or answer as it should."""


class MissingProgramError(ServiceError):
    """A program that the tests need is not installed."""


def program(name: str, package: str) -> str:
    """Return the path of a system program, or say which Debian package brings it.

    The virtual environment's folder is left out: pynetdicom installs scripts there that are called `storescp`,
    `storescu` and `echoscu` too, and a test against those would be a test of pynetdicom against itself.
    """
    own = Path(sys.prefix, "bin").resolve() if sys.prefix != sys.base_prefix else None
    folders = [f for f in os.environ.get("PATH", os.defpath).split(os.pathsep) if f and Path(f).resolve() != own]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise MissingProgramError(f"{name} is not installed: apt-get install {package} (make test does it)")
    return found


def dcmtk(name: str) -> str:
    """Return the path of one of dcmtk's tools (storescu, dcmsend, echoscu, storescp, dcmdump, dsrdump, ...)."""
    return program(name, "dcmtk")


#: Ports that a running test run has given out are locked in it, each as the byte of its number (POSIX record locks,
#: which end with their process), for two test runs at once find the same ports free.
_PORTS_FILE = Path(tempfile.gettempdir(), f"dicom-worker-test-ports-{os.getuid()}")
_ports_given: set[int] = set()


def _reserve(port: int) -> bool:
    """Take a port for this process, for as long as it lives; False if a process has it."""
    if port in _ports_given:
        return False
    try:
        fcntl.lockf(_ports_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _ports_given.add(port)
    return True


@cache
def _ports_file() -> TextIO:
    return _PORTS_FILE.open("w")


def free_port() -> int:
    """Return a TCP port that nobody listens on and that no test run under way has given out before.

    It lies below the kernel's ephemeral range (from 32768), so no outgoing connection takes it before the server does.
    """
    for port in random.sample(range(20000, 32000), 200):
        if not _reserve(port):
            continue
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("", port))  # all interfaces: dcmtk and Orthanc listen there
            except OSError:
                continue
        return port
    raise ServiceError("no free TCP port between 20000 and 32000 in 200 tries")


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Call `condition` until it returns something true, and return that; `ServiceError` naming `what` in the end."""
    deadline = time.monotonic() + timeout_s
    while True:
        if outcome := condition():
            return outcome
        if time.monotonic() > deadline:
            raise ServiceError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


def answers_on(port: int) -> bool:
    """Return whether something accepts TCP connections on this port of this machine."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((LOCALHOST, port)) == 0


class Service:
    """One server process with its own process group, port and log file."""

    def __init__(
        self,
        argv: Sequence[str],
        directory: Path,
        port: int,
        *,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = list(argv)
        self.name = Path(self.argv[0]).name
        self.directory = directory
        self.port = port
        self.log = directory / f"{self.name}.log"
        self._user = user
        self._stop_signal = stop_signal
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server on the same port and folder as before, and wait until it is `ready`."""
        # The kernel forgets the parent-death signal when the user changes, so it comes after that.
        tied_to_us = [program("setpriv", "util-linux"), "--pdeathsig", self._stop_signal.name.removeprefix("SIG")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*as_user(self._user), *tied_to_us, *self.argv],
                cwd=self.directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._ready_or_dead, START_TIMEOUT_S, f"{self.name} ready on port {self.port}")
        except BaseException:
            self.stop()
            raise

    def ready(self) -> bool:
        """Return whether the server answers; subclasses ask more than for a TCP connection."""
        return answers_on(self.port)

    def _ready_or_dead(self) -> bool:
        if not self.running:
            raise ServiceError(f"{self.name} ended at once; its log {self.log} ends with:\n{self.log_tail()}")
        return self.ready()

    def stop(self) -> None:
        """End the whole process group: politely, and after ten seconds by force."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (self._stop_signal, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            try:
                process.wait(STOP_TIMEOUT_S)
                break
            except subprocess.TimeoutExpired:
                continue
        with contextlib.suppress(ProcessLookupError):  # children that the leader left behind
            os.killpg(process.pid, signal.SIGKILL)

    def log_tail(self, lines: int = 30) -> str:
        """Return the last lines of the server's log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def as_user(user: str | None) -> list[str]:
    """Return the words that make a command run as `user` (None: as we are)."""
    if user is None:
        return []
    return [program("setpriv", "util-linux"), f"--reuid={user}", f"--regid={user}", "--clear-groups"]


ServiceT = TypeVar("ServiceT", bound=Service)


@contextlib.contextmanager
def running(service: ServiceT) -> Iterator[ServiceT]:
    """Start a server and stop it in the end, whatever happens in between."""
    try:
        service.start()
        yield service
    finally:
        service.stop()
