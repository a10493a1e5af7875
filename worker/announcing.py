"""What became of jobs -> events for webhooks, in the order in which it happened.

Input: announcements, which were written in the same transaction as the change of state: nothing that happened is lost,
and nothing is told that did not. Output, in one transaction: the event as a result of its own kind and its deliveries;
the announcement is gone. A second process that comes to the same one does not find it. On failure `SpoolError`; the
announcements stay in the dispatcher's view.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.spool import Spool
from worker.db.announcements import Announcement, changes_of, to_announce
from worker.db.outbox import queue_result
from worker.db.queries import review_case
from worker.db.records import Delivery, Instance, Job, Result
from worker.db.review_records import signing_review, standing_signature
from worker.db.sessions import Database
from worker.destination_rules import gets
from worker.message_destinations import WebhookDestination
from worker.messages.events import Telling, build_event, event_uid
from worker.result_kinds import Happening, MessageKind
from worker.schemas import ReviewCase
from worker.settings import Settings
from worker.states import JobState

log = structlog.get_logger()

#: States from which a job moves back where it was because a person took their decision back in time: nobody was told.
_TAKEN_BACK_FROM = (JobState.ACCEPTED, JobState.REJECTED)
#: States that somebody may have been told of.
_TOLD_OF = (JobState.RELEASED, JobState.HELD, JobState.VERIFIED)
_DECISIONS = {Happening.RELEASED: "release", Happening.VERIFIED: "accept", Happening.AMENDED: "edit"}


@dataclass(frozen=True, slots=True)
class _Message:
    """An event, and who is told."""

    #: Of the announcement.
    change_id: int
    uid: str
    happening: Happening
    data: bytes
    destinations: tuple[str, ...]


def announce(db: Database, spool: Spool, settings: Settings, job_id: str) -> tuple[str, ...]:
    """Tell the webhooks what became of a job.

    Returns:
        The names of the destinations that have something new to be sent.

    Raises:
        SpoolError: The disk does not take the file.
    """
    with db.reading() as session:
        if session.scalar(to_announce().where(Job.id == job_id)) is None:
            return ()
        due = session.scalars(changes_of(job_id)).all()
        messages = _messages(session, settings, job_id, due)
    stored = {message.uid: spool.put_bytes(message.data) for message in messages}
    rung: dict[str, None] = {}
    with db.writing() as session:
        job = session.get_one(Job, job_id)
        ours = {row.id for row in due if _take(session, row)}
        for message in messages:
            if message.change_id not in ours:
                continue
            file = stored[message.uid]
            is_signed = message.happening in (Happening.VERIFIED, Happening.AMENDED)
            kind = MessageKind.EVENT.ending if message.happening.is_ending else MessageKind.EVENT.value
            result = Result(
                job_id=job_id,
                sop_instance_uid=message.uid,
                sop_class_uid="",
                kind=kind,
                verified=is_signed,
                digest=file.sha256,
                path=str(file.path),
            )
            session.add(result)
            session.flush()
            for name in message.destinations:
                queue_result(session, job, result, name)
                rung[name] = None
            log.info("event written", action="announce", job_id=job_id, happening=message.happening.value)
    return tuple(rung)


def _take(session: Session, row: Announcement) -> bool:
    """Remove an announcement; return whether nobody else had."""
    taken: Any = session.execute(
        delete(Announcement).where(Announcement.id == row.id), execution_options={"synchronize_session": False}
    )
    return bool(taken.rowcount == 1)


def _messages(session: Session, settings: Settings, job_id: str, due: Sequence[Announcement]) -> list[_Message]:
    hooks = [target for target in settings.destinations if isinstance(target, WebhookDestination)]
    told = [row for row in due if not _is_undone(row, due)]
    happenings = [(row, happening) for row in told if (happening := _happening(session.get_one(Job, job_id), row))]
    if not hooks or not happenings:
        return []
    job, case = session.get_one(Job, job_id), review_case(session, job_id)
    titles = select(Instance.calling_ae_title).where(Instance.series_id == job.series_id).distinct()
    sent_by = session.scalars(titles).all()
    messages, knowing = [], _told_of_signature(session, job)
    for row, happening in happenings:
        wanting = [hook for hook in hooks if _wants(hook, job, happening, sent_by, knowing)]
        messages += _told(settings, case, row, happening, wanting)
    return messages


def _told(
    settings: Settings, case: ReviewCase, row: Announcement, happening: Happening, hooks: Sequence[WebhookDestination]
) -> list[_Message]:
    """Write the event once for all who are told as much."""
    alike: dict[str, list[WebhookDestination]] = {}
    for hook in hooks:
        alike.setdefault(_telling(hook).key(happening), []).append(hook)
    source = settings.web.public_url or f"urn:dicom-worker:{quote(settings.dicom.ae_title, safe='')}"
    messages = []
    for key, same in alike.items():
        uid = event_uid(case.id, row.to_state, row.at, key)
        data = build_event(uid, happening, case, row.reason, row.at, source, _telling(same[0]))
        messages.append(_Message(row.id, uid, happening, data, tuple(hook.name for hook in same)))
    return messages


def _telling(hook: WebhookDestination) -> Telling:
    return Telling(hook.told, hook.patient)


def _wants(
    hook: WebhookDestination, job: Job, happening: Happening, sent_by: Sequence[str], knowing: Collection[str]
) -> bool:
    """Whether a webhook is told; `when.decisions` is about answers that are sent, as for other destinations.

    One that is among those `knowing` what was signed is told of its correction, whatever its rules.
    """
    decision = _DECISIONS.get(happening, next(iter(hook.when.decisions), ""))
    corrects = happening is Happening.AMENDED and hook.name in knowing
    return happening in hook.events and (corrects or gets(hook, job.adapter, decision, sent_by))


def _told_of_signature(session: Session, job: Job) -> set[str]:
    """Return the names of those who were told, or are about to be, that a person signed."""
    wanted = (
        select(Delivery.destination)
        .join(Delivery.result)
        .where(Result.job_id == job.id, Result.kind == MessageKind.EVENT.value, Result.verified)
    )
    return set(session.scalars(wanted))


def _is_undone(row: Announcement, due: Sequence[Announcement]) -> bool:
    """Whether a rejection was taken back; the job may have been rejected again since."""
    rejected = JobState.REJECTED
    return row.to_state == rejected and any(later.id > row.id and later.from_state == rejected for later in due)


def _happening(job: Job, row: Announcement) -> Happening | None:
    """Return what a change tells others; None where it is nothing, or was taken back."""
    state, before = row.to_state, row.from_state
    if state == JobState.HELD and before == JobState.ACCEPTED:
        return Happening.FAILED if job.error else None  # what was signed cannot be written
    if state == JobState.VERIFIED and before == JobState.ACCEPTED:
        signed = standing_signature(job, row.at) or signing_review(job)
        return Happening.AMENDED if signed.action == "edit" else Happening.VERIFIED
    if before in _TAKEN_BACK_FROM:
        return None
    if state == JobState.RELEASED:
        return Happening.RELEASED
    if state == JobState.HELD:
        return Happening.FAILED if job.findings is None else Happening.HELD
    if state == JobState.REJECTED:
        return Happening.REJECTED if job.state is JobState.REJECTED else None
    return Happening.SUPERSEDED if state == JobState.SUPERSEDED and before in _TOLD_OF else None
