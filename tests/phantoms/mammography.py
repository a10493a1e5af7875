"""Mammograms with true headers: one breast, one view, bright tissue in black air (PS3.3 A.27, C.8.11.7).

Input: side and view. Output: a file in which dciodvfy finds no error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
)

from dicom_node.headers import InstanceFile
from tests.phantoms.ct import general
from tests.phantoms.elements import dataset, saved

ROWS, COLUMNS = 64, 48
#: Stored values of air, fat and the lump.
AIR, FAT, LUMP = 0, 1200, 3600
_VIEWS = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}


def write_mammogram(
    folder: Path, side: str, view: str, number: int = 1, *, for_processing: bool = False, **attributes: Any
) -> InstanceFile:
    """Write one view of one breast; the breast lies at the left edge for the left one, at the right for the other."""
    ds = Dataset()
    kind = (
        DigitalMammographyXRayImageStorageForProcessing
        if for_processing
        else DigitalMammographyXRayImageStorageForPresentation
    )
    general(ds, "50", number, kind)
    ds.Modality, ds.BodyPartExamined, ds.PatientSex = "MG", "BREAST", "F"
    del ds.PatientPosition, ds.FrameOfReferenceUID, ds.PositionReferenceIndicator
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.PresentationIntentType = "FOR PROCESSING" if for_processing else "FOR PRESENTATION"
    ds.AnatomicRegionSequence = [dataset(CodeValue="76752008", CodingSchemeDesignator="SCT", CodeMeaning="Breast")]
    value, meaning = _VIEWS[view]
    ds.ViewCodeSequence = [
        dataset(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning, ViewModifierCodeSequence=[])
    ]
    ds.ViewPosition, ds.ImageLaterality, ds.OrganExposed = view, side, "BREAST"
    ds.PatientOrientation = ["A", "R"] if side == "L" else ["P", "L"]
    ds.PositionerType, ds.DetectorType, ds.DetectorID = "MAMMOGRAPHIC", "DIRECT", "1"
    ds.PositionerPrimaryAngle = 0.0 if view == "CC" else 45.0
    ds.ImagerPixelSpacing, ds.BreastImplantPresent, ds.PartialView = [0.1, 0.1], "NO", "NO"
    ds.BurnedInAnnotation, ds.LossyImageCompression, ds.AcquisitionContextSequence = "NO", "00", []
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType, ds.PresentationLUTShape = 0, 1, "US", "IDENTITY"
    if not for_processing:
        ds.WindowCenter, ds.WindowWidth = 2048, 4096
    values = _breast(side)
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = values.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.update(dataset(**attributes))
    return saved(ds, folder / f"mg-{side}-{view}-{number}.dcm")


def _breast(side: str) -> Any:
    rows, columns = np.ogrid[:ROWS, :COLUMNS]
    values = np.full((ROWS, COLUMNS), AIR, dtype=np.uint16)
    values[np.hypot(rows - ROWS / 2, columns) < 30] = FAT
    values[np.hypot(rows - ROWS / 2 + 6, columns - 14) < 4] = LUMP
    return values if side == "L" else values[:, ::-1]
