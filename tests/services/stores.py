"""Redis and PostgreSQL for tests, on this machine only and without durability."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import redis

from tests.services.process import LOCALHOST, Service, ServiceError, as_user, free_port, program


class RedisServer(Service):
    """redis-server that keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        keep_nothing = ["--save", "", "--appendonly", "no"]
        where = ["--bind", LOCALHOST, "--port", str(port), "--dir", str(directory), "--daemonize", "no"]
        super().__init__([program("redis-server", "redis-server"), *where, *keep_nothing], directory, port)
        self.url = f"redis://{LOCALHOST}:{port}/0"

    def ready(self) -> bool:
        """Return whether it answers a PING."""
        try:
            with redis.Redis(host=LOCALHOST, port=self.port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def clear(self) -> None:
        """Delete every key."""
        with redis.Redis(host=LOCALHOST, port=self.port) as client:
            client.flushall()


class PostgresServer(Service):
    """PostgreSQL with a cluster of its own, as the user `postgres` when we are root (it refuses to run as root)."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        user = "postgres" if os.geteuid() == 0 else None
        self._cluster = directory / "cluster"
        if user:
            shutil.chown(directory, user, user)
        no_durability = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        where = ["-c", f"listen_addresses={LOCALHOST}", "-c", f"unix_socket_directories={directory}", "-p", str(port)]
        argv = [
            postgres_program("postgres"),
            "-D",
            str(self._cluster),
            *where,
            *no_durability,
            "-c",
            "max_connections=200",
        ]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients that a failed test left connected.
        super().__init__(argv, directory, port, user=user, stop_signal=signal.SIGINT)
        self._databases = 0

    def start(self) -> None:
        """Make the cluster if there is none, and start the server."""
        if not self._cluster.exists():
            initdb = [postgres_program("initdb"), "-D", str(self._cluster), "-U", "tests", "-A", "trust", "-N"]
            done = subprocess.run(
                [*as_user(self._user), *initdb, "-E", "UTF8", "--locale=C"],
                cwd=self.directory,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise ServiceError(f"initdb failed: {done.stderr or done.stdout}")
        super().start()

    def ready(self) -> bool:
        """Return whether it answers a query."""
        try:
            self._execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._address("postgres"), autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement.encode())

    def _address(self, database: str) -> str:
        return f"postgresql://tests@{LOCALHOST}:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database and return its SQLAlchemy URL (postgresql+psycopg://...)."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._execute(f'CREATE DATABASE "{name}"')
        return self._address(name).replace("postgresql:", "postgresql+psycopg:")

    def drop_database(self, url: str) -> None:
        """Drop a database made by `new_database`, whoever is still connected."""
        self._execute(f'DROP DATABASE IF EXISTS "{url.rsplit("/", 1)[1]}" WITH (FORCE)')


def postgres_program(name: str) -> str:
    """Return the path of a PostgreSQL server program: Debian keeps them out of PATH, one folder per version."""
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    return str(newest) if newest else program(name, "postgresql")
