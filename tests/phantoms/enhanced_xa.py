"""Enhanced XA runs (PS3.3 A.47): the same pictures as the classic ones, their attributes in functional groups.

Input: frames, how the detector writes intensities, what the Mask Module says, and the shifts of single frames. Output:
a file in which dciodvfy finds no error. Functional groups C.7.6.16.2 and C.8.19.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from tests.phantoms.angiography import Detector
from tests.phantoms.elements import dataset
from worker.demo.phantom_studies import new_image, save_image, set_grey

ENHANCED_XA: Final = UID("1.2.840.10008.5.1.4.1.1.12.1.1")


def write_enhanced_xa(
    folder: Path,
    frames: NDArray[np.uint16],
    detector: Detector,
    *masks: Mapping[str, Any],
    shifts: Mapping[int, Sequence[tuple[int, float, float]]] | None = None,
    to_log: Sequence[int] = (),
) -> Path:
    """Write an Enhanced XA run.

    Args:
        folder: Made where it does not exist.
        frames: uint16, (frames, rows, columns).
        detector: How intensities became values.
        masks: Items of MaskSubtractionSequence; the run is to be subtracted if there are any.
        shifts: (SubtractionItemID, down, left) of frames, counted from 0.
        to_log: A table that makes logarithms of stored values, if any.
    """
    ds = new_image(ENHANCED_XA, "XA", None, {"body_part": ""})
    ds.ImageType = ["ORIGINAL", "PRIMARY", "SINGLEPLANE", "NONE"]
    del ds.BodyPartExamined, ds.PatientPosition
    ds.AcquisitionDateTime, ds.AcquisitionNumber = ds.AcquisitionDate + ds.AcquisitionTime, 1
    del ds.AcquisitionDate, ds.AcquisitionTime
    ds.ContentQualification, ds.BurnedInAnnotation, ds.LossyImageCompression = "RESEARCH", "NO", "00"
    ds.NumberOfFrames, ds.AcquisitionContextSequence = len(frames), []
    ds.PreferredPlaybackSequencing = 0
    set_grey(ds, frames, detector.photometric)
    ds.BitsStored, ds.HighBit = 16, 15
    ds.PresentationLUTShape = "INVERSE" if detector.photometric == "MONOCHROME1" else "IDENTITY"
    ds.PositionerType, ds.CArmPositionerTabletopRelationship = "CARM", "YES"
    _acquisition(ds)
    organization = generate_uid()
    ds.DimensionOrganizationSequence = [dataset(DimensionOrganizationUID=organization)]
    ds.DimensionIndexSequence = [
        dataset(
            DimensionOrganizationUID=organization, DimensionIndexPointer=0x00209056, FunctionalGroupPointer=0x00209111
        )
    ]
    ds.SharedFunctionalGroupsSequence = [_shared_groups(detector, *frames.shape[1:])]
    if to_log:
        table = dataset(LUTDescriptor=[len(to_log) % 2**16, 0, 16], LUTFunction="TO_LOG")
        table.add_new("LUTData", "OW", np.asarray(to_log, dtype="<u2").tobytes())
        table["LUTDescriptor"].VR = "US"
        ds.SharedFunctionalGroupsSequence[0].PixelIntensityRelationshipLUTSequence = [table]
    per_frame = shifts or {}
    ds.PerFrameFunctionalGroupsSequence = [
        _frame_groups(ds, number, per_frame.get(number, ())) for number in range(len(frames))
    ]
    if masks:
        ds.MaskSubtractionSequence = [dataset(**{"SubtractionItemID": 1, **mask}) for mask in masks]
        ds.RecommendedViewingMode = "SUB"
    return save_image(ds, folder, {})


def _acquisition(ds: Dataset) -> None:
    """Set the enhanced acquisition attributes (C.8.19.3)."""
    ds.KVP, ds.RadiationSetting, ds.RadiationMode = 75, "GR", "PULSED"
    ds.AveragePulseWidth, ds.XRayTubeCurrentInmA = 8.0, 400.0
    ds.ExposureTimeInms = 50.0
    ds.FocalSpots, ds.AnodeTargetMaterial, ds.RectificationType = 0.6, "TUNGSTEN", "CONST POTENTIAL"
    ds.AcquisitionDuration, ds.AcquisitionProtocolName = 3.0, "Leg DSA"
    ds.XRayReceptorType, ds.DistanceReceptorPlaneToDetectorHousing = "DIGITAL_DETECTOR", 30.0
    ds.AcquiredImageAreaDoseProduct = 0.1
    ds.DetectorType, ds.PhysicalDetectorSize = "SCINTILLATOR", [300.0, 400.0]
    ds.PlanesInAcquisition, ds.PlaneIdentification = "SINGLEPLANE", "MONOPLANE"
    ds.PatientOrientationCodeSequence = [_code("102538003", "recumbent")]
    ds.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [_code("40199007", "supine")]
    ds.PatientGantryRelationshipCodeSequence = [_code("102540001", "headfirst")]
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = generate_uid(), ""
    ds.SynchronizationFrameOfReferenceUID = generate_uid()
    ds.SynchronizationTrigger, ds.AcquisitionTimeSynchronized = "NO TRIGGER", "N"


def _shared_groups(detector: Detector, rows: int, columns: int) -> Dataset:
    properties = dataset(
        FrameType=["ORIGINAL", "PRIMARY", "SINGLEPLANE", "NONE"],
        PixelIntensityRelationship=detector.relationship,
        PixelIntensityRelationshipSign=detector.sign or 1,
        GeometricalProperties="UNIFORM",
        ImageProcessingApplied="NONE",
        ImagerPixelSpacing=[0.308, 0.308],
    )
    region = _code("61685007", "Lower leg")
    return dataset(
        FramePixelDataPropertiesSequence=[properties],
        FrameAnatomySequence=[dataset(FrameLaterality="L", AnatomicRegionSequence=[region])],
        XAXRFFrameCharacteristicsSequence=[
            dataset(DerivationDescription="", AcquisitionDeviceProcessingDescription="")
        ],
        FrameVOILUTSequence=[dataset(WindowCenter=32768, WindowWidth=65536)],
        PatientOrientationInFrameSequence=[dataset(PatientOrientation=["L", "F"])],
        IrradiationEventIdentificationSequence=[dataset(IrradiationEventUID=generate_uid())],
        FrameDetectorParametersSequence=[
            dataset(
                DetectorActiveTime=50.0,
                DetectorActivationOffsetFromExposure=0.0,
            )
        ],
        ProjectionPixelCalibrationSequence=[
            dataset(
                DistanceObjectToTableTop=50.0,
                ObjectPixelSpacingInCenterOfBeam=[0.22, 0.22],
                TableHeight=900.0,
                BeamAngle=0.0,
            )
        ],
        PositionerPositionSequence=[dataset(PositionerPrimaryAngle=0, PositionerSecondaryAngle=0)],
        TablePositionSequence=[
            dataset(
                TableTopVerticalPosition=0.0,
                TableTopLongitudinalPosition=0.0,
                TableTopLateralPosition=0.0,
                TableHorizontalRotationAngle=0.0,
                TableHeadTiltAngle=0.0,
                TableCradleTiltAngle=0.0,
            )
        ],
        CollimatorShapeSequence=[
            dataset(
                CollimatorShape="RECTANGULAR",
                CollimatorLeftVerticalEdge=1,
                CollimatorRightVerticalEdge=columns,
                CollimatorUpperHorizontalEdge=1,
                CollimatorLowerHorizontalEdge=rows,
            )
        ],
        XRayGeometrySequence=[dataset(DistanceSourceToIsocenter=750.0, DistanceSourceToDetector=1050)],
    )


def _frame_groups(ds: Dataset, number: int, shifts: Sequence[tuple[int, float, float]]) -> Dataset:
    content = dataset(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=ds.AcquisitionDateTime,
        FrameAcquisitionDateTime=ds.AcquisitionDateTime,
        FrameAcquisitionDuration=50.0,
        DimensionIndexValues=[number + 1],
        StackID="1",
        InStackPositionNumber=number + 1,
    )
    groups = dataset(FrameContentSequence=[content])
    if shifts:
        groups.FramePixelShiftSequence = [
            dataset(SubtractionItemID=place, MaskSubPixelShift=[down, left]) for place, down, left in shifts
        ]
    return groups


def _code(value: str, meaning: str) -> Dataset:
    return dataset(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
