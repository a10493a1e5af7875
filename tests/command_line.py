"""`dicom-worker` in this process, in the current directory; an error that escapes fails the test."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from worker.cli import app


def cli(*words: object, stdin: str = "") -> Result:
    """Run a command; return its exit code and what it printed."""
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin, catch_exceptions=False)
