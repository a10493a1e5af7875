"""Logging as it was: a command that runs in the process of the tests sets up logging for itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Undo what is done to logging meanwhile. Fixtures of a whole module need it for themselves."""
    handlers, level, structured = logging.root.handlers[:], logging.root.level, structlog.get_config()
    try:
        yield
    finally:
        structlog.configure(**structured)
        structlog.contextvars.clear_contextvars()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
