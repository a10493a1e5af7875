"""What somebody should do something about, in words: the remarks above the pipeline.

Input: what the pipeline shows, and rows of the ledger that stay where they should not. Output: a line for each trouble,
with what to do. Each is found by an index of rows on their way: a ledger of any size costs the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.audit.backlog import backlog
from worker.audit.owed import owed_since
from worker.audit.trail import folder_of
from worker.db.columns import utc_now
from worker.db.records import Event, Job
from worker.operations import waiting
from worker.operations.shapes import BrokerState, Disk, ProcessState, Stage
from worker.settings import Settings
from worker.states import DeliveryState, JobState

#: What stays longer than this where only a moment is needed is worth a remark.
PATIENCE = timedelta(minutes=1)
#: A process that was started again so often, and runs for less than this, keeps dying.
MANY_RESTARTS, WELL_AFTER_S = 3, 300
#: Jobs that wait without a model are counted so far: more say nothing new.
COUNTED_AT_MOST = 1000
#: A log server that was down is tried once a minute.
UNSENT_AT_MOST = timedelta(minutes=2)
GIB = 1 << 30


def troubles(
    session: Session,
    settings: Settings,
    *,
    stages: Sequence[Stage],
    disk: Disk | None,
    processes: Sequence[ProcessState],
    broker: BrokerState,
) -> list[str]:
    """Return a line for each trouble; none where all is well."""
    found = [*_about_disk(settings, disk), *_about_processes(processes)]
    if broker.reachable is False:
        found.append("the broker cannot be reached: work waits in the database, see broker_url and `doctor`")
    counts = {stage.name: stage for stage in stages}
    if counts["routed"].count and not any(process.name == "inference" and process.alive for process in processes):
        found.append(f"{counts['routed'].count} jobs wait and no inference process runs: start the role `worker`")
    else:
        found += _about_the_model(session)
    found += _about_steps(session)
    found += [*_about_destinations(session), *_about_audit(session, settings)]
    if counts["failed"].count:
        found.append(f"{counts['failed'].count} failed: see Failures")
    return found


def _about_disk(settings: Settings, disk: Disk | None) -> Iterator[str]:
    if disk is None:
        yield f"{settings.data_dir} cannot be read from this machine: see `dicom-worker doctor`"
    elif disk.is_too_little:
        kept = f"{disk.kept_free / GIB:.1f} GiB are kept free for results and the database (disk.keep_free_gib)"
        yield f"only {disk.free / GIB:.1f} GiB are free in {disk.folder}, and {kept}: images are refused, make room"
    elif disk.is_little:
        yield f"only {disk.free / GIB:.1f} GiB are free in {disk.folder}: make room, or images will be refused"


def _about_processes(processes: Sequence[ProcessState]) -> Iterator[str]:
    if not processes:
        yield "no process has reported yet: start the daemon with `dicom-worker run`"
    for process in processes:
        ended = "" if process.exit_code is None else f" (it ended with {process.exit_code})"
        if not process.alive:
            yield f"{process.name} on {process.place} does not run{ended}: see its log"
        elif process.restarts >= MANY_RESTARTS and process.up_s < WELL_AFTER_S:
            often = f"was started {process.restarts} times again, and ended with {process.exit_code} last"
            yield f"{process.name} on {process.place} {often}: see its log"


def _about_the_model(session: Session) -> Iterator[str]:
    """Say where jobs are due for a while, none is being answered, and none was lately: a model that hangs."""
    before = utc_now() - PATIENCE
    if session.scalar(select(Job.id).where(Job.state == JobState.RUNNING).limit(1)) is not None:
        return
    answered = select(Event.id).where(
        Event.subject == "job", Event.to_state == JobState.GENERATED, Event.at >= before
    )  # between two batches nothing runs for a moment
    if session.scalar(answered.limit(1)) is not None:
        return
    is_due = select(Job.id).where(Job.state == JobState.QUEUED, Job.not_before <= before)
    if count := len(session.scalars(is_due.limit(COUNTED_AT_MOST)).all()):
        many = f"{count} or more jobs wait" if count == COUNTED_AT_MOST else _number(count, "job")
        yield (
            f"{many} for a model for more than a minute, and none is answered: "
            "see the log of the process inference, and start it again if it hangs"
        )


def _about_steps(session: Session) -> Iterator[str]:
    """Say where answers are neither scored nor written."""
    between = (JobState.GENERATED, JobState.DECIDED)
    stuck = select(func.count()).where(Job.state.in_(between), Job.answered_at <= utc_now() - PATIENCE)
    if count := session.scalar(stuck):
        waits = _number(count, "answer")
        yield f"{waits} to be scored or written for more than a minute: see the log of the process steps"


def _about_destinations(session: Session) -> Iterator[str]:
    """Say which destinations did not take what waits for them."""
    found = waiting.counts_by_destination(session, (DeliveryState.PENDING,))
    for name, counts in sorted(found.items()):
        error, _ = waiting.last_error(session, name)
        if error:
            count, _ = counts[DeliveryState.PENDING]
            yield f"{_number(count, 'result')} for {name}: {error}; see Destinations"


def _about_audit(session: Session, settings: Settings) -> Iterator[str]:
    """Say what the audit files have not got, and what the log server has not got of those of this machine."""
    since = owed_since(session)
    if since is not None and utc_now() - since > PATIENCE:
        yield (
            f"audit messages of decisions wait for {(utc_now() - since).total_seconds() / 60:.0f} min in the database; "
            f"none is lost: make sure that every daemon can write to its audit folder (here {folder_of(settings)})"
        )
    server = settings.audit.syslog
    waits = None if server is None else backlog(folder_of(settings))
    if server is None or waits is None or utc_now() - waits.since < UNSENT_AT_MOST:
        return
    minutes = (utc_now() - waits.since).total_seconds() / 60
    yield (
        f"audit messages wait for {server.host}:{server.port} for {minutes:.0f} min ({waits.bytes / 1024:.0f} KiB); "
        "none is lost: see the log"
    )


def _number(count: int, what: str) -> str:
    return f"1 {what} waits" if count == 1 else f"{count} {what}s wait"
