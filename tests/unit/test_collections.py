"""Every file of pydicom's and pydicom-data's collections decodes rightly or is refused for the reason it deserves."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels

from dicom_node.pixels import PixelError, read_frames, read_image
from tests import decoding_table

#: Refused although it has pixels, and a word of the reason.
REFUSED: Final = {
    "OT-PAL-8-face.dcm": "names no transfer syntax",
    "ExplVR_BigEndNoMeta.dcm": "names no transfer syntax",
    "ExplVR_LitEndNoMeta.dcm": "names no transfer syntax",
    "MR_truncated.dcm": "truncated: 8130 bytes",
    "JPEG2000-embedded-sequence-delimiter.dcm": "more than 65535 tiles",
    "badVR.dcm": "not numbers",
}
#: No image: reports, plans, structures, waveforms, directories, palettes, text.
NO_IMAGE: Final = ("it is no image", "no pixel data", "names no transfer syntax", "cannot be read as DICOM")

#: Compressed without loss -> the uncompressed original.
ORIGINALS: Final = {
    "693_J2KR.dcm": "693_UNCR.dcm",
    "MR2_J2KR.dcm": "MR2_UNCR.dcm",
    "RG1_J2KR.dcm": "RG1_UNCR.dcm",
    "RG3_J2KR.dcm": "RG3_UNCR.dcm",
    "US1_J2KR.dcm": "US1_UNCR.dcm",
    "OBXXXX1A_rle.dcm": "OBXXXX1A.dcm",
    "OBXXXX1A_rle_2frame.dcm": "OBXXXX1A_2frame.dcm",
    "emri_small_RLE.dcm": "emri_small.dcm",
    "emri_small_jpeg_2k_lossless.dcm": "emri_small.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "emri_small.dcm",
    "emri_small_jpeg_ls_lossless.dcm": "emri_small.dcm",
    "emri_small_big_endian.dcm": "emri_small.dcm",
    "MR_small_RLE.dcm": "MR_small.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "MR_small_bigendian.dcm": "MR_small.dcm",
    "MR_small_implicit.dcm": "MR_small.dcm",
    "SC_rgb_jpeg_gdcm.dcm": "SC_rgb.dcm",
    "SC_rgb_gdcm_KY.dcm": "SC_rgb.dcm",
    "SC_rgb_rle.dcm": "SC_rgb.dcm",
    "SC_rgb_expb.dcm": "SC_rgb.dcm",
    "SC_rgb_rle_2frame.dcm": "SC_rgb_2frame.dcm",
    "SC_rgb_rle_16bit.dcm": "SC_rgb_16bit.dcm",
    "SC_rgb_rle_16bit_2frame.dcm": "SC_rgb_16bit_2frame.dcm",
    "SC_rgb_rle_32bit.dcm": "SC_rgb_32bit.dcm",
    "SC_rgb_rle_32bit_2frame.dcm": "SC_rgb_32bit_2frame.dcm",
    "SC_rgb_small_odd_big_endian.dcm": "SC_rgb_small_odd.dcm",
    "liver_expb.dcm": "liver.dcm",
    "rtdose_rle.dcm": "rtdose.dcm",
    "rtdose_rle_1frame.dcm": "rtdose_1frame.dcm",
    "examples_jpeg2k.dcm": "US1_UNCR.dcm",
}
#: Compressed with loss -> another decoder's result or the original, and by how much a pixel may differ.
NEAR: Final = {
    "693_J2KI.dcm": ("693_UNCI.dcm", 0),
    "MR2_J2KI.dcm": ("MR2_UNCI.dcm", 0),
    "RG1_J2KI.dcm": ("RG1_UNCI.dcm", 0),
    "RG3_J2KI.dcm": ("RG3_UNCI.dcm", 0),
    "US1_J2KI.dcm": ("US1_UNCI.dcm", 0),
    "JPEG2000.dcm": ("JPEG2000_UNC.dcm", 0),
    "SC_rgb_dcmtk_+eb+cr.dcm": ("SC_rgb_dcmtk_ebcr_dcmd.dcm", 0),
    "SC_rgb_dcmtk_+eb+cy+n1.dcm": ("SC_rgb_dcmtk_ebcyn1_dcmd.dcm", 0),
    "SC_rgb_dcmtk_+eb+cy+n2.dcm": ("SC_rgb_dcmtk_ebcyn2_dcmd.dcm", 0),
    "SC_rgb_dcmtk_+eb+cy+np.dcm": ("SC_rgb_dcmtk_ebcynp_dcmd.dcm", 0),
    "SC_rgb_dcmtk_+eb+cy+s2.dcm": ("SC_rgb_dcmtk_ebcys2_dcmd.dcm", 0),
    "SC_rgb_dcmtk_+eb+cy+s4.dcm": ("SC_rgb_dcmtk_ebcys4_dcmd.dcm", 0),
    "SC_rgb_jpeg_dcmtk.dcm": ("SC_rgb_dcmtk_ebcys4_dcmd.dcm", 0),
    "SC_rgb_jpeg.dcm": ("SC_rgb_jpeg_dcmd.dcm", 0),
    "SC_rgb_jls_lossy_line.dcm": ("SC_rgb.dcm", 2),
    "SC_rgb_jls_lossy_sample.dcm": ("SC_rgb.dcm", 2),
    "SC_rgb_small_odd_jpeg.dcm": ("SC_rgb_small_odd.dcm", 4),
    "SC_rgb_jpeg_lossy_gdcm.dcm": ("SC_rgb_dcmtk_ebcyn1_dcmd.dcm", 7),
}


@cache
def every_file() -> dict[str, Path]:
    return {path.name: path for path in decoding_table.files()}


def pixels(name: str) -> NDArray[Any]:
    return np.stack(list(read_frames(read_image(every_file()[name]))))


def test_the_collections_are_whole() -> None:
    """Fewer files than were seen when this was written: a collection is missing, and the rest would prove little."""
    assert len(list(decoding_table.files())) >= 260


def test_every_file_is_decoded_or_refused_for_its_reason() -> None:
    for path in decoding_table.files():
        result = decoding_table.outcome(path)
        if path.name in REFUSED:
            assert isinstance(result, PixelError), f"{path.name} decodes now"
            assert REFUSED[path.name] in result.reason
        elif isinstance(result, PixelError):
            assert any(words in result.reason for words in NO_IMAGE), f"{path.name}: {result}"
            assert result.remedy


@pytest.mark.parametrize("name", ORIGINALS)
def test_what_is_compressed_without_loss_is_the_original(name: str) -> None:
    assert np.array_equal(pixels(name), pixels(ORIGINALS[name]))


@pytest.mark.parametrize("name", NEAR)
def test_what_is_compressed_with_loss_is_near_the_original(name: str) -> None:
    original, tolerance = NEAR[name]
    assert np.abs(pixels(name).astype(int) - pixels(original).astype(int)).max() <= tolerance


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_decoded_file_has_the_values_that_pydicom_gives() -> None:
    """Three are not compared, which pydicom cannot read at all here; nor the biggest, which have originals above."""
    compared = 0
    for path in decoding_table.files():
        if path.stat().st_size > 1_000_000:
            continue
        try:
            image = read_image(path)
            ours = list(read_frames(image))
        except PixelError:
            continue
        if path.name in ("JPEG-lossy.dcm", "SC_rgb_jpeg.dcm", "image_dfl.dcm"):
            continue
        theirs = [next(iter_pixels(path, indices=[index])) for index in range(image.frames)]
        # JPEG with 12 bits: a grey level of 4096 between two decoders' arithmetic.
        tolerance = 1 if path.name == "JPGExtended.dcm" else 0
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.dtype == other.dtype.newbyteorder("="), path.name
            assert np.abs(mine.astype(np.float64) - other.astype(np.float64)).max() <= tolerance, path.name
        compared += 1
    assert compared >= 140


def test_the_table_in_the_documentation_is_what_the_decoders_do() -> None:
    written = Path("docs/decoding.md").read_text(encoding="utf-8")
    assert written == decoding_table.document(), "run: python -m tests.decoding_table > docs/decoding.md"
