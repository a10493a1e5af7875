"""Earlier and later studies of the same patient, with what was answered about them.

Input: a study. Output: its patient's other studies, newest first. The same patient is the same patient ID, from the
same issuer and with the same birth date wherever both studies state one: an ID alone is no proof among several
hospitals. Nothing fails here but the database.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from worker.db.records import Job, Series, Study
from worker.states import JobState

PRIORS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class PriorAnswer:
    """What an adapter said about another study."""

    job_id: str
    adapter: str
    state: str
    findings: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Prior:
    """Another study of the patient."""

    study_id: int
    accession_number: str
    study_date: str
    study_description: str
    #: As in the images (PN).
    patient_name: str
    modalities: tuple[str, ...]
    #: For the viewer.
    series_ids: tuple[int, ...]
    answers: tuple[PriorAnswer, ...]


def priors_of(session: Session, study_id: int) -> list[Prior]:
    """Return the patient's other studies, by study date."""
    study = session.get_one(Study, study_id)
    if not study.patient_id:
        return []
    wanted = select(Study).where(
        Study.patient_id == study.patient_id,
        Study.id != study.id,
        *_agrees(Study.issuer_of_patient_id, study.issuer_of_patient_id),
        *_agrees(Study.patient_birth_date, study.patient_birth_date),
    )
    order = (Study.study_date.desc(), Study.first_received_at.desc(), Study.id.desc())
    found = session.scalars(wanted.order_by(*order).limit(PRIORS_SHOWN)).all()
    ids = [prior.id for prior in found]
    series = defaultdict(list)
    for row in session.execute(
        select(Series.id, Series.study_id, Series.modality).where(Series.study_id.in_(ids)).order_by(Series.id)
    ):
        series[row.study_id].append(row)
    answers = _answers(session, ids)
    return [
        Prior(
            prior.id,
            prior.accession_number,
            prior.study_date,
            prior.study_description,
            prior.patient_name,
            tuple(dict.fromkeys(row.modality for row in series[prior.id])),
            tuple(row.id for row in series[prior.id]),
            tuple(answers[prior.id]),
        )
        for prior in found
    ]


def _agrees(column: InstrumentedAttribute[str], value: str) -> tuple[Any, ...]:
    return (or_(column == value, column == ""),) if value else ()


def _answers(session: Session, study_ids: list[int]) -> dict[int, list[PriorAnswer]]:
    wanted = (
        select(Job.study_id, Job.id, Job.adapter, Job.state, Job.findings)
        .where(Job.study_id.in_(study_ids), Job.state != JobState.SUPERSEDED)
        .order_by(Job.created_at, Job.id)
    )
    found: dict[int, list[PriorAnswer]] = defaultdict(list)
    for row in session.execute(wanted):
        found[row.study_id].append(PriorAnswer(row.id, row.adapter, row.state.value, row.findings))
    return found
