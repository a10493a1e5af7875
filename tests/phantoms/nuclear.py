"""PET slices and scintigrams with true headers and known activity (PS3.3 A.21 PET, A.5 NM; C.8.9, C.8.4).

Input: activities. Output: files in which dciodvfy finds no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage, PositronEmissionTomographyImageStorage

from dicom_node.headers import InstanceFile
from tests.phantoms.ct import general
from tests.phantoms.elements import dataset, saved

SIZE = 32
PIXEL_MM = 4.0
_FDG = dataset(CodeValue="35321007", CodingSchemeDesignator="SCT", CodeMeaning="Fludeoxyglucose F^18^")
_F18 = dataset(CodeValue="77004003", CodingSchemeDesignator="SCT", CodeMeaning="^18^Fluorine")


def write_pet(folder: Path, activities: Sequence[NDArray[np.float32]], **attributes: Any) -> list[InstanceFile]:
    """Write a slice for each activity (Bq/ml, rows x columns), feet first, each with a rescale slope of its own."""
    written = []
    for index, activity in enumerate(activities):
        ds = Dataset()
        number = len(activities) - index
        general(ds, "40", number, PositronEmissionTomographyImageStorage)
        ds.Modality, ds.ImageType = "PT", ["ORIGINAL", "PRIMARY"]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-64.0, -64.0, 5.0 * index], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [PIXEL_MM, PIXEL_MM], 5
        slope = max(float(activity.max()), 1.0) / 32000
        _pixels(ds, np.round(activity / slope).astype(np.int16), signed=True)
        ds.RescaleIntercept, ds.RescaleSlope = 0, f"{slope:.12g}"[:16]
        del ds.PatientPosition
        _pet_series(ds, len(activities))
        ds.ImageIndex, ds.FrameReferenceTime, ds.ActualFrameDuration = number, 60000.0, 120000
        ds.AcquisitionDate, ds.AcquisitionTime, ds.LossyImageCompression = "20260101", "100000", "00"
        ds.DecayFactor = 1.02
        ds.update(dataset(**attributes))
        written.append(saved(ds, folder / f"pet-{number:03d}.dcm"))
    return written


def _pet_series(ds: Dataset, slices: int) -> None:
    ds.Units, ds.CountsSource, ds.SeriesType = "BQML", "EMISSION", ["STATIC", "IMAGE"]
    ds.NumberOfSlices, ds.CorrectedImage, ds.DecayCorrection = slices, ["DECY", "ATTN", "SCAT"], "START"
    ds.CollimatorType = "NONE"
    ds.RandomsCorrectionMethod, ds.AttenuationCorrectionMethod, ds.ScatterCorrectionMethod = "DLYD", "CT", "model"
    ds.ReconstructionMethod = "OSEM 3i21s"
    medicine = dataset(RadionuclideCodeSequence=[_F18], RadiopharmaceuticalCodeSequence=[_FDG])
    medicine.RadiopharmaceuticalStartTime, medicine.RadionuclideTotalDose = "090000", 300e6
    medicine.RadionuclideHalfLife = 6586.2
    ds.RadiopharmaceuticalInformationSequence = [medicine]
    ds.PatientOrientationCodeSequence = [_lying()]
    ds.PatientGantryRelationshipCodeSequence = [
        dataset(CodeValue="102540001", CodingSchemeDesignator="SCT", CodeMeaning="headfirst")
    ]


def write_scintigram(folder: Path, counts: NDArray[np.uint16], kind: str, **attributes: Any) -> InstanceFile:
    """Write counts, (frames, rows, columns), as one NM image of a kind: WHOLE BODY, DYNAMIC or STATIC."""
    ds = Dataset()
    general(ds, "41", 1, NuclearMedicineImageStorage)
    ds.Modality, ds.ImageType = "NM", ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
    ds.PatientOrientation = ""
    _pixels(ds, counts, signed=False)
    del ds.PatientPosition, ds.FrameOfReferenceUID, ds.PositionReferenceIndicator
    ds.PixelSpacing, ds.NumberOfFrames = [PIXEL_MM, PIXEL_MM], len(counts)
    heads = 2 if kind == "WHOLE BODY" else 1
    ones = [1] * len(counts)
    # Which head, energy window and time each frame is of (C.8.4.8).
    pointers = [0x00540010, 0x00540020]
    ds.EnergyWindowVector, ds.NumberOfEnergyWindows = ones, 1
    ds.DetectorVector, ds.NumberOfDetectors = [1 + frame % heads for frame in range(len(counts))], heads
    if kind == "DYNAMIC":
        pointers += [0x00540030, 0x00540100]
        ds.PhaseVector, ds.NumberOfPhases = ones, 1
        ds.TimeSliceVector = list(range(1, len(counts) + 1))
        phase = dataset(
            PhaseDelay=0, ActualFrameDuration=10000, PauseBetweenFrames=0, NumberOfFramesInPhase=len(counts)
        )
        ds.PhaseInformationSequence = [phase]
    if kind == "WHOLE BODY":
        ds.ScanVelocity, ds.ScanLength, ds.WholeBodyTechnique = 2.0, 1800, "1PS"
    ds.FrameIncrementPointer = pointers
    if kind != "DYNAMIC":
        ds.ActualFrameDuration = 600000
    ds.CountsAccumulated, ds.LossyImageCompression = int(counts.sum()), "00"
    ds.AcquisitionDate, ds.AcquisitionTime = "20260101", "100000"
    ds.EnergyWindowInformationSequence = [
        dataset(
            EnergyWindowRangeSequence=[dataset(EnergyWindowLowerLimit=126, EnergyWindowUpperLimit=154)],
            EnergyWindowName="Tc99m",
        )
    ]
    ds.RadiopharmaceuticalInformationSequence = [_technetium()]
    ds.DetectorInformationSequence = [
        dataset(
            CollimatorGridName="LEHR", CollimatorType="PARA", FieldOfViewShape="RECTANGLE", FieldOfViewDimensions=540
        )
        for _ in range(heads)
    ]
    for number, item in enumerate(ds.DetectorInformationSequence):
        item.ImagePositionPatient, item.ImageOrientationPatient = None, None
        item.StartAngle, item.RadialPosition = 180.0 * number, [250.0]
        item.ViewCodeSequence = [_view("anterior" if number == 0 else "posterior")]
    ds.PatientOrientationCodeSequence = [_lying()]
    ds.PatientGantryRelationshipCodeSequence = [
        dataset(CodeValue="102540001", CodingSchemeDesignator="SCT", CodeMeaning="headfirst")
    ]
    ds.update(dataset(**attributes))
    return saved(ds, folder / f"{kind.lower().replace(' ', '-')}.dcm")


def _technetium() -> Dataset:
    nuclide = dataset(CodeValue="72454001", CodingSchemeDesignator="SCT", CodeMeaning="^99m^Technetium")
    return dataset(RadionuclideCodeSequence=[nuclide], RadiopharmaceuticalStartTime="080000")


def _view(meaning: str) -> Dataset:
    value = {"anterior": "399132005", "posterior": "399135007"}[meaning]
    return dataset(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning, ViewModifierCodeSequence=[])


def _lying() -> Dataset:
    supine = dataset(CodeValue="40199007", CodingSchemeDesignator="SCT", CodeMeaning="supine")
    return dataset(
        CodeValue="102538003",
        CodingSchemeDesignator="SCT",
        CodeMeaning="recumbent",
        PatientOrientationModifierCodeSequence=[supine],
    )


def _pixels(ds: Dataset, values: NDArray[Any], *, signed: bool) -> None:
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, int(signed)
    ds.PixelData = values.astype("<i2" if signed else "<u2").tobytes()
    ds["PixelData"].VR = "OW"
