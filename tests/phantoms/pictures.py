"""Stills and cines of what a viewer must not only window: a film with VOI LUTs, ultrasound in colour and in a palette.

Input: pixels, or nothing: then a picture whose every value is known. Output: files in which dciodvfy finds no error
(PS3.3 A.26 DX, A.6 and A.7 ultrasound; regions C.8.5.5, palettes C.7.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from worker.demo.phantom_pictures import write_chest_xray
from worker.demo.phantom_studies import new_image, save_image

#: The ultrasound picture proper: rows and columns, first and last, counted from 0.
US_ROWS: Final = (10, 69)
US_COLUMNS: Final = (20, 99)
US_SIZE: Final = (90, 120)


def write_film_with_voi_luts(
    folder: Path, *luts: Sequence[int], bits: int = 12, photometric: str = "MONOCHROME2"
) -> Path:
    """Write a film, all values of `bits` bits in a ramp, that has VOI LUTs and no window."""
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 2**bits
    path = write_chest_xray(folder, ramp)
    ds = dcmread(path)
    del ds.WindowCenter, ds.WindowWidth
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.VOILUTSequence = [_voi_lut(entries) for entries in luts]
    if photometric == "MONOCHROME1":
        ds.PhotometricInterpretation, ds.PresentationLUTShape = "MONOCHROME1", "INVERSE"
        ds.PixelIntensityRelationshipSign = -1
    ds.save_as(path, enforce_file_format=True)
    return path


def _voi_lut(entries: Sequence[int]) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, 0, max(10, max(entries).bit_length())]
    item.LUTExplanation = f"{len(entries)} entries"
    item.LUTData = list(entries)
    for keyword in ("LUTDescriptor", "LUTData"):
        item[keyword].VR = "US"
    return item


def ultrasound_frames(count: int = 3) -> NDArray[np.uint8]:
    """Return RGB frames: grey speckle and a red jet in the region, white writing outside of it."""
    rng = np.random.default_rng(4)
    frames = np.zeros((count, *US_SIZE, 3), dtype=np.uint8)
    inside = (slice(None), slice(US_ROWS[0], US_ROWS[1] + 1), slice(US_COLUMNS[0], US_COLUMNS[1] + 1))
    speckle = rng.integers(20, 160, frames[inside].shape[:3], dtype=np.uint8)
    frames[inside] = speckle[..., np.newaxis]
    for number in range(count):
        frames[number, 30 : 36 + number, 40:60] = (200, 20, 10)
    frames[:, 2:6, 4:60] = 255
    return frames


def write_ultrasound_cine(folder: Path, frames: NDArray[np.uint8]) -> Path:
    """Write a colour cine: RGB frames as Ultrasound Multi-frame Image, its region named."""
    ds = _ultrasound(UltrasoundMultiFrameImageStorage)
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = len(frames), 40.0, 0x00181063
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    _set_pixels(ds, frames, US_SIZE)
    return save_image(ds, folder, {})


def write_palette_picture(
    folder: Path, places: NDArray[np.uint8], palette: NDArray[np.uint16], *, bits: int = 16, segmented: Any = None
) -> Path:
    """Write an ultrasound still whose values are places in a palette.

    Args:
        folder: Made where it does not exist.
        places: uint8, (rows, columns).
        palette: uint16, (entries, 3): red, green and blue.
        bits: Of an entry: 16, or 8, which ultrasound may not have but the field sends.
        segmented: Segmented data (PS3.3 C.7.9.2) to store for each colour instead of the entries one by one.
    """
    ds = _ultrasound(UltrasoundImageStorage)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "PALETTE COLOR"
    for column, name in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [len(palette) % 2**16, 0, bits])
        ds[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        entries = palette[:, column] if segmented is None else np.asarray(segmented, dtype=np.uint16)
        data = entries.astype("<u2" if bits > 8 else "u1").tobytes()
        prefix = "" if segmented is None else "Segmented"
        setattr(ds, f"{prefix}{name}PaletteColorLookupTableData", data + b"\0" * (len(data) % 2))
    _set_pixels(ds, places, places.shape)
    return save_image(ds, folder, {})


def _ultrasound(sop_class_uid: str) -> Dataset:
    ds = new_image(sop_class_uid, "US", None, {"body_part": "HEART"})
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    ds.PatientOrientation, ds.LossyImageCompression = "", "00"
    ds.UltrasoundColorDataPresent = 1
    del ds.PatientPosition
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = US_COLUMNS
    region.RegionLocationMinY0, region.RegionLocationMaxY1 = US_ROWS
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    ds.SequenceOfUltrasoundRegions = [region]
    return ds


def _set_pixels(ds: Dataset, pixels: NDArray[np.uint8], size: tuple[int, ...]) -> None:
    ds.Rows, ds.Columns = size
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    stored = pixels.tobytes()
    ds.PixelData = stored + b"\0" * (len(stored) % 2)
    ds["PixelData"].VR = "OB"
