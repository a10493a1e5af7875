"""What all routes of the API share: how a failure looks, and how the document says who may ask.

Input: the application. Output: parts of /api/openapi.json. `ERRORS` are the answers that any route can give.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from worker.people.user import User

#: PostgreSQL keeps no text with NUL in it.
NO_NUL: Final = r"^[^\x00]*$"
#: Rows are numbered with 32 bits.
LAST_NUMBER: Final = 2**31 - 1
Offset = Annotated[int, Query(ge=0, le=LAST_NUMBER, description="rows left out at the start")]
Limit = Annotated[int, Query(ge=1, le=1000, description="rows returned at most")]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="id of a job")]
Text = Annotated[str, StringConstraints(max_length=2000, pattern=NO_NUL)]


class Problem(BaseModel):
    """Why something was not done."""

    detail: str = Field(description="in words, with the remedy")


def problem(description: str) -> dict[str, Any]:
    """Return how the document describes an answer that is a `Problem`."""
    return {"description": description, "model": Problem}


#: Answers that every route can give.
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: problem("nobody is logged in, and no token was sent that is known"),
    403: problem("the role of whoever asks does not include this"),
    503: problem("the database cannot be read, or the server is busy"),
}


def next_page(request: Request, response: Response, *, offset: int, limit: int, returned: int) -> None:
    """Say in the answer's Link header where the following rows are (RFC 8288), where there may be any."""
    if returned == limit:
        url = request.url.include_query_params(offset=offset + limit, limit=limit)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


def who(user: User) -> str:
    """Return how the ledger names who asked for something."""
    return f"{user.person_name} ({user.login})" if user.is_person else user.login


def describe_security(app: FastAPI) -> None:
    """Let the document say that a token or a session is asked for."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["token"] = {
            "type": "http",
            "scheme": "bearer",
            "description": "a machine's token: `dicom-worker users token add`, or the page People",
        }
        document["security"] = [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
