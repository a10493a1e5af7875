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
from markupsafe import Markup

from dicom_node.report import probability_text
from worker import wording
from worker.roles import Role
from worker.schemas import JobView
from worker.settings import Settings
from worker.web.caller import caller_of

#: Status of a page that htmx need not fetch again.
STOP_POLLING = 286
#: State -> how it is coloured: all is well, somebody or something is waited for, something is wrong.
COLOURS = {
    "good": frozenset({"done", "delivered", "confirmed", "released", "verified", "routed", "release"}),
    "wait": frozenset({"held", "receiving", "processing", "delivering", "queued", "running", "generated", "decided",
                       "pending", "sending", "unconfirmed", "accepted", "stable", "review"}),
    "bad": frozenset({"delivery_failed", "dead", "conflict", "missing", "rejected"}),
}  # fmt: skip


#: `Review.action` -> how a page says it.
ACTIONS = {"accept": "Accepted", "edit": "Edited and signed", "reject": "Rejected", "retry": "Another try asked",
           "reroute": "Re-routed", "opinion": "Opinion", "comment": "Comment"}  # fmt: skip
#: Address, name, and who may go there.
PLACES = (("/", "Work list", Role.VIEWER), ("/studies", "Studies", Role.VIEWER),
          ("/operations/pipeline", "Operations", Role.VIEWER), ("/people", "People", Role.ADMINISTRATOR))  # fmt: skip


def _colour(state: str) -> str:
    return next((colour for colour, states in COLOURS.items() if state in states), "calm")


def time_of(moment: datetime | None) -> Markup:
    """Return a time in this machine's zone; the page's script shows it in the reader's."""
    if moment is None:
        return Markup("")
    local = moment.astimezone()
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), f"{local:%Y-%m-%d %H:%M:%S}")


def _clock(moment: datetime) -> Markup:
    """Return a time of day with milliseconds, as `time_of` does."""
    shown = f"{moment.astimezone():%H:%M:%S}.{moment.microsecond // 1000:03d}"
    return Markup('<time datetime="{}" data-clock>{}</time>').format(moment.isoformat(), shown)


def _zone() -> str:
    """Return this machine's time zone with its distance to UTC, e.g. ``CET (UTC+01:00)``."""
    now = datetime.now().astimezone()
    name, distance = now.tzname() or "", f"UTC{now:%z}"[:6] + ":" + f"{now:%z}"[3:5]
    return "UTC" if name == "UTC" else f"{name} ({distance})"


def _day(date: str) -> str:
    """Return a DICOM date (DA) as people write it; anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else date


def person_of(name: str) -> str:
    """Return a person name (PN) as it is said: given name first (PS3.5 6.2.1)."""
    family, given, middle, prefix, suffix = (*name.split("=")[0].split("^"), "", "", "", "", "")[:5]
    return " ".join(part for part in (prefix, given, middle, family, suffix) if part) or name


def _waited(since: datetime, now: datetime) -> str:
    """Say how long something waits, e.g. ``3 min``, ``5 h 20 min``, ``2 days``."""
    minutes = max(int((now - since).total_seconds() // 60), 0)
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest:02d} min" if hours < 10 else f"{hours} h"
    return f"{hours // 24} days"


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters.update(
    day=_day,
    person=person_of,
    waited=_waited,
    action=lambda name: ACTIONS.get(name, name),
    colour=_colour,
    time=time_of,
    clock=_clock,
    label=wording.label,
    in_words=wording.findings_in_words,
    answer_first=wording.answer_first,
    value_in_words=wording.value_in_words,
    probability=probability_text,
    sure=wording.confidence_in_words,
    delivered=wording.deliveries_in_words,
)
templates.env.tests["dictionary"] = _is_mapping
templates.env.tests["of_words"] = wording.is_of_words


def status_of(request: Request, renew_s: int | None) -> int:
    """Return the status of a page that renews itself: 286 has htmx ask no more (htmx's documentation, polling)."""
    return STOP_POLLING if renew_s is None and "HX-Request" in request.headers else 200


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
        "renew_s": None,
        "user": None if caller is None else caller.user,
        "places": [(to, said) for to, said, role in PLACES if caller is not None and caller.user.may(role)],
        "here": request.url.path,
        "zone": _zone(),
        "is_logged_in": caller is not None and bool(caller.session_token),
        "csrf_token": "" if caller is None else caller.csrf_token,
    }
    return templates.TemplateResponse(request, name, everywhere | context, status_code=status_code)
