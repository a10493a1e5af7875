"""Stored pixel values, frame by frame: a stored instance in, arrays as decoded out (PS3.3 C.7.6.3, PS3.5 section 8).

Input: the path of an instance. Output: `ImageAttributes` (the header, checked), and its frames one at a time, so that a
big multi-frame is never held whole, with the names of the decoders that were used. On failure: `PixelError` naming the
instance, the reason and the remedy. `dicom_node.display` makes pictures of the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from pydicom.uid import MPEGTransferSyntaxes

from dicom_node.decoders import SYNTAXES, Decode, claims
from dicom_node.encapsulated_frames import EncapsulatedFrames
from dicom_node.image_attributes import (
    Frame,
    ImageAttributes,
    PixelError,
    PixelLimits,
    check_sizes,
    first_line,
    frame_bits,
    pixel_element,
    read_attributes,
    spell,
)
from dicom_node.native_frames import NativeFrames, check_photometric
from dicom_node.notes import left_out, note

__all__ = [
    "UNCOMPRESSED",
    "Frame",
    "FrameReader",
    "ImageAttributes",
    "PixelError",
    "PixelLimits",
    "check_sizes",
    "read_attributes",
    "read_frame",
    "read_frames",
    "read_image",
]

#: The "decoder" of frames that need none.
UNCOMPRESSED: Final = "uncompressed"


def read_image(path: Path, limits: PixelLimits | None = None) -> ImageAttributes:
    """Read and check the header of an image instance without its pixels.

    Raises:
        PixelError: It is no readable DICOM file, has no pixel data, claims impossible sizes, or its transfer syntax
            cannot be decoded here.
    """
    image = read_attributes(path)
    _check_decodable(image)
    check_sizes(image, limits or PixelLimits())
    with image.open() as file:
        element = pixel_element(image, file)
    check_photometric(image)
    if not image.is_encapsulated:
        _check_pixels_are_there(image, element.length, element.value_at)
    return image


class FrameReader:
    """The frames of one image, and which decoders they took."""

    def __init__(self, image: ImageAttributes, limits: PixelLimits | None = None) -> None:
        self._image = image
        self._limits = limits or PixelLimits()
        self._native: NativeFrames | None = None
        self._encapsulated: EncapsulatedFrames | None = None
        self._order: list[tuple[str, Decode]] = []
        self._used: list[str] = []

    @property
    def decoders(self) -> tuple[str, ...]:
        """Names of the decoders used so far, in order of first use; more than one where one could not go on."""
        return tuple(self._used)

    @property
    def surplus(self) -> str:
        """What the pixel data hold beyond what the header claims, in words; '' where nothing, or before any frame."""
        opened = self._native or self._encapsulated
        return "" if opened is None else opened.surplus

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[Frame]:
        """Yield the stored values of frames, decoded; YBR becomes RGB, palettes and windows are not applied.

        Args:
            indices: Which frames, counted from 0; all of them in order if None.

        Yields:
            (rows, columns) in the stored type, or (rows, columns, 3); writable, in the machine's byte order.

        Raises:
            PixelError: The pixel data are truncated or cannot be decoded, or there is no such frame.
        """
        image = self._image
        wanted = range(image.frames) if indices is None else indices
        for index in wanted:
            if not 0 <= index < image.frames:
                raise image.error(f"it has no frame {index + 1}, only {image.frames}", "ask for a frame that is there")
        if not wanted:
            return
        with image.open() as file:
            for index in wanted:
                try:
                    frame = self._native_frame(file, index) if not image.is_encapsulated else self._decoded(file, index)
                except PixelError:
                    raise
                except Exception as error:
                    raise self._failure(index, first_line(error)) from error
                yield frame

    def _native_frame(self, file: BinaryIO, index: int) -> Frame:
        if self._native is None:
            self._native = NativeFrames(self._image, file)
            self._used.append(UNCOMPRESSED)
        return self._native.read(file, index)

    def _decoded(self, file: BinaryIO, index: int) -> Frame:
        image = self._image
        if self._encapsulated is None:
            self._encapsulated = EncapsulatedFrames(image, file, self._limits)
            self._order = list(SYNTAXES[image.transfer_syntax].decoders.items())
        data = self._encapsulated.read(file, index)
        stream = claims(image, index, data)
        failures = []
        uid = image.sop_instance_uid
        avoided = left_out(uid)
        for name, decode in self._order:
            if name in avoided:
                failures.append(f"{name}: it crashed or hung on this instance")
                continue
            try:
                with note(
                    f"instance {image.sop_instance_uid} frame {index + 1} with {name}", image.sop_instance_uid, name
                ):
                    frame = decode(image, data, stream)
            except Exception as error:  # noqa: BLE001 - each codec fails in its own way; the next one is asked
                failures.append(f"{name}: {first_line(error)}")
                continue
            # What could read this frame reads the next ones: they shall not differ by decoder.
            self._order.insert(0, self._order.pop(self._order.index((name, decode))))
            if name not in self._used:
                self._used.append(name)
            return frame
        raise self._failure(index, "; ".join(failures))

    def _failure(self, index: int, why: str) -> PixelError:
        return self._image.error(
            f"frame {index + 1} cannot be decoded ({why})",
            f"check the original; transfer syntax {spell(self._image.transfer_syntax)}",
        )


def read_frames(image: ImageAttributes, indices: Sequence[int] | None = None) -> Iterator[Frame]:
    """Yield the stored values of frames; see `FrameReader.frames`."""
    yield from FrameReader(image).frames(indices)


def read_frame(image: ImageAttributes, index: int = 0) -> Frame:
    """Return the stored values of one frame, counted from 0; see `FrameReader.frames`."""
    return next(iter(read_frames(image, [index])))


def _check_decodable(image: ImageAttributes) -> None:
    if not image.is_encapsulated or image.transfer_syntax in SYNTAXES:
        return
    if image.transfer_syntax in MPEGTransferSyntaxes:
        raise image.error(f"it is a video ({image.transfer_syntax.name}), not an image", "read it as a video")
    raise image.error(
        f"no decoder for transfer syntax {spell(image.transfer_syntax)}",
        "have the source send it uncompressed or in JPEG lossless, JPEG-LS, JPEG 2000 or RLE",
    )


def _check_pixels_are_there(image: ImageAttributes, claimed: int, value_at: int) -> None:
    """Compare what the header claims with what the file can hold, before anything is allocated."""
    # A deflated data set shows how long it is only once inflated: the frames are counted when they are read.
    there = claimed if image.is_deflated else min(claimed, image.path.stat().st_size - value_at)
    needed = (frame_bits(image) * image.frames + 7) // 8
    if there < needed:
        raise image.error(
            f"its pixel data are truncated: {there} bytes where {image.frames} frame(s) of {image.rows} x "
            f"{image.columns} need {needed}",
            "send the instance again",
        )
