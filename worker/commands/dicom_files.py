"""Paths on the command line -> DICOM files.

Input: files and folders (searched through). Output: the headers of what is DICOM, and what was left out with the
reason. A path that does not exist is wrong usage; a file that is not DICOM is named and skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.console import fail, wrong_usage

if TYPE_CHECKING:
    from dicom_node.headers import InstanceFile

PathsArgument = Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files, or folders of them")]


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, folders searched through in order of name; hidden files in folders are left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.is_file())
            found.extend(p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts))
        elif path.is_file():
            found.append(path)
        else:
            wrong_usage(f"{path}: there is no such file or folder")
    if not found:
        fail(f"no file in {', '.join(str(path) for path in paths)}")
    return list(dict.fromkeys(found))


def read_instances(paths: Sequence[Path]) -> tuple[list[InstanceFile], list[str]]:
    """Return the DICOM files with their headers, and for each other file a sentence why it was left out.

    Of files with one SOP Instance UID the first in order of name counts: they are one instance, as in the daemon.
    """
    from dicom_node.headers import HeaderError, InstanceFile, read_header

    found: list[InstanceFile] = []
    left_out: list[str] = []
    first: dict[str, Path] = {}
    for path in find_files(paths):
        try:
            header = read_header(path)
            if (same := first.setdefault(header.sop_instance_uid, path)) != path:
                left_out.append(f"{path}: it has the SOP Instance UID of {same}, which is used; give one of them")
            else:
                found.append(InstanceFile(header, path))
        except HeaderError as error:
            left_out.append(str(error))
        except OSError as error:
            left_out.append(f"{path}: {error.strerror}")
    return found, left_out
