"""What pages of operations and the API share, made once for each application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request

from models.adapter import AdapterDefinition
from worker.audit import events
from worker.operations.adapters import AdapterStates
from worker.settings import Settings
from worker.site import enabled_adapters
from worker.web import auditing
from worker.web.event_feed import EventFeed
from worker.web.replays import Replays

#: What every page of operations shows: their addresses and names, and where they are in the navigation above.
TABS: Final = {
    "here": "/operations/pipeline",
    "tabs": (
        ("/operations/pipeline", "Pipeline"),
        ("/operations/failures", "Failures"),
        ("/operations/destinations", "Destinations"),
        ("/operations/adapters", "Adapters"),
        ("/operations/rules", "Rules"),
    ),
}


def prepare(app: FastAPI) -> None:
    """Keep what is made once with the application, whose settings and database are set."""
    settings: Settings = app.state.settings
    app.state.feed = EventFeed(app.state.database)
    app.state.replays = Replays(app.state.database, settings.routes)
    app.state.adapter_states = AdapterStates(settings)


def enabled(request: Request) -> Mapping[str, AdapterDefinition]:
    """Return the adapters this site has enabled, made once."""
    state: Any = request.app.state
    if getattr(state, "adapters", None) is None:
        state.adapters = enabled_adapters(state.settings)
    adapters: Mapping[str, AdapterDefinition] = state.adapters
    return adapters


def configured(request: Request, place: str, what: str) -> None:
    """Write an audit message about what an administrator changed in the way this software works."""
    auditing.write(request, lambda us, who: events.configured(us, who, place, what))


def adapter_states(request: Request) -> AdapterStates:
    """Return what looks at the adapters."""
    states: AdapterStates = request.app.state.adapter_states
    return states


def replays(request: Request) -> Replays:
    """Return the replays of this process."""
    kept: Replays = request.app.state.replays
    return kept


def feed(request: Request) -> EventFeed:
    """Return what tells of changes."""
    listened: EventFeed = request.app.state.feed
    return listened
