"""Whose images a case is about, and what kind they are, as far as a reader must know it.

Input: a job with its study. Output: a `Patient` for the pages of a case: name, ID and date of birth, by which a reader
makes sure that images and order are of one person, age and sex; and the adapters that would not take such images by
themselves. Lists and addresses name nobody: a screen is seen by others too. Nothing fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceHeader
from models.adapter import AdapterDefinition
from worker.db.priors import Prior
from worker.db.records import Instance, Job, Study
from worker.web.page import person_of

_SEXES = {"F": "female", "M": "male", "O": "other sex"}
#: Below this age months matter.
_INFANT_YEARS = 2


@dataclass(frozen=True, slots=True)
class Patient:
    """Who it is; what the images do not say is empty."""

    #: Given name first; further writings (PS3.5 6.2.1) as they are.
    name: str
    patient_id: str
    #: As in the images (DA).
    birth_date: str
    #: At the time of the study, e.g. "66 years", "7 months".
    age: str
    sex: str


def patient_of(session: Session, job: Job) -> Patient:
    """Return whose images a job is about; age and sex as an image of the series says."""
    header = _header(session, job)
    return Patient(
        name=_name(job.study.patient_name),
        patient_id=job.study.patient_id,
        birth_date=job.study.patient_birth_date,
        age=_age(header.get("patient_age_years")),
        sex=_SEXES.get(str(header.get("patient_sex") or "").upper(), ""),
    )


def named_otherwise(study: Study, priors: Iterable[Prior]) -> dict[int, str]:
    """Return the other studies under the same patient ID that name somebody else, and whom: study -> name.

    A name changes, and one patient ID is sometimes given to two people: a reader must see it before comparing.
    """
    here = _letters(study.patient_name)
    return {
        prior.study_id: _name(prior.patient_name)
        for prior in priors
        if here and _letters(prior.patient_name) and _letters(prior.patient_name) != here
    }


def unfit_adapters(session: Session, job: Job, adapters: Mapping[str, AdapterDefinition]) -> dict[str, str]:
    """Return adapter -> why it would not take such images by itself, of those that would not."""
    stored = _header(session, job)
    if not stored:
        return {}
    header = InstanceHeader.from_json(stored)
    found = {name: adapter.acceptance.obstacle(header) for name, adapter in adapters.items() if name != job.adapter}
    return {name: why for name, why in found.items() if why}


def _header(session: Session, job: Job) -> dict[str, Any]:
    """Return the header of an image of the series; empty where none is left."""
    # Any of them: asked for the first, a planner may read the table in the order of its key.
    return session.scalar(select(Instance.header).where(Instance.series_id == job.series_id).limit(1)) or {}


def _name(stored: str) -> str:
    alphabetic, *others = stored.split("=")
    return " / ".join(filter(None, [person_of(alphabetic), *(other.replace("^", " ").strip() for other in others)]))


def _letters(stored: str) -> str:
    """What two writings of one name have in common: the letters of its alphabetic form (PS3.5 6.2.1.1)."""
    alphabetic, *_ = stored.split("=")
    return "".join(filter(str.isalnum, alphabetic.casefold()))


def _age(years: Any) -> str:
    if not isinstance(years, int | float) or years < 0:
        return ""
    if years < _INFANT_YEARS:
        months = int(years * 12)
        return f"{months} month{'' if months == 1 else 's'}"
    return f"{int(years)} years"
