"""Drawn pictures -> DICOM stills with the headers a detector or a fundus camera writes: for the demo and the tests.

Input: one picture (see `models.phantoms`) and whose it shall be. Output: one instance in a folder, named by SOP
Instance UID, valid for `dciodvfy -new`. Nothing here is anybody's image. An array of a wrong shape raises `ValueError`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, OphthalmicPhotography8BitImageStorage, generate_uid

from dicom_node.codes import EYE, Code
from dicom_node.marking import concept
from worker.demo.phantom_studies import Identity, new_image, save_image, set_grey

CHEST = Code("816094009", "SCT", "Chest")
POSTERO_ANTERIOR = Code("399348003", "SCT", "postero-anterior")
FUNDUS_CAMERA = Code("409898007", "SCT", "Fundus Camera")


def write_chest_xray(folder: Path, pixels: NDArray[Any], **identity: Unpack[Identity]) -> Path:
    """Write one postero-anterior chest film as Digital X-Ray for presentation (PS3.3 A.26).

    Args:
        folder: Made where it does not exist.
        pixels: uint8 or uint16, shape (rows, columns); bright is dense.
        identity: See `worker.demo.phantom_studies.Identity`; the body part is CHEST.
    """
    if pixels.ndim != 2:
        raise ValueError(f"a film has rows and columns, not the shape {pixels.shape}")
    shown: Identity = {"body_part": "CHEST", "study_description": "Chest PA", **identity}
    ds = new_image(DigitalXRayImageStorageForPresentation, "DX", None, shown)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.AnatomicRegionSequence = [concept(CHEST)]
    ds.ViewCodeSequence, ds.ViewPosition = [concept(POSTERO_ANTERIOR)], "PA"
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = []
    ds.PositionerType = "NONE"
    ds.ImageLaterality, ds.PatientOrientation = "U", ["L", "F"]
    ds.ImagerPixelSpacing = [1.4, 1.4]
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.DetectorType, ds.DetectorID = "DIRECT", "1"
    ds.AcquisitionContextSequence = []
    set_grey(ds, pixels, "MONOCHROME2")
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "IDENTITY"
    full = float(1 << ds.BitsStored)
    ds.WindowCenter, ds.WindowWidth = full / 2, full
    del ds.PatientPosition  # which way up stands in PatientOrientation
    return save_image(ds, folder, shown)


def write_fundus_photograph(folder: Path, pixels: NDArray[np.uint8], **identity: Unpack[Identity]) -> Path:
    """Write one photograph of the ocular fundus (PS3.3 A.41).

    Args:
        folder: Made where it does not exist.
        pixels: uint8, shape (rows, columns, 3), RGB.
        identity: See `worker.demo.phantom_studies.Identity`; the body part is EYE.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"a photograph is uint8 (rows, columns, 3), not {pixels.dtype} {pixels.shape}")
    shown: Identity = {"body_part": "EYE", "study_description": "Fundus photography", **identity}
    ds = new_image(OphthalmicPhotography8BitImageStorage, "OP", None, shown)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "COLOR"]
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = 1, 0, 0x00181063
    ds.SynchronizationFrameOfReferenceUID = generate_uid()
    ds.SynchronizationTrigger, ds.AcquisitionTimeSynchronized = "NO TRIGGER", "N"
    ds.AnatomicRegionSequence = [concept(EYE)]
    ds.ImageLaterality, ds.PatientOrientation = "L", ["L", "F"]
    ds.AcquisitionDeviceTypeCodeSequence = [concept(FUNDUS_CAMERA)]
    ds.AcquisitionDateTime = ds.AcquisitionDate + ds.AcquisitionTime
    ds.HorizontalFieldOfView, ds.DetectorType = 45.0, "CCD"
    # Type 2: there, and unknown.
    for unknown in ("EmmetropicMagnification", "IntraOcularPressure", "PupilDilated", "PatientEyeMovementCommanded"):
        setattr(ds, unknown, None)
    for unknown in (
        *("RefractiveStateSequence", "IlluminationTypeCodeSequence", "LightPathFilterTypeStackCodeSequence"),
        *("ImagePathFilterTypeStackCodeSequence", "LensesCodeSequence"),
    ):
        setattr(ds, unknown, [])
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.PixelSpacing = [0.05, 0.05]
    _set_colour(ds, pixels)
    return save_image(ds, folder, shown)


def _set_colour(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    stored = pixels.tobytes()
    ds.PixelData = stored + b"\0" * (len(stored) % 2)
    ds["PixelData"].VR = "OB"
