"""CT slices to send: 512 x 512 x 16 bit, explicit VR little endian, one series per study, noise that does not compress.

Input: a folder and how many. Output: DICOM files, the same bytes for the same name on every machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.uids import derive_uid

ROWS = COLUMNS = 512


def write_slices(folder: Path, count: int, study: str) -> list[Path]:
    """Write `count` slices of the study named `study` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
    return [_write(folder / f"{number:04d}.dcm", number, study, noise) for number in range(count)]


def _write(path: Path, number: int, study: str, noise: np.ndarray) -> Path:
    ds = pydicom.Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = derive_uid("benchmark", study, str(number))
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260101"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "120000"
    ds.AccessionNumber = study
    ds.Modality = "CT"
    ds.Manufacturer = "Benchmark"
    ds.StudyDescription = "Abdomen"
    ds.SeriesDescription = "Axial 3 mm"
    ds.PatientName = "Benchmark^Ingest"
    ds.PatientID = "BENCH"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.PatientAge = "056Y"
    ds.BodyPartExamined = "ABDOMEN"
    ds.SliceThickness = "3"
    ds.KVP = "120"
    ds.ConvolutionKernel = "B30f"
    ds.StudyInstanceUID = derive_uid("benchmark", study)
    ds.SeriesInstanceUID = derive_uid("benchmark", study, "series")
    ds.FrameOfReferenceUID = derive_uid("benchmark", study, "frame of reference")
    ds.SeriesNumber = "1"
    ds.InstanceNumber = str(number + 1)
    ds.ImagePositionPatient = [-180, -180, -3 * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.PixelSpacing = ["0.7", "0.7"]
    ds.BitsAllocated = 16
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    ds.PixelData = np.roll(noise, number).tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path
