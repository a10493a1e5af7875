"""Every decoder of every transfer syntax gives the values that were encoded; what lies about itself reaches none."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from dicom_node.decoders import SYNTAXES, claims
from dicom_node.encapsulated_frames import EncapsulatedFrames
from dicom_node.pixels import FrameReader, PixelError, PixelLimits, read_frame, read_frames, read_image
from tests.phantoms.images import JPEG, LOSSLESS, dcmtk, jpeg_lossless, rle, smooth, write_image

Values = NDArray[Any]
#: rows and columns, bits stored, signed: odd sizes, so that nothing is right by being aligned.
KINDS = [
    ((33, 21), 8, False),
    ((33, 21), 8, True),
    ((33, 21), 6, False),
    ((33, 21), 12, False),
    ((33, 21), 12, True),
    ((33, 21), 10, True),
    ((33, 21), 16, False),
    ((33, 21), 16, True),
    ((33, 21, 3), 8, False),
    ((33, 21, 3), 16, False),
]
#: What a decoder refuses, where the next in order goes on.
REFUSED = {
    ("gdcm", "70", 6),
    ("gdcm", "57", 6),
    ("gdcm", "80", 6),
}


def decoded_by_each(path: Path) -> dict[str, Values | str]:
    image = read_image(path)
    with image.open() as file:
        data = EncapsulatedFrames(image, file, PixelLimits()).read(file, 0)
    results: dict[str, Values | str] = {}
    for name, decode in SYNTAXES[image.transfer_syntax].decoders.items():
        try:
            results[name] = decode(image, data, claims(image, 0, data))
        except Exception as error:  # noqa: BLE001 - each codec fails in its own way
            results[name] = str(error)
    return results


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_decoder_of_a_lossless_syntax_gives_the_very_values(syntax: str, kind: Any, tmp_path: Path) -> None:
    shape, bits, signed = kind
    values = smooth(shape, bits, signed=signed)
    path = write_image(tmp_path / "image.dcm", values[None], syntax, [LOSSLESS[syntax](values)], BitsStored=bits)
    for name, frame in decoded_by_each(path).items():
        if (name, syntax.rsplit(".", 1)[1], bits) in REFUSED:
            assert isinstance(frame, str), f"{name} decodes {bits} bits now: take it out of REFUSED"
            continue
        assert not isinstance(frame, str), f"{name}: {frame}"
        assert frame.dtype == values.dtype, name
        assert frame.flags.writeable, name
        assert np.array_equal(frame, values), name
    reader = FrameReader(read_image(path))
    assert np.array_equal(next(reader.frames()), values)
    assert reader.decoders == (next(iter(SYNTAXES[syntax].decoders)),)


def lossy(values: Values) -> dict[str, bytes]:
    if values.dtype == np.uint16:
        return {
            JPEG + "51": bytes(imagecodecs.jpeg8_encode(values, 97, bitspersample=12)),
            JPEG + "81": bytes(imagecodecs.jpegls_encode(values, 2)),
            JPEG + "91": bytes(imagecodecs.jpeg2k_encode(values, 75, reversible=False, codecformat="j2k")),
            JPEG + "203": bytes(imagecodecs.htj2k_encode(values, 0.0005, reversible=False)),
            JPEG + "112": bytes(imagecodecs.jpegxl_encode(values, distance=0.3)),
        }
    jpeg = bytes(imagecodecs.jpeg8_encode(values, 97, subsampling="444"))
    return {
        JPEG + "50": jpeg,
        JPEG + "81": bytes(imagecodecs.jpegls_encode(values, 2)),
        JPEG + "91": bytes(imagecodecs.jpeg2k_encode(values, 45, reversible=False, codecformat="j2k")),
        JPEG + "111": bytes(imagecodecs.jpegxl_encode_jpeg(jpeg)),
        JPEG + "112": bytes(imagecodecs.jpegxl_encode(values, distance=0.3)),
    }


@pytest.mark.parametrize(("shape", "bits"), [((64, 48), 12), ((64, 48), 8), ((64, 48, 3), 8)], ids=str)
def test_every_decoder_of_a_lossy_syntax_is_near_and_all_agree(
    shape: tuple[int, ...], bits: int, tmp_path: Path
) -> None:
    """On average within 2 % of the range of what was encoded, and within 1 % or 4 grey levels of one another."""
    values = smooth(shape, bits)
    for syntax, data in lossy(values).items():
        ybr = syntax.endswith((".50", ".51")) and len(shape) == 3
        photometric = "YBR_FULL" if ybr else "RGB" if len(shape) == 3 else "MONOCHROME2"
        path = write_image(
            tmp_path / "image.dcm", values[None], syntax, [data], BitsStored=bits, PhotometricInterpretation=photometric
        )
        frames = {name: frame for name, frame in decoded_by_each(path).items() if not isinstance(frame, str)}
        assert next(iter(SYNTAXES[syntax].decoders)) in frames, syntax
        for name, frame in frames.items():
            away = np.abs(frame.astype(int) - values)
            assert away.max() <= 0.16 * 2**bits, (syntax, name)
            assert away.mean() <= 0.02 * 2**bits, (syntax, name)
            others = [np.abs(frame.astype(int) - other.astype(int)).max() for other in frames.values()]
            assert max(others) <= max(4, 0.01 * 2**bits), (syntax, name)


@pytest.mark.parametrize("code", ["53", "55"])
def test_retired_progressive_jpeg_decodes(code: str, tmp_path: Path) -> None:
    values = smooth((64, 48), 8)
    path = write_image(tmp_path / "plain.dcm", values[None])
    option = {"53": "+es", "55": "+ep"}[code]
    image = read_image(dcmtk("dcmcjpeg", path, tmp_path / "progressive.dcm", option, "+q", "95"))
    assert image.transfer_syntax == JPEG + code
    ours, theirs = read_frame(image), read_frame(read_image(dcmtk("dcmdjpeg", image.path, tmp_path / "again.dcm")))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    # dcmtk stretches the values before it encodes.
    assert np.corrcoef(ours.ravel(), values.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("tool", "options", "code"),
    [
        ("dcmcjpeg", ("+el", "+sv", "6"), "57"),
        ("dcmcjpeg", ("+e1",), "70"),
        ("dcmcjpls", (), "80"),
        ("dcmcrle", (), None),
    ],
)
@pytest.mark.parametrize("kind", [((32, 48), 12, False), ((32, 48), 16, True), ((32, 48, 3), 8, False)], ids=str)
def test_what_dcmtk_encodes_is_decoded_to_the_very_values(
    tool: str, options: tuple[str, ...], code: str | None, kind: Any, tmp_path: Path
) -> None:
    shape, bits, signed = kind
    values = np.stack([smooth(shape, bits, signed=signed, seed=seed) for seed in range(3)])
    plain = write_image(tmp_path / "plain.dcm", values, BitsStored=bits)
    image = read_image(dcmtk(tool, plain, tmp_path / "compressed.dcm", *options))
    assert image.transfer_syntax == (JPEG + code if code else RLELossless)
    assert np.array_equal(np.stack(list(read_frames(image))), values)


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422", "RGB"])
def test_the_colours_of_baseline_jpeg_are_those_of_an_independent_decoder(photometric: str, tmp_path: Path) -> None:
    values = smooth((32, 48, 3), 8)
    colours: dict[str, Any] = {"subsampling": "422" if photometric == "YBR_FULL_422" else "444"}
    if photometric == "RGB":
        colours["outcolorspace"] = "RGB"
    data = bytes(imagecodecs.jpeg8_encode(values, 97, **colours))
    path = write_image(tmp_path / "a.dcm", values[None], JPEG + "50", [data], PhotometricInterpretation=photometric)
    theirs = dcmtk("dcmdjpeg", path, tmp_path / "b.dcm")
    ours, other = read_frame(read_image(path)).astype(int), read_frame(read_image(theirs)).astype(int)
    assert np.abs(ours - other).mean() < 2
    assert np.abs(ours - values).mean() < 4


@pytest.mark.parametrize(("encoded_signed", "said_signed"), [(True, False), (False, True)])
def test_a_jpeg_2000_codestream_with_the_wrong_sign_is_read_as_the_header_says(
    encoded_signed: bool, said_signed: bool, tmp_path: Path
) -> None:
    """As real scanners do: the 13 bits of a signed value in a codestream that calls itself unsigned, and reverse."""
    values = smooth((32, 48), 13, signed=said_signed)
    bits = values.view(np.uint16) & 0x1FFF
    in_stream = ((bits.astype(np.int32) ^ 0x1000) - 0x1000).astype(np.int16) if encoded_signed else bits
    data = imagecodecs.jpeg2k_encode(in_stream, reversible=True, codecformat="j2k", bitspersample=13)
    path = write_image(tmp_path / "a.dcm", values[None], JPEG + "90", [bytes(data)], BitsStored=13)
    for name, frame in decoded_by_each(path).items():
        assert np.array_equal(frame, values), name


def test_bits_above_bits_stored_are_cleared_in_every_coding(tmp_path: Path) -> None:
    """Old overlays live there (PS3.5 8.1.1); they are no part of the value."""
    values = smooth((32, 48), 12)
    dirty = values | np.uint16(0xA000)
    expected = values
    for syntax in ("1.2.840.10008.1.2.1", JPEG + "70", RLELossless):
        encoded = [LOSSLESS[syntax](dirty)] if syntax in LOSSLESS else None
        path = write_image(tmp_path / "a.dcm", dirty[None], syntax, encoded, BitsStored=12)
        assert np.array_equal(read_frame(read_image(path)), expected), syntax


# Uncompressed: the plain reader against pydicom's own.


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("kind", [*KINDS, ((33, 21), 32, False), ((33, 21), 1, False)], ids=str)
def test_uncompressed_frames_are_exactly_pydicoms(syntax: str, kind: Any, tmp_path: Path) -> None:
    shape, bits, signed = kind
    values = np.stack([smooth(shape, bits, signed=signed, seed=seed) for seed in range(3)])
    allocated = 1 if bits == 1 else 8 * values.dtype.itemsize
    path = write_image(tmp_path / "a.dcm", values, syntax, BitsStored=bits, BitsAllocated=allocated)
    frames = np.stack(list(read_frames(read_image(path))))
    assert np.array_equal(frames, values)
    if bits > 1:  # where frames of one bit begin within a byte, pydicom's iterator fails
        assert np.array_equal(frames, np.stack(list(iter_pixels(path))))
    assert np.array_equal(read_frame(read_image(path), 2), values[2])
    assert frames.dtype.isnative


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_by_pixel_and_by_plane_is_pydicoms(planar: int, photometric: str, tmp_path: Path) -> None:
    values = np.stack([smooth((20, 14, 3), 8, seed=seed) for seed in range(2)])
    path = write_image(
        tmp_path / "a.dcm",
        values.transpose(0, 3, 1, 2).reshape(values.shape) if planar else values,
        PlanarConfiguration=planar,
        PhotometricInterpretation=photometric,
    )
    frames = np.stack(list(read_frames(read_image(path))))
    assert np.array_equal(frames, np.stack(list(iter_pixels(path))))
    assert photometric != "RGB" or np.array_equal(frames, values)


def test_colour_at_half_width_is_pydicoms(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, 20, 14, 3)).astype(np.uint8)
    path = write_image(tmp_path / "a.dcm", values, PhotometricInterpretation="YBR_FULL_422")
    ds = dcmread(path)
    ds.PixelData = values.tobytes()[: values.size // 3 * 2]
    ds.save_as(path)
    # One by one: in a loop, pydicom takes the second frame for one of full width.
    expected = [next(iter_pixels(path, indices=[index])) for index in (0, 1)]
    assert np.array_equal(np.stack(list(read_frames(read_image(path)))), np.stack(expected))


@pytest.mark.parametrize(
    ("photometric", "colour"), [("CMYK", True), ("", False), ("MONOCHROME2", True), ("RGB", False), ("HSV", True)]
)
def test_colours_that_nobody_can_tell_are_refused(photometric: str, colour: bool, tmp_path: Path) -> None:
    values = smooth((8, 8, 3) if colour else (8, 8), 8)
    path = write_image(tmp_path / "a.dcm", values[None], PhotometricInterpretation=photometric)
    with pytest.raises(PixelError, match=r"PhotometricInterpretation .* is not supported; have the source send"):
        read_image(path)


def test_two_gigabytes_of_frames_are_read_in_little_memory(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.dcm", np.zeros((1, 1024, 1024), np.uint16), NumberOfFrames=1024)
    frames = 1024
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<I", frames * 2**21))
        file.truncate(at + 4 + frames * 2**21)
        file.seek(at + 4 + 1023 * 2**21)
        file.write(np.full(2**20, 7, np.uint16).tobytes())
    code = (
        "import resource, sys; from pathlib import Path; from dicom_node.pixels import *\n"
        "image = read_image(Path(sys.argv[1])); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "sums = [int(frame.sum()) for frame in FrameReader(image).frames([0, 500, *range(900, 1024)])]\n"
        "assert sums[-1] == 7 * 2**20 and not any(sums[:-1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24 * 1024, "KiB; a frame has 2 MiB"


# Compressed frames: where they are, and what they claim.


@pytest.mark.parametrize("table", ["basic", "none", "extended"])
@pytest.mark.parametrize("fragments", [1, 3])
def test_frames_are_found_with_every_offset_table_and_none(table: str, fragments: int, tmp_path: Path) -> None:
    if table == "extended" and fragments > 1:
        fragments = 1  # PS3.3 C.7.6.3.1.8 allows one
    values = np.stack([smooth((32, 48), 12, seed=seed) for seed in range(4)])
    encoded = [jpeg_lossless(frame) for frame in values]
    path = write_image(
        tmp_path / "a.dcm", values, JPEG + "70", encoded, table=table, fragments=fragments, BitsStored=12
    )
    image = read_image(path)
    assert np.array_equal(np.stack(list(read_frames(image))), values)
    assert np.array_equal(np.stack(list(read_frames(image, [3, 1]))), values[[3, 1]])


@pytest.mark.parametrize("table", ["basic", "extended"])
def test_an_offset_table_that_lies_is_not_believed(table: str, tmp_path: Path) -> None:
    values = np.stack([smooth((32, 48), 8, seed=seed) for seed in range(4)])
    path = write_image(tmp_path / "a.dcm", values, RLELossless, [rle(frame) for frame in values], table=table)
    ds = dcmread(path)
    if table == "extended":
        ds.ExtendedOffsetTable = struct.pack("<4Q", 0, 3, 2**63, 17)
    else:
        ds.PixelData = ds.PixelData[:8] + struct.pack("<4I", 0, 2, 40, 2**31) + ds.PixelData[24:]
    ds.save_as(path)
    assert np.array_equal(np.stack(list(read_frames(read_image(path)))), values)


def test_too_few_frames_are_told_by_number(tmp_path: Path) -> None:
    values = np.stack([smooth((32, 48), 8, seed=seed) for seed in range(3)])
    encoded = [rle(frame) for frame in values]
    path = write_image(tmp_path / "a.dcm", values, RLELossless, encoded, table="none", NumberOfFrames=5)
    image = read_image(path)
    assert np.array_equal(read_frame(image, 2), values[2])
    with pytest.raises(PixelError, match=r"frame 5 cannot be decoded .*truncated: they hold 3 of 5 frames"):
        read_frame(image, 4)


def forged(data: bytes, syntax: str) -> list[tuple[bytes, str]]:
    """Return the codestream with other sizes in its head, and what is said of each."""
    kind = syntax.rsplit(".", 1)[1]
    if kind in ("90", "201"):
        huge = data[:8] + struct.pack(">II", 60000, 60000) + data[16:]
        whole = huge[:24] + struct.pack(">II", 60000, 60000) + huge[32:]
        return [(whole, "60000 rows and 60000 columns"), (huge, "more than 65535 tiles")]
    if kind == "110":
        return [(b"\xff\x0a" + bytes([0xFE, 0xFF, 0xFF, 0xFF]) + data[6:], r"\d+ rows and \d+ columns")]
    marker = {"80": b"\xff\xf7", "70": b"\xff\xc3", "50": b"\xff\xc0"}[kind]
    at = data.index(marker) + 5
    huge = data[:at] + struct.pack(">HH", 65500, 65500) + data[at + 4 :]
    planes = data[: at + 4] + b"\x03" + data[at + 5 :]
    deep = data[: at - 1] + b"\x10" + data[at:]
    return [(huge, "65500 rows and 65500 columns"), (planes, "3 samples a pixel|head"), (deep, "16 bits a sample")]


@pytest.mark.parametrize("syntax", [JPEG + "50", JPEG + "70", JPEG + "80", JPEG + "90", JPEG + "110", JPEG + "201"])
def test_a_codestream_that_claims_other_sizes_than_the_header_reaches_no_decoder(syntax: str, tmp_path: Path) -> None:
    values = smooth((32, 48), 8)
    data = bytes(imagecodecs.jpeg8_encode(values, 95)) if syntax == JPEG + "50" else LOSSLESS[syntax](values)
    for codestream, reason in forged(data, syntax):
        path = write_image(tmp_path / "a.dcm", values[None], syntax, [codestream])
        reader = FrameReader(read_image(path))
        with pytest.raises(PixelError, match=reason) as refusal:
            next(reader.frames())
        assert "frame 1 cannot be decoded (its " in refusal.value.reason
        assert reader.decoders == ()


def test_an_rle_frame_that_unpacks_to_more_or_less_is_refused(tmp_path: Path) -> None:
    values = smooth((32, 48), 8)
    good = rle(values)
    for data in (good[:200], struct.pack("<I", 15) + good[4:], good[:64] + b"\x81\0"):
        path = write_image(tmp_path / "a.dcm", values[None], RLELossless, [data])
        with pytest.raises(PixelError, match=r"frame 1 cannot be decoded \(imagecodecs: .*; pydicom: "):
            read_frame(read_image(path))


def test_compressed_frames_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    values = smooth((32, 48), 8)
    path = write_image(tmp_path / "a.dcm", values[None], RLELossless, [rle(values)])
    with pytest.raises(PixelError, match=r"frame 1 takes \d+ bytes compressed, the limit is 1536"):
        next(FrameReader(read_image(path), PixelLimits(max_frame_bytes=1536)).frames())


def test_a_deflated_multi_frame_is_read_frame_by_frame(tmp_path: Path) -> None:
    values = np.stack([smooth((64, 48), 12, seed=seed) for seed in range(40)])
    path = write_image(tmp_path / "a.dcm", values, DeflatedExplicitVRLittleEndian, BitsStored=12)
    image = read_image(path)
    assert np.array_equal(np.stack(list(read_frames(image))), values)
    assert np.array_equal(np.stack(list(read_frames(image, [30, 2]))), values[[30, 2]])


def test_a_deflated_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.dcm", smooth((64, 48), 8)[None], DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    plain = write_image(tmp_path / "b.dcm", smooth((64, 48), 8)[None]).read_bytes()
    meta = data[: data.index(b"\x02\0\x13\0") + 8 + data[data.index(b"\x02\0\x13\0") + 6]]
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = engine.compress(b"\x09\0\x01\0OB\0\0" + struct.pack("<I", 2**32 - 16))
    bomb += b"".join(engine.compress(bytes(2**20)) for _ in range(600)) + engine.flush()
    assert plain
    assert len(bomb) < 2**20
    path.write_bytes(meta + bomb)
    code = (
        "import resource, sys; from pathlib import Path; from dicom_node.pixels import *\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_image(Path(sys.argv[1]))\n"
        "except PixelError as error: print(error.reason)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    reason, grown = done.stdout.splitlines()
    assert "inflates to more than 67108864 bytes" in reason
    assert int(grown) < 200 * 1024, "KiB"


def test_fragments_without_an_end_are_refused(tmp_path: Path) -> None:
    values = smooth((32, 48), 8)
    path = write_image(tmp_path / "a.dcm", values[None], RLELossless, [rle(values)])
    ds = dcmread(path)
    ds.PixelData = encapsulate([b"\0\0"], has_bot=False)
    ds.save_as(path)
    with pytest.raises(PixelError, match="frame 1 cannot be decoded"):
        read_frame(read_image(path))
