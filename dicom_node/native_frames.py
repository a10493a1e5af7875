"""Uncompressed frames: an image and an index in, the frame's stored values out (PS3.5 8.1.1, 8.2, annex D).

Input: `ImageAttributes` and its open file. Output: one frame at a time; no more is read than its own bytes. Big
endian, 1 bit a pixel, colour by plane, 4:2:2 and unused bits are turned into plain values in the machine's byte order.
`from_values` does the last part for frames from elsewhere. On failure: `PixelError`.
"""

from __future__ import annotations

from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import ExplicitVRBigEndian

from dicom_node.elements import UNDEFINED_LENGTH
from dicom_node.image_attributes import Frame, ImageAttributes, frame_bits, pixel_element

_AS_STORED: Final = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_ICT", "YBR_RCT"})
_FLOATS: Final = {"FloatPixelData": (32, "f4"), "DoubleFloatPixelData": (64, "f8")}
_WRONG: Final = "the header may be wrong"


class NativeFrames:
    """The frames of an image whose pixel data are not compressed."""

    def __init__(self, image: ImageAttributes, file: BinaryIO) -> None:
        self._image = image
        self._element = pixel_element(image, file)
        self._check()

    @property
    def surplus(self) -> str:
        """What the element holds beyond what the header claims, in words; padding of up to a row is nothing."""
        image, held = self._image, self._element.length
        needed = (frame_bits(image) * image.frames + 7) // 8
        row = max(2, frame_bits(image) // image.rows // 8)
        if held == UNDEFINED_LENGTH or held - needed <= row:
            return ""
        return f"hold {held} bytes, {image.frames} frame(s) of {image.rows} x {image.columns} take {needed}: {_WRONG}"

    def read(self, file: BinaryIO, index: int) -> Frame:
        """Return a frame, counted from 0. Raises `PixelError` where its bytes are not all there."""
        image = self._image
        bits = frame_bits(image)
        start, end = index * bits // 8, -(-(index + 1) * bits // 8)
        swapped = self._swapped_pairs()
        if swapped:  # 8-bit values in 16-bit words, most significant byte first: pairs are exchanged
            start, skip = start - start % 2, start % 2
            end += end % 2
        data = self._bytes(file, index, start, end)
        if swapped:
            pairs = np.frombuffer(data, np.uint16).byteswap().view(stored_dtype(image))
            return from_values(image, pairs[skip : skip + bits // 8])
        if image.bits_allocated == 1:
            first = index * bits % 8
            values = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first : first + bits]
            return from_values(image, values)
        return from_values(image, np.frombuffer(data, self._dtype()))

    def _bytes(self, file: BinaryIO, index: int, start: int, end: int) -> NDArray[np.uint8]:
        file.seek(self._element.value_at + start)
        data = np.empty(end - start, dtype=np.uint8)  # writable, so that nobody needs a copy
        if file.readinto(data.data) < end - start:  # type: ignore[attr-defined]
            image = self._image
            raise image.error(
                f"its pixel data are truncated: they end in frame {index + 1} of {image.frames}", "send it again"
            )
        return data

    def _check(self) -> None:
        expected = _FLOATS.get(self._element.keyword)
        if expected and self._image.bits_allocated != expected[0]:
            raise self._image.error(
                f"{self._element.keyword} has {expected[0]} bits a pixel, BitsAllocated is "
                f"{self._image.bits_allocated}",
                "check the original",
            )
        check_photometric(self._image)

    def _swapped_pairs(self) -> bool:
        return (
            self._image.transfer_syntax == ExplicitVRBigEndian
            and self._image.bits_allocated == 8
            and self._element.vr == "OW"
        )

    def _dtype(self) -> np.dtype[np.generic]:
        image = self._image
        order = ">" if image.transfer_syntax == ExplicitVRBigEndian else "<"
        if self._element.keyword in _FLOATS:
            return np.dtype(order + _FLOATS[self._element.keyword][1])
        return np.dtype(f"{order}{'i' if image.is_signed else 'u'}{image.bits_allocated // 8}")


def check_photometric(image: ImageAttributes) -> None:
    """Refuse what cannot be told how to show. Raises `PixelError`."""
    known = image.photometric in _AS_STORED or image.photometric in ("YBR_FULL", "YBR_FULL_422")
    if known and (image.samples == 1) == (image.photometric[:4] in ("MONO", "PALE")):
        return
    raise image.error(
        f"PhotometricInterpretation {image.photometric or '(none)'!r} with SamplesPerPixel {image.samples} is not "
        "supported",
        "have the source send MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL or YBR_FULL_422",
    )


def stored_dtype(image: ImageAttributes) -> np.dtype[np.generic]:
    """Return the type of integer values as the header describes them, in the machine's byte order."""
    if image.bits_allocated == 1:
        return np.dtype(np.uint8)
    return np.dtype(f"{'i' if image.is_signed else 'u'}{image.bits_allocated // 8}")


def from_values(image: ImageAttributes, values: NDArray[np.generic]) -> Frame:
    """Turn the values of one uncompressed frame, as they lie in the file, into (rows, columns[, 3]), RGB, writable."""
    if image.photometric == "YBR_FULL_422":
        values = _upsampled(values)
    frame = _shaped(image, values)
    if not frame.dtype.isnative:
        frame = frame.astype(frame.dtype.newbyteorder("="))
    frame = without_unused_bits(image, _lowered(image, frame))
    if image.photometric.startswith("YBR_FULL"):
        frame = convert_color_space(frame, "YBR_FULL", "RGB")
    return frame if frame.flags.writeable else frame.copy()


def _upsampled(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Give each pixel its colour: Y1 Y2 B R -> Y1 B R Y2 B R (PS3.3 C.7.6.3.1.2)."""
    pairs = values.reshape(-1, 4)
    return pairs[:, [0, 2, 3, 1, 2, 3]].reshape(-1)


def _shaped(image: ImageAttributes, values: NDArray[np.generic]) -> Frame:
    if image.samples == 1:
        return values.reshape(image.rows, image.columns)
    if image.planar_configuration == 1 and image.photometric != "YBR_FULL_422":
        return values.reshape(3, image.rows, image.columns).transpose(1, 2, 0)
    return values.reshape(image.rows, image.columns, 3)


def _lowered(image: ImageAttributes, frame: Frame) -> Frame:
    """Move values down to bit 0: old writers leave bits unused below them, so that HighBit is beyond BitsStored - 1.

    PS3.5 8.1.1 allowed it once; what is left above is cleared afterwards.
    """
    high_bit = image.dataset.get("HighBit")
    below = high_bit + 1 - image.bits_stored if isinstance(high_bit, int) else 0
    if not 0 < below <= image.bits_allocated - image.bits_stored or frame.dtype.kind not in "iu":
        return frame
    return np.asarray(frame >> frame.dtype.type(below))


def without_unused_bits(image: ImageAttributes, frame: Frame) -> Frame:
    """Clear the bits above BitsStored, or fill them with the sign: old overlays live there (PS3.5 8.1.1)."""
    spare = image.bits_allocated - image.bits_stored
    if spare <= 0 or frame.dtype.kind not in "iu":
        return frame
    if frame.dtype.kind == "u" and int(frame.max()) < 1 << image.bits_stored:
        return frame  # the usual case, and looking takes less than writing
    cleared: Frame = frame if frame.flags.writeable else frame.copy()
    if cleared.dtype.kind == "u":
        np.bitwise_and(cleared, cleared.dtype.type((1 << image.bits_stored) - 1), out=cleared)
        return cleared
    np.left_shift(cleared, cleared.dtype.type(spare), out=cleared)
    np.right_shift(cleared, cleared.dtype.type(spare), out=cleared)
    return cleared
