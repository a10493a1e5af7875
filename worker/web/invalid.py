"""What was sent and is not in its form -> an answer that says what is wrong, never what was sent: it may be a password.

Input: FastAPI's `RequestValidationError`. Output: status 422; for a browser a page with each field and a way back, for
a program JSON with the place of each fault. Nothing fails here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from worker.web.access import is_browser, page_before
from worker.web.page import render
from worker.wording import label

STATUS: Final = 422
SENT: Final = (
    "Nothing was changed. With your browser's way back the form is as you filled it in; correct this and send it again:"
)
ASKED: Final = "This page cannot be shown as it was asked for:"
#: Kind of fault (pydantic) -> in words; the others as pydantic says them, which is without what was sent.
_IN_WORDS: Final = {
    "missing": "it is missing",
    "string_too_long": "it is longer than {max_length} characters",
    "string_pattern_mismatch": "it has characters that cannot be taken",
}


async def tell_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose fields do not have the form that they must have."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    if not is_browser(request) or request.url.path.startswith("/api/"):
        told = [{name: fault[name] for name in ("type", "loc", "msg")} for fault in faults]
        # As ASCII: a name that was sent may hold half a character, which no UTF-8 can.
        return Response(json.dumps({"detail": told}), status_code=STATUS, media_type="application/json")
    context = {
        "title": "Not understood",
        "message": ASKED if request.method == "GET" else SENT,
        "faults": [_in_words(fault) for fault in faults],
        "way_back": page_before(request),
    }
    return await run_in_threadpool(render, request, "message.html", context, STATUS)


def _in_words(fault: Mapping[str, Any]) -> str:
    """Return which field it is, by the name that our own page gives it, and what is wrong with it."""
    place: Sequence[Any] = fault["loc"]
    is_named = place[0] in ("body", "query") and len(place) > 1
    field = label(str(place[1])) if is_named else "the address of the page"
    words = _IN_WORDS.get(fault["type"])
    told = f"{field}: {fault['msg'] if words is None else words.format(**fault.get('ctx', {}))}"
    return told[0].upper() + told[1:]
