"""Drawn pixels -> DICOM files with the headers a scanner would write: for the demo, the tests and the benchmarks.

Input: arrays (see `models.phantoms`) and whose they shall be. Output: files in a folder, named by SOP Instance UID,
valid for `dciodvfy -new`. UIDs are new with every call unless given. Nothing here is anybody's image. An array of a
wrong shape raises `ValueError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    generate_uid,
)


class Identity(TypedDict, total=False):
    """Whose images they are, and of which study; every part has a default, UIDs a new one."""

    patient_id: str
    #: PN, e.g. "Phantom^Ada"; any script.
    patient_name: str
    #: DA, e.g. "19710204"; empty by default, the age stands for it.
    birth_date: str
    #: PatientAge (AS), e.g. "054Y"; "" leaves it out.
    age: str
    sex: str
    accession_number: str
    study_uid: str | None
    series_uid: str | None
    study_description: str
    series_description: str
    series_number: int
    #: RequestedProcedurePriority, e.g. "STAT"; left out by default.
    priority: str
    body_part: str
    station_name: str
    #: DICOM transfer syntax to write in; the pixels are compressed if it is RLE Lossless or JPEG-LS or JPEG 2000.
    transfer_syntax: str


def write_xa_run(
    folder: Path,
    frames: NDArray[Any],
    *,
    sop_instance_uid: str | None = None,
    frame_time_ms: float = 250.0,
    mask_frames: Sequence[int] = (),
    photometric: str = "MONOCHROME2",
    **identity: Unpack[Identity],
) -> Path:
    """Write one XA run (X-Ray Angiographic Image Storage, multi-frame) and return its path.

    Args:
        folder: Made where it does not exist.
        frames: uint8 or uint16 (12 bits used), shape (frames, rows, columns).
        sop_instance_uid: New if None.
        frame_time_ms: Time between frames.
        mask_frames: Frames counted from 1 whose mean is the mask: the header then recommends subtraction (C.7.6.10).
        photometric: MONOCHROME2, or MONOCHROME1, which the standard does not allow here but the field sends; the
            values are written as given.
        identity: See `Identity`.
    """
    if frames.ndim != 3:
        raise ValueError(f"a run is (frames, rows, columns), not an array of shape {frames.shape}")
    ds = new_image(XRayAngiographicImageStorage, "XA", sop_instance_uid, {"body_part": "LEG", **identity})
    ds.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    ds.NumberOfFrames = len(frames)
    ds.FrameTime = frame_time_ms
    ds.FrameIncrementPointer = 0x00181063
    ds.PixelIntensityRelationship = "DISP"
    ds.RadiationSetting = "GR"
    ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime = 75, 400, 50
    ds.PositionerMotion = "STATIC"
    ds.PositionerPrimaryAngle, ds.PositionerSecondaryAngle = 0, 0
    ds.DistanceSourceToDetector, ds.DistanceSourceToPatient = 1050, 750
    ds.ImagerPixelSpacing = [0.308, 0.308]
    ds.ContrastBolusAgent = "Iohexol 300"
    ds.PatientOrientation = ["L", "F"]
    if mask_frames:
        mask = Dataset()
        mask.MaskOperation = "AVG_SUB"
        mask.MaskFrameNumbers = list(mask_frames)
        ds.MaskSubtractionSequence = [mask]
        ds.RecommendedViewingMode = "SUB"
    set_grey(ds, frames, photometric)
    return save_image(ds, folder, identity)


def write_ct_series(
    folder: Path,
    hounsfield: NDArray[np.int16],
    *,
    pixel_spacing_mm: float = 0.8,
    slice_spacing_mm: float = 5.0,
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    **identity: Unpack[Identity],
) -> list[Path]:
    """Write an axial CT series and return its files in the order of the volume: head end first.

    Args:
        folder: Made where it does not exist.
        hounsfield: int16, shape (slices, rows, columns), Hounsfield units, head end first.
        pixel_spacing_mm: Between rows and between columns.
        slice_spacing_mm: Between slices; also SliceThickness.
        image_type: ImageType of every slice.
        identity: See `Identity`.
    """
    if hounsfield.ndim != 3:
        raise ValueError(f"a volume is (slices, rows, columns), not an array of shape {hounsfield.shape}")
    whose: Identity = {"body_part": "ABDOMEN", "series_description": "Abdomen 5.0 B30f", **identity}
    shared: Identity = {**whose, **_new_uids(whose)}
    frame_of_reference = generate_uid()
    paths = []
    for number, plane in enumerate(hounsfield, 1):
        ds = new_image(CTImageStorage, "CT", None, shared)
        ds.ImageType = list(image_type)
        ds.ProtocolName = "AbdomenTrauma"
        _set_plane(ds, plane.shape, frame_of_reference, pixel_spacing_mm, slice_spacing_mm, number)
        ds.AcquisitionNumber = 1
        ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime = 120, 220, 500
        ds.ConvolutionKernel = "B30f"
        ds.ContrastBolusAgent = "Iohexol 300"
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = 50, 400
        ds.InstanceNumber = number
        set_grey(ds, np.clip(plane.astype(np.int32) + 1024, 0, 4095).astype(np.uint16), "MONOCHROME2")
        paths.append(save_image(ds, folder, shared))
    return paths


def write_ct_localizer(folder: Path, *, size: int = 128, **identity: Unpack[Identity]) -> Path:
    """Write a CT topogram: coronal, ImageType LOCALIZER, BodyPartExamined ABDOMEN as scanners write it."""
    ds = new_image(
        CTImageStorage, "CT", None, {"body_part": "ABDOMEN", "series_description": "Topogram 0.6 T20f", **identity}
    )
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    _set_plane(ds, (size, size), generate_uid(), 4.0, 0.6, 1)
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.AcquisitionNumber = 1
    ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime = 120, 35, 3000
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "US"
    shade = np.linspace(400, 1600, size).astype(np.uint16)
    set_grey(ds, np.minimum(shade[:, np.newaxis], shade[np.newaxis, ::-1]), "MONOCHROME2")
    return save_image(ds, folder, identity)


def write_dose_screen(folder: Path, *, size: int = 128, **identity: Unpack[Identity]) -> Path:
    """Write a dose screen: a Secondary Capture with modality CT, which only its SOP class tells from a slice."""
    ds = new_image(
        SecondaryCaptureImageStorage,
        "CT",
        None,
        {"body_part": "ABDOMEN", "series_description": "Patient Protocol", "series_number": 501, **identity},
    )
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]
    ds.ConversionType = "WSD"
    ds.PatientOrientation = ""
    lines = np.zeros((size, size), dtype=np.uint8)
    lines[8::12, 6 : size // 2] = 220
    lines[8::12, size // 2 + 6 : -6] = 160
    set_grey(ds, lines, "MONOCHROME2")
    return save_image(ds, folder, identity)


def write_mr_series(folder: Path, *, slices: int = 4, size: int = 64, **identity: Unpack[Identity]) -> list[Path]:
    """Write an MR series of the head."""
    whose: Identity = {"body_part": "HEAD", "series_description": "t1_se_tra", **identity}
    shared: Identity = {**whose, **_new_uids(whose)}
    frame_of_reference = generate_uid()
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    head = np.clip(900 * (0.42 - np.hypot(x, y)) / 0.1, 0, 900).astype(np.uint16)
    paths = []
    for number in range(1, slices + 1):
        ds = new_image(MRImageStorage, "MR", None, shared)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        _set_plane(ds, head.shape, frame_of_reference, 240.0 / size, 5.0, number)
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "NONE", "", "2D"
        ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = 500, 12, 1
        ds.InstanceNumber = number
        set_grey(ds, head, "MONOCHROME2")
        paths.append(save_image(ds, folder, shared))
    return paths


def _new_uids(identity: Identity) -> Identity:
    """Return the study and series UIDs of one series: those given, else new ones."""
    return {
        "study_uid": identity.get("study_uid") or generate_uid(),
        "series_uid": identity.get("series_uid") or generate_uid(),
    }


def new_image(sop_class_uid: str, modality: str, sop_instance_uid: str | None, identity: Identity) -> Dataset:
    """Return the patient, study, series, equipment and SOP common modules of one instance."""
    uids, now = _new_uids(identity), datetime.now(UTC)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, sop_instance_uid or generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uids["study_uid"], uids["series_uid"]
    ds.PatientName = identity.get("patient_name", "Phantom^Ada")
    ds.PatientID = identity.get("patient_id", "PHANTOM")
    ds.PatientBirthDate = identity.get("birth_date", "")
    ds.PatientSex = identity.get("sex", "F")
    if age := identity.get("age", "054Y"):
        ds.PatientAge = age
    ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = identity.get("accession_number", ""), "1", ""
    ds.StudyDescription = identity.get("study_description", f"{modality} phantom")
    ds.SeriesDescription = identity.get("series_description", f"{modality} drawn")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = now.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = now.strftime("%H%M%S")
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, identity.get("series_number", 1), 1
    ds.BodyPartExamined = identity.get("body_part", "")
    # Paired or unpaired: the body part says which, and a vessel run of one leg must say which one (C.7.3.1).
    if ds.BodyPartExamined == "LEG":
        ds.Laterality = "L"
    ds.PatientPosition = "HFS"
    ds.Manufacturer, ds.ManufacturerModelName = "Drawn phantoms", "Phantom 1"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.InstitutionName = "Phantom Hospital"
    ds.StationName = identity.get("station_name", f"{modality}1")
    if priority := identity.get("priority", ""):
        ds.RequestedProcedurePriority = priority
    return ds


def _set_plane(
    ds: Dataset,
    shape: tuple[int, ...],
    frame_of_reference: str,
    pixel_spacing_mm: float,
    slice_spacing_mm: float,
    number: int,
) -> None:
    """Set the image plane of an axial slice, the first one uppermost (C.7.6.2)."""
    rows, columns = shape
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame_of_reference, ""
    ds.PixelSpacing = [pixel_spacing_mm, pixel_spacing_mm]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    place = (-columns / 2 * pixel_spacing_mm, -rows / 2 * pixel_spacing_mm, -(number - 1) * slice_spacing_mm)
    ds.ImagePositionPatient = [round(part, 3) for part in place]
    ds.SliceThickness = slice_spacing_mm
    ds.SliceLocation = round(place[2], 3)


def set_grey(ds: Dataset, pixels: NDArray[Any], photometric: str) -> None:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"stored values must be uint8 or uint16, not {pixels.dtype}")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = 8 if pixels.dtype == np.uint8 else 12 if pixels.max(initial=0) < 4096 else 16
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    stored = pixels.tobytes()
    ds.PixelData = stored + b"\0" * (len(stored) % 2)
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"


def save_image(ds: Dataset, folder: Path, identity: Identity, encoded_in: str | None = None) -> Path:
    """Write an instance and return its path; pixels not yet `encoded_in` a syntax are put into the identity's one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(encoded_in or ExplicitVRLittleEndian)
    file = FileDataset(path, ds, preamble=b"\0" * 128, file_meta=meta)
    file.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    wanted = identity.get("transfer_syntax", ExplicitVRLittleEndian)
    if encoded_in is None and wanted != ExplicitVRLittleEndian:
        file.compress(wanted, generate_instance_uid=False)
    file.save_as(path, enforce_file_format=True)
    return path
