"""Drawn frames -> a surgical video as a DICOM file, with the header a recorder would write: for the demo and the tests.

Input: RGB frames and whose they shall be. Output: one Video Microscopic Image (PS3.3 A.32.6) in a folder, named by SOP
Instance UID, its pixel data one H.264, MPEG-2 or HEVC stream in fragments, valid for `dciodvfy -new`. Nothing here is
anybody's video. Frames of another shape raise `ValueError`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final, NamedTuple, Unpack, cast

import av
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import HEVCMP51, MPEG2MPML, MPEG4HP41, UID, VideoMicroscopicImageStorage

from dicom_node.codes import EYE
from dicom_node.marking import concept
from worker.demo.phantom_studies import Identity, new_image, save_image


class _Coding(NamedTuple):
    codec: str
    container: str
    #: What the encoder is told: small, alike on every machine, a key frame a second.
    options: dict[str, str]
    #: Defined term of LossyImageCompressionMethod (PS3.3 C.7.6.1.1.5.1).
    method: str


_CODINGS: Final[dict[str, _Coding]] = {
    MPEG4HP41: _Coding("libx264", "h264", {"preset": "veryfast", "crf": "20"}, "ISO_14496_10"),
    MPEG2MPML: _Coding("mpeg2video", "mpeg2video", {"b": "4M"}, "ISO_13818_2"),
    HEVCMP51: _Coding(
        "libx265",
        "hevc",
        {"preset": "veryfast", "crf": "20", "x265-params": "log-level=none:pools=none:frame-threads=1"},
        "ISO_23008_2",
    ),
}
#: Long streams are sent in several fragments, which a reader must join (PS3.5 8.2.5).
_FRAGMENT_BYTES: Final = 2**16
#: x265's coding tree units have this size, and it takes for granted that a picture holds one.
_LEAST_HEVC_SIDE: Final = 64


def write_video(
    folder: Path,
    frames: NDArray[np.uint8],
    *,
    fps: int = 25,
    sop_instance_uid: str | None = None,
    coding: str = MPEG4HP41,
    **identity: Unpack[Identity],
) -> Path:
    """Write one Video Microscopic Image and return its path.

    Args:
        folder: Made where it does not exist.
        frames: uint8, shape (frames, rows, columns, 3), RGB; rows and columns even.
        fps: Frames a second.
        sop_instance_uid: New if None.
        coding: Transfer syntax UID: MPEG-4 AVC/H.264 High Profile Level 4.1, MPEG-2 Main Profile Main Level, or HEVC
            Main Profile Level 5.1.
        identity: See `worker.demo.phantom_studies.Identity`; the body part is EYE unless given.

    Raises:
        ValueError: The frames are not such an array, or the coding is another.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or any(n % 2 for n in frames.shape[1:3]):
        raise ValueError(
            f"a video is uint8 (frames, rows, columns, 3) with even rows and columns, not {frames.dtype} {frames.shape}"
        )
    if coding not in _CODINGS:
        raise ValueError(f"{UID(coding).name} is not written here; choose {' or '.join(UID(c).name for c in _CODINGS)}")
    if coding == HEVCMP51 and min(frames.shape[1:3]) < _LEAST_HEVC_SIDE:
        raise ValueError(f"x265 writes beyond its memory where a side is under {_LEAST_HEVC_SIDE} pixels")
    stream = _encoded(frames, fps, _CODINGS[coding])
    shown: Identity = {"body_part": "EYE", "study_description": "Cataract surgery", **identity}
    ds = new_image(VideoMicroscopicImageStorage, "GM", sop_instance_uid, shown)
    _describe(ds, frames, fps)
    ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", _CODINGS[coding].method
    ds.LossyImageCompressionRatio = round(frames.nbytes / len(stream), 2)
    pieces = [stream[start : start + _FRAGMENT_BYTES] for start in range(0, len(stream), _FRAGMENT_BYTES)]
    ds.PixelData = encapsulate(pieces, has_bot=False)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return save_image(ds, folder, shown, encoded_in=coding)


def _encoded(frames: NDArray[np.uint8], fps: int, coding: _Coding) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=coding.container) as container:
        stream = cast("av.VideoStream", container.add_stream(coding.codec, rate=fps, options=coding.options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = fps
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _describe(ds: Dataset, frames: NDArray[np.uint8], fps: int) -> None:
    """Set the modules of a video but its pixels (PS3.3 A.32.6.3): cine, multi-frame, image, acquisition context."""
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    if ds.BodyPartExamined == "EYE":
        ds.AnatomicRegionSequence = [concept(EYE)]
        ds.Laterality = "L"
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape[:3]
    ds.FrameTime, ds.FrameIncrementPointer = round(1000 / fps, 6), 0x00181063
    ds.CineRate, ds.PatientOrientation = fps, ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.BurnedInAnnotation = "NO"
    ds.AcquisitionContextSequence = []
