"""A stored object -> the same object in Explicit VR Little Endian, frame by frame (PS3.18 8.7.3.4, PS3.5 A.2).

Input: the path of any stored object, and of the file to write. Output: that file. Compressed pixels are decoded, and
the header is made to say how they lie then: colours are RGB, by pixel. It decodes, so it belongs into a sandbox. On
failure: `PixelError`, where the pixels cannot be decoded, are a video, or are more than one element can hold.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from dicom_node.dicomweb.frames import checked_attributes, frame_bytes, plain_pieces
from dicom_node.file_format import file_meta
from dicom_node.image_attributes import ImageAttributes, PixelElement, PixelError, pixel_element, read_attributes
from dicom_node.pixels import read_frames, read_image
from dicom_node.video import is_video

_MOST_BYTES: Final = 0xFFFFFFFE
_TAGS: Final = {"PixelData": 0x7FE00010, "FloatPixelData": 0x7FE00008, "DoubleFloatPixelData": 0x7FE00009}
_LOSSY: Final = frozenset(f"1.2.840.10008.1.2.4.{last}" for last in (50, 51, 81, 91, 93, 112, 203))


def write_explicit(path: Path, target: Path) -> None:
    """Write the object at `path` to `target` in Explicit VR Little Endian. Raises `PixelError`."""
    image = read_attributes(path)
    with image.open() as file, target.open("wb") as out:
        try:
            element = pixel_element(image, file)
        except PixelError:  # an object without pixels
            _write_header(image, out)
            return
        image = checked_attributes(path)
        if is_video(image.transfer_syntax):
            raise image.error(f"it is a video ({image.transfer_syntax.name})", "ask for it as it is stored")
        if image.is_encapsulated:
            _write_decoded(image, out)
        else:
            _write_header(image, out)
            vr = element.vr if element.vr != "UN" else "OW"
            _write_pixels(out, _TAGS[element.keyword], vr, element.length, _native(image, file, element))


def _write_decoded(image: ImageAttributes, out: BinaryIO) -> None:
    image = read_image(image.path)
    frames = read_frames(image)
    first = next(frames)
    size = first.nbytes * image.frames
    if size + size % 2 > _MOST_BYTES:
        raise image.error("uncompressed it is beyond the 4 GiB of one element", "ask for it as it is stored")
    dataset = image.dataset
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    if first.ndim == 3:
        dataset.SamplesPerPixel = 3
        dataset.PhotometricInterpretation = "RGB"
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * first.dtype.itemsize
    dataset.HighBit = image.bits_stored - 1
    if str(image.transfer_syntax) in _LOSSY:
        dataset.LossyImageCompression = "01"
    _write_header(image, out)

    def values() -> Iterator[bytes]:
        yield frame_bytes(image, first)
        for frame in frames:
            yield frame_bytes(image, frame)

    _write_pixels(out, _TAGS["PixelData"], "OW" if first.dtype.itemsize > 1 else "OB", size, values())


def _write_header(image: ImageAttributes, out: BinaryIO) -> None:
    dataset = image.dataset
    stream = DicomIO(out)
    stream.is_implicit_VR, stream.is_little_endian = False, True
    try:
        out.write(file_meta(str(dataset.SOPClassUID), image.sop_instance_uid, str(ExplicitVRLittleEndian)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values go on as they came, however odd
            write_dataset(stream, dataset)
    except Exception as error:
        # pydicom fails in many ways at what a sender wrote badly; its words may hold the value.
        kind = type(error).__name__
        raise image.error(f"its header cannot be written anew ({kind})", "ask for it as it is stored") from error


def _write_pixels(out: BinaryIO, tag: int, vr: str, length: int, values: Iterator[bytes]) -> None:
    padded = length + length % 2
    out.write(struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, padded))
    written = 0
    for value in values:
        out.write(value)
        written += len(value)
    out.write(b"\0" * (padded - written))


def _native(image: ImageAttributes, file: BinaryIO, element: PixelElement) -> Iterator[bytes]:
    """Yield native values in little endian; words are turned round, whatever they hold (PS3.5 7.3)."""
    word = {"OB": 1, "OW": 2, "OF": 4, "OD": 8}.get(element.vr, 2)
    if element.vr == "OW" and image.bits_allocated > 16:
        word = image.bits_allocated // 8
    for piece in plain_pieces(image, file, element):
        if image.transfer_syntax == ExplicitVRBigEndian and word > 1:
            whole = piece + b"\0" * (-len(piece) % word)
            yield np.frombuffer(whole, f">u{word}").astype(f"<u{word}").tobytes()[: len(piece)]
        else:
            yield piece
