"""WADO-RS (PS3.18 10.4): whole objects as application/dicom, and their metadata as DICOM JSON.

Input: the address of a study, a series or an instance, and what the client takes. Output: objects as they are stored,
or in Explicit VR Little Endian, which is the default; read from the disk as they are sent. On failure 404 or 406 before
the answer begins; what fails later breaks the answer off, so that nobody takes a part for the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import APIRouter, HTTPException, Request, Response

from dicom_node.decoders import SYNTAXES
from dicom_node.dicomweb.dicom_json import metadata
from dicom_node.dicomweb.media_types import DICOM, MULTIPART, MediaType
from dicom_node.dicomweb.multipart import closing, new_boundary, part_head
from dicom_node.image_attributes import PixelError, is_encapsulated
from dicom_node.sandbox import SandboxError
from worker.web.dicomweb import catalogue
from worker.web.dicomweb.answers import (
    Streamed,
    accepted,
    base_url,
    check_uids,
    json_type,
    not_acceptable,
    object_url,
    streamed_json,
)
from worker.web.dicomweb.catalogue import StoredObject
from worker.web.dicomweb.service import DicomWeb

log = structlog.get_logger()
router = APIRouter()

EXPLICIT: Final = "1.2.840.10008.1.2.1"
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Way:
    """How an object is sent: as it is, or in Explicit VR Little Endian; as a part, or as the whole body."""

    wanted: MediaType
    as_stored: bool


def found(request: Request, study: str, series: str = "", instance: str = "") -> list[StoredObject]:
    """Return the objects of an address; 404 where there are none, 400 where it holds no UIDs."""
    check_uids(*filter(None, (study, series, instance)))
    with request.app.state.database.reading() as session:
        objects = list(catalogue.objects(session, study, series, instance))
    if not objects:
        raise HTTPException(404, "there is no such study, series or instance here")
    return objects


@router.get("/studies/{study}")
@router.get("/studies/{study}/series/{series}")
@router.get("/studies/{study}/series/{series}/instances/{instance}")
def instances(request: Request, study: str, series: str = "", instance: str = "") -> Response:
    """Return a study's, a series' or one object, whole."""
    objects = found(request, study, series, instance)
    wanted = [one for one in accepted(request) if one.takes(DICOM)]
    ways = [_way(one, wanted, only=len(objects) == 1) for one in objects]
    service: DicomWeb = request.app.state.dicomweb
    if len(objects) == 1 and not (ways[0].wanted.is_multipart or ways[0].wanted.name == "*/*"):
        pieces = _pieces(service, objects[0], ways[0])
        return Streamed(_begun(pieces), media_type=_dicom_type(objects[0], ways[0]))
    boundary = new_boundary()
    media_type = f'{MULTIPART}; type="{DICOM}"; boundary={boundary}'
    base = base_url(request)
    return Streamed(_begun(_parts(service, objects, ways, boundary, base)), media_type=media_type)


@router.get("/studies/{study}/metadata")
@router.get("/studies/{study}/series/{series}/metadata")
@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
def all_metadata(request: Request, study: str, series: str = "", instance: str = "") -> Response:
    """Return the attributes of objects, with addresses in place of bulk data."""
    media_type = json_type(request)
    objects = found(request, study, series, instance)
    return streamed_json(_metadata(objects, base_url(request)), media_type)


def address_of(base: str, one: StoredObject) -> str:
    """Return the address of an object."""
    header = one.header
    return object_url(base, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)


def _metadata(objects: Sequence[StoredObject], base: str) -> Iterator[dict[str, Any]]:
    for one in objects:
        address = address_of(base, one)
        made = metadata(one.path, lambda place, address=address: f"{address}/bulkdata/{place}")  # type: ignore[misc]
        made["00083002"] = {"vr": "UI", "Value": [one.header.transfer_syntax_uid]}
        yield made


def _way(one: StoredObject, wanted: Sequence[MediaType], *, only: bool) -> _Way:
    """Return the first way of those that the client takes; 406 where there is none."""
    stored = one.header.transfer_syntax_uid
    can_be_explicit = not is_encapsulated(stored) or stored in SYNTAXES
    for media_type in wanted:
        syntax = media_type.transfer_syntax
        if not (only or media_type.is_multipart or media_type.name == "*/*"):
            continue  # one body cannot hold several objects
        if syntax in ("*", stored) or (syntax == "" and stored == EXPLICIT):
            return _Way(media_type, as_stored=True)
        if syntax in ("", EXPLICIT) and can_be_explicit:
            return _Way(media_type, as_stored=False)
        if media_type.name == "*/*":
            return _Way(media_type, as_stored=True)  # a video, which nobody wants uncompressed
    raise not_acceptable(
        f'{MULTIPART}; type="{DICOM}"; transfer-syntax=*', "and Explicit VR Little Endian of what is no video"
    )


def _dicom_type(one: StoredObject, way: _Way) -> str:
    return f"{DICOM}; transfer-syntax={one.header.transfer_syntax_uid if way.as_stored else EXPLICIT}"


def _parts(
    service: DicomWeb, objects: Sequence[StoredObject], ways: Sequence[_Way], boundary: str, base: str
) -> Iterator[bytes]:
    for one, way in zip(objects, ways, strict=True):
        pieces = _pieces(service, one, way)
        first = next(pieces)
        yield part_head(boundary, _dicom_type(one, way), address_of(base, one))
        yield first
        yield from pieces
    yield closing(boundary)


def _pieces(service: DicomWeb, one: StoredObject, way: _Way) -> Iterator[bytes]:
    with ExitStack() as stack:
        path: Path = one.path if way.as_stored else stack.enter_context(service.explicit_file(one.path))
        file = stack.enter_context(path.open("rb"))
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first piece before the answer begins: what fails then is an answer and not a broken one."""
    try:
        first = next(pieces)
    except (PixelError, SandboxError) as error:
        raise HTTPException(406, f"{error}; ask for transfer-syntax=* to have it as it is stored") from None
    except OSError as error:
        log.error("object cannot be read", action="wado", error=str(error))
        raise HTTPException(503, "the object's file cannot be read; see the log") from None

    def all_pieces() -> Iterator[bytes]:
        yield first
        yield from pieces

    return all_pieces()
