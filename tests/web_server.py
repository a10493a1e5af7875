"""The web application on a real port of this machine, in this process, for clients that bring their own HTTP."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from dicomweb_client.api import DICOMwebClient

from tests.services.process import LOCALHOST, free_port, wait_until
from worker.db.schema import upgrade
from worker.db.sessions import Database
from worker.settings import Settings, load_settings
from worker.web.app import server_of


class WebServer:
    """A served application with its settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://{LOCALHOST}:{settings.web.port}"
        self.dicomweb_url = f"{self.url}/dicom-web"
        self.database = Database(settings.resolved_database_url)

    def client(self) -> DICOMwebClient:
        """dicomweb-client, which knows nothing of us."""
        return DICOMwebClient(self.dicomweb_url)


def web_settings(folder: Path, database_url: str = "", **web: object) -> Settings:
    """Settings with an empty SQLite database in `folder`, or the database that is named; no log-in unless asked for."""
    pages = {"port": free_port(), "login": "off", **web}
    values = {"data_dir": str(folder / "data"), "web": pages, "engine": {"kind": "standin"}}
    settings = load_settings(None, {**values, "database_url": database_url})
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if database_url:
        database = Database(database_url)
        upgrade(database)
        database.close()
        return settings
    (settings.data_dir / "dicom-worker.db").write_bytes(_empty_database())
    return settings


@cache
def _empty_database() -> bytes:
    """An SQLite database with this version's schema: migrating once is enough."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "empty.db")
        database = Database(f"sqlite:///{path}")
        upgrade(database)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return path.read_bytes()


@contextmanager
def web_server(settings: Settings) -> Iterator[WebServer]:
    """Serve until the end of the block."""
    server = server_of(settings)
    server.config.host, server.config.port, server.config.timeout_graceful_shutdown = LOCALHOST, settings.web.port, 3
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    served = WebServer(settings)
    try:
        wait_until(lambda: server.started, 20, "the pages are served")
        yield served
    finally:
        server.should_exit = True
        thread.join(20)
        served.database.close()
