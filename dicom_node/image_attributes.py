"""The image attributes of a stored instance, checked: a path in, `ImageAttributes` out (PS3.3 C.7.6.3, PS3.5 8).

Input: the path of an instance. Output: what its header says about its pixels, which stay on disk. Sizes are checked
before anything is allocated: Rows and Columns are what a sender claims, and a claim costs nothing. On failure:
`PixelError` naming the instance, the reason and the remedy.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.inflated import InflatedFile, deflated_data_set

#: Stored values of one frame: (rows, columns), or (rows, columns, 3) for colour, which is RGB.
Frame = NDArray[Any]

#: A longer element of the header stays on disk until somebody asks for it.
_LEFT_ON_DISK_BYTES: Final = 16 * 2**20
_MOST_HEADER_BYTES: Final = 64 * 2**20
_NATIVE: Final = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)
_PIXEL_DATA: Final = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
#: Where these letters follow the tag it is explicit VR whatever the transfer syntax says: as a length they are odd.
_PIXEL_VRS: Final = (b"OB", b"OW", b"OF", b"OD", b"UN")


class PixelError(Exception):
    """An instance's pixels cannot be read; permanent: the same bytes will fail again."""

    def __init__(self, sop_instance_uid: str, reason: str, remedy: str) -> None:
        super().__init__(f"instance {sop_instance_uid or '(no UID)'}: {reason}; {remedy}")
        self.sop_instance_uid = sop_instance_uid
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[PixelError], tuple[str, str, str]]:
        """Let it cross from one process to another as itself."""
        return type(self), (self.sop_instance_uid, self.reason, self.remedy)


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """The largest image that is decoded; beyond it a claim is taken for an error or an attack."""

    #: Rows and Columns each (the largest detectors have about 6,000; PS3.3 allows 65,535).
    max_side: int = 16384
    #: Decoded bytes of one frame; its compressed bytes may not be more either.
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
    #: Where in the file the pixel data element begins; the file's end where there is none. In a deflated file: where
    #: in what it inflates to.
    pixel_data_at: int

    def error(self, reason: str, remedy: str) -> PixelError:
        """Make an error about this instance."""
        return PixelError(self.sop_instance_uid, reason, remedy)

    @property
    def is_deflated(self) -> bool:
        """Whether the data set is one deflated stream (PS3.5 A.5)."""
        return bool(self.transfer_syntax == DeflatedExplicitVRLittleEndian)

    @property
    def is_encapsulated(self) -> bool:
        """Whether frames are fragments (PS3.5 A.4); pydicom tells only of transfer syntaxes that it knows."""
        return is_encapsulated(self.transfer_syntax)

    @property
    def planar_configuration(self) -> int:
        """0 where colours alternate by pixel, 1 where they are planes."""
        return int(self.dataset.get("PlanarConfiguration") or 0)

    def open(self) -> BinaryIO:
        """Open the file in which `pixel_data_at` counts."""
        return deflated_data_set(self.path) if self.is_deflated else self.path.open("rb", buffering=0)


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The head of a pixel data element (PS3.5 7.1)."""

    keyword: str
    vr: str
    #: As claimed; 0xFFFFFFFF where fragments follow.
    length: int
    #: Where in the file (or in what it inflates to) the value begins.
    value_at: int


def is_encapsulated(transfer_syntax_uid: str) -> bool:
    """Tell whether pixel data in this transfer syntax are fragments (PS3.5 A.4): in all but the uncompressed ones."""
    return transfer_syntax_uid not in _NATIVE


def read_attributes(path: Path) -> ImageAttributes:
    """Read the image attributes of an instance as its header claims them, whatever its transfer syntax.

    Raises:
        PixelError: It is no readable DICOM file, or an attribute is no number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what it puts right while it reads
        return _read_attributes(path)


def _read_attributes(path: Path) -> ImageAttributes:
    try:
        with path.open("rb") as file:
            deflated = InflatedFile.of(file)
            dataset, pixel_data_at = _read_deflated(deflated) if deflated else _read_plain(file)
        uid = str(dataset.get("SOPInstanceUID", ""))
        syntax = dataset.file_meta.get("TransferSyntaxUID")
    except Exception as error:
        raise PixelError(
            path.name, f"the file cannot be read as DICOM ({first_line(error)})", "send it again"
        ) from error
    if not syntax:
        raise PixelError(uid or path.name, "the file names no transfer syntax", "send it again")
    return _attributes(path, dataset, uid, UID(str(syntax)), pixel_data_at)


def _read_plain(file: BinaryIO) -> tuple[Dataset, int]:
    file.seek(0)
    dataset = dcmread(file, stop_before_pixels=True, force=True, defer_size=_LEFT_ON_DISK_BYTES)
    # pydicom leaves the file at the pixel data element, or at its end where there is none.
    return dataset, file.tell()


def _read_deflated(file: InflatedFile) -> tuple[Dataset, int]:
    """Read a header out of a deflated data set; dcmread would inflate all of it, however much that is."""

    def at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return tag in _PIXEL_DATA

    with file.limited(_MOST_HEADER_BYTES):
        dataset = read_dataset(
            cast(BinaryIO, file),
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, _vr, _length: tag in _PIXEL_DATA,
        )
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset, file.tell()


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
    except Exception as error:
        # pydicom converts a value when it is asked for, and each kind fails in its own way.
        raise PixelError(
            uid, f"its image attributes are not numbers ({first_line(error)})", "check the original"
        ) from error


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
    if image.bits_allocated not in (1, 8, 16, 32, 64) or image.samples not in (1, 3):
        raise image.error(
            f"BitsAllocated {image.bits_allocated} with SamplesPerPixel {image.samples} is not possible",
            "check the original",
        )
    if not 1 <= image.bits_stored <= image.bits_allocated:
        raise image.error(
            f"BitsStored {image.bits_stored} of BitsAllocated {image.bits_allocated} is not possible",
            "check the original",
        )
    size = frame_bits(image) // 8
    if size > limits.max_frame_bytes:
        raise image.error(
            f"one frame would take {size} bytes, the limit is {limits.max_frame_bytes}", "check the original"
        )


def frame_bits(image: ImageAttributes) -> int:
    """Return how many bits a frame takes, stored if uncompressed, else decoded."""
    bits = image.rows * image.columns * image.samples * image.bits_allocated
    # 4:2:2 stores two samples a pixel instead of three (PS3.3 C.7.6.3.1.2).
    if image.photometric == "YBR_FULL_422" and not image.is_encapsulated:
        return bits * 2 // 3
    return bits


def pixel_element(image: ImageAttributes, file: BinaryIO) -> PixelElement:
    """Read the head of the pixel data element in the image's open file. Raises `PixelError` where there is none."""
    file.seek(image.pixel_data_at)
    head = file.read(12)
    order = ">" if image.transfer_syntax == ExplicitVRBigEndian else "<"
    if len(head) == 12:
        group, element = struct.unpack(f"{order}HH", head[:4])
        keyword = _PIXEL_DATA.get(group << 16 | element)
        if keyword and head[4:6] in _PIXEL_VRS:
            length = struct.unpack(f"{order}I", head[8:12])[0]
            return PixelElement(keyword, head[4:6].decode("ascii"), length, image.pixel_data_at + 12)
        if keyword:
            return PixelElement(keyword, "OW", struct.unpack("<I", head[4:8])[0], image.pixel_data_at + 8)
    raise image.error("it has no pixel data", "send the instance with its pixels")


def spell(syntax: UID) -> str:
    """Name a transfer syntax for people."""
    return str(syntax) if syntax.name == str(syntax) else f"{syntax.name} ({syntax})"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
