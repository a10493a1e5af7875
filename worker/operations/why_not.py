"""Why a study has no result, or not all of them: in words, with what can be done.

Input: the ledger of one study. Output: a `WhyNot`: a reason for each series, job and delivery that is not at its end.
It says what the ledger knows; where a process that should act has been silent, it says that too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer, selectinload

from worker.db import preferred
from worker.db.columns import utc_now
from worker.db.process_reports import reports
from worker.db.records import Delivery, Instance, Job, Result, Series, Study
from worker.near_misses import decisive_part
from worker.operations import waiting
from worker.operations.shapes import Reason, WhyNot
from worker.result_kinds import ENDINGS
from worker.settings import Settings
from worker.states import DeliveryState, InstanceState, JobState, SeriesState

ARRIVED = (DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED)
#: Columns that say nothing about why.
_UNREAD = (Job.generation, Job.model_input, Job.provenance, Job.findings, Job.confidence)
#: Number of instances by series and state.
Counts = Mapping[int, Mapping[InstanceState, int]]


def why_not(session: Session, settings: Settings, study_id: int) -> WhyNot | None:
    """Return why the study with this `StudyView.id` has no result, or not all; None where there is no such study."""
    jobs = selectinload(Study.jobs)
    study = session.scalar(
        select(Study)
        .where(Study.id == study_id)
        .options(
            selectinload(Study.series),
            jobs.options(*(defer(column) for column in _UNREAD)),
            jobs.selectinload(Job.reviews),
            jobs.selectinload(Job.results).selectinload(Result.deliveries),
        )
    )
    return None if study is None else why_not_of(session, settings, study)


def why_not_of(session: Session, settings: Settings, study: Study) -> WhyNot:
    """Return why a study that is loaded, with all that belongs to it, has no result, or not all."""
    current = [job for job in study.jobs if job.state is not JobState.SUPERSEDED]
    counts = _instance_counts(session, study.series)
    reasons = [reason for series in study.series for reason in _about_series(settings, series, current, counts)]
    for job in current:
        reasons += _about_job(session, settings, job)
    if not study.series:
        reasons.append(_study(study, "no images", "No image of it is here.", "Send it again."))
    deliveries = [delivery for job in current for result in job.results for delivery in result.deliveries]
    has_result = any(delivery.state in ARRIVED for delivery in deliveries)
    return WhyNot(study_id=study.id, has_result=has_result, reasons=reasons)


def _instance_counts(session: Session, series: Sequence[Series]) -> Counts:
    wanted = select(Instance.series_id, Instance.state, func.count()).group_by(Instance.series_id, Instance.state)
    counts: dict[int, dict[InstanceState, int]] = defaultdict(dict)
    for series_id, state, count in session.execute(wanted.where(Instance.series_id.in_([row.id for row in series]))):
        counts[series_id][state] = count
    return counts


def _study(study: Study, state: str, text: str, remedy: str) -> Reason:
    return Reason(about="study", reference=study.study_instance_uid, state=state, text=text, remedy=remedy)


def _about_series(settings: Settings, series: Series, jobs: Sequence[Job], counts: Counts) -> Iterator[Reason]:
    def said(text: str, remedy: str = "", state: str = series.state.value, **more: object) -> Reason:
        values = {"about": "series", "reference": series.series_instance_uid, "state": state}
        return Reason.model_validate({**values, "text": text, "remedy": remedy, **more})

    counted = counts.get(series.id, {})
    here = counted.get(InstanceState.STORED, 0)
    if conflicts := counted.get(InstanceState.CONFLICT, 0):
        text = f"{conflicts} of its images came under a SOP Instance UID that another image has; they are not used."
        yield said(text, "Find out at the sender which of them is meant.", "conflict")
    if missing := counted.get(InstanceState.MISSING, 0):
        yield said(f"The files of {missing} of its images are gone or damaged.", "Send the study again.", "missing")
    if series.state is SeriesState.RECEIVING and series.due_at is not None:
        yield said(*_waits_for_images(settings, series, here), next_at=series.due_at)
    elif series.state is SeriesState.RECEIVING:
        yield said(f"Images are still expected; {here} are here.")
    elif series.state is SeriesState.STABLE:
        yield said("It is whole, and its route is being decided.")
    elif series.state is SeriesState.UNROUTED:
        yield said(*_not_routed(series))
    elif not any(job.series_id == series.id for job in jobs):
        yield said(f"It was routed ({series.route_rule}), but there is no job about it that still counts.")


def _waits_for_images(settings: Settings, series: Series, here: int) -> tuple[str, str]:
    late_s = (utc_now() - series.due_at).total_seconds() if series.due_at else 0
    remedy = ""
    if late_s > 6 * settings.jobs.ring_again_s:
        remedy = "Nobody has looked at it for a while: see whether the processes `dispatcher` and `steps` run."
    if series.at_source is not None:
        return f"Waits for images: {here} are here, and its source has {series.at_source}.", remedy
    quiet = f"when none has come for {settings.dicom.stable_after_s:g} s"
    return f"Waits for images: {here} are here; it counts as whole {quiet}.", remedy


def _not_routed(series: Series) -> tuple[str, str]:
    reason = series.route_reason or "no reason was kept"
    if series.route_rule == preferred.RULE:
        return f"Not asked about: {reason}.", ""
    if series.route_rule == "own results":
        return f"Left alone: {reason}.", ""
    if series.route_rule and series.route_rule.startswith("site rule: "):
        return f"Left alone by {series.route_rule}: {reason}.", "Change the rule (routes), try it with a replay first."
    remedy = "See each rule at Routes; a site rule (routes) can send it to an adapter all the same."
    return f"Not routed: {decisive_part(reason)}.", remedy


def _about_job(session: Session, settings: Settings, job: Job) -> Iterator[Reason]:
    def said(text: str, remedy: str = "", **more: object) -> Reason:
        values = {"about": "job", "reference": job.id, "state": job.state.value}
        return Reason.model_validate({**values, "text": f"{job.adapter}: {text}", "remedy": remedy, **more})

    if job.state is JobState.QUEUED:
        yield said(*_waits_for_a_model(session, job), next_at=job.not_before if job.not_before > utc_now() else None)
    elif job.state is JobState.RUNNING:
        yield said(f"is being answered by {job.claimed_by}, attempt {job.attempts}.")
    elif job.state in (JobState.GENERATED, JobState.DECIDED):
        yield said("has answered; the answer is being scored or written.")
    elif job.state is JobState.HELD:
        yield said(*_held(job))
    elif job.state is JobState.ACCEPTED:
        still = job.not_before if job.not_before > utc_now() else None
        yield said("is signed; its report is being written.", next_at=still)
    elif job.state is JobState.REJECTED:
        yield said(_rejected(job))
        yield from _about_deliveries(settings, [result for result in job.results if result.kind in ENDINGS])
    else:
        yield from _about_results(settings, job)


def _waits_for_a_model(session: Session, job: Job) -> tuple[str, str]:
    before = (Job.priority > job.priority) | ((Job.priority == job.priority) & (Job.created_at < job.created_at))
    ahead = session.scalar(select(func.count()).where(Job.state == JobState.QUEUED, before)) or 0
    is_there = any(report.subject == "engine" and report.is_fresh for report in reports(session))
    remedy = "" if is_there else "No inference process has reported lately: start the role `worker`."
    error = f" Last: {job.error}." if job.error else ""
    return f"waits for a model, {ahead} job{'' if ahead == 1 else 's'} before it.{error}", remedy


def _held(job: Job) -> tuple[str, str]:
    reason = job.decision_reason or job.error or "no reason was kept"
    if not job.parsed:
        return f"there is no usable answer: {reason}.", "A person decides: give the findings, try again, or reject it."
    waits = "a second reader" if job.second_reader else "a person"
    return f"waits for {waits}: {reason}.", "Decide about it in the work list."


def _rejected(job: Job) -> str:
    sent = any(delivery.delivered_at or delivery.state in ARRIVED for row in job.results for delivery in row.deliveries)
    follows = "what was sent of it is taken back" if sent else "nothing of it is sent"
    decided = [review for review in job.reviews if review.action in ("reject", "reroute") and not review.undone_at]
    if not decided:
        return f"was rejected; {follows}."
    last = decided[-1]
    why = f": {last.comment}" if last.comment else ""
    return f"was rejected by {last.reviewer_name}{why}; {follows}."


def _about_results(settings: Settings, job: Job) -> Iterator[Reason]:
    deliveries = [delivery for result in job.results for delivery in result.deliveries]
    if not deliveries:
        what = "no destination is set up" if not settings.destinations else "no destination takes such a result"
        remedy = "See `destinations`, and `results` and `when` of each."
        yield Reason(
            about="job",
            reference=job.id,
            state=job.state.value,
            text=f"{job.adapter}: its results are written, but {what}.",
            remedy=remedy,
        )
    yield from _about_deliveries(settings, job.results)


def _about_deliveries(settings: Settings, results: Sequence[Result]) -> Iterator[Reason]:
    for result in results:
        for delivery in result.deliveries:
            if (found := _about_delivery(settings, result, delivery)) is not None:
                yield found


def _about_delivery(settings: Settings, result: Result, delivery: Delivery) -> Reason | None:
    what, to = f"{result.kind.upper()} to {delivery.destination}", delivery.destination
    next_at, said = None, waiting.in_words(delivery.last_error)
    if delivery.state is DeliveryState.PENDING:
        text, remedy = f"{what} waits to be sent", ""
        if said:
            text += f" after {delivery.tries} {'try' if delivery.tries == 1 else 'tries'}: {said}"
        if to not in {known.name for known in settings.destinations}:
            remedy = f"The settings name no destination {to}."
        next_at = delivery.not_before if delivery.not_before > utc_now() else None
    elif delivery.state is DeliveryState.SENDING:
        text, remedy = f"{what} is being sent", ""
    elif delivery.state is DeliveryState.DEAD:
        text = f"{what} was given up after {delivery.tries} {'try' if delivery.tries == 1 else 'tries'}: {said}"
        remedy = "Put right what it says, then send it again."
    elif delivery.state is DeliveryState.UNCONFIRMED:
        text = f"{what} was sent, but {to} does not say that it has it: {said or 'it did not answer'}"
        remedy = "Look there whether it has arrived; send it again if not."
    else:
        return None
    return Reason(
        about="delivery",
        reference=str(delivery.id),
        state=delivery.state.value,
        text=f"{text}.",
        remedy=remedy,
        next_at=next_at,
    )
