"""A manifest -> cases with their files and truths, all checked before a model is loaded.

Input: a JSON list, or JSON lines, of entries {"paths": [...], "truth": {...}} (DICOM files or folders, one unit each),
{"image": ..., "truth": {...}} (a picture), or the caption author's {"image": ..., "caption": ...}. Paths are relative
to the manifest. Output: `Case`s. On failure: `ManifestError`, naming the entry, what is wrong and what is expected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ValidationError

from dicom_node.headers import HeaderError, InstanceFile, read_header
from models.adapter import AdapterDefinition, Unit
from models.rendering import ModelInput, RenderError

_KEYS = frozenset({"id", "paths", "image", "truth", "caption"})


class ManifestError(Exception):
    """The manifest cannot be used; the message names the entry, what is wrong and what is expected."""


@dataclass(frozen=True, slots=True)
class Case:
    """One entry: what the model is shown, and the truth."""

    name: str
    #: DICOM files of one unit, or none where there is a picture.
    files: tuple[InstanceFile, ...]
    #: A picture file, shown as it is: nothing of the adapter's rendering applies to it.
    picture: Path | None
    truth: Mapping[str, Any]

    def model_input(self, adapter: AdapterDefinition) -> ModelInput:
        """Return what the model sees.

        Raises:
            RenderError: The files cannot be shown to the model.
        """
        if self.picture is None:
            return adapter.render(self.files)
        try:
            with Image.open(self.picture) as opened:
                image = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"), dtype=np.uint8)
        except (OSError, Image.DecompressionBombError) as error:
            raise RenderError(f"{self.picture}: cannot be decoded: {error}") from error
        return ModelInput(images=(image,), image_sources=(), sources=(), record={"picture": self.picture.name})


def read_manifest(
    path: Path, adapter: AdapterDefinition, truth: type[BaseModel], limit: int | None = None
) -> list[Case]:
    """Read and check a manifest.

    Args:
        path: A JSON list (or JSON lines).
        adapter: Whose units the entries are.
        truth: The form of a truth (`Family.truth`).
        limit: Read the first so many entries only.

    Raises:
        ManifestError: Names the first entry that is wrong.
    """
    entries = _entries(path)[:limit]
    if not entries:
        raise ManifestError(f"{path}: has no entries")
    cases = []
    for number, entry in enumerate(entries, 1):
        try:
            cases.append(_case(entry, number, path.parent, adapter, truth))
        except ManifestError as error:
            raise ManifestError(f"{path}, entry {number}: {error}") from None
    return cases


def _entries(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        if text.lstrip().startswith("["):
            found = json.loads(text)
            return list(found)
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ManifestError(f"{path}: is neither a JSON list nor JSON lines: {error}") from error


def _case(entry: Any, number: int, folder: Path, adapter: AdapterDefinition, truth: type[BaseModel]) -> Case:
    if not isinstance(entry, dict):
        raise ManifestError('is not an object like {"paths": ["run.dcm"], "truth": {...}}')
    if unknown := sorted(set(entry) - _KEYS):
        raise ManifestError(f"unknown key {', '.join(map(repr, unknown))}; there are {', '.join(sorted(_KEYS))}")
    if ("paths" in entry) == ("image" in entry):
        raise ManifestError('needs either "paths" (DICOM files or folders) or "image" (a picture)')
    stated = _truth(entry, truth)
    name = str(entry.get("id") or entry.get("image") or number)
    if "image" in entry:
        return Case(name, (), _picture(entry["image"], folder), stated)
    paths = entry["paths"]
    if not isinstance(paths, list) or not paths or not all(isinstance(one, str) for one in paths):
        raise ManifestError('"paths" must be a list of file or folder names')
    return Case(name, _unit([folder / one for one in paths], adapter), None, stated)


def _truth(entry: Mapping[str, Any], form: type[BaseModel]) -> Mapping[str, Any]:
    given = entry.get("truth", {"caption": entry["caption"]} if "caption" in entry else None)
    expected = ", ".join(form.model_fields)
    if not isinstance(given, dict):
        raise ManifestError(f'has no "truth"; expected is an object with {expected}')
    try:
        return form.model_validate(given).model_dump(mode="json")
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ManifestError(f"its truth is wrong at {where}: {fault['msg']}; expected is {expected}") from None


def _picture(name: Any, folder: Path) -> Path:
    path = folder / str(name)
    if not path.is_file():
        raise ManifestError(f"there is no file {path}")
    try:
        with Image.open(path) as opened:
            opened.verify()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ManifestError(f"{path} is no picture that can be read: {error}") from None
    return path


def _unit(paths: list[Path], adapter: AdapterDefinition) -> tuple[InstanceFile, ...]:
    """Return the files of the one unit (run or series) that the paths hold, as far as the adapter takes them."""
    found = []
    for path in paths:
        if path.is_dir():
            found += [file for inner in sorted(path.rglob("*")) if inner.is_file() and (file := _dicom(inner))]
        elif not path.is_file():
            raise ManifestError(f"there is no file or folder {path}")
        elif (file := _dicom(path)) is None:
            raise ManifestError(f"{path} is not a DICOM file")
        else:
            found.append(file)
    if not found:
        raise ManifestError(f"no DICOM file in {', '.join(str(path) for path in paths)}")
    accepted = [file for file in found if adapter.acceptance.obstacle(file.header) is None] or found
    of_instance = adapter.unit is Unit.INSTANCE
    units = {f.header.sop_instance_uid if of_instance else f.header.series_instance_uid for f in accepted}
    if len(units) > 1:
        kind = "runs" if of_instance else "series"
        raise ManifestError(f"its files are {len(units)} {kind}; {adapter.name} answers about one: make them entries")
    return tuple(accepted)


def _dicom(path: Path) -> InstanceFile | None:
    try:
        return InstanceFile(read_header(path), path)
    except (HeaderError, OSError):
        return None
