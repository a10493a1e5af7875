"""The first page: what waits for a person, as this person wants to see it.

Input: the id of kept filters, or a form with new ones. Output: the page, and its lines alone for the page that looks
again by itself. Filters come by POST and are kept under an id: no address and no history holds what was searched for.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from worker.db import saved_views
from worker.db.columns import utc_now
from worker.db.work_list import CASES, LINES, SORTS, Filters, counts, priority_name, work_list
from worker.people.user import User
from worker.roles import Role
from worker.web.access import requires
from worker.web.decided import decided_banner
from worker.web.page import render
from worker.web.reading_room import account_of, site_adapters, why_only_looking

router = APIRouter(include_in_schema=False)
#: Seconds between two looks of the page.
REFRESH_S = 5
Viewer = Annotated[User, requires(Role.VIEWER)]


class FilterForm(BaseModel):
    """What the form above the list sends."""

    adapter: str = Field("", max_length=64)
    modality: str = Field("", max_length=16)
    priority: str = Field("", max_length=16)
    who: str = Field("", max_length=32)
    search: str = Field("", max_length=256)
    sort: str = Field("", max_length=32)

    @property
    def filters(self) -> Filters:
        """Return the filters; what is none takes the default."""
        return Filters.from_json(
            {
                "adapter": self.adapter,
                "modality": self.modality,
                "priority": self.priority,
                "who": self.who,
                "search": self.search.strip(),
                "sort": self.sort,
            }
        )


@router.get("/", response_class=HTMLResponse)
def page(
    request: Request,
    user: Viewer,
    view: Annotated[str, Query(max_length=32)] = "",
    start: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    decided: Annotated[str, Query(max_length=32)] = "",
) -> Response:
    """Show the work list."""
    context = _list(request, user, view, start)
    with request.app.state.database.reading() as session:
        context["views"] = saved_views.saved_views(session, account_of(user))
        context["decided"] = decided_banner(session, user, decided)
        context["counts"] = counts(session)
    context |= {"sorts": SORTS, "cases": CASES, "refresh_every_s": REFRESH_S}
    return render(request, "worklist.html", context | {"only_looking": why_only_looking(user)})


@router.get("/worklist/lines", response_class=HTMLResponse)
def lines(
    request: Request,
    user: Viewer,
    view: Annotated[str, Query(max_length=32)] = "",
    start: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Show the lines alone, as they are now."""
    return render(request, "worklist_lines.html", _list(request, user, view, start))


@router.post("/worklist")
def change(
    request: Request,
    user: Viewer,
    form: Annotated[FilterForm, Form()],
    name: Annotated[str, Query(max_length=0)] = "",
) -> Response:
    """Keep the filters and show what meets them."""
    with request.app.state.database.writing() as session:
        kept = saved_views.keep(session, account_of(user), form.filters, name)
    return _shown(kept)


@router.post("/worklist/views")
def save(
    request: Request,
    user: Viewer,
    name: Annotated[str, Form(max_length=saved_views.LONGEST_NAME)] = "",
    view: Annotated[str, Form(max_length=32)] = "",
) -> Response:
    """Give the filters that are shown a name, so that they are a click away."""
    if not name.strip():
        return _shown(view)
    account = account_of(user)
    with request.app.state.database.writing() as session:
        filters, _ = saved_views.filters_of(session, account, view)
        kept = saved_views.keep(session, account, filters, " ".join(name.split()))
    return _shown(kept)


@router.post("/worklist/views/{view}/forget")
def forget(request: Request, user: Viewer, view: str) -> Response:
    """Forget a view."""
    with request.app.state.database.writing() as session:
        saved_views.forget(session, account_of(user), view)
    return _shown("")


def _shown(view: str) -> Response:
    return RedirectResponse(f"/?{urlencode({'view': view})}" if view else "/", status_code=303)


def _list(request: Request, user: User, view: str, start: int) -> dict[str, Any]:
    account = account_of(user)
    with request.app.state.database.reading() as session:
        filters, name = saved_views.filters_of(session, account, view)
        found = work_list(session, filters, account, user.person_name, offset=start)
    return {
        "list": found,
        "filters": filters,
        "view": view,
        "view_name": name,
        "start": start,
        "next_start": start + LINES if start + LINES < found.found else None,
        "earlier_start": max(start - LINES, 0) if start else None,
        "now": utc_now(),
        "account": account,
        "priority_name": priority_name,
        "titles": {name: adapter.title for name, adapter in site_adapters(request).items()},
        "standin": request.app.state.settings.engine.kind == "standin" or any(line.is_standin for line in found.lines),
    }
