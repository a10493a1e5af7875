"""The demo's settings: everything on this machine, with the stand-in model and the demo's own PACS.

Input: the site's settings, if there are any, and the demo's folder. Output: settings that keep the site's ports and
names where they are free, and otherwise never touch the site's data, database, broker or destinations.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import yaml

from worker.demo.receiver import AE_TITLE
from worker.demo.studies import ROUTES
from worker.settings import ENV_PREFIX, Settings, load_settings

#: Short, because the demo's senders do not pause.
STABLE_AFTER_S = 1.5
#: The batch is small, so that the first reports are written while the next answers are still thought about.
ENGINE: dict[str, Any] = {"kind": "standin", "device": "cpu", "openai": None, "batch": 3}


def demo_settings(config: Path | None, folder: Path, pacs_port: int) -> tuple[Settings, list[str]]:
    """Return the settings, also written to `folder` for other commands, and what is not as the site has it.

    Raises:
        SettingsError: The site's own settings are wrong.
    """
    overrides: dict[str, Any] = {
        "data_dir": str(folder.resolve()),
        "database_url": "",
        "broker_url": "embedded",
        "dicom": {"stable_after_s": STABLE_AFTER_S, "tls": None, "calling_ae_titles": []},
        "engine": {**ENGINE, "bases": {}, "adapters": {}, "enabled": []},
        "adapters": {},
        "review": {"audit_fraction": 0, "organization": "Demo"},
        "destinations": [{"name": "demo-pacs", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": pacs_port}],
        "routes": ROUTES,
        "log": {"level": "warning"},
    }
    site = load_settings(config, overrides)
    notes: list[str] = []
    for section, bind in (("dicom", site.dicom.bind), ("web", site.web.bind)):
        wanted = getattr(site, section).port
        port = _free_port(bind, wanted)
        if port != wanted:
            notes.append(f"{section}.port {wanted} is taken, the demo uses {port}")
        overrides.setdefault(section, {})["port"] = port
        os.environ.pop(f"{ENV_PREFIX}{section.upper()}__PORT", None)
    settings = load_settings(config, overrides)
    values = settings.model_dump(mode="json")
    settings_file(folder).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return settings, notes


def settings_file(folder: Path) -> Path:
    """Return where the demo's settings lie, for `dicom-worker ... --config`."""
    return folder / "dicom-worker.yaml"


def _free_port(bind: str, wanted: int) -> int:
    """Return the wanted port if nobody listens there, else any that is free."""
    for port in (wanted, 0):
        try:
            with socket.create_server((bind, port)) as listener:
                return int(listener.getsockname()[1])
        except OSError:
            continue
    return wanted
