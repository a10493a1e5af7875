"""docs/decoding.md, written from the decoders themselves: `python -m tests.decoding_table > docs/decoding.md`.

Which transfer syntaxes there are, what decodes each, why others are refused, and what became of every file of pydicom's
and pydicom-data's collections. A test compares the document with what this writes.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import data_store
import pydicom.data
from pydicom._uid_dict import UID_dictionary

from dicom_node.decoders import SYNTAXES
from dicom_node.image_attributes import is_encapsulated
from dicom_node.pixels import UNCOMPRESSED, FrameReader, PixelError, read_image
from dicom_node.video import is_video

ROOTS: Final = (Path(pydicom.data.__file__).parent, Path(data_store.__file__).parent / "data")

#: In newer editions of the standard than pydicom's dictionary (PS3.6 table A-1).
_NEWER: Final = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
#: Beginning of the UID -> why pixel data in it are refused.
_REFUSED: Final = {
    "1.2.840.10008.1.2.4.92": "no decoder at hand knows Part 2's transform between components",
    "1.2.840.10008.1.2.4.93": "no decoder at hand knows Part 2's transform between components",
    "1.2.840.10008.1.2.4.94": "the pixels are not in the instance, but at an address that is not asked",
    "1.2.840.10008.1.2.4.95": "the pixels are not in the instance, but at an address that is not asked",
    "1.2.840.10008.1.2.4.20": "the pixels are not in the instance, but at an address that is not asked",
    "1.2.840.10008.1.2.6": "it is no way to store an image",
    "1.2.840.10008.1.2.7": "it is a live stream, not a file",
    "1.2.840.10008.1.20": "retired; a format of its own",
    "1.2.840.10008.1.2.4": "retired (arithmetic coding or a hierarchy of frames); no decoder at hand",
}

_HEAD: Final = """# Decoding: what becomes of each transfer syntax

This page is written by `python -m tests.decoding_table`; a test fails where it is out of date.

Frames are read one at a time. Before a decoder is given a frame, what the codestream says of itself (JPEG's SOF, JPEG
2000's SIZ, JPEG XL's size header, RLE's segments) is compared with Rows, Columns, SamplesPerPixel and BitsAllocated:
decoders allocate what the codestream claims. If a decoder raises, the next one in the list is asked; if it crashes or
hangs, the process it runs in is replaced and the next one is asked. The record of a result names the decoder.

An instance that is refused stays stored, and the reason and the remedy go where failures go.

## Transfer syntaxes

| transfer syntax | UID | decoders, in order |
|---|---|---|
"""
_AFTER_SYNTAXES: Final = """
Decoders: **uncompressed** reads the frame's own bytes; **imagecodecs** is libjpeg-turbo for JPEG, CharLS for JPEG-LS,
OpenJPEG for JPEG 2000, OpenJPH for HTJ2K and libjxl for JPEG XL; **imagecodecs-sof3** is another decoder of lossless
JPEG; **pylibjpeg**, **gdcm**, **pillow** and **pydicom** are pydicom's plugins; **PyAV** is FFmpeg's libraries.

Left out, because they give wrong values without an error (measured with pydicom 3.0, pylibjpeg-libjpeg 2.4 and
Pillow 12):

- pylibjpeg for lossless JPEG (.57, .70), where neighbouring pixels differ by more than 15 bits;
- Pillow for JPEG 2000, where codestream and header disagree about the sign.

gdcm is not asked for 8-bit JPEG with BitsStored below 8: it would end its process.

## Files of pydicom's and pydicom-data's collections

Lossless files were compared with their uncompressed originals, pixel for pixel, where the collections have them; lossy
ones within a stated tolerance (`tests/unit/test_collections.py`).

| transfer syntax | files decoded | with |
|---|---|---|
"""


def files() -> Iterator[Path]:
    """Yield every file of the collections, but their own code."""
    for root in ROOTS:
        yield from sorted(
            path for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".json")
        )


def _name(uid: str) -> str:
    name = _NEWER.get(uid) or str(UID_dictionary[uid][0])
    return re.sub(r"[\[\]]", "", name)


def _known() -> list[str]:
    # wsidicom adds the newer ones to pydicom's dictionary, if it was imported.
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"} | set(_NEWER)
    return sorted(known, key=lambda uid: [int(part) for part in uid.split(".")])


def how(uid: str) -> str:
    """Return what decodes a transfer syntax, or why nothing does."""
    if not is_encapsulated(uid):
        return UNCOMPRESSED
    if uid in SYNTAXES:
        return ", ".join(SYNTAXES[uid].decoders)
    if is_video(uid):
        return "PyAV (a video: frames by time)"
    return "refused: " + next(why for start, why in _REFUSED.items() if uid.startswith(start))


def outcome(path: Path) -> tuple[str, tuple[str, ...]] | PixelError:
    """Decode every frame of a file; return its transfer syntax and the decoders used, or the refusal."""
    try:
        image = read_image(path)
        reader = FrameReader(image)
        for _ in reader.frames():
            pass
    except PixelError as error:
        return error
    return str(image.transfer_syntax), reader.decoders


def document() -> str:
    """Return the text of docs/decoding.md."""
    lines = [f"| {_name(uid)} | {uid} | {how(uid)} |" for uid in _known()]
    decoded: collections.Counter[tuple[str, str]] = collections.Counter()
    refused: dict[str, list[str]] = collections.defaultdict(list)
    for path in files():
        result = outcome(path)
        if isinstance(result, PixelError):
            refused[_general(result.reason)].append(path.name)
        else:
            decoded[result[0], ", ".join(result[1])] += 1
    table = [f"| {_name(uid)} | {count} | {names} |" for (uid, names), count in sorted(decoded.items())]
    reasons = [f"| {why} | {_listed(names)} |" for why, names in sorted(refused.items())]
    return "\n".join(
        (
            _HEAD + "\n".join(lines),
            _AFTER_SYNTAXES + "\n".join(table),
            "\nRefused:\n\n| reason | files |\n|---|---|\n" + "\n".join(reasons),
            "",
        )
    )


def _general(reason: str) -> str:
    if "cannot be read as DICOM" in reason:
        return "the file cannot be read as DICOM"
    return reason.replace("|", "/")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{len(names)}: {shown}{', ...' if len(names) > 8 else ''}"


if __name__ == "__main__":
    print(document(), end="")
