"""Asking a DICOMweb server by QIDO-RS (PS3.18 10.6): does it answer, and does it have an instance?

Input: a server. Output: the answer. On failure `SearchError`, which says whether asking again can help.
"""

from __future__ import annotations

import http.client
import json
from typing import Final
from urllib.parse import urlencode

from dicom_node.dicomweb.media_types import DICOM_JSON
from dicom_node.dicomweb.origin import DicomWebServer
from dicom_node.http_server import reason_in_words

_SOP_INSTANCE_UID: Final = "00080018"
#: One instance is asked for; a server that does not understand the question may answer with a whole series.
_MOST_ANSWER_BYTES: Final = 64 << 20
#: Answers that pass with time, or once a person has set the credentials right.
_LATER: Final = frozenset({401, 403, 408, 425, 429, 500, 502, 503, 504, 507})


class SearchError(Exception):
    """The question was not answered; the message names the server and the reason."""

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        """Say whether asking again can help."""
        super().__init__(message)
        self.is_permanent = is_permanent


def has_instance(
    server: DicomWebServer, study_uid: str, series_uid: str, sop_instance_uid: str, *, timeout_s: float = 30.0
) -> bool:
    """Return whether the server finds an instance. Raises `SearchError`."""
    path = f"/studies/{study_uid}/series/{series_uid}/instances"
    code, body = _get(server, path, {"SOPInstanceUID": sop_instance_uid}, timeout_s)
    if code in (204, 404):  # nothing found; some say it of the whole study
        return False
    if code != 200:
        raise SearchError(f"{server} answered a query with HTTP {code}", is_permanent=code not in _LATER)
    try:
        found = json.loads(body)
        uids = {uid for entry in found for uid in entry.get(_SOP_INSTANCE_UID, {}).get("Value", [])}
    except (ValueError, TypeError, AttributeError) as error:
        raise SearchError(f"{server} answered a query with what is not DICOM JSON", is_permanent=True) from error
    return sop_instance_uid in uids


def check_answers(server: DicomWebServer, *, timeout_s: float = 10.0) -> None:
    """Look whether a DICOMweb server is there and lets us in; nothing is stored. Raises `SearchError` if not."""
    code, _ = _get(server, "/studies", {"limit": "1"}, timeout_s)
    if code in (401, 403):
        raise SearchError(f"it answered HTTP {code}: token, user name or password are wrong or not enough")
    if 300 <= code < 400 or code == 404:
        raise SearchError(f"it answered HTTP {code}: there is no DICOMweb server under this path", is_permanent=True)
    if code >= 500 and code != 501:  # one that only stores may not implement queries
        raise SearchError(f"it answered HTTP {code}")


def _get(server: DicomWebServer, path: str, query: dict[str, str], timeout_s: float) -> tuple[int, bytes]:
    connection = server.connection(timeout_s)
    try:
        target = f"{server.parts.path.rstrip('/')}{path}?{urlencode(query)}"
        connection.request("GET", target, headers={"Accept": DICOM_JSON, **server.authorization})
        response = connection.getresponse()
        return response.status, response.read(_MOST_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise SearchError(f"{server}: {reason_in_words(error)}") from error
    finally:
        connection.close()
