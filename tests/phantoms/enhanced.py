"""Enhanced multi-frame CT and MR phantoms: a volume in one instance, or in the parts of a concatenation.

Input: where the frames lie, in the order in which they are stored. Output: files in which dciodvfy finds no error
(PS3.3 A.38 Enhanced CT, A.36.2 Enhanced MR; functional groups C.7.6.16.2, C.8.15.3, C.8.13.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from dicom_node.headers import InstanceFile
from dicom_node.uids import derive_uid
from tests.phantoms.ct import general, pixels
from tests.phantoms.elements import dataset, saved
from tests.phantoms.volume import PIXEL_MM, PhantomPlane

#: Kernel of a frame, by its number; the default is one for all.
KernelOf = Callable[[int], str]


def write_enhanced_ct(
    folder: Path,
    planes: Sequence[PhantomPlane],
    *,
    parts: int = 1,
    kernel_of: KernelOf = lambda frame: "B30f",
    region_in_frames: bool = False,
) -> list[InstanceFile]:
    """Write the planes as one instance, or as a concatenation of `parts`, and return the files."""
    shared = [] if region_in_frames else [("FrameAnatomySequence", _anatomy())]
    frames = []
    for number, plane in enumerate(planes):
        groups = [*_place(plane, number), ("CTReconstructionSequence", _reconstruction(kernel_of(number)))]
        groups += [("FrameAnatomySequence", _anatomy())] if region_in_frames else []
        frames.append(_groups(groups))
    written: list[InstanceFile] = []
    for part in np.array_split(np.arange(len(planes)), parts):
        number = len(written) + 1
        ds = _image(EnhancedCTImageStorage, "CT", number, [planes[index] for index in part])
        ds.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
        ds.SharedFunctionalGroupsSequence = [_groups([*_shared("HU"), *shared, *_ct_shared()])]
        ds.PerFrameFunctionalGroupsSequence = DicomSequence([frames[index] for index in part])
        ds.MultienergyCTAcquisition = "NO"
        if parts > 1:
            _concatenate(ds, number, parts, int(part[0]))
        written.append(saved(ds, folder / f"enhanced-ct-{number}.dcm"))
    return written


def write_enhanced_mr(folder: Path, planes: Sequence[PhantomPlane], *, times: int = 1) -> InstanceFile:
    """Write the planes at each of `times` temporal positions as one instance, time running fastest."""
    frames = []
    for number, plane in enumerate(planes):
        for time in range(1, times + 1):
            frames.append(_groups(_place(plane, number, time)))
    ds = _image(EnhancedMRImageStorage, "MR", 1, [plane for plane in planes for _ in range(times)])
    ds.ImageType = ["DERIVED", "PRIMARY", "T1", "NONE"]
    ds.SharedFunctionalGroupsSequence = [_groups([*_shared("US"), ("FrameAnatomySequence", _anatomy()), *_mr_shared()])]
    ds.PerFrameFunctionalGroupsSequence = frames
    _mr_image(ds)
    return saved(ds, folder / "enhanced-mr.dcm")


#: Legacy converted: SOP class, the classic class it was made of, and the macro of its frames' type.
_LEGACY = {
    "CT": (LegacyConvertedEnhancedCTImageStorage, CTImageStorage, "CTImageFrameTypeSequence"),
    "MR": (LegacyConvertedEnhancedMRImageStorage, MRImageStorage, "MRImageFrameTypeSequence"),
    "PT": (LegacyConvertedEnhancedPETImageStorage, PositronEmissionTomographyImageStorage, "PETFrameTypeSequence"),
}


def write_legacy_converted(
    folder: Path, planes: Sequence[PhantomPlane], modality: str, *, technique: str = "NONE"
) -> InstanceFile:
    """Write the planes as an archive does that puts classic slices together (PS3.3 A.70 CT, A.71 MR, A.72 PET).

    What has no functional group of its own stands among the unassigned attributes, as BodyPartExamined and the kernel.
    """
    sop_class, classic, frame_type = _LEGACY[modality]
    flavor = "OTHER" if modality == "MR" else "VOLUME"
    kind = dataset(
        FrameType=["ORIGINAL", "PRIMARY", flavor, "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique=technique,
    )
    kept = dataset(BodyPartExamined="ABDOMEN", ProtocolName="AbdRoutine")
    if modality == "CT":
        kept.ConvolutionKernel = "B30f"
    frames = []
    for number, plane in enumerate(planes):
        content = dataset(FrameAcquisitionDateTime="20260101100000", StackID="1", InStackPositionNumber=number + 1)
        content.TemporalPositionIndex = 1
        content.DimensionIndexValues = [1, number + 1, 1]
        source = derive_uid("phantom", "classic", str(number))
        places = [("FrameContentSequence", content), *_place(plane, number)[1:]]
        places.append(("UnassignedPerFrameConvertedAttributesSequence", dataset(InstanceNumber=number + 1)))
        places.append(
            (
                "ConversionSourceAttributesSequence",
                dataset(ReferencedSOPClassUID=classic, ReferencedSOPInstanceUID=source),
            )
        )
        frames.append(_groups(places))
    ds = _image(sop_class, modality, {"CT": 11, "MR": 12, "PT": 13}[modality], planes)
    ds.ImageType = ["ORIGINAL", "PRIMARY", flavor, "NONE"]
    shared = [*_shared("HU" if modality == "CT" else "US"), (frame_type, kind)]
    shared.append(("UnassignedSharedConvertedAttributesSequence", kept))
    ds.SharedFunctionalGroupsSequence = [_groups(shared)]
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.VolumeBasedCalculationTechnique, ds.Laterality = technique, ""
    equipment = dataset(Manufacturer="Phantom maker", PurposeOfReferenceCodeSequence=[_CONVERSION])
    equipment.ContributionDateTime = "20260102100000"
    ds.ContributingEquipmentSequence = [equipment]
    return saved(ds, folder / f"legacy-{modality.lower()}-{technique.lower()}.dcm")


_CONVERSION = dataset(
    CodeValue="109106", CodingSchemeDesignator="DCM", CodeMeaning="Enhanced Multi-frame Conversion Equipment"
)


def _image(sop_class_uid: str, modality: str, number: int, planes: Sequence[PhantomPlane]) -> Dataset:
    ds = Dataset()
    general(ds, "7" if modality == "CT" else "8", number, sop_class_uid)
    ds.Modality, ds.NumberOfFrames = modality, len(planes)
    del ds.BodyPartExamined
    pixels(ds)
    ds.PixelPresentation, ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = "MONOCHROME", "VOLUME", "NONE"
    ds.AcquisitionNumber, ds.AcquisitionDateTime, ds.AcquisitionDuration = 1, "20260101100000", 10.0
    ds.ContentQualification, ds.BurnedInAnnotation, ds.LossyImageCompression = "RESEARCH", "NO", "00"
    ds.PresentationLUTShape, ds.AcquisitionContextSequence = "IDENTITY", DicomSequence([])
    organization = derive_uid("phantom", "dimensions")
    ds.DimensionOrganizationSequence = [dataset(DimensionOrganizationUID=organization)]
    ds.DimensionIndexSequence = [
        dataset(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=0x00209111,
        )
        for pointer in (0x00209056, 0x00209057, 0x00209128)
    ]
    ds.PixelData = b"".join((plane.hounsfield() + 1024).astype("<u2").tobytes() for plane in planes)
    return ds


def _place(plane: PhantomPlane, number: int, time: int = 1) -> list[tuple[str, Dataset]]:
    content = dataset(
        FrameAcquisitionNumber=time,
        FrameReferenceDateTime="20260101100000",
        FrameAcquisitionDateTime=f"2026010110{time:02d}00",
        FrameAcquisitionDuration=100.0,
        StackID="1",
        InStackPositionNumber=number + 1,
        TemporalPositionIndex=time,
        DimensionIndexValues=[1, number + 1, time],
    )
    return [
        ("FrameContentSequence", content),
        ("PlanePositionSequence", dataset(ImagePositionPatient=list(plane.position))),
        ("PlaneOrientationSequence", dataset(ImageOrientationPatient=list(plane.orientation))),
    ]


def _shared(rescale_type: str) -> list[tuple[str, Dataset]]:
    return [
        ("PixelMeasuresSequence", dataset(PixelSpacing=[PIXEL_MM, PIXEL_MM], SliceThickness=5)),
        ("FrameVOILUTSequence", dataset(WindowCenter=50, WindowWidth=400)),
        (
            "PixelValueTransformationSequence",
            dataset(RescaleIntercept=-1024, RescaleSlope=1, RescaleType=rescale_type),
        ),
    ]


def _ct_shared() -> list[tuple[str, Dataset]]:
    kind = dataset(
        FrameType=["DERIVED", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    event = dataset(IrradiationEventUID=derive_uid("phantom", "irradiation"))
    return [("CTImageFrameTypeSequence", kind), ("IrradiationEventIdentificationSequence", event)]


def _reconstruction(kernel: str) -> Dataset:
    return dataset(
        ReconstructionAlgorithm="FILTER_BACK_PROJ",
        ConvolutionKernel=kernel,
        ConvolutionKernelGroup="SOFT_TISSUE",
        ReconstructionDiameter=256,
        ReconstructionPixelSpacing=[PIXEL_MM, PIXEL_MM],
        ReconstructionAngle=360.0,
        ImageFilter="NONE",
    )


def _mr_shared() -> list[tuple[str, Dataset]]:
    kind = dataset(
        FrameType=["DERIVED", "PRIMARY", "T1", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast="T1",
    )
    return [("MRImageFrameTypeSequence", kind)]


def _mr_image(ds: Dataset) -> None:
    ds.ComplexImageComponent, ds.AcquisitionContrast = "MAGNITUDE", "T1"
    ds.ResonantNucleus, ds.KSpaceFiltering, ds.MagneticFieldStrength = "1H", "NONE", 1.5
    ds.ApplicableSafetyStandardAgency = "IEC"


def _anatomy() -> Dataset:
    abdomen = dataset(CodeValue="818981001", CodingSchemeDesignator="SCT", CodeMeaning="Abdomen")
    return dataset(FrameLaterality="U", AnatomicRegionSequence=[abdomen])


def _concatenate(ds: Dataset, number: int, parts: int, offset: int) -> None:
    ds.ConcatenationUID = derive_uid("phantom", "concatenation")
    ds.SOPInstanceUIDOfConcatenationSource = derive_uid("phantom", "concatenation source")
    ds.InConcatenationNumber, ds.InConcatenationTotalNumber = number, parts
    ds.ConcatenationFrameOffsetNumber = offset


def _groups(macros: Sequence[tuple[str, Dataset]]) -> Dataset:
    return dataset(**{keyword: [values] for keyword, values in macros})
