"""Small images in any transfer syntax: values in, a DICOM file out, encoded by whichever encoder is at hand."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless, generate_uid

Values = NDArray[Any]
JPEG = "1.2.840.10008.1.2.4."
#: pydicom writes none of these: JPEG XL, Deflated Image Frame Compression.
_UNKNOWN_TO_PYDICOM: Final = (JPEG + "110", JPEG + "111", JPEG + "112", "1.2.840.10008.1.2.8.1")


def smooth(shape: tuple[int, ...], bits: int, *, signed: bool = False, seed: int = 0) -> Values:
    """Return values that fill `bits` bits, smooth with a little noise, as an image has them."""
    rng = np.random.default_rng(seed)
    rows, columns = shape[:2]
    y, x = np.mgrid[:rows, :columns]
    wave = 0.5 + 0.45 * np.sin(x / 9 + seed) * np.cos(y / 7)
    if len(shape) == 3:
        wave = np.stack([wave, 1 - wave, 0.5 + 0 * wave], axis=-1)
    values = (wave + rng.normal(0, 0.01, shape)).clip(0, 1) * (2**bits - 1)
    values = np.rint(values).astype(np.int64) - (2 ** (bits - 1) if signed else 0)
    return values.astype(np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2 if bits <= 16 else 4}"))


def write_image(
    path: Path,
    values: Values,
    syntax: str = ExplicitVRLittleEndian,
    encoded: Sequence[bytes] | None = None,
    *,
    table: str = "basic",
    fragments: int = 1,
    **attributes: Any,
) -> Path:
    """Write a Secondary Capture or Multi-frame one and return its path.

    Args:
        path: Where.
        values: (frames, rows, columns) or (frames, rows, columns, 3); with `encoded` only the sizes count.
        syntax: Transfer syntax UID; little endian unless it is of compressed frames.
        encoded: The codestreams.
        table: "basic", "extended" or "none": which offset table.
        fragments: How many each frame is cut into.
        attributes: Elements that differ from what `values` say.
    """
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.7", generate_uid(), "OT"
    ds.NumberOfFrames, ds.Rows, ds.Columns = values.shape[:3]
    ds.SamplesPerPixel = 3 if values.ndim == 4 else 1
    ds.PhotometricInterpretation = "RGB" if values.ndim == 4 else "MONOCHROME2"
    if values.ndim == 4:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = values.dtype.itemsize * 8
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.HighBit = ds.BitsStored - 1
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    if encoded is None:
        ds.PixelData = _stored(values, ds.BitsAllocated, big_endian=syntax == ExplicitVRBigEndian)
    elif table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(list(encoded))
    else:
        ds.PixelData = encapsulate(list(encoded), fragments_per_frame=fragments, has_bot=table == "basic")
    ds["PixelData"].VR = "OB" if encoded is not None or ds.BitsAllocated == 1 else "OW"
    ds["PixelData"].is_undefined_length = encoded is not None
    if syntax in _UNKNOWN_TO_PYDICOM:
        ds.file_meta.TransferSyntaxUID = UID(JPEG + ("201" if len(syntax) == 23 else "90"))
    ds.save_as(
        path,
        implicit_vr=syntax == "1.2.840.10008.1.2",
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    written = ds.file_meta.TransferSyntaxUID
    if written != syntax:
        path.write_bytes(path.read_bytes().replace(written.encode(), syntax.encode().ljust(len(written), b"\0"), 1))
    return path


def _stored(values: Values, bits_allocated: int, *, big_endian: bool) -> bytes:
    if bits_allocated == 1:
        data = np.packbits(values.reshape(-1), bitorder="little").tobytes()
    else:
        data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    data += b"\0" * (len(data) % 2)
    if big_endian and bits_allocated == 8:  # OW: bytes in words, the more significant first
        return np.frombuffer(data, ">u2").astype("<u2").tobytes()
    return data


def rle(frame: Values) -> bytes:
    """Encode as RLE with pydicom's own encoder."""
    colour = frame.ndim == 3
    return get_encoder(RLELossless).encode(
        frame.astype(frame.dtype.newbyteorder("<")).tobytes(),
        index=0,
        rows=frame.shape[0],
        columns=frame.shape[1],
        samples_per_pixel=3 if colour else 1,
        planar_configuration=0,
        photometric_interpretation="RGB" if colour else "MONOCHROME2",
        bits_allocated=8 * frame.dtype.itemsize,
        bits_stored=8 * frame.dtype.itemsize,
        pixel_representation=int(frame.dtype.kind == "i"),
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


def _unsigned(frame: Values) -> Values:
    return frame.view(f"u{frame.dtype.itemsize}")


def _deflated(frame: Values) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(frame.tobytes()) + engine.flush()


def jpeg_lossless(frame: Values, predictor: int = 1) -> bytes:
    """Encode as lossless JPEG with libjpeg-turbo."""
    return bytes(imagecodecs.jpeg8_encode(_unsigned(frame), lossless=True, predictor=predictor))


#: Transfer syntax -> an encoder that loses nothing. JPEG 2000 and HTJ2K keep a sign, the others know none.
LOSSLESS: Final[dict[str, Callable[[Values], bytes]]] = {
    "1.2.840.10008.1.2.1.98": lambda frame: frame.tobytes(),
    JPEG + "57": jpeg_lossless,
    JPEG + "70": jpeg_lossless,
    JPEG + "80": lambda frame: bytes(imagecodecs.jpegls_encode(_unsigned(frame))),
    JPEG + "90": lambda frame: bytes(imagecodecs.jpeg2k_encode(frame, reversible=True, codecformat="j2k")),
    JPEG + "110": lambda frame: bytes(imagecodecs.jpegxl_encode(_unsigned(frame), lossless=True)),
    JPEG + "201": lambda frame: bytes(imagecodecs.htj2k_encode(frame, reversible=True)),
    JPEG + "202": lambda frame: bytes(imagecodecs.htj2k_encode(frame, reversible=True)),
    RLELossless: rle,
    "1.2.840.10008.1.2.8.1": _deflated,
}


def dcmtk(tool: str, source: Path, target: Path, *options: str) -> Path:
    """Convert with one of dcmtk's tools and return the target."""
    subprocess.run([tool, *options, str(source), str(target)], check=True, capture_output=True)
    return target
