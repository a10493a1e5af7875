"""A template and what it shows -> a page: the filters of all templates, and what stands on every page.

Input: the request, a template's name and its values. Output: HTML. Results of the stand-in are said to be that at the
top of every page that shows any.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates

from worker import wording
from worker.schemas import JobView
from worker.settings import Settings
from worker.web.caller import caller_of

#: State -> how it is coloured: all is well, somebody or something is waited for, something is wrong.
COLOURS = {
    "good": frozenset({"done", "delivered", "confirmed", "released", "verified", "routed", "release"}),
    "wait": frozenset({"held", "receiving", "processing", "delivering", "queued", "running", "generated", "decided",
                       "pending", "sending", "unconfirmed", "accepted", "stable", "review"}),
    "bad": frozenset({"delivery_failed", "dead", "conflict", "missing", "rejected"}),
}  # fmt: skip


def _colour(state: str) -> str:
    return next((colour for colour, states in COLOURS.items() if state in states), "calm")


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters.update(
    colour=_colour,
    time=_time,
    clock=_clock,
    label=wording.label,
    in_words=wording.findings_in_words,
    value_in_words=wording.value_in_words,
    sure=wording.confidence_in_words,
    delivered=wording.deliveries_in_words,
)
templates.env.tests["dictionary"] = _is_mapping


def render(
    request: Request,
    name: str,
    context: dict[str, Any],
    status_code: int = 200,
    jobs: Sequence[JobView] = (),
) -> Response:
    """Return a page; `jobs` are those whose answers it shows."""
    settings: Settings = request.app.state.settings
    caller = caller_of(request)
    everywhere = {
        "standin": settings.engine.kind == "standin" or any(job.is_standin for job in jobs),
        "ae_title": settings.dicom.ae_title,
        "dicom_port": settings.dicom.port,
        "refresh_s": None,
        "user": None if caller is None else caller.user,
        "is_logged_in": caller is not None and bool(caller.session_token),
        "csrf_token": "" if caller is None else caller.csrf_token,
    }
    return templates.TemplateResponse(request, name, everywhere | context, status_code=status_code)
