"""Words and tables of the conformance statement.

Input: UIDs, rows, settings. Output: Markdown. A UID that PS3.6 does not name is shown as it is; a setting that does not
exist is a `KeyError`: it is a defect in the statement.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from pydicom.uid import UID

from worker.settings import Settings


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table, with a line after it."""
    names = list(heads)
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def paragraph(text: str) -> str:
    """Return text in lines, with an empty line after it."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n\n"


def named(uid: str) -> str:
    """Return a UID with its name in PS3.6."""
    return f"{UID(uid).name} `{uid}`"


def syntaxes_of(uids: Iterable[str]) -> str:
    """Return the names of transfer syntaxes, in their order."""
    return ", ".join(UID(uid).name for uid in uids)


def code(status: int) -> str:
    """Return a status as the standard writes it."""
    return f"`{status:04X}`"


def setting(settings: Settings, name: str) -> str:
    """Return a setting with its value: "`dicom.port` (11112)"."""
    value: Any = settings
    for part in name.split("."):
        if part not in type(value).model_fields:
            raise KeyError(f"there is no setting {name}")
        value = getattr(value, part)
    shown = str(value).lower() if isinstance(value, bool) else value
    return f"`{name}` ({'any' if value == [] else shown})"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
