"""WADO-RS (PS3.18 10.4): frames, bulk data, and pictures for a browser.

Input: the address of an object's frames or of a bulk value, and what the client takes. Output: frames as they are
stored or uncompressed, values, JPEG or PNG; codecs run in the sandbox. On failure 400, 404 or 406 with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from fastapi import APIRouter, HTTPException, Request, Response
from pydicom.tag import Tag

from dicom_node.dicomweb import frames as stored
from dicom_node.dicomweb.dicom_json import element_at, read_dataset
from dicom_node.dicomweb.media_types import FRAME_MEDIA_TYPES, MULTIPART, OCTET_STREAM, MediaType
from dicom_node.dicomweb.multipart import closing, new_boundary, part_head
from dicom_node.dicomweb.rendered import JPEG, PNG, THUMBNAIL_SIDE, Wish, WishError, read_wish, render
from dicom_node.image_attributes import ImageAttributes, PixelError, pixel_element
from dicom_node.sandbox import SandboxError
from dicom_node.video import is_video
from worker.web.dicomweb.answers import Streamed, accepted, base_url, not_acceptable
from worker.web.dicomweb.catalogue import StoredObject
from worker.web.dicomweb.retrieve import EXPLICIT, address_of, found
from worker.web.dicomweb.service import DicomWeb

log = structlog.get_logger()
router = APIRouter()

INSTANCE: Final = "/studies/{study}/series/{series}/instances/{instance}"
_PIXEL_TAGS: Final = ("7FE00010", "7FE00008", "7FE00009")
_MOST_FRAMES: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Way:
    """How frames are sent."""

    media_type: str
    as_stored: bool
    is_multipart: bool


@router.get(INSTANCE + "/frames/{numbers}")
def frames(request: Request, study: str, series: str, instance: str, numbers: str) -> Response:
    """Return frames, each by its number from 1."""
    one = found(request, study, series, instance)[0]
    image = _image(one)
    indices = _indices(image, numbers)
    way = _way(image, accepted(request), only=len(indices) == 1)
    addresses = [f"{address_of(base_url(request), one)}/frames/{index + 1}" for index in indices]
    return _response(way, addresses, ([piece] for piece in _frames(request, image, indices, way)))


@router.get(INSTANCE + "/bulkdata/{place:path}")
def bulk_data(request: Request, study: str, series: str, instance: str, place: str) -> Response:
    """Return a binary value by its place in the data set, as the metadata name it."""
    one = found(request, study, series, instance)[0]
    address = f"{address_of(base_url(request), one)}/bulkdata/{place}"
    if place.upper() not in _PIXEL_TAGS:
        way = _octets(accepted(request))
        return _response(way, [address], iter([[_value(one, place)]]))
    image = _image(one)
    indices = range(image.frames)
    if is_video(image.transfer_syntax):
        return _response(_video_way(image, accepted(request)), [address], iter([stored.video_pieces(image)]))
    way = _way(image, accepted(request), only=True)
    if way.as_stored and image.is_encapsulated:
        addresses = [f"{address_of(base_url(request), one)}/frames/{index + 1}" for index in indices]
        return _response(way, addresses, ([piece] for piece in _frames(request, image, indices, way)))
    if stored.is_plain(image):
        return _response(way, [address], iter([_plain(image)]))
    return _response(way, [address], iter([_frames(request, image, indices, way)]))


@router.get(INSTANCE + "/rendered")
@router.get(INSTANCE + "/frames/{numbers}/rendered")
def rendered(request: Request, study: str, series: str, instance: str, numbers: str = "1") -> Response:
    """Return a picture of a frame; of an object with several frames the first one, unless one is named."""
    media_type = _picture_type(request)
    try:
        wish = read_wish(request.query_params, media_type)
    except WishError as error:
        raise HTTPException(400, str(error)) from None
    one = found(request, study, series, instance)[0]
    return _picture(request, one, _indices(_image(one, 406), numbers, most=1)[0], wish)


@router.get("/studies/{study}/thumbnail")
@router.get("/studies/{study}/series/{series}/thumbnail")
@router.get(INSTANCE + "/thumbnail")
@router.get(INSTANCE + "/frames/{numbers}/thumbnail")
def thumbnail(request: Request, study: str, series: str = "", instance: str = "", numbers: str = "") -> Response:
    """Return a small picture: of the frame that is named, else of one in the middle."""
    media_type = _picture_type(request)
    objects = found(request, study, series, instance)
    first = next((one.header.series_instance_uid for one in objects if one.header.has_pixel_data), "")
    pictures = [one for one in objects if one.header.has_pixel_data and one.header.series_instance_uid == first]
    if not pictures:
        raise HTTPException(404, "there is nothing here that can be shown as a picture")
    one = pictures[len(pictures) // 2]
    image = _image(one)
    index = _indices(image, numbers, most=1)[0] if numbers else image.frames // 2
    return _picture(request, one, index, Wish(media_type, viewport=(THUMBNAIL_SIDE, THUMBNAIL_SIDE)))


def _image(one: StoredObject, status_code: int = 404) -> ImageAttributes:
    try:
        return stored.checked_attributes(one.path)
    except PixelError as error:
        raise HTTPException(status_code, str(error)) from None


def _indices(image: ImageAttributes, numbers: str, most: int = _MOST_FRAMES) -> list[int]:
    """Read frame numbers (from 1) as indices; 400 where they are none, 404 where there is no such frame."""
    parts = [part.strip() for part in numbers.split(",")]
    if len(parts) > most:
        raise HTTPException(400, f"at most {most} frame(s) at a time are to be had here")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise HTTPException(400, f"{numbers[:80]!r} is no list of frame numbers, counted from 1")
    indices = [int(part) - 1 for part in parts]
    try:
        stored.check_indices(image, indices)
    except PixelError as error:
        raise HTTPException(404, str(error)) from None
    return indices


def _way(image: ImageAttributes, wanted: Sequence[MediaType], *, only: bool) -> _Way:
    """Return how frames are sent: the first way that the client takes; 406 where there is none."""
    syntax = str(image.transfer_syntax)
    own_type = FRAME_MEDIA_TYPES.get(syntax, "") if image.is_encapsulated else ""
    can_be_stored = stored.is_plain(image) or (image.is_encapsulated and not is_video(syntax))
    for media_type in wanted:
        is_multipart = media_type.is_multipart or media_type.name == "*/*"
        if not (only or is_multipart):
            continue
        asked = media_type.transfer_syntax
        if media_type.takes(OCTET_STREAM):
            if asked in ("", EXPLICIT) or (asked == "*" and not image.is_encapsulated):
                return _Way(f"{OCTET_STREAM}; transfer-syntax={EXPLICIT}", stored.is_plain(image), is_multipart)
            if asked in ("*", syntax) and can_be_stored:
                return _Way(f"{OCTET_STREAM}; transfer-syntax={syntax}", True, is_multipart)
        if own_type and can_be_stored and media_type.takes(own_type) and asked in ("", "*", syntax):
            return _Way(f"{own_type}; transfer-syntax={syntax}", True, is_multipart)
    offered = [own_type] if own_type and can_be_stored else []
    raise not_acceptable(f'{MULTIPART}; type="{OCTET_STREAM}"', *offered)


def _octets(wanted: Sequence[MediaType]) -> _Way:
    for media_type in wanted:
        if media_type.takes(OCTET_STREAM):
            return _Way(OCTET_STREAM, True, media_type.is_multipart or media_type.name == "*/*")
    raise not_acceptable(OCTET_STREAM)


def _video_way(image: ImageAttributes, wanted: Sequence[MediaType]) -> _Way:
    own_type = FRAME_MEDIA_TYPES.get(str(image.transfer_syntax), OCTET_STREAM)
    for media_type in wanted:
        for name in (own_type, OCTET_STREAM):
            if media_type.takes(name):
                is_multipart = media_type.is_multipart or media_type.name == "*/*"
                return _Way(f"{name}; transfer-syntax={image.transfer_syntax}", True, is_multipart)
    raise not_acceptable(own_type, OCTET_STREAM)


def _frames(request: Request, image: ImageAttributes, indices: Sequence[int], way: _Way) -> Iterator[bytes]:
    if way.as_stored:
        yield from stored.stored_frames(image, indices)
        return
    service: DicomWeb = request.app.state.dicomweb
    for index in indices:
        yield service.sheltered(stored.decoded_frame, image.path, index)


def _plain(image: ImageAttributes) -> Iterator[bytes]:
    with image.open() as file:
        yield from stored.plain_pieces(image, file, pixel_element(image, file))


def _value(one: StoredObject, place: str) -> bytes:
    """Return the binary value at a place such as 00420011 or 00091010/0/00091012; 404 where there is none."""
    parts = place.split("/")
    try:
        path = tuple(int(part) if number % 2 else Tag(int(part, 16)) for number, part in enumerate(parts))
        dataset = read_dataset(one.path)
    except (ValueError, OverflowError, PixelError):
        raise HTTPException(404, "there is no such value") from None
    element = element_at(dataset, path)
    if element is None or not isinstance(element.value, bytes):
        raise HTTPException(404, "there is no such value")
    return element.value


def _response(way: _Way, addresses: Sequence[str], contents: Iterator[Iterator[bytes] | list[bytes]]) -> Response:
    """Return parts, or the one body; the first piece is made before the answer begins, so that it can still fail."""
    boundary = new_boundary()

    def pieces() -> Iterator[bytes]:
        for address, content in zip(addresses, contents, strict=True):
            for number, piece in enumerate(content):
                if number == 0 and way.is_multipart:
                    yield part_head(boundary, way.media_type, address) + piece
                else:
                    yield piece
        if way.is_multipart:
            yield closing(boundary)

    made = pieces()
    try:
        first = next(made, b"")
    except (PixelError, SandboxError) as error:
        raise HTTPException(406, str(error)) from None

    def all_pieces() -> Iterator[bytes]:
        yield first
        yield from made

    name = way.media_type.split(";")[0]
    whole = f'{MULTIPART}; type="{name}"; boundary={boundary}' if way.is_multipart else way.media_type
    return Streamed(all_pieces(), media_type=whole)


def _picture_type(request: Request) -> str:
    for media_type in accepted(request):
        for name in (JPEG, PNG):
            if not media_type.is_multipart and media_type.takes(name):
                return name
    raise not_acceptable(JPEG, PNG)


def _picture(request: Request, one: StoredObject, index: int, wish: Wish) -> Response:
    service: DicomWeb = request.app.state.dicomweb
    try:
        return Response(service.sheltered(render, one.path, index, wish), media_type=wish.media_type)
    except (PixelError, SandboxError) as error:
        log.warning("no picture", action="wado", sop_instance_uid=one.header.sop_instance_uid, error=str(error))
        raise HTTPException(406, str(error)) from None
