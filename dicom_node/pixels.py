"""Stored pixel values, frame by frame: a stored instance in, arrays as decoded out (PS3.3 C.7.6.3, PS3.5 section 8).

Input: the path of an instance. Output: `ImageAttributes` (the header, checked), and its frames one at a time, so that a
big multi-frame is never held whole. Sizes are checked before anything is allocated: Rows and Columns are what a sender
claims, and a claim costs nothing. On failure: `PixelError` naming the instance, the reason and the remedy.
`dicom_node.display` makes pictures of the values.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

#: Stored values of one frame: (rows, columns), or (rows, columns, 3) for colour, which is RGB.
Frame = NDArray[Any]


class PixelError(Exception):
    """An instance's pixels cannot be read; permanent: the same bytes will fail again."""

    def __init__(self, sop_instance_uid: str, reason: str, remedy: str) -> None:
        super().__init__(f"instance {sop_instance_uid or '(no UID)'}: {reason}; {remedy}")
        self.sop_instance_uid = sop_instance_uid
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """The largest image that is decoded; beyond it a claim is taken for an error or an attack."""

    #: Rows and Columns each (the largest detectors have about 6,000; PS3.3 allows 65,535).
    max_side: int = 16384
    #: Decoded bytes of one frame.
    max_frame_bytes: int = 512 * 2**20
    #: NumberOfFrames (an hour of fluoroscopy at 30 frames a second has 108,000).
    max_frames: int = 120_000


@dataclass(frozen=True, slots=True)
class ImageAttributes:
    """The checked header of an image instance; pixels are still on disk."""

    path: Path
    #: All elements but the pixels and long private ones.
    dataset: Dataset
    sop_instance_uid: str
    transfer_syntax: UID
    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    photometric: str
    #: Where in the file the pixel data element begins; the file's end where there is none.
    pixel_data_at: int

    def error(self, reason: str, remedy: str) -> PixelError:
        """Make an error about this instance."""
        return PixelError(self.sop_instance_uid, reason, remedy)


def read_image(path: Path, limits: PixelLimits | None = None) -> ImageAttributes:
    """Read and check the header of an image instance without its pixels.

    Raises:
        PixelError: It is no readable DICOM file, has no pixel data, claims impossible sizes, or its transfer syntax
            cannot be decoded here.
    """
    image = read_attributes(path)
    _check_decodable(image)
    check_sizes(image, limits or PixelLimits())
    if image.transfer_syntax != DeflatedExplicitVRLittleEndian:
        # A deflated data set shows its pixels only once inflated; the decoder compares then.
        _check_pixels_are_there(image)
    return image


def read_attributes(path: Path) -> ImageAttributes:
    """Read the image attributes of an instance as its header claims them, whatever its transfer syntax.

    Raises:
        PixelError: It is no readable DICOM file, or an attribute is no number.
    """
    try:
        with path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True, force=True)
            # pydicom leaves the file at the pixel data element, or at its end where there is none.
            pixel_data_at = file.tell()
        uid = str(dataset.get("SOPInstanceUID", ""))
        syntax = dataset.file_meta.get("TransferSyntaxUID")
    except Exception as error:
        raise PixelError(path.name, f"the file cannot be read as DICOM ({error})", "send it again") from error
    if not syntax:
        raise PixelError(uid or path.name, "the file names no transfer syntax", "send it again")
    return _attributes(path, dataset, uid, UID(syntax), pixel_data_at)


def read_frames(image: ImageAttributes, indices: Sequence[int] | None = None) -> Iterator[Frame]:
    """Yield the stored values of frames, decoded; YBR becomes RGB, palettes and windows are not applied.

    Args:
        image: From `read_image`.
        indices: Which frames, counted from 0; all of them in order if None.

    Yields:
        (rows, columns) in the stored type, or (rows, columns, 3).

    Raises:
        PixelError: The pixel data are truncated or cannot be decoded, or there is no such frame.
    """
    wanted = range(image.frames) if indices is None else indices
    for index in wanted:
        if not 0 <= index < image.frames:
            raise image.error(f"it has no frame {index + 1}, only {image.frames}", "ask for a frame that is there")
    if not wanted:
        return
    delivered = 0
    try:
        for frame in _decoded(image, list(wanted)):
            delivered += 1
            yield frame
    except PixelError:
        raise
    except Exception as error:
        number = wanted[delivered] + 1 if delivered < len(wanted) else image.frames
        raise image.error(
            f"frame {number} cannot be decoded ({_first_line(error)})",
            f"check the original; transfer syntax {_spell(image.transfer_syntax)}",
        ) from error


def read_frame(image: ImageAttributes, index: int = 0) -> Frame:
    """Return the stored values of one frame, counted from 0; see `read_frames`."""
    return next(iter(read_frames(image, [index])))


def _decoded(image: ImageAttributes, indices: list[int]) -> Iterator[Frame]:
    with warnings.catch_warnings():
        # Trailing bytes after the last frame are common and harmless; missing ones raise.
        warnings.filterwarnings("ignore", message="The (number of bytes|pixel data)", category=UserWarning)
        if image.transfer_syntax == DeflatedExplicitVRLittleEndian:
            # A deflated data set cannot be read from the middle: inflate it whole.
            yield from iter_pixels(dcmread(image.path), indices=indices)
        else:
            yield from iter_pixels(image.path, indices=indices)


def _attributes(path: Path, dataset: Dataset, uid: str, syntax: UID, pixel_data_at: int) -> ImageAttributes:
    try:
        return ImageAttributes(
            path=path,
            dataset=dataset,
            sop_instance_uid=uid,
            transfer_syntax=syntax,
            rows=int(dataset.get("Rows") or 0),
            columns=int(dataset.get("Columns") or 0),
            frames=int(dataset.get("NumberOfFrames") or 1),
            samples=int(dataset.get("SamplesPerPixel") or 1),
            bits_allocated=int(dataset.get("BitsAllocated") or 0),
            bits_stored=int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 0),
            is_signed=int(dataset.get("PixelRepresentation") or 0) == 1,
            photometric=str(dataset.get("PhotometricInterpretation") or ""),
            pixel_data_at=pixel_data_at,
        )
    except (TypeError, ValueError) as error:
        raise PixelError(uid, f"its image attributes are not numbers ({error})", "check the original") from error


def _check_decodable(image: ImageAttributes) -> None:
    try:
        get_decoder(image.transfer_syntax)
    except NotImplementedError as error:
        raise image.error(
            f"no decoder for transfer syntax {_spell(image.transfer_syntax)}",
            "have the source send it uncompressed or in JPEG lossless, JPEG-LS, JPEG 2000 or RLE",
        ) from error


def _spell(syntax: UID) -> str:
    return str(syntax) if syntax.name == str(syntax) else f"{syntax.name} ({syntax})"


def check_sizes(image: ImageAttributes, limits: PixelLimits) -> None:
    """Refuse an image that is none, or is beyond the limits. Raises `PixelError`."""
    if image.rows < 1 or image.columns < 1:
        raise image.error(f"Rows is {image.rows} and Columns {image.columns}: it is no image", "check the original")
    if max(image.rows, image.columns) > limits.max_side:
        raise image.error(
            f"Rows {image.rows} x Columns {image.columns} is beyond the limit of {limits.max_side} a side",
            "check the original",
        )
    if not 1 <= image.frames <= limits.max_frames:
        raise image.error(
            f"NumberOfFrames is {image.frames}, the limit is 1 to {limits.max_frames}", "check the original"
        )
    if image.bits_allocated not in (1, 8, 16, 32, 64) or image.samples not in (1, 3, 4):
        raise image.error(
            f"BitsAllocated {image.bits_allocated} with SamplesPerPixel {image.samples} is not possible",
            "check the original",
        )
    size = _frame_bits(image) // 8
    if size > limits.max_frame_bytes:
        raise image.error(
            f"one frame would take {size} bytes, the limit is {limits.max_frame_bytes}", "check the original"
        )


def _frame_bits(image: ImageAttributes) -> int:
    bits = image.rows * image.columns * image.samples * image.bits_allocated
    # 4:2:2 stores two samples a pixel instead of three (PS3.3 C.7.6.3.1.2).
    if image.photometric == "YBR_FULL_422" and not image.transfer_syntax.is_encapsulated:
        return bits * 2 // 3
    return bits


def _check_pixels_are_there(image: ImageAttributes) -> None:
    """Compare what the header claims with what the file can hold, before anything is allocated."""
    with image.path.open("rb") as file:
        file.seek(image.pixel_data_at)
        element_head = file.read(12)
        bytes_behind = image.path.stat().st_size - file.tell()
    claimed = _claimed_length(image.transfer_syntax, element_head)
    if claimed is None:
        raise image.error("it has no pixel data", "send the instance with its pixels")
    if image.transfer_syntax.is_encapsulated:
        return  # fragments carry their own lengths; the decoder compares them
    # An implicit VR element's head is 8 bytes: four of the twelve that were read belong to the value.
    there = min(claimed, bytes_behind + (4 if image.transfer_syntax.is_implicit_VR else 0))
    needed = (_frame_bits(image) * image.frames + 7) // 8
    if there < needed:
        raise image.error(
            f"its pixel data are truncated: {there} bytes where {image.frames} frame(s) of {image.rows} x "
            f"{image.columns} need {needed}",
            "send the instance again",
        )


def _claimed_length(syntax: UID, head: bytes) -> int | None:
    """Return the length that a pixel data element's head claims (PS3.5 7.1), or None where it is no such element."""
    if len(head) < 12:
        return None
    order = "<" if syntax.is_little_endian else ">"
    group, element = struct.unpack(f"{order}HH", head[:4])
    if group != 0x7FE0 or element not in (0x0008, 0x0009, 0x0010):
        return None
    length: int = struct.unpack(f"{order}I", head[4:8] if syntax.is_implicit_VR else head[8:12])[0]
    return length


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
