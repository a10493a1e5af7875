"""What all DICOMweb resources share: addresses, JSON answers, and refusals in words (PS3.18 8.5, 8.7).

Input: a request. Output: its address, its Accept header read, and responses. On failure `HTTPException`: 400 where the
request cannot be read, 406 where nothing that the client takes is to be had, 404 where there is no such object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import structlog
from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Send

from dicom_node.dicomweb.media_types import DICOM_JSON, JSON, MediaType, MediaTypeError, parse_accept
from dicom_node.image_attributes import PixelError, first_line
from dicom_node.sandbox import SandboxError
from dicom_node.uids import is_acceptable_uid

log = structlog.get_logger()

#: Media types of metadata, the preferred one first.
JSON_TYPES: Final = (DICOM_JSON, JSON)
#: Names of this machine; behind a proxy the Host field has the proxy's name.
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1"})


def base_url(request: Request) -> str:
    """Return the address of this DICOMweb service, as the client reached it, without a slash at its end."""
    public = request.app.state.dicomweb.settings.web.public_url
    if public:
        return f"{public.rstrip('/')}{request.scope['root_path']}"
    place = request.url.netloc
    server = request.scope.get("server")
    if request.url.port is None and request.url.hostname in _LOCAL_NAMES and server and server[1]:
        place = f"{place}:{server[1]}"  # some clients leave the port out of their Host field
    return f"{request.url.scheme}://{place}{request.scope['root_path']}"


def object_url(base: str, study: str, series: str = "", instance: str = "") -> str:
    """Return the address of a study, a series or an instance."""
    parts = [base, "studies", study]
    parts += ["series", series] if series else []
    parts += ["instances", instance] if instance else []
    return "/".join(parts)


def accepted(request: Request) -> tuple[MediaType, ...]:
    """Return what the client takes, the most wanted first; the query parameter goes before the header (8.3.3.1)."""
    text = request.query_params.get("accept") or ", ".join(request.headers.getlist("accept"))
    try:
        return parse_accept(text)
    except MediaTypeError as error:
        raise HTTPException(400, str(error)) from None


def json_type(request: Request) -> str:
    """Return the media type of a JSON answer; 406 where the client takes none."""
    for wanted in accepted(request):
        if wanted.is_multipart:
            continue
        for name in JSON_TYPES:
            if wanted.takes(name):
                return name
    raise not_acceptable(*JSON_TYPES)


def not_acceptable(*offered: str) -> HTTPException:
    """Return the answer 406, which says what could be had."""
    return HTTPException(406, f"nothing that the Accept header names is to be had here; there is {', '.join(offered)}")


class Streamed(StreamingResponse):
    """An answer made while it is sent. What fails then ends the connection: nobody shall take a part for the whole."""

    async def stream_response(self, send: Send) -> None:
        """Send the answer, as far as it goes."""
        try:
            await super().stream_response(send)
        except (PixelError, SandboxError, OSError) as error:
            log.error("answer broke off", action="wado", error=first_line(error))


def check_uids(*uids: str) -> None:
    """Answer 400 where a part of the address is no UID."""
    for uid in uids:
        if not is_acceptable_uid(uid):
            raise HTTPException(400, f"{uid[:80]!r} is not a UID")


def json_response(content: Any, media_type: str, status_code: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(json.dumps(content, allow_nan=False), status_code, media_type=media_type)


def streamed_json(entries: Iterable[dict[str, Any]], media_type: str) -> Streamed:
    """Return a JSON array whose entries are made while they are sent."""

    def pieces() -> Iterator[str]:
        separator = "["
        for entry in entries:
            yield separator + json.dumps(entry, allow_nan=False)
            separator = ",\n"
        yield "[]" if separator == "[" else "]"

    return Streamed(pieces(), media_type=media_type)
