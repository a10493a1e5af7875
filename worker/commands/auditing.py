"""Audit messages of commands: what the person at this terminal looked at, decided or changed.

Input: the settings, and what the command did. Output: lines of the audit trail of this machine; the person is who the
operating system says it is, beside the name given with a decision.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.audit.events import Actor
    from worker.audit.owed import Witness
    from worker.people.administration import Change
    from worker.schemas import ReviewCase, StudyView
    from worker.settings import Settings


def witness(settings: Settings, person_name: str) -> Witness:
    """Return who tells of what the person of this name decides at this terminal."""
    from worker.audit.owed import Witness
    from worker.audit.trail import AuditTrail

    return Witness(AuditTrail(settings), _person(person_name))


def audit_looks(settings: Settings, shown: Iterable[StudyView | ReviewCase]) -> None:
    """Write that somebody looked at studies, a message for each."""
    from worker.audit.events import StudySeen, accessed
    from worker.audit.trail import AuditTrail

    trail = AuditTrail(settings)
    for study in shown:
        seen = StudySeen(study.study_instance_uid, study.patient_id, study.accession_number)
        trail.write(accessed(trail.system, _person(), seen))


def audit_list(settings: Settings, command: str, criteria: str = "") -> None:
    """Write that somebody had a list shown."""
    from worker.audit.events import query
    from worker.audit.trail import AuditTrail

    trail = AuditTrail(settings)
    trail.write(query(trail.system, _person(), f"dicom-worker {command}", criteria))


def audit_user_change(settings: Settings, session: Session, change: Change) -> None:
    """Tell that somebody changes who may do what, in the transaction of the change (`worker.audit.owed.telling`)."""
    from worker.audit.events import user_changed
    from worker.audit.owed import owe
    from worker.audit.trail import AuditTrail

    trail = AuditTrail(settings)
    owe(session, trail, user_changed(trail.system, _person(), change.about, change.done, roles=change.roles))


def audit_configured(settings: Settings, place: str, what: str) -> None:
    """Write that somebody changed how this software goes on with its work."""
    from worker.audit.events import configured
    from worker.audit.trail import AuditTrail

    trail = AuditTrail(settings)
    trail.write(configured(trail.system, _person(), place, what))


def _person(name: str = "") -> Actor:
    from worker.audit.events import Actor

    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        login = "unknown"
    return Actor(login, name, socket.gethostname())
