"""What a client takes -> what it gets: the Accept header read, and one representation chosen (PS3.18 8.7).

Input: the text of an Accept header. Output: `MediaRange`s, the most wanted first; `MediaType`s of parts and bodies.
On failure: `MediaTypeError`, where the text cannot be read; what to do about "nothing of it is to be had" is the
caller's, who knows what there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"

#: Transfer syntax -> the media type of one of its frames (PS3.18 8.7.3.3.2 and following tables).
FRAME_MEDIA_TYPES: Final[Mapping[str, str]] = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.100": "video/mpeg2",
    "1.2.840.10008.1.2.4.101": "video/mpeg2",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/H265",
    "1.2.840.10008.1.2.4.108": "video/H265",
}

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 5.6.2
_TYPE: Final = re.compile(rf"\s*({_TOKEN})/({_TOKEN})\s*")
_PARAMETER: Final = re.compile(rf';\s*(?:({_TOKEN})\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]+)\s*)?')
#: Longer than any real client's.
_MOST_BYTES: Final = 16384


class MediaTypeError(ValueError):
    """The text is no list of media types; the message says where it ends to be one."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type with its parameters, names in lower case (RFC 9110 8.3.1)."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight(self) -> float:
        """The quality value, 0 to 1; 1 where there is none or it is no number."""
        try:
            return min(max(float(self.parameters.get("q", "1")), 0.0), 1.0)
        except ValueError:
            return 1.0

    @property
    def is_multipart(self) -> bool:
        """Whether the parts, not the body, are of the type that is meant."""
        return self.name in (MULTIPART, "multipart/*")

    @property
    def content(self) -> str:
        """The type of the content itself: of the parts where it is multipart; "*/*" where that is not said."""
        if self.is_multipart:
            return self.parameters.get("type", "*/*").lower()
        return self.name

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax that is asked for, "*" for any, "" where nothing is said."""
        return self.parameters.get("transfer-syntax", "")

    def takes(self, name: str) -> bool:
        """Whether content of this media type is among what it stands for."""
        wanted = self.content
        return wanted in ("*/*", name.lower()) or (wanted.endswith("/*") and name.lower().startswith(wanted[:-1]))


def parse_media_type(text: str) -> MediaType:
    """Read one media type, such as a Content-Type. Raises `MediaTypeError`."""
    found, at = _one(text, 0)
    if text[at:].strip():
        raise MediaTypeError(f"{text[:200]!r} is not one media type")
    return found


def parse_accept(text: str) -> tuple[MediaType, ...]:
    """Read an Accept header, the most wanted first; an empty one takes everything. Raises `MediaTypeError`."""
    if len(text) > _MOST_BYTES:
        raise MediaTypeError(f"an Accept header of {len(text)} bytes is too long")
    found: list[MediaType] = []
    at = 0
    while text[at:].strip():
        media_type, at = _one(text, at)
        found.append(media_type)
        if at < len(text):
            if text[at] != ",":
                raise MediaTypeError(f"the Accept header cannot be read from {text[at : at + 40]!r} on")
            at += 1
    wanted = [media_type for media_type in found if media_type.weight > 0]
    if not found:
        return (MediaType("*/*"),)
    return tuple(sorted(wanted, key=lambda media_type: -media_type.weight))


def _one(text: str, at: int) -> tuple[MediaType, int]:
    head = _TYPE.match(text, at)
    if head is None:
        raise MediaTypeError(f"{text[at : at + 80]!r} does not begin with a media type")
    parameters: dict[str, str] = {}
    at = head.end()
    while (parameter := _PARAMETER.match(text, at)) is not None:
        name, value = parameter.groups()
        if name is not None:
            parameters[name.lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        at = parameter.end()
    return MediaType(f"{head[1]}/{head[2]}".lower(), parameters), at
