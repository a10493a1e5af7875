"""Every request that shows a patient's data, or that a role may not make -> an audit message, before it is answered.

Input: requests and the answers to them, seen from around the application, so that no page can forget it. Output: lines
of the audit trail. Which study an address is about is read off its parts (`_SUBJECTS`); a list is a query. One person's
looks at the same thing within `audit.repeat_after_s` are one message. An address that nothing is known of is refused at
the start (`unaudited`).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from sqlalchemy import Select, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.audit import events, owed
from worker.audit.events import Actor, StudySeen
from worker.audit.message import AuditEvent
from worker.audit.owed import Witness
from worker.audit.trail import AuditTrail
from worker.db.records import Instance, Job, Result, Series, Study
from worker.web.access import routes
from worker.web.caller import Caller, caller_of

#: Beginnings of addresses that show no patient's data, or that write their own messages.
NO_PATIENTS: Final = (
    *("/healthz", "/readyz", "/metrics", "/static", "/login", "/logout", "/account", "/people", "/api/openapi.json"),
    *("/operations/pipeline", "/operations/destinations", "/operations/resend", "/operations/adapters"),
    *("/operations/rules", "/api/pipeline", "/api/destinations", "/api/deliveries/resend", "/api/adapters"),
    *("/api/users", "/api/tokens", "/api/rules", "/api/events", "/worklist/views", "/cases/next"),
)
#: Addresses that show lists, or whether there is something: the message says what was searched for.
LISTS: Final = frozenset(
    {"/", "/studies", "/search", "/worklist", "/worklist/lines", "/api/studies", "/api/review"}
    | {"/operations/rules/explain", "/operations/failures", "/api/deliveries", "/api/failures/jobs"}
    | {f"/dicom-web/{level}" for level in ("studies", "series", "instances")}
)
#: What other rules would do: lists of the series of the last days.
REPLAYS: Final = ("/operations/rules/replays/", "/api/rules/replays/")
#: Ends of DICOMweb addresses that tell about instances without handing them over.
_ABOUT: Final = ("/metadata", "/series", "/instances")
_LONGEST_FORM: Final = 1 << 14
_MOST_REMEMBERED: Final = 10_000
_NOT_CRITERIA: Final = frozenset({"csrf_token"})


def _by_study(condition: Any) -> Select[Any]:
    return select(Study).where(condition)


#: Part of an address -> how its study is found.
_SUBJECTS: Final[dict[str, Callable[[str], Select[Any]]]] = {
    "study": lambda uid: _by_study(Study.study_instance_uid == uid),
    "reference": lambda text: _by_study(or_(Study.study_instance_uid == text, Study.accession_number == text)),
    "job_id": lambda job_id: _by_study(Study.id.in_(select(Job.study_id).where(Job.id == job_id))),
    "series_id": lambda number: _by_study(Study.id.in_(select(Series.study_id).where(Series.id == int(number)))),
    "instance_id": lambda number: _by_study(
        Study.id.in_(select(Series.study_id).join(Instance).where(Instance.id == int(number)))
    ),
    "/studies/number": lambda number: _by_study(Study.id == int(number)),
    "/results/number": lambda number: _by_study(
        Study.id.in_(select(Job.study_id).join(Result).where(Result.id == int(number)))
    ),
}


def actor(request: Request, caller: Caller | None = None) -> Actor:
    """Return who asks, as audit messages name them."""
    caller = caller or caller_of(request)
    address = request.client.host if request.client is not None else ""
    if caller is None:
        return Actor("unknown", address=address)
    by_token = f"by token {caller.user.token}" if caller.user.token else ""
    return Actor(caller.user.login, " ".join(filter(None, (caller.user.person_name, by_token))), address)


def write(request: Request, make: Callable[[events.System, Actor], AuditEvent], who: Actor | None = None) -> None:
    """Write a message about what this request did; `make` is given this system and who asks."""
    trail: AuditTrail = request.app.state.audit
    trail.write(make(trail.system, who or actor(request)))


def owe(
    request: Request,
    session: Session,
    make: Callable[[events.System, Actor], AuditEvent],
    who: Actor | None = None,
) -> None:
    """Tell what this request changes, in the transaction of the change (`worker.audit.owed.telling`)."""
    trail: AuditTrail = request.app.state.audit
    owed.owe(session, trail, make(trail.system, who or actor(request)))


def witness(request: Request) -> Witness:
    """Return who tells of what the person who asks decides."""
    return Witness(request.app.state.audit, actor(request))


def also_shown(request: Request, study_ids: Iterable[int]) -> None:
    """Say that the page which answers this request tells of other studies of the same patient, too."""
    request.state.also_shown = frozenset(study_ids)


def unaudited(app: FastAPI) -> list[str]:
    """Return the paths of routes of which it is not known whose data they show."""
    return [path for path, _ in routes(app) if not (path.startswith(NO_PATIENTS) or path in LISTS or _subject(path))]


@dataclass(frozen=True, slots=True)
class _Look:
    """What one request looked at."""

    caller: Caller
    kind: str
    key: str


class Told:
    """What was told of within `repeat_after_s`: the same again is not worth a message."""

    def __init__(self, repeat_after_s: float) -> None:
        """Nothing is told yet."""
        self._repeat_after_s = repeat_after_s
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def is_new(self, key: tuple[str, str, str]) -> bool:
        """Return whether this was not told shortly before; it is now."""
        now = time.monotonic()
        with self._lock:
            before = self._told.get(key)
            if before is not None and now - before < self._repeat_after_s:
                return False
            self._told[key] = now
            self._told.move_to_end(key)
            if len(self._told) > _MOST_REMEMBERED:
                self._told.popitem(last=False)
        return True


class Audits:
    """Writes a message about each request that was served, or that a role may not make. Plain ASGI."""

    def __init__(self, app: ASGIApp, trail: AuditTrail, database: Any, told: Told) -> None:
        self._app, self._trail, self._database, self._told = app, trail, database, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        shows_patients = path in LISTS or path.startswith(REPLAYS) or not path.startswith(NO_PATIENTS)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})  # who asks is found out further in
        form = bytearray()
        if scope["method"] == "POST" and path in LISTS:
            receive = _copied(receive, form)

        async def send_when_told(message: Message) -> None:
            if message["type"] == "http.response.start" and (shows_patients or message["status"] == 403):
                await run_in_threadpool(self._tell, scope, path, message["status"], bytes(form))
            await send(message)

        await self._app(scope, receive, send_when_told)

    def _tell(self, scope: Scope, path: str, status: int, form: bytes) -> None:
        request = Request(scope)
        caller = caller_of(request)
        # What stands in the way of a decision is said on the page of its case, which shows all of it.
        is_shown = status < 400 or status == 409 or (status == 422 and path.startswith("/cases/"))
        is_shown = is_shown or (status == 404 and path in LISTS)  # that there is nothing is an answer, too
        sought = _sought(request) if status == 404 and path not in LISTS else ""
        if caller is None:
            return
        if status == 403:
            place = path if path.startswith("/api") else f"/{path.split('/')[1]}"
            if self._is_new(_Look(caller, "refused", place)):
                self._trail.write(events.refused(self._trail.system, actor(request, caller), place))
            return
        if not (is_shown or sought) or scope["method"] not in ("GET", "POST"):
            return
        if path.startswith("/dicom-web/") and scope["method"] == "POST":
            return  # ingest tells of what came in
        if path.startswith(REPLAYS):
            place, _, replay = path.rpartition("/")
            if scope["method"] == "GET":
                self._tell_of_query(request, caller, place, f"replay={replay}")
            return
        if sought:
            self._tell_of_query(request, caller, _pattern(path, request.path_params), sought)
            return
        if path in LISTS:
            criteria = _criteria(scope.get("query_string", b""), form)
            if status != 303 or criteria:  # it leads elsewhere, having looked for nothing
                self._tell_of_query(request, caller, path, criteria)
            return
        self._tell_of_study(request, caller, path)

    def _tell_of_query(self, request: Request, caller: Caller, place: str, criteria: str) -> None:
        if self._is_new(_Look(caller, place, criteria)):
            self._trail.write(events.query(self._trail.system, actor(request, caller), place, criteria))

    def _tell_of_study(self, request: Request, caller: Caller, path: str) -> None:
        parts = request.path_params
        name = next((name for name in parts if name in _SUBJECTS), "")
        if not name and "number" in parts:
            name = f"/{path.split('/')[1]}/number"
        value = str(parts.get(name.rpartition("/")[2] if name.startswith("/") else name, ""))
        is_handed_over = path.startswith("/dicom-web/") and not path.endswith(_ABOUT)
        if name not in _SUBJECTS or "\0" in value:
            return
        beside: frozenset[int] = getattr(request.state, "also_shown", frozenset())
        looks = [_Look(caller, f"{name} {is_handed_over}", value)]
        looks += [_Look(caller, f"{name} beside", f"{value} {study_id}") for study_id in beside]
        are_new = [self._is_new(look) for look in looks]  # each is remembered, whichever is new
        if not any(are_new):
            return
        try:
            with self._database.reading() as session:
                studies = [_seen(study) for study in session.scalars(_SUBJECTS[name](value))]
                wanted = select(Study).where(Study.id.in_(beside)).order_by(Study.id)
                others = [_seen(study) for study in session.scalars(wanted)] if beside else []
        except SQLAlchemyError:  # it is shown already: what was asked for is told, though not whose it is
            self._tell_of_query(request, caller, _pattern(path, parts), f"{name}={value}")
            return
        if not studies and (sought := _sought(request)):
            self._tell_of_query(request, caller, _pattern(path, parts), sought)
        us, who = self._trail.system, actor(request, caller)
        for study in studies:
            made = (
                events.transferred(us, who, [study], to_us=False, peer_asked=True)
                if is_handed_over
                else events.accessed(us, who, study, others)
            )
            self._trail.write(made)

    def _is_new(self, look: _Look) -> bool:
        """Whether this person has not looked at the same thing shortly before."""
        return self._told.is_new((look.caller.user.login, look.kind, look.key))


def _sought(request: Request) -> str:
    """Return what was looked for by an identifier that others know, one a line: a UID or an accession number.

    That nothing was found makes it no less a query (PS3.15 A.5.3.10).
    """
    parts = request.path_params
    if not {"reference", "study"} & set(parts):
        return ""
    return "\n".join(f"{name}={value}" for name, value in parts.items() if name != "path")


def _pattern(path: str, parts: Mapping[str, Any]) -> str:
    """Return an address with names in place of what was looked for, which its criteria say."""
    names = {str(value): f"{{{name}}}" for name, value in parts.items()}
    return "/".join(names.get(part, part) for part in path.split("/"))


def _copied(receive: Receive, form: bytearray) -> Callable[[], Awaitable[Message]]:
    """Return `receive`, with the body copied to `form` as far as a search form can be long."""

    async def copy() -> Message:
        message = await receive()
        form.extend(message.get("body", b"")[: max(0, _LONGEST_FORM - len(form))])
        return message

    return copy


def _criteria(query: bytes, form: bytes) -> str:
    """Return what was searched for, one criterion a line."""
    given = [*parse_qsl(query.decode("latin-1")), *parse_qsl(form.decode("latin-1"))]
    return "\n".join(f"{name}={value}" for name, value in given if name not in _NOT_CRITERIA and value.strip())


def _subject(path: str) -> bool:
    names = set(_names(path))
    return bool(names & set(_SUBJECTS)) or any(
        path.startswith(f"{place.removesuffix('number')}{{number}}") for place in _SUBJECTS if place.startswith("/")
    )


def _names(path: str) -> Iterator[str]:
    """Yield the names of the parameters in a path."""
    for part in path.split("{")[1:]:
        yield part.split("}")[0].split(":")[0]


def _seen(study: Study) -> StudySeen:
    return StudySeen(study.study_instance_uid, study.patient_id, study.accession_number)
