"""Our pictures against dcmtk's, an implementation that shares no code with ours: within one grey level.

dcmtk cuts fractions off where we round, so that one level is the least there can be. Where dcmtk does something else by
design, the test does not look away: it says what, and compares with just that taken into account.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import data_store
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.data import data_manager
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    generate_uid,
)

from dicom_node.display import (
    Shading,
    VoiLut,
    Window,
    colours,
    header_voi_luts,
    header_window,
    header_windows,
    is_colour,
    modality_values,
    padding_mask,
    shade,
)
from dicom_node.frame_attributes import functional_group
from dicom_node.overlays import burn, overlay_mask, overlays
from dicom_node.pixels import ImageAttributes, PixelError, read_frame, read_image
from tests.dcmtk_pictures import dcmtk_picture
from tests.phantoms.pictures import (
    ultrasound_frames,
    write_film_with_voi_luts,
    write_palette_picture,
    write_ultrasound_cine,
)

FOLDERS = (Path(data_manager.DATA_ROOT, "test_files"), Path(data_store.__file__).parent / "data")

#: Files that are broken on purpose.
BROKEN = {"SC_rgb_jpeg.dcm": "fragments whose lengths lead beyond the file's end"}


@cache
def collections() -> dict[str, ImageAttributes]:
    """Every image of pydicom's and pydicom-data's collections whose header we accept, by the file's place."""
    found = {}
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                try:
                    found[str(path.relative_to(folder))] = read_image(path)
                except PixelError:
                    continue
    return found


def what_dcmtk_lacks(image: ImageAttributes) -> str:
    """Return why dcmtk 3.6 cannot show an image; "" where it can."""
    if image.transfer_syntax in JPEG2000TransferSyntaxes:
        return "JPEG 2000"
    if image.bits_allocated == 32 and image.samples > 1 and not image.transfer_syntax.is_encapsulated:
        return "colour of 32 bits in 16-bit words"
    if "SegmentedRedPaletteColorLookupTableData" in image.dataset:
        return "segmented palettes"
    if image.path.name in BROKEN:
        return BROKEN[image.path.name]
    if image.bits_allocated == 32 and image.transfer_syntax == ExplicitVRBigEndian:
        return "32 bits in big endian: it leaves their halves exchanged"
    return ""


def is_lossy(image: ImageAttributes) -> bool:
    return image.transfer_syntax in (JPEGBaseline8Bit, JPEGExtended12Bit)


GREY = [name for name, image in collections().items() if not is_colour(image) and not what_dcmtk_lacks(image)]
COLOUR = [name for name, image in collections().items() if is_colour(image) and not what_dcmtk_lacks(image)]


def shadings(image: ImageAttributes) -> Iterator[tuple[Shading, Sequence[str]]]:
    """Yield every shading of the header with dcmtk's option for it; a made one where there is none."""
    rescale = functional_group(image.dataset, "PixelValueTransformationSequence", 0)
    if rescale is not None:
        # dcmtk does not know functional groups: it is given the window in stored values.
        assert rescale.RescaleSlope == 1
        for window in header_windows(image):
            yield window, ("+Ww", str(window.center - float(rescale.RescaleIntercept)), str(window.width))
        return
    numbered = [(header_window(image, number), ("+Wi", str(number))) for number in range(1, 10)]
    given: list[tuple[Shading, Sequence[str]]] = [(window, option) for window, option in numbered if window is not None]
    given += [(lut, ("+Wl", str(lut.number))) for lut in header_voi_luts(image)]
    if not given:
        low, high = (float(round(bound)) for bound in np.percentile(modality_values(image, read_frame(image)), (1, 99)))
        window = Window((low + high) / 2, max(high - low, 2.0))
        given = [(window, ("+Ww", str(window.center), str(window.width)))]
    yield from given


def worst(ours: NDArray[np.uint8], theirs: NDArray[np.uint8] | None, seen: NDArray[np.bool_] | None = None) -> int:
    """Return the largest difference, in grey levels, where `seen`."""
    assert theirs is not None
    assert ours.shape == theirs.shape
    difference = np.abs(ours.astype(np.int64) - theirs)
    return int((difference if seen is None else difference[seen]).max(initial=0))


def test_the_collections_are_there_and_dcmtk_lacks_only_what_is_named() -> None:
    lacking = [image for image in collections().values() if what_dcmtk_lacks(image)]
    assert len(GREY) >= 65
    assert len(COLOUR) >= 40
    assert len(lacking) <= 32
    cannot = [image for image in lacking if not what_dcmtk_lacks(image).startswith("32 bits")]
    for image in cannot[::6]:
        assert dcmtk_picture(image.path, image.transfer_syntax) is None, "it can: compare it"


@pytest.mark.parametrize("name", GREY)
def test_grey_files_look_alike_in_every_window_and_voi_lut(name: str) -> None:
    image = collections()[name]
    frame = read_frame(image)
    # dcmtk shows padding through the window; ours is black (PS3.3 C.7.5.1.1.2 leaves it to the display).
    seen = ~padding_mask(image, frame)
    if image.dataset.get("PixelPresentation") == "COLOR":
        # A supplemental palette (C.7.6.19): dcmtk leaves the coloured values black, we show their grey.
        seen &= frame < image.dataset.RedPaletteColorLookupTableDescriptor[1]
    for shading, option in shadings(image):
        theirs = dcmtk_picture(image.path, image.transfer_syntax, *option)
        ours = shade(image, frame, shading)
        # Decoders of lossy JPEG may differ by one stored value (ITU-T T.83), which a window turns into so many levels.
        allowed = 1 + (255 / (shading.width - 1) if is_lossy(image) and isinstance(shading, Window) else 0)
        assert worst(ours, theirs, seen) <= allowed, option


@pytest.mark.parametrize("name", COLOUR)
def test_colours_and_palettes_look_alike(name: str) -> None:
    image = collections()[name]
    theirs = dcmtk_picture(image.path, image.transfer_syntax)
    # Stored YBR is converted in floating point here and there, rounded and cut off (2 levels in the worst of 3 terms);
    # lossy JPEG is one level of each decoder more. RGB and palettes are exact.
    allowed = 3 if is_lossy(image) else 2 if image.photometric.startswith("YBR") else 0
    assert worst(colours(image, read_frame(image)), theirs) <= allowed


def test_both_byte_orders_of_32_bits_look_alike() -> None:
    """What dcmtk lacks, against the little endian twin that it shows as we do."""
    for name in ("rtdose_expb.dcm", "rtdose_expb_1frame.dcm"):
        big, little = collections()[name], collections()[name.replace("_expb", "")]
        window = next(shadings(little))[0]
        assert worst(shade(big, read_frame(big), window), shade(little, read_frame(little), window)) == 0


def test_overlays_lie_where_dcmtk_draws_them() -> None:
    image = collections()["examples_overlay.dcm"]
    (overlay,) = overlays(image)
    window = header_window(image, 1)
    mask = overlay_mask(image, overlay)
    assert window is not None
    assert mask is not None
    assert mask.sum() > 100
    theirs = dcmtk_picture(image.path, image.transfer_syntax, "+Wi", "1", overlays=True)
    assert worst(burn(shade(image, read_frame(image), window), mask), theirs) <= 1


@dataclass(frozen=True)
class Header:
    """A grey image's header, with a frame that goes through all its values.

    Slope and intercept are whole numbers: dcmtk keeps modality values as integers, counted from the smallest, so that
    with others it shows values up to one unit too low; `test_rescaled_values_are_exact` looks at those.
    """

    bits_allocated: int
    bits_stored: int
    #: Unused bits below the values: HighBit is so much higher.
    bits_below: int
    signed: bool
    slope: int
    intercept: int
    photometric: str
    shape: str
    function: str
    #: Parts of the range of modality values.
    center: float
    width: float

    def window(self) -> Window:
        span = 2**self.bits_stored * abs(self.slope)
        start = -span / 2 if self.signed else 0.0
        middle = (start + self.center * span) * (1 if self.slope > 0 else -1) + self.intercept
        return Window(round(middle, 2), max(1.0, round(self.width * span, 2)), self.function)

    def write(self, path: Path) -> Path:
        half = 2 ** (self.bits_stored - 1)
        ramp = np.linspace(-half if self.signed else 0, half - 1 if self.signed else 2 * half - 1, 256).astype(np.int64)
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.Rows = ds.Columns = 16
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, self.photometric
        ds.BitsAllocated, ds.BitsStored = self.bits_allocated, self.bits_stored
        ds.HighBit = self.bits_stored + self.bits_below - 1
        ds.PixelRepresentation = int(self.signed)
        ds.RescaleSlope, ds.RescaleIntercept = self.slope, self.intercept
        if self.shape:
            ds.PresentationLUTShape = self.shape
        window = self.window()
        # The first is of no width, so that the second is the one to be taken.
        ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = [0, window.center], [0, window.width], window.function
        stored = (ramp & (2**self.bits_stored - 1)) << self.bits_below
        ds.PixelData = stored.astype(f"<u{self.bits_allocated // 8}").tobytes()
        ds["PixelData"].VR = "OW"
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        FileDataset(path, ds, preamble=b"\0" * 128, file_meta=meta).save_as(path, enforce_file_format=True)
        return path


@st.composite
def headers(draw: st.DrawFn) -> Header:
    allocated = draw(st.sampled_from([8, 16]))
    bits_stored = draw(st.integers(2, 8) if allocated == 8 else st.integers(9, 16))
    return Header(
        bits_allocated=allocated,
        bits_stored=bits_stored,
        bits_below=draw(st.one_of(st.just(0), st.integers(0, allocated - bits_stored))),
        signed=draw(st.booleans()),
        slope=draw(st.sampled_from([1, 2, 3, -1])),
        intercept=draw(st.sampled_from([0, -1024, 100])),
        photometric=draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        shape=draw(st.sampled_from(["", "", "IDENTITY", "INVERSE"])),
        function=draw(st.sampled_from(["LINEAR", "SIGMOID"])),
        center=draw(st.floats(-0.2, 1.2)),
        width=draw(st.one_of(st.floats(0, 1.5), st.floats(0, 0.01))),
    )


@settings(max_examples=70, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=headers())
def test_any_header_looks_alike(tmp_path: Path, header: Header) -> None:
    image = read_image(header.write(tmp_path / "any.dcm"))
    frame = read_frame(image)
    (window,) = header_windows(image)
    assert window == header.window() == header_window(image, 2)
    theirs = dcmtk_picture(image.path, image.transfer_syntax, "+Wi", "2")
    assert worst(shade(image, frame, window), theirs) <= 1
    # The same by way of values in floating point as by way of the table of shades.
    assert worst(shade(image, modality_values(image, frame), window), shade(image, frame, window)) == 0


@given(header=headers(), slope=st.floats(1e-3, 30), intercept=st.floats(-4000, 4000))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rescaled_values_are_exact(tmp_path: Path, header: Header, slope: float, intercept: float) -> None:
    image = read_image(header.write(tmp_path / "any.dcm"))
    image.dataset.RescaleSlope, image.dataset.RescaleIntercept = float(f"{slope:.8g}"), float(f"{intercept:.8g}")
    frame = read_frame(image)
    expected = frame.astype(np.float64) * float(image.dataset.RescaleSlope) + float(image.dataset.RescaleIntercept)
    assert np.allclose(modality_values(image, frame), expected, rtol=1e-6, atol=2e-3)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [10, 12])
def test_voi_luts_of_a_film_look_alike(tmp_path: Path, bits: int, photometric: str) -> None:
    curve = (np.linspace(0, 1, 2**bits) ** 2.2 * (2**bits - 1)).astype(int).tolist()
    short = [0, 2**bits // 3, 2**bits - 1]  # values beyond the last entry get the last
    image = read_image(write_film_with_voi_luts(tmp_path, curve, short, bits=bits, photometric=photometric))
    for number in (1, 2):
        theirs = dcmtk_picture(image.path, image.transfer_syntax, "+Wl", str(number))
        assert worst(shade(image, read_frame(image), VoiLut(number)), theirs) <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_of_both_depths_look_alike(tmp_path: Path, bits: int) -> None:
    places = np.arange(256, dtype=np.uint8).reshape(16, 16)
    palette = np.random.default_rng(bits).integers(0, 2**bits, (200, 3)).astype(np.uint16)
    image = read_image(write_palette_picture(tmp_path, places, palette, bits=bits))
    assert worst(colours(image, read_frame(image)), dcmtk_picture(image.path, image.transfer_syntax)) == 0


def test_an_ultrasound_cine_keeps_its_colours(tmp_path: Path) -> None:
    frames = ultrasound_frames()
    image = read_image(write_ultrasound_cine(tmp_path, frames))
    for index in range(3):
        picture = colours(image, read_frame(image, index))
        assert np.array_equal(picture, frames[index])
        assert worst(picture, dcmtk_picture(image.path, image.transfer_syntax, "+F", str(index + 1))) == 0
