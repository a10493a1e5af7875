"""The environment of a demo: nothing in it leads the demo to a hospital's database or PACS.

Input: the environment variables of this process. Output: the same without those that stand for what the demo decides.
"""

from __future__ import annotations

import os

from worker.settings import ENV_PREFIX

#: What the demo decides itself; an environment variable must not lead it to a hospital's database or PACS.
OWN_SETTINGS = (
    *("DATA_DIR", "DATABASE_URL", "BROKER_URL", "DESTINATIONS", "ROUTES"),
    *("ENGINE", "ADAPTERS", "JOBS", "REVIEW", "DELIVERY", "DICOM__TLS"),
)


def forget_environment() -> None:
    """Drop the environment variables that stand for what the demo decides itself."""
    for variable in list(os.environ):
        name = variable.upper().removeprefix(ENV_PREFIX)
        if variable.upper().startswith(ENV_PREFIX) and name.startswith(OWN_SETTINGS):
            del os.environ[variable]
