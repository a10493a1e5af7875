"""Operations as JSON: the pipeline, destinations, deliveries, adapters, failures, rules and replays.

Input and output are described in /api/openapi.json; the shapes are those of `worker.operations.shapes`. Only what is
said to be for administrators changes anything. What cannot be done is a `Problem` with the reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker.db.sessions import Database
from worker.operations import destinations as outbox
from worker.operations import failures, rules
from worker.operations.connection import check_connection
from worker.operations.delivery_shapes import (
    AskedAgain,
    Connection,
    DeliveryPage,
    DestinationState,
    FailedJobPage,
    Resent,
    TriedNow,
)
from worker.operations.pipeline import pipeline
from worker.operations.replay import DAYS_AT_MOST, SERIES, SERIES_AT_MOST
from worker.operations.rule_shapes import Replay, RuleInForce, StudyRoutes
from worker.operations.shapes import AdapterState, Pipeline, WhyNot
from worker.operations.why_not import why_not
from worker.people.user import User
from worker.roles import Role
from worker.settings import Settings
from worker.states import DeliveryState
from worker.web.access import requires
from worker.web.api_document import ERRORS, LAST_NUMBER, NO_NUL, JobId, Limit, Offset, problem, who
from worker.web.api_references import Reference, one_study
from worker.web.operations.parts import adapter_states, configured, enabled, replays
from worker.web.replays import ReplayBusyError

router = APIRouter(prefix="/api", tags=["operations"], dependencies=[requires(Role.VIEWER)], responses=ERRORS)
NOT_THERE: Final[dict[int | str, dict[str, Any]]] = {404: problem("there is no such thing")}
AMBIGUOUS: Final[dict[int | str, dict[str, Any]]] = {409: problem("several studies have this accession number")}
Administrator = Annotated[User, requires(Role.ADMINISTRATOR)]
Name = Annotated[str, Field(max_length=64, pattern=NO_NUL)]


class ResendRequest(BaseModel):
    """What to send again: all that is given must fit; `everything` stands alone."""

    model_config = ConfigDict(extra="forbid")

    deliveries: list[Annotated[int, Field(ge=1, le=LAST_NUMBER)]] | None = Field(
        None, min_length=1, max_length=1000, description="numbers of deliveries"
    )
    job: Name | None = Field(None, description="id of a job")
    destination: Name | None = Field(None, description="name of a destination")
    everything: bool = Field(False, description="all dead letters, and all that nobody vouched for")

    @model_validator(mode="after")
    def _says_what(self) -> ResendRequest:
        conditions = (self.deliveries, self.job, self.destination)
        if self.everything == any(given is not None for given in conditions):
            raise ValueError("give deliveries, a job or a destination; or everything alone")
        return self


class DestinationNamed(BaseModel):
    """Which destination."""

    model_config = ConfigDict(extra="forbid")

    destination: Name = Field(description="name of a destination")


class AskAgainRequest(DestinationNamed):
    """What to offer a destination again."""

    sop_class_uid: Name | None = Field(None, description="only this SOP class; null for all that it refused")


class ReplayRequest(BaseModel):
    """Rules to try, and over which time."""

    model_config = ConfigDict(extra="forbid")

    rules: str | list[dict[str, Any]] = Field(
        description="rules as in a settings file (`routes`): a list, or the same as YAML"
    )
    days: float = Field(7, gt=0, le=DAYS_AT_MOST, description="days to look back, by when a study came")
    series: int = Field(SERIES, ge=1, le=SERIES_AT_MOST, description="series looked at, at most, the newest first")


class Rules(BaseModel):
    """The rules in force."""

    rules: list[RuleInForce]
    #: The site's own, as a settings file holds them.
    yaml: str


@router.get("/pipeline")
def the_pipeline(request: Request) -> Pipeline:
    """Return what is where, who works, and what is wrong."""
    with _database(request).reading() as session:
        return pipeline(session, request.app.state.settings)


@router.get("/destinations")
def destinations(request: Request) -> list[DestinationState]:
    """Return each destination with what is on its way there."""
    with _database(request).reading() as session:
        return outbox.destination_states(session, request.app.state.settings)


@router.post("/destinations/check", responses=NOT_THERE)
def check(request: Request, wanted: DestinationNamed, _user: Administrator) -> Connection:
    """Ask a destination whether it is there; nothing is sent; for administrators."""
    found = check_connection(request.app.state.settings, wanted.destination)
    if found is None:
        raise HTTPException(404, "the settings name no such destination; /api/destinations lists them")
    return found


@router.post("/destinations/try-now")
def try_now(request: Request, wanted: DestinationNamed, _user: Administrator) -> TriedNow:
    """Let what waits for a destination be tried now, not after the pause; for administrators."""
    done = outbox.try_now(_database(request), wanted.destination)
    configured(request, wanted.destination, done.in_words)
    return done


@router.post("/destinations/ask-again")
def ask_again(request: Request, wanted: AskAgainRequest, _user: Administrator) -> AskedAgain:
    """Offer a destination again what it was learned not to take (`refused`); for administrators."""
    done = outbox.ask_again(_database(request), wanted.destination, wanted.sop_class_uid)
    configured(request, wanted.destination, done.in_words)
    return done


@router.get("/deliveries")
def deliveries(
    request: Request,
    state: Annotated[DeliveryState | None, Query(description="only this state")] = None,
    destination: Annotated[str, Query(max_length=64, pattern=NO_NUL, description="only to this destination")] = "",
    before: Annotated[int | None, Query(ge=1, le=LAST_NUMBER, description="`next_before` of the page before")] = None,
    limit: Limit = 100,
) -> DeliveryPage:
    """Return deliveries, the newest first."""
    states = [] if state is None else [state]
    with _database(request).reading() as session:
        return outbox.deliveries(session, states=states, destination=destination, before=before, limit=limit)


@router.post("/deliveries/resend")
def resend(request: Request, wanted: ResendRequest, user: Administrator) -> Resent:
    """Put dead letters, and what no destination vouched for, back into the outbox; for administrators."""
    done = outbox.resend(
        _database(request),
        by=who(user),
        delivery_ids=wanted.deliveries,
        job_id=wanted.job,
        destination=wanted.destination,
    )
    configured(request, done.about(wanted.destination), done.in_words)
    return done


@router.get("/failures/jobs")
def failed_jobs(
    request: Request,
    adapter: Annotated[str, Query(max_length=64, pattern=NO_NUL, description="only of this adapter")] = "",
    offset: Offset = 0,
    limit: Limit = 100,
) -> FailedJobPage:
    """Return jobs that have no usable answer, those that wait longest first; dead letters are deliveries."""
    with _database(request).reading() as session:
        return failures.failed_jobs(session, offset=offset, limit=limit, adapter=adapter)


@router.get("/adapters")
def adapters(request: Request) -> list[AdapterState]:
    """Return each adapter: can it be used, how fast is it, do people agree with it."""
    with _database(request).reading() as session:
        return adapter_states(request).all(session)


@router.get("/rules")
def rules_in_force(request: Request) -> Rules:
    """Return the rules in the order in which they are looked at."""
    settings: Settings = request.app.state.settings
    in_force = rules.rules_in_force(settings.routes, enabled(request))
    return Rules(rules=in_force, yaml=rules.rules_as_yaml(settings.routes))


@router.post(
    "/rules/replays",
    status_code=202,
    responses={400: problem("the rules are wrong"), 409: problem("another replay runs")},
)
def start_replay(request: Request, wanted: ReplayRequest, user: Annotated[User, requires(Role.REVIEWER)]) -> Replay:
    """Begin to try rules on the series of the last days; nothing is changed by it."""
    try:
        if isinstance(wanted.rules, str):
            tried = rules.read_rules(wanted.rules, enabled(request))
        else:
            tried = rules.checked_rules(wanted.rules, enabled(request))
        return replays(request).start(
            tried, enabled(request), by=who(user), days=wanted.days, series_at_most=wanted.series
        )
    except rules.RulesError as error:
        raise HTTPException(400, str(error)) from None
    except ReplayBusyError as error:
        raise HTTPException(409, str(error)) from None


@router.get("/rules/replays")
def kept_replays(request: Request) -> list[Replay]:
    """Return the last replays, the newest first, without what they found; a restart forgets them."""
    return replays(request).recent()


@router.get("/rules/replays/{replay_id}", responses=NOT_THERE)
def get_replay(request: Request, replay_id: JobId) -> Replay:
    """Return how far a replay is, and when it is done what it found."""
    found = replays(request).get(replay_id)
    if found is None:
        raise HTTPException(404, "there is no such replay, or it is forgotten; begin a new one")
    return found


@router.delete("/rules/replays/{replay_id}", dependencies=[requires(Role.REVIEWER)], responses=NOT_THERE)
def stop_replay(request: Request, replay_id: JobId) -> Replay:
    """Stop a replay."""
    found = replays(request).stop(replay_id)
    if found is None:
        raise HTTPException(404, "there is no such replay, or it is forgotten")
    return found


@router.get("/studies/{reference}/why", responses={**NOT_THERE, **AMBIGUOUS})
def why(request: Request, reference: Reference) -> WhyNot:
    """Return why a study has no result, or not all of it."""
    with _database(request).reading() as session:
        found = why_not(session, request.app.state.settings, one_study(session, reference))
    if found is None:
        raise HTTPException(404, "there is no such study any more")
    return found


@router.get("/studies/{reference}/routes", responses={**NOT_THERE, **AMBIGUOUS})
def routes(request: Request, reference: Reference) -> StudyRoutes:
    """Return where the rules in force send each series of a study, rule by rule."""
    settings: Settings = request.app.state.settings
    with _database(request).reading() as session:
        found = rules.explain_study(session, settings.routes, enabled(request), one_study(session, reference))
    if found is None:
        raise HTTPException(404, "there is no such study any more")
    return found


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database
