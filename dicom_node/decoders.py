"""Which decoders turn a compressed frame into values, and in which order they are asked: docs/decoding.md shows it.

Input: an image and the codestream of one of its frames. Output: its stored values, colour as RGB. What the codestream
claims must agree with the header before a decoder is given it, for decoders allocate what the codestream claims. Each
syntax has its decoders in a fixed order, fastest of the right ones first; `FrameReader` asks them one by one. On
failure: whatever a decoder raises, or `PixelError` where no decoder may be asked.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from dicom_node.codestreams import Codestream, CodestreamError, read_jpeg, read_jpeg2000, read_jpeg_xl
from dicom_node.image_attributes import Frame, ImageAttributes, spell
from dicom_node.native_frames import from_values, stored_dtype, without_unused_bits

Decode = Callable[[ImageAttributes, bytes, Codestream], Frame]
_NO_CLAIMS: Final = Codestream(0, 0)


@dataclass(frozen=True, slots=True)
class Syntax:
    """How frames in one transfer syntax are decoded."""

    #: Name -> function, in the order in which they are asked.
    decoders: dict[str, Decode]
    #: Reads the head of a codestream; None where a frame has none.
    head: Callable[[bytes], Codestream] | None = None


def claims(image: ImageAttributes, index: int, data: bytes) -> Codestream:
    """Read what a frame's codestream says of itself and compare it with the header.

    Raises:
        PixelError: They differ in rows, columns or samples, or the codestream has more bits than are allocated.
    """
    head = SYNTAXES[image.transfer_syntax].head
    if head is None:
        return _NO_CLAIMS
    frame = f"frame {index + 1} cannot be decoded"
    remedy = f"check the original; transfer syntax {spell(image.transfer_syntax)}"
    try:
        stream = head(data)
    except CodestreamError as error:
        raise image.error(f"{frame} ({error})", remedy) from error
    if (stream.rows, stream.columns) != (image.rows, image.columns):
        raise image.error(
            f"{frame} (its codestream has {stream.rows} rows and {stream.columns} columns, the header "
            f"{image.rows} and {image.columns})",
            remedy,
        )
    if stream.samples not in (None, image.samples):
        raise image.error(
            f"{frame} (its codestream has {stream.samples} samples a pixel, the header {image.samples})", remedy
        )
    if stream.precision is not None and not 1 <= stream.precision <= image.bits_allocated:
        raise image.error(
            f"{frame} (its codestream has {stream.precision} bits a sample, the header {image.bits_allocated})", remedy
        )
    return stream


def _imagecodecs(name: str, **options: Any) -> Callable[[bytes], NDArray[Any]]:
    def decode(data: bytes) -> NDArray[Any]:
        import imagecodecs  # its codecs are loaded when they are first named

        return np.asarray(getattr(imagecodecs, name)(data, **options))

    return decode


def _jpeg(image: ImageAttributes, data: bytes, stream: Codestream) -> Frame:
    """Decode any JPEG of libjpeg-turbo: baseline, extended, progressive and lossless, 2 to 16 bits a sample."""
    if image.samples == 1:
        return _without_spare_bits(image, _imagecodecs("jpeg8_decode")(data))
    # The header's word counts, not an Adobe marker's; but component names and JFIF say what the encoder did.
    is_ybr = not stream.names_rgb and (image.photometric.startswith("YBR_FULL") or stream.is_jfif)
    if stream.is_lossless or not is_ybr:
        values = _imagecodecs("jpeg8_decode", colorspace="RGB", outcolorspace="RGB")(data)
        return _without_spare_bits(image, _rgb(values) if is_ybr else values)
    return _without_spare_bits(image, _imagecodecs("jpeg8_decode", colorspace="YCBCR", outcolorspace="RGB")(data))


def _jpeg_sof3(image: ImageAttributes, data: bytes, stream: Codestream) -> Frame:
    values = _imagecodecs("jpegsof3_decode")(data)
    is_ybr = image.samples == 3 and not stream.names_rgb and (image.photometric.startswith("YBR") or stream.is_jfif)
    return _without_spare_bits(image, _rgb(values) if is_ybr else values)


def _signed_as_header_says(codec: str) -> Decode:
    """Decode with a codec whose codestream may be wrong about the sign, or not know it (JPEG-LS)."""
    read = _imagecodecs(codec)

    def decode(image: ImageAttributes, data: bytes, stream: Codestream) -> Frame:
        values = read(data)
        if stream.is_signed != image.is_signed and values.dtype.kind in "iu" and stream.precision:
            width = 8 * values.dtype.itemsize
            values = values.view(f"{'i' if image.is_signed else 'u'}{width // 8}")
            shift = values.dtype.type(width - stream.precision)
            values = (values << shift) >> shift
        is_ybr = image.photometric.startswith("YBR_FULL") or (stream.is_jfif and image.samples == 3)
        frame = _in_shape(image, values)
        return _in_type(image, _rgb(frame) if is_ybr and not stream.names_rgb else frame)

    return decode


def _jpeg_xl(image: ImageAttributes, data: bytes, _stream: Codestream) -> Frame:
    return _without_spare_bits(image, _imagecodecs("jpegxl_decode", index=0, keeporientation=True)(data))


def _rle(image: ImageAttributes, data: bytes, _stream: Codestream) -> Frame:
    """Decode RLE (PS3.5 annex G): one segment for each byte of a sample, most significant first."""
    segments = image.samples * image.bits_allocated // 8
    if image.bits_allocated % 8 or data[:4] != segments.to_bytes(4, "little"):
        raise ValueError(f"its RLE header does not have {segments} segments")
    size = image.rows * image.columns * segments
    import imagecodecs

    planes = np.frombuffer(
        imagecodecs.dicomrle_decode(data, stored_dtype(image).newbyteorder("<"), out=size),
        stored_dtype(image).newbyteorder("<"),
    )
    if planes.nbytes != size:
        raise ValueError(f"its RLE segments hold {planes.nbytes} of {size} bytes")
    frame = planes.reshape(image.samples, image.rows, image.columns)
    frame = frame[0] if image.samples == 1 else np.ascontiguousarray(frame.transpose(1, 2, 0))
    frame = _without_spare_bits(image, frame)
    return _rgb(frame) if image.photometric.startswith("YBR_FULL") else frame


def _deflated_frame(image: ImageAttributes, data: bytes, _stream: Codestream) -> Frame:
    size = -(-image.rows * image.columns * image.samples * image.bits_allocated // 8)
    return _packed(image, zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1), _stream)


def _packed(image: ImageAttributes, data: bytes, _stream: Codestream) -> Frame:
    """Take a frame that is in a fragment, but not compressed (PS3.5 A.4.11)."""
    pixels = image.rows * image.columns * image.samples
    if image.photometric == "YBR_FULL_422":
        pixels = pixels * 2 // 3
    if image.bits_allocated == 1:
        values: NDArray[Any] = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:pixels]
    else:
        values = np.frombuffer(data, stored_dtype(image).newbyteorder("<"), pixels)
    return from_values(image, values)


def _pydicom(plugin: str) -> Decode:
    """Decode with one of pydicom's plugins, and with its corrections of sign, unused bits and colour."""

    def decode(image: ImageAttributes, data: bytes, _stream: Codestream) -> Frame:
        is_jpeg = image.transfer_syntax in uid.JPEGTransferSyntaxes
        if plugin == "gdcm" and is_jpeg and image.bits_stored < image.bits_allocated == 8:
            raise ValueError("it would abort: it wants BitsStored to be BitsAllocated")
        options: dict[str, Any] = {
            "rows": image.rows,
            "columns": image.columns,
            "number_of_frames": 1,
            "samples_per_pixel": image.samples,
            "planar_configuration": image.planar_configuration,
            "photometric_interpretation": image.photometric,
            "bits_allocated": image.bits_allocated,
            "bits_stored": image.bits_stored,
            "pixel_representation": int(image.is_signed),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is compared here before: sizes, colours, padding
            decoder = get_decoder(image.transfer_syntax)
            array, _ = decoder.as_array(encapsulate([data]), index=0, decoding_plugin=plugin, **options)
        return _in_type(image, array)

    return decode


def _without_spare_bits(image: ImageAttributes, values: NDArray[Any]) -> Frame:
    return without_unused_bits(image, _in_type(image, _in_shape(image, values)))


def _in_shape(image: ImageAttributes, values: NDArray[Any]) -> Frame:
    shape = (image.rows, image.columns) if image.samples == 1 else (image.rows, image.columns, image.samples)
    values = values.squeeze() if values.size == np.prod(shape) and values.ndim > len(shape) else values
    if values.shape != shape and values.shape == (image.samples, image.rows, image.columns):
        values = values.transpose(1, 2, 0)
    if values.shape != shape:
        raise ValueError(f"it decodes to {values.shape} where the header says {shape}")
    return values


def _in_type(image: ImageAttributes, values: NDArray[Any]) -> Frame:
    """Give values the type as the header has it, keeping the bits; a narrower codestream is widened."""
    dtype = stored_dtype(image)
    if values.dtype.kind not in "iu" or values.dtype.itemsize > dtype.itemsize:
        raise ValueError(f"it decodes to {values.dtype} where the header says {dtype}")
    frame = values.view(dtype) if values.dtype.itemsize == dtype.itemsize else values.astype(dtype)
    return frame if frame.flags.writeable else frame.copy()


def _rgb(values: NDArray[Any]) -> NDArray[Any]:
    return convert_color_space(values, "YBR_FULL", "RGB")


_PYLIBJPEG, _GDCM, _PILLOW = ({name: _pydicom(name)} for name in ("pylibjpeg", "gdcm", "pillow"))
_JPEG_LOSSY: Final = Syntax({"imagecodecs": _jpeg} | _PILLOW | _GDCM | _PYLIBJPEG, read_jpeg)
# Not pylibjpeg: it gives wrong values, and no error, where neighbours differ by more than 15 bits.
_JPEG_LOSSLESS: Final = Syntax({"imagecodecs": _jpeg, "imagecodecs-sof3": _jpeg_sof3} | _GDCM, read_jpeg)
_JPEG_RETIRED: Final = Syntax({"imagecodecs": _jpeg}, read_jpeg)
_JPEG_LS: Final = Syntax({"imagecodecs": _signed_as_header_says("jpegls_decode")} | _GDCM | _PYLIBJPEG, read_jpeg)
# Not Pillow: where the codestream has another sign than the header its values are shifted.
_JPEG_2000: Final = Syntax({"imagecodecs": _signed_as_header_says("jpeg2k_decode")} | _PYLIBJPEG | _GDCM, read_jpeg2000)
_HTJ2K: Final = Syntax({"imagecodecs": _signed_as_header_says("htj2k_decode")} | _PYLIBJPEG, read_jpeg2000)
_JPEG_XL: Final = Syntax({"imagecodecs": _jpeg_xl}, read_jpeg_xl)

#: Transfer syntax UID -> its decoders. Uncompressed: `dicom_node.native_frames`; video: `dicom_node.video`.
SYNTAXES: Final[dict[str, Syntax]] = {
    "1.2.840.10008.1.2.1.98": Syntax({"numpy": _packed}),
    uid.JPEGBaseline8Bit: _JPEG_LOSSY,
    uid.JPEGExtended12Bit: _JPEG_LOSSY,
    "1.2.840.10008.1.2.4.53": _JPEG_RETIRED,
    "1.2.840.10008.1.2.4.55": _JPEG_RETIRED,
    uid.JPEGLossless: _JPEG_LOSSLESS,
    uid.JPEGLosslessSV1: _JPEG_LOSSLESS,
    uid.JPEGLSLossless: _JPEG_LS,
    uid.JPEGLSNearLossless: _JPEG_LS,
    uid.JPEG2000Lossless: _JPEG_2000,
    uid.JPEG2000: _JPEG_2000,
    "1.2.840.10008.1.2.4.110": _JPEG_XL,
    "1.2.840.10008.1.2.4.111": _JPEG_XL,
    "1.2.840.10008.1.2.4.112": _JPEG_XL,
    uid.HTJ2KLossless: _HTJ2K,
    uid.HTJ2KLosslessRPCL: _HTJ2K,
    uid.HTJ2K: _HTJ2K,
    uid.RLELossless: Syntax({"imagecodecs": _rle, "pydicom": _pydicom("pydicom")}),
    "1.2.840.10008.1.2.8.1": Syntax({"zlib": _deflated_frame}),
}
