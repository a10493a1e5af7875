"""The daemon as a user runs it: a process started with `dicom-worker run` and a settings file.

Input: a folder and settings. Output: a running daemon, its commands and its ledger. It is ended with everything it
started when the test ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.services import LOCALHOST, Service, ServiceError, answers_on, dcmtk, free_port, wait_until

AE_TITLE = "DICOMWORKER"
AT_AN_END = {"done", "held", "unrouted", "delivery_failed"}
#: The stand-in, and no random draw for audit: the tests know what they expect.
SETTINGS = {
    "engine": {"kind": "standin"},
    "review": {"audit_fraction": 0, "organization": "General Hospital"},
    "log": {"level": "warning"},
}


class Daemon(Service):
    """`dicom-worker run --config FILE` in a folder of its own."""

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None, *roles: str) -> None:
        port, self.web_port = free_port(), free_port()
        self.config = folder / "site.yaml"
        values: dict[str, Any] = {**SETTINGS, **(settings or {})}
        values["dicom"] = {"port": port, "stable_after_s": 1, **values.get("dicom", {})}
        values["web"] = {"login": "off", **values.get("web", {}), "port": self.web_port}
        self.config.write_text(yaml.safe_dump(values), encoding="utf-8")
        super().__init__([sys.executable, "-m", "worker", "run", *roles, "--config", str(self.config)], folder, port)

    def ready(self) -> bool:
        """Return whether it receives and its pages are served."""
        try:
            return answers_on(self.port) and httpx.get(self.url("readyz"), trust_env=False).is_success
        except httpx.TransportError:
            return False

    def url(self, path: str = "") -> str:
        """Return the address of a page."""
        return f"http://{LOCALHOST}:{self.web_port}/{path}"

    def command(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run another command with the same settings."""
        return dicom_worker(*words, "--config", self.config, cwd=self.directory)

    def json(self, *words: object) -> Any:
        """Run a command with --json and return its one document."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def studies(self) -> list[dict[str, Any]]:
        """Return the ledger, from the HTTP interface (quicker than a process of its own)."""
        found: list[dict[str, Any]] = httpx.get(self.url("api/studies"), trust_env=False).raise_for_status().json()
        return found

    def wait_until_ledger(
        self, condition: Callable[[list[dict[str, Any]]], bool], timeout_s: float = 180
    ) -> list[dict[str, Any]]:
        """Wait until the ledger is as it should be, and return it."""
        seen: list[dict[str, Any]] = []

        def fits() -> bool:
            seen[:] = self.studies()
            return condition(seen)

        try:
            wait_until(fits, timeout_s, "the ledger")
        except ServiceError as error:
            raise ServiceError(f"{error}; it is {json.dumps(seen, indent=1)[:6000]}; {self.log_tail()}") from None
        return seen

    def study(self, accession_number: str) -> dict[str, Any]:
        """Wait until a study has got to its end, and return it."""
        found: list[dict[str, Any]] = []

        def settled(studies: list[dict[str, Any]]) -> bool:
            found[:] = [study for study in studies if study["accession_number"] == accession_number]
            return bool(found) and is_settled(found)

        self.wait_until_ledger(settled)
        return found[0]

    def store(self, *files: Path) -> None:
        """Send files with dcmtk's storescu, in the encoding they have."""
        argv = [
            dcmtk("storescu"),
            "-v",
            "-aec",
            AE_TITLE,
            "-R",
            "+sd",
            "+r",
            LOCALHOST,
            str(self.port),
            *map(str, files),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def is_settled(studies: list[dict[str, Any]]) -> bool:
    """Whether every study has got to its end and no result is on its way."""
    states = {delivery["state"] for delivery in deliveries(studies)}
    return all(study["state"] in AT_AN_END for study in studies) and not states & {"pending", "sending"}


def deliveries(studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all deliveries of some studies."""
    return [
        delivery
        for study in studies
        for job in study["jobs"]
        for result in job["results"]
        for delivery in result["deliveries"]
    ]


def dicom_worker(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a traceback is a failure whatever it was asked."""
    argv = [sys.executable, "-m", "worker", *map(str, words)]
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=180, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done
