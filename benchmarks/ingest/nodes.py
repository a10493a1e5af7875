"""The four receiving nodes, each started fresh in a folder of its own, with the settings it comes with.

Input: an empty folder. Output: a running node, its AE title and port, the CPU time of its processes and how many
instances it has. A node that does not start or does not have what was sent is an error, never a figure.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import yaml

from tests.services.pacs import Orthanc
from tests.services.process import Service, answers_on, dcmtk, free_port

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class DicomWorker(Service):
    """Our node: fsync of file and directory, and a committed row, before every Success."""

    title = "dicom-worker (durable)"
    ae_title = "DICOMWORKER"

    def __init__(self, folder: Path) -> None:
        port = free_port()
        configuration = {
            "data_dir": str(folder / "data"),
            "database_url": f"sqlite:///{folder / 'ledger.db'}",
            "broker_url": "embedded",
            "dicom": {"ae_title": self.ae_title, "port": port, "stable_after_s": 3600},
            "engine": {"kind": "standin"},
            "log": {"level": "warning"},
        }
        path = folder / "dicom-worker.yaml"
        path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        self._database = folder / "ledger.db"
        super().__init__([sys.executable, "-m", "worker", "run", "node", "--config", str(path)], folder, port)
        self._env["PYTHONPATH"] = str(Path.cwd())

    def received(self) -> int:
        """Return how many instances are in the ledger."""
        with sqlite3.connect(self._database) as connection:
            count = int(connection.execute("SELECT count(*) FROM instances").fetchone()[0])
        connection.close()
        return count


class PynetdicomStorescp(Service):
    """pynetdicom's own storescp, with its defaults."""

    title = "pynetdicom storescp"
    ae_title = "STORESCP"

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self._received = folder / "received"
        self._received.mkdir()
        argv = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(self._received)]
        super().__init__(argv, folder, port)

    def received(self) -> int:
        """Return how many files were written."""
        return sum(1 for _ in self._received.iterdir())


class DcmtkStorescp(Service):
    """dcmtk's storescp, with its defaults."""

    title = "dcmtk storescp"
    ae_title = "STORESCP"

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self._received = folder / "received"
        self._received.mkdir()
        argv = [dcmtk("storescp"), "--fork", "--output-directory", str(self._received), str(port)]
        super().__init__(argv, folder, port, env={"TCP_NODELAY": "1"})

    def received(self) -> int:
        """Return how many files were written."""
        return sum(1 for _ in self._received.iterdir())


class OrthancNode(Orthanc):
    """Debian's Orthanc, with SQLite and its storage on disk."""

    title = "Orthanc"

    def received(self) -> int:
        """Return how many instances it stores."""
        return len(self.instance_ids())


Node = DicomWorker | PynetdicomStorescp | DcmtkStorescp | OrthancNode
NODES: tuple[type[Node], ...] = (DicomWorker, PynetdicomStorescp, DcmtkStorescp, OrthancNode)


def cpu_seconds(node: Service) -> float:
    """Return the user and system time that the node's processes have taken so far, ended children included."""
    root = node._process.pid if node._process is not None else 0
    times: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            times[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15])) / _TICKS_PER_S
    family = {root}
    while grown := {pid for pid, (parent, _) in times.items() if parent in family and pid not in family}:
        family |= grown
    return sum(seconds for pid, (_, seconds) in times.items() if pid in family)


def is_listening(node: Service) -> bool:
    """Return whether the node's port answers."""
    return answers_on(node.port)
