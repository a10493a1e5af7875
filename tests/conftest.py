"""Fixtures for all tests: real services on this machine, and no network beyond it.

A server is started once in a test run, when the first test asks for it; what a test leaves in it is cleared before the
next one. A test that needs a peer to be away uses `stop()` and `start()` of its fixture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests import localhost_only, services
from tests.logging_state import logging_as_before

# Nothing may ask a model hub, here or in a process that a test starts.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
# Two cores, many processes: threads that wait for one another take the CPU from those they wait for. On a busy machine
# the stand-in's tests took three times the CPU with two threads. Now, before a test's module imports torch, which reads
# them once.
FEW_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
os.environ.update(FEW_THREADS)


@pytest.fixture(scope="session", autouse=True)
def this_machine_only() -> Iterator[None]:
    """Refuse connections and name look-ups beyond this machine, in this process and (for model hubs) its children."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in OFFLINE.items():
            monkeypatch.setenv(name, value)
        localhost_only.refuse_other_hosts(monkeypatch)
        yield


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Undo what a command does to logging: it writes to a standard error that is gone after the test."""
    with logging_as_before():
        yield


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder with a short path that any user can enter (pytest's own are closed to others, PostgreSQL is one)."""
    path = Path(tempfile.mkdtemp(prefix=f"dicom-worker-{name}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _serving(kind: Callable[[Path], services.ServiceT], name: str) -> Iterator[services.ServiceT]:
    with _folder(name) as directory, services.running(kind(directory)) as service:
        yield service


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that returns a TCP port nobody listens on."""
    return services.free_port


@pytest.fixture(scope="session")
def redis_server() -> Iterator[services.RedisServer]:
    """A running redis-server."""
    with _serving(services.RedisServer, "redis") as server:
        yield server


@pytest.fixture
def redis_url(redis_server: services.RedisServer) -> str:
    """The URL of an empty Redis database."""
    _up(redis_server).clear()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[services.PostgresServer]:
    """A running PostgreSQL; `new_database()` for a test that needs more than `postgres_url`."""
    with _serving(services.PostgresServer, "postgres") as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: services.PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database of this test's own."""
    url = _up(postgres_server).new_database()
    yield url
    _up(postgres_server).drop_database(url)


@pytest.fixture(scope="session")
def orthanc_server() -> Iterator[services.Orthanc]:
    """A running Orthanc."""
    with _serving(services.Orthanc, "orthanc") as server:
        yield server
    server.close()


@pytest.fixture
def orthanc(orthanc_server: services.Orthanc) -> services.Orthanc:
    """A running, empty Orthanc."""
    _up(orthanc_server).clear()
    return orthanc_server


@pytest.fixture
def storescp() -> Iterator[services.StoreScp]:
    """A running storescp of dcmtk with an empty folder of its own."""
    with _serving(services.StoreScp, "storescp") as server:
        yield server


@pytest.fixture
def service_folder() -> Callable[[str], AbstractContextManager[Path]]:
    """A function that opens a folder for a server that runs as another user."""
    return _folder


def _up(server: services.ServiceT) -> services.ServiceT:
    """Start a server that an earlier test stopped."""
    if not server.running:
        server.start()
    return server
