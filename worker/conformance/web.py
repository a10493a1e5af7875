"""The statement's section on DICOMweb: resources, media types, query keys, status codes.

Input: settings. Output: Markdown, read off the routes and the tables of `worker.web.dicomweb` and
`dicom_node.dicomweb`. A resource without media types is a `KeyError`: it is a defect in this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

from dicom_node.dicomweb.matching import KEYS, OTHER_PARAMETERS, Level
from dicom_node.dicomweb.media_types import DICOM, FRAME_MEDIA_TYPES, MULTIPART, OCTET_STREAM
from dicom_node.dicomweb.rendered import JPEG, PARAMETERS, PNG
from worker.conformance.markdown import paragraph, setting, table
from worker.settings import Settings
from worker.web.dicomweb import pixels, qido, retrieve, store
from worker.web.dicomweb.answers import JSON_TYPES

_BULK_DATA: Final = (OCTET_STREAM, *dict.fromkeys(FRAME_MEDIA_TYPES.values()))
_FRAMES: Final = tuple(name for name in _BULK_DATA if not name.startswith("video/"))
_OBJECTS: Final = (f'{MULTIPART}; type="{DICOM}"', DICOM)
#: Function that answers -> media types that it offers, the preferred one first.
OFFERED: Final[Mapping[object, tuple[str, ...]]] = {
    qido.studies: JSON_TYPES,
    qido.series: JSON_TYPES,
    qido.instances: JSON_TYPES,
    retrieve.instances: _OBJECTS,
    retrieve.all_metadata: JSON_TYPES,
    pixels.frames: _FRAMES,
    pixels.bulk_data: _BULK_DATA,
    pixels.rendered: (JPEG, PNG),
    pixels.thumbnail: (JPEG, PNG),
    store.store: JSON_TYPES,
}
#: Status -> when it is given.
STATUSES: Final = {
    200: "done",
    202: "STOW-RS: some instances were stored, others refused or not whole",
    204: "QIDO-RS: nothing matches",
    400: "the request cannot be read, a key is unknown, or a part of the address is no UID",
    401: "who asks is not logged in and sends no token",
    403: "who asks has not the role for it: viewer to read, reviewer to store",
    404: "there is no such object here",
    406: "nothing that the Accept header names is to be had of this object",
    409: "STOW-RS: no instance was stored; FailureReason (0008,1197) is a status of the Storage SCP",
    415: "STOW-RS: the body is of another media type",
    503: "the store cannot be used just now",
}
_SERVICES: Final[Mapping[str, APIRouter]] = {
    "QIDO-RS": qido.router,
    "WADO-RS": retrieve.router,
    "WADO-RS, pixels": pixels.router,
    "STOW-RS": store.router,
}


def resources() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield service, method, path and offered media types of each resource."""
    for service, router in _SERVICES.items():
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield service, ", ".join(sorted(route.methods or ())), route.path, OFFERED[route.endpoint]


def section(settings: Settings) -> str:
    """Return the section."""
    rows = [(service, method, f"`{path}`", ", ".join(types)) for service, method, path, types in resources()]
    keys = [(level.name.lower(), ", ".join(KEYS[level])) for level in Level]
    return (
        "Origin server, below `/dicom-web`:\n\n"
        + table(("service", "method", "resource", "media types offered"), rows)
        + paragraph(
            f"Objects are sent in Explicit VR Little Endian (`{retrieve.EXPLICIT}`) unless `transfer-syntax` asks "
            "for the stored one (`*` for whatever it is); videos only as they are stored. Frames of several "
            f"numbers, and objects of several instances, come as {MULTIPART}. Rendered pictures take "
            f'{_words(PARAMETERS)}. STOW-RS takes {MULTIPART} with type="{DICOM}"; an instance may have '
            f"{setting(settings, 'web.largest_instance_mib')} MiB."
        )
        + "Keys of QIDO-RS; each level takes those of the levels above too:\n\n"
        + table(("level", "keys"), keys)
        + paragraph(
            f"Other parameters: {_words(OTHER_PARAMETERS)}. At most {qido.MOST_RESULTS} results in one answer. "
            "Wildcards match text, ranges dates and times, lists UIDs; names match without regard to case; fuzzy "
            "matching is answered with a Warning and literal matching."
        )
        + table(("status", "meaning"), STATUSES.items())
        + paragraph(
            "User agent, for destinations of kind `stow`: STOW-RS with instances as they are written, one request "
            "for a batch; QIDO-RS at instance level where `confirm: find` is set. Authentication by Bearer token or "
            "by user name and password."
        )
    )


def _words(names: object) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))  # type: ignore[call-overload]
