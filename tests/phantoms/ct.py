"""CT Image Storage phantoms with true headers: series as scanners send them, good and odd (PS3.3 A.3).

Input: where the slices lie, and what the console says of them. Output: files in which dciodvfy finds no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from dicom_node.headers import InstanceFile, read_header
from dicom_node.uids import derive_uid
from tests.phantoms.elements import dataset
from tests.phantoms.volume import COLUMNS, PIXEL_MM, ROWS, PhantomPlane

#: Row and column cosines by PatientPosition, as scanners write them: positions and cosines are the patient's own.
COSINES = {
    "HFS": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "HFP": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "FFS": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "FFP": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
}
STUDY = derive_uid("phantom", "study")
FRAME_OF_REFERENCE = derive_uid("phantom", "frame of reference")


def write_ct(
    folder: Path, planes: Sequence[PhantomPlane], *, series: str = "1", first_number: int = 1, **attributes: Any
) -> list[InstanceFile]:
    """Write a slice for each plane and return the files; `attributes` are set in each, by DICOM keyword.

    InstanceNumber descends with the planes' order, as most scanners number from the head down.
    """
    written = []
    for index, plane in enumerate(planes):
        number = first_number + len(planes) - 1 - index
        path = folder / f"{series}-{number:04d}.dcm"
        ds = ct_slice(plane, series, number)
        ds.update(dataset(**attributes))
        ds.save_as(path, enforce_file_format=True)
        written.append(InstanceFile(read_header(path), path))
    return written


def ct_slice(plane: PhantomPlane, series: str, number: int) -> Dataset:
    """Return one slice of a series as a data set with its file meta information."""
    ds = Dataset()
    general(ds, series, number, CTImageStorage)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(plane.position), list(plane.orientation)
    ds.PixelSpacing, ds.SliceThickness = [PIXEL_MM, PIXEL_MM], 5
    ds.KVP, ds.ConvolutionKernel, ds.ReconstructionDiameter = 120, "B30f", PIXEL_MM * COLUMNS
    ds.AcquisitionNumber, ds.AcquisitionTime, ds.AcquisitionDate = 1, "100000", "20260101"
    pixels(ds)
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = 50, 400
    ds.PixelData = (plane.hounsfield() + 1024).astype("<u2").tobytes()
    return ds


def general(ds: Dataset, series: str, number: int, sop_class_uid: str) -> None:
    """Set what every image of the phantom study has in common: patient, study, series, equipment."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(derive_uid("phantom", series, str(number)))
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom^Rod", "ROD", "19700101", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, derive_uid("phantom", "series", series)
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260101", "100000", "1", "A1"
    ds.ReferringPhysicianName, ds.PositionReferenceIndicator = "", ""
    ds.SeriesDate, ds.SeriesTime, ds.SeriesNumber, ds.Modality = "20260101", "100000", int(series), "CT"
    ds.ContentDate, ds.ContentTime, ds.InstanceNumber = "20260101", "100000", number
    ds.BodyPartExamined, ds.PatientPosition, ds.FrameOfReferenceUID = "ABDOMEN", "HFS", FRAME_OF_REFERENCE
    ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber = "Phantom maker", "Rod", "1"
    ds.SoftwareVersions = "1"


def pixels(ds: Dataset) -> None:
    """Set the image pixel module's description: 16 bits unsigned grey."""
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
