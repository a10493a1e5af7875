"""Frames as they lie in a stored file: a path and indices in, the bytes of each frame out, none decoded.

Input: the path of an instance. Output: a frame's codestream (compressed syntaxes), or its values in little endian.
`decoded_frame` gives the values of any image that can be decoded; it belongs into a sandbox. On failure: `PixelError`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from pydicom.uid import ExplicitVRBigEndian

from dicom_node.encapsulated_frames import EncapsulatedFrames
from dicom_node.fragment_stream import FragmentStream
from dicom_node.image_attributes import (
    Frame,
    ImageAttributes,
    PixelElement,
    PixelLimits,
    check_sizes,
    frame_bits,
    pixel_element,
    read_attributes,
)
from dicom_node.pixels import read_frame, read_image
from dicom_node.video import is_video, read_video, read_video_frames

PIECE_BYTES: Final = 1 << 20


def checked_attributes(path: Path) -> ImageAttributes:
    """Return the header of an image whose sizes are possible. Raises `PixelError`."""
    image = read_attributes(path)
    check_sizes(image, PixelLimits())
    with image.open() as file:
        pixel_element(image, file)
    return image


def is_plain(image: ImageAttributes) -> bool:
    """Whether frames lie in the file as an uncompressed answer has them: whole bytes, little endian."""
    return not image.is_encapsulated and image.transfer_syntax != ExplicitVRBigEndian and image.bits_allocated >= 8


def check_indices(image: ImageAttributes, indices: Sequence[int]) -> None:
    """Refuse frames (counted from 0) that the header does not claim. Raises `PixelError`."""
    for index in indices:
        if not 0 <= index < image.frames:
            raise image.error(f"it has no frame {index + 1}, only {image.frames}", "ask for a frame that is there")


def stored_frames(image: ImageAttributes, indices: Sequence[int]) -> Iterator[bytes]:
    """Yield frames (counted from 0) byte for byte: of an `is_plain` image, or codestreams of a compressed one.

    Raises:
        PixelError: There is no such frame, or its bytes are not all there.
    """
    check_indices(image, indices)
    with image.open() as file:
        if image.is_encapsulated:
            encapsulated = EncapsulatedFrames(image, file, PixelLimits())
            for index in indices:
                yield encapsulated.read(file, index)
            return
        element = pixel_element(image, file)
        size = frame_bits(image) // 8
        for index in indices:
            file.seek(element.value_at + index * size)
            data = file.read(size)
            if len(data) < size:
                raise image.error(f"its pixel data are truncated: they end in frame {index + 1}", "send it again")
            yield data


def video_pieces(image: ImageAttributes) -> Iterator[bytes]:
    """Yield the one stream of a video, piece by piece. Raises `PixelError`."""
    with FragmentStream(image) as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


def plain_pieces(image: ImageAttributes, file: BinaryIO, element: PixelElement) -> Iterator[bytes]:
    """Yield the value of an `is_plain` image's pixel data. Raises `PixelError` where it is cut short."""
    file.seek(element.value_at)
    left = element.length
    while left > 0:
        piece = file.read(min(left, PIECE_BYTES))
        if not piece:
            raise image.error("its pixel data are truncated", "send it again")
        left -= len(piece)
        yield piece


def decoded_frame(path: Path, index: int) -> bytes:
    """Return a frame's values (counted from 0) in little endian; colours are RGB, by pixel. Raises `PixelError`."""
    image = checked_attributes(path)
    check_indices(image, [index])
    return frame_bytes(image, frame_of(image, index))


def frame_of(image: ImageAttributes, index: int) -> Frame:
    """Return the values of a frame of an image or a video. Raises `PixelError`."""
    if is_video(image.transfer_syntax):
        return next(read_video_frames(read_video(image.path), [index]))
    return read_frame(read_image(image.path), index)


def frame_bytes(image: ImageAttributes, frame: Frame) -> bytes:
    """Encode decoded values as uncompressed pixel data has them (PS3.5 8.1.1)."""
    if image.bits_allocated == 1 and not image.is_encapsulated:
        return np.packbits(frame.reshape(-1), bitorder="little").tobytes()
    if sys.byteorder == "big" and frame.dtype.itemsize > 1:
        frame = frame.byteswap()
    return np.ascontiguousarray(frame).tobytes()
