"""Changes as they happen: server-sent events (WHATWG HTML, 9.2).

Input: who listens, and the last event they know. Output: a stream of `change` events with `EventData` as JSON, `ready`
at the start, `reset` where some were missed (load what is shown anew), and a comment where nothing happened for a
while. A stream ends seconds after its session or token, and after some minutes in any case, upon which a browser
comes back and shows again who it is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from worker.operations.shapes import EventData
from worker.people.user import User
from worker.roles import Role
from worker.web.access import requires, still_let_in
from worker.web.api_document import ERRORS, LAST_NUMBER, problem
from worker.web.event_feed import EventFeed, Notice, Told, TooManyListenersError
from worker.web.operations.parts import feed

router = APIRouter(prefix="/api", tags=["operations"], dependencies=[requires(Role.VIEWER)], responses=ERRORS)

HEARTBEAT_S = 15.0
LONGEST_S = 600.0
#: How often it is looked whether who listens is let in still.
ASKED_AGAIN_AFTER_S = 10.0
COME_BACK_AFTER_MS = 3000
STREAM = "text/event-stream"


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "a stream of events", "content": {STREAM: {"schema": {"type": "string"}}}},
        406: problem("the request does not say `Accept: text/event-stream`"),
    },
)
async def events(
    request: Request,
    user: Annotated[User, requires(Role.VIEWER)],
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[str, Header(max_length=20, description="number of the last event that is known")] = "",
    after: Annotated[int | None, Query(ge=0, le=LAST_NUMBER, description="the same, for who sends no headers")] = None,
) -> StreamingResponse:
    """Tell of each change in the ledger: numbers and states, nothing of a patient."""
    if STREAM not in accept:
        raise HTTPException(406, f"this is a stream that does not end: ask for it with `Accept: {STREAM}`")
    known = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else after
    told = lines(
        feed(request),
        None if known is None else min(known, LAST_NUMBER),
        lambda: still_let_in(request, Role.VIEWER),
        user.login,
    )
    try:
        first = await anext(told)
    except TooManyListenersError:
        raise HTTPException(
            503, "too many listen already; ask again later, or look every minute", {"Retry-After": "60"}
        ) from None

    async def stream() -> AsyncIterator[str]:
        async with aclosing(told):
            yield first
            async for line in told:
                yield line

    return StreamingResponse(stream(), media_type=STREAM, headers={"X-Accel-Buffering": "no"})


async def lines(
    source: EventFeed, known: int | None, is_let_in: Callable[[], Awaitable[bool]], who: str = ""
) -> AsyncGenerator[str, None]:
    """Yield the text of the stream, while whoever listens is let in. Raises `TooManyListenersError` at the first step.

    Nothing is told between a look that finds them let in no more, or a database that cannot say, and the end.
    """
    async with aclosing(source.listen(known, who)) as listening:
        async for line in _written(listening, is_let_in):
            yield line


async def _written(
    listening: AsyncIterator[tuple[int, Told | None]], is_let_in: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    started = spoken = asked = time.monotonic()
    is_first = True
    async for number, told in listening:
        now = time.monotonic()
        if now - asked > ASKED_AGAIN_AFTER_S:
            if not await _still(is_let_in):
                return
            asked = now
        if is_first:
            yield f"retry: {COME_BACK_AFTER_MS}\nevent: ready\nid: {number}\ndata: {{}}\n\n"
            is_first = False
        elif isinstance(told, EventData):
            yield f"event: change\nid: {number}\ndata: {told.model_dump_json()}\n\n"
        elif told is Notice.RESET:
            yield f"event: reset\nid: {number}\ndata: {{}}\n\n"
        elif told is Notice.END or now - started > LONGEST_S:
            return
        elif now - spoken > HEARTBEAT_S:
            yield ": still here\n\n"
        else:
            continue
        spoken = now


async def _still(is_let_in: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await is_let_in()
    except SQLAlchemyError:  # they come back, and are asked who they are
        return False
