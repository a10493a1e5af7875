"""What the unit tests share: no deadline for property-based ones on a busy machine; surroundings of a command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from models.engines.standin import StandinEngine

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def engine() -> Iterator[StandinEngine]:
    """The stand-in, loaded once for the tests of a module."""
    from models.engines.standin import load_standin  # torch, which most unit tests do without

    loaded = load_standin()
    yield loaded
    loaded.close()
