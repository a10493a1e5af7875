"""A whole-slide phantom: a pyramid of stained tissue on glass, with its overview and its label (PS3.3 A.32.8).

Input: sizes and how the tiles are organised. Output: files in which dciodvfy finds no error. The tissue is one ellipse,
at known places of the total pixel matrix; overview and label carry written words, as real ones do.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage

from dicom_node.headers import InstanceFile
from dicom_node.uids import derive_uid
from tests.phantoms.elements import dataset, saved

Rgb = NDArray[np.uint8]

#: Width and height of the largest level, and a tile's side, in pixels.
WIDTH, HEIGHT, TILE = 1200, 900, 256
#: The tissue: an ellipse with this centre and these half axes, in pixels of the largest level.
CENTRE, HALF_AXES = (800, 350), (240, 180)
GLASS, TISSUE, NUCLEUS = (243, 243, 241), (201, 120, 168), (96, 56, 130)
_MM_PER_PIXEL = 0.0005


def level_picture(downsampled: int = 1) -> Rgb:
    """Return a level as one picture, (rows, columns, 3)."""
    rows, columns = np.mgrid[0 : HEIGHT // downsampled, 0 : WIDTH // downsampled] * downsampled
    inside = ((columns - CENTRE[0]) / HALF_AXES[0]) ** 2 + ((rows - CENTRE[1]) / HALF_AXES[1]) ** 2 < 1
    picture = np.empty((*inside.shape, 3), dtype=np.uint8)
    picture[:] = GLASS
    picture[inside] = TISSUE
    picture[inside & (columns // 12 % 3 == 0) & (rows // 12 % 3 == 0)] = NUCLEUS
    return picture


def write_slide(
    folder: Path,
    *,
    levels: int = 3,
    sparse: bool = False,
    without_glass: bool = False,
    jpeg: bool = False,
    with_label: bool = True,
) -> list[InstanceFile]:
    """Write the pyramid, each level half the size of the one before, and with it an overview and a label.

    A sparse one has its tiles in reversed order; `without_glass` stores only those of them that show tissue.
    """
    written = []
    for level in range(levels):
        kind = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"] if level else ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        ds = _image(
            kind,
            level + 1,
            level_picture(2**level),
            _MM_PER_PIXEL * 2**level,
            sparse=sparse,
            jpeg=jpeg,
            without_glass=without_glass,
        )
        ds.PyramidUID = derive_uid("phantom", "pyramid")
        written.append(saved(ds, folder / f"level-{level}.dcm"))
    if with_label:
        overview = _image(["ORIGINAL", "PRIMARY", "OVERVIEW", "NONE"], 90, _with_words(level_picture(4)), 0.002, tile=0)
        written.append(saved(overview, folder / "overview.dcm"))
        paper = _with_words(np.full((120, 160, 3), 255, np.uint8))
        label = _image(["ORIGINAL", "PRIMARY", "LABEL", "NONE"], 91, paper, 0.02, tile=0)
        written.append(saved(label, folder / "label.dcm"))
    return written


def _with_words(picture: Rgb) -> Rgb:
    drawn = Image.fromarray(picture)
    ImageDraw.Draw(drawn).text((5, 5), "PHANTOM^SLIDE 1970", fill=(0, 0, 0))
    return np.asarray(drawn, dtype=np.uint8)


def _image(
    image_type: list[str],
    number: int,
    picture: Rgb,
    mm_per_pixel: float,
    *,
    tile: int = TILE,
    sparse: bool = False,
    without_glass: bool = False,
    jpeg: bool = False,
) -> Dataset:
    ds = Dataset()
    _general(ds, number, jpeg=jpeg)
    ds.ImageType = image_type
    height, width = picture.shape[:2]
    rows, columns = (tile, tile) if tile else (height, width)
    tiles = [
        (x, y, _padded(picture[y : y + rows, x : x + columns], rows, columns))
        for y in range(0, height, rows)
        for x in range(0, width, columns)
    ]
    if sparse:
        tiles = tiles[::-1]
    if without_glass:
        tiles = [entry for entry in tiles if (np.ptp(entry[2], axis=2) > 30).any()]
    ds.Rows, ds.Columns, ds.NumberOfFrames = rows, columns, len(tiles)
    ds.TotalPixelMatrixColumns, ds.TotalPixelMatrixRows = width, height
    ds.ImagedVolumeWidth, ds.ImagedVolumeHeight = width * mm_per_pixel, height * mm_per_pixel
    ds.ImagedVolumeDepth = 0.004
    ds.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    labelled = image_type[2] in ("LABEL", "OVERVIEW")
    ds.SpecimenLabelInImage = ds.BurnedInAnnotation = "YES" if labelled else "NO"
    if image_type[2] == "LABEL":
        ds.LabelText, ds.BarcodeValue = "PHANTOM SLIDE", ""
    _functional_groups(ds, image_type, mm_per_pixel, tiles if sparse else [])
    _pixels(ds, [entry for _, _, entry in tiles], jpeg=jpeg)
    return ds


def _general(ds: Dataset, number: int, *, jpeg: bool) -> None:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(derive_uid("phantom", "slide", str(number)))
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom^Slide", "SLIDE", "19700101", "O"
    ds.StudyInstanceUID = derive_uid("phantom", "slide study")
    ds.SeriesInstanceUID = derive_uid("phantom", "slide series")
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260101", "100000", "1", "S1"
    ds.SeriesNumber, ds.Modality, ds.InstanceNumber, ds.ReferringPhysicianName = 1, "SM", number, ""
    ds.ContentDate, ds.ContentTime, ds.AcquisitionDateTime = "20260101", "100000", "20260101100000"
    ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber = "Phantom maker", "Slide", "1"
    ds.SoftwareVersions, ds.FrameOfReferenceUID = "1", derive_uid("phantom", "slide frame of reference")
    ds.PositionReferenceIndicator, ds.VolumetricProperties = "SLIDE_CORNER", "VOLUME"
    ds.AcquisitionDuration, ds.FocusMethod, ds.ExtendedDepthOfField = 100.0, "AUTO", "NO"
    ds.AcquisitionContextSequence = []
    _specimen(ds)
    _optics(ds)


def _specimen(ds: Dataset) -> None:
    ds.ContainerIdentifier, ds.IssuerOfTheContainerIdentifierSequence = "SLIDE-1", []
    ds.ContainerTypeCodeSequence = [_code("433466003", "SCT", "Microscope slide")]
    specimen = dataset(
        SpecimenIdentifier="SLIDE-1-A",
        SpecimenUID=derive_uid("phantom", "specimen"),
        IssuerOfTheSpecimenIdentifierSequence=[],
        SpecimenPreparationSequence=[],
        PrimaryAnatomicStructureSequence=[_code("69695003", "SCT", "Stomach")],
    )
    ds.SpecimenDescriptionSequence = [specimen]


def _optics(ds: Dataset) -> None:
    ds.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    ds.TotalPixelMatrixOriginSequence = [dataset(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)]
    ds.NumberOfOpticalPaths, ds.TotalPixelMatrixFocalPlanes = 1, 1
    ds.OpticalPathSequence = [
        dataset(
            OpticalPathIdentifier="1",
            IlluminationTypeCodeSequence=[_code("111744", "DCM", "Brightfield illumination")],
            IlluminationColorCodeSequence=[_code("414298005", "SCT", "Full Spectrum")],
            ICCProfile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        )
    ]


def _functional_groups(
    ds: Dataset, image_type: list[str], mm_per_pixel: float, placed: list[tuple[int, int, Rgb]]
) -> None:
    shared = dataset(
        PixelMeasuresSequence=[dataset(PixelSpacing=[mm_per_pixel, mm_per_pixel], SliceThickness=0.004)],
        WholeSlideMicroscopyImageFrameTypeSequence=[dataset(FrameType=image_type)],
        OpticalPathIdentificationSequence=[dataset(OpticalPathIdentifier="1")],
    )
    ds.SharedFunctionalGroupsSequence = [shared]
    organization = derive_uid("phantom", "slide dimensions")
    ds.DimensionOrganizationSequence = [dataset(DimensionOrganizationUID=organization)]
    if not placed:
        return
    pointers = (0x0048021E, 0x0048021F)
    ds.DimensionIndexSequence = [
        dataset(DimensionOrganizationUID=organization, DimensionIndexPointer=pointer, FunctionalGroupPointer=0x0048021A)
        for pointer in pointers
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        dataset(
            FrameContentSequence=[dataset(DimensionIndexValues=[x // TILE + 1, y // TILE + 1])],
            PlanePositionSlideSequence=[
                dataset(
                    ColumnPositionInTotalImagePixelMatrix=x + 1,
                    RowPositionInTotalImagePixelMatrix=y + 1,
                    XOffsetInSlideCoordinateSystem=round(20 - y * mm_per_pixel, 6),
                    YOffsetInSlideCoordinateSystem=round(40 - x * mm_per_pixel, 6),
                    ZOffsetInSlideCoordinateSystem=0,
                )
            ],
        )
        for x, y, _ in placed
    ]


def _pixels(ds: Dataset, tiles: list[Rgb], *, jpeg: bool) -> None:
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PixelRepresentation = 3, 0, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PhotometricInterpretation = "YBR_FULL_422" if jpeg else "RGB"
    ds.LossyImageCompression = "01" if jpeg else "00"
    if not jpeg:
        ds.PixelData = b"".join(tile.tobytes() for tile in tiles)
        return
    ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = 10, "ISO_10918_1"
    ds.PixelData = encapsulate([_jpeg(tile) for tile in tiles])


def _jpeg(tile: Rgb) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(tile).save(stream, "JPEG", quality=90, subsampling="4:2:2")
    return stream.getvalue()


def _padded(part: Rgb, rows: int, columns: int) -> Rgb:
    tile = np.full((rows, columns, 3), 255, dtype=np.uint8)
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
