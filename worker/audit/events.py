"""What happened -> the audit message that PS3.15 A.5.3 has for it: one function for each kind.

Pure. Input: who, what, and the system that reports it. Output: an `AuditEvent`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from worker.audit import codes
from worker.audit.codes import Action, Code, Outcome
from worker.audit.message import AuditEvent, ObjectSeen, Participant


@dataclass(frozen=True, slots=True)
class System:
    """This software, as one of those who take part."""

    process_id: str
    ae_title: str
    host: str

    def participant(self, role: Code = codes.APPLICATION, *, is_requestor: bool = False) -> Participant:
        """Return this software in a role (A.5.2.1, A.5.2.2)."""
        return Participant(self.process_id, is_requestor, role, f"AETITLES={self.ae_title}", address=self.host)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a person, a machine with a token, or another DICOM system."""

    id: str
    name: str = ""
    address: str = ""
    #: Of a DICOM system.
    ae_title: str = ""

    def participant(self, role: Code | None = None, *, is_requestor: bool = True) -> Participant:
        """Return the actor in a role."""
        alternative = f"AETITLES={self.ae_title}" if self.ae_title else ""
        return Participant(self.id or "unknown", is_requestor, role, alternative, self.name, self.address)


@dataclass(frozen=True, slots=True)
class StudySeen:
    """A study and whose it is."""

    study_instance_uid: str
    patient_id: str
    accession_number: str = ""
    #: SOP Class UID -> number of instances, where it is known.
    instances: Mapping[str, int] = field(default_factory=dict)


def application(us: System, *, starts: bool) -> AuditEvent:
    """Return the start or stop of the daemon (A.5.3.1)."""
    kind = codes.APPLICATION_START if starts else codes.APPLICATION_STOP
    return AuditEvent(codes.APPLICATION_ACTIVITY, Action.EXECUTE, (us.participant(),), types=(kind,))


def authentication(us: System, who: Actor, *, logs_in: bool = True, refused: str = "", remark: str = "") -> AuditEvent:
    """Return a log-in, a log-in that was refused, or a log-out, with a remark about it (A.5.3.12)."""
    return AuditEvent(
        codes.USER_AUTHENTICATION,
        Action.EXECUTE,
        (who.participant(), us.participant()),
        types=(codes.LOGIN if logs_in else codes.LOGOUT,),
        outcome=Outcome.MINOR_FAILURE if refused else Outcome.SUCCESS,
        reason=refused or remark,
    )


def accessed(us: System, who: Actor, study: StudySeen, others: Sequence[StudySeen] = ()) -> AuditEvent:
    """Return that somebody looked at a study (A.5.3.6), and what they saw of the patient's `others` beside it."""
    participants = (who.participant(), us.participant())
    return AuditEvent(codes.INSTANCES_ACCESSED, Action.READ, participants, _objects((study, *others)))


def transferred(
    us: System, peer: Actor, studies: Sequence[StudySeen], *, to_us: bool, peer_asked: bool, failed: str = ""
) -> AuditEvent:
    """Return that instances came from or went to another system (A.5.3.7).

    Args:
        us: This software.
        peer: The other system, or the person whose browser it is.
        studies: What the instances are of; all of one patient.
        to_us: Whether they came here.
        peer_asked: Whether the other system opened the association or sent the request.
        failed: Why not all of them arrived; empty where they did.
    """
    ours, theirs = (codes.DESTINATION, codes.SOURCE) if to_us else (codes.SOURCE, codes.DESTINATION)
    return AuditEvent(
        codes.INSTANCES_TRANSFERRED,
        Action.CREATE if to_us else Action.READ,
        (peer.participant(theirs, is_requestor=peer_asked), us.participant(ours, is_requestor=not peer_asked)),
        _objects(studies),
        outcome=Outcome.MINOR_FAILURE if failed else Outcome.SUCCESS,
        reason=failed,
    )


def query(us: System, who: Actor, place: str, criteria: str) -> AuditEvent:
    """Return that somebody searched, or looked at a list (A.5.3.10)."""
    asked = ObjectSeen(place, codes.SEARCH_CRITERIA, "2", "24", query=criteria or "everything")
    participants = (who.participant(codes.SOURCE), us.participant(codes.DESTINATION))
    return AuditEvent(codes.QUERY, Action.EXECUTE, participants, (asked,))


def decided(
    us: System, who: Actor, study: StudySeen, job_id: str, decision: str, shown: Mapping[str, str] | None = None
) -> AuditEvent:
    """Return that a person decided about an answer: the record of the procedure was changed (A.5.3.9).

    Args:
        us: This software.
        who: Who decided.
        study: Whose answer it is.
        job_id: The answer.
        decision: What was decided.
        shown: What they had before them, in words (`worker.review.shown`).
    """
    kind = Code(decision, f"Review of an automatic answer: {decision}", codes.DECISIONS)
    objects = _objects((study,), _identified({"job": job_id, "decision": decision, **(shown or {})}))
    participants = (who.participant(), us.participant())
    return AuditEvent(codes.PROCEDURE_RECORD, Action.UPDATE, participants, objects, types=(kind,))


def user_changed(us: System, who: Actor, login: str, what: str, *, roles: bool = False) -> AuditEvent:
    """Return that an administrator changed who may do what (A.5.3.11)."""
    kind = codes.ROLES_CHANGED if roles else codes.USER_CHANGED
    subject = ObjectSeen(login, codes.USER_IDENTIFIER, "1", "11", details=_identified({"Alert Description": what}))
    participants = (who.participant(), us.participant())
    return AuditEvent(codes.SECURITY_ALERT, Action.EXECUTE, participants, (subject,), types=(kind,))


def configured(us: System, who: Actor, place: str, what: str) -> AuditEvent:
    """Return that an administrator changed how this software goes on with its work (A.5.3.11)."""
    changed = ObjectSeen(place, codes.URI, "2", "13", details={"Alert Description": what})
    participants = (who.participant(), us.participant())
    return AuditEvent(
        codes.SECURITY_ALERT, Action.EXECUTE, participants, (changed,), types=(codes.SOFTWARE_CONFIGURATION,)
    )


def refused(us: System, who: Actor, place: str) -> AuditEvent:
    """Return that somebody asked for what their role may not see (A.5.3.11)."""
    asked = ObjectSeen(place, codes.URI, "2", "13", details={"Alert Description": "the role may not do this"})
    participants = (who.participant(), us.participant())
    return AuditEvent(
        codes.SECURITY_ALERT,
        Action.EXECUTE,
        participants,
        (asked,),
        types=(codes.RESTRICTED_FUNCTION,),
        outcome=Outcome.MINOR_FAILURE,
        reason="the role may not do this",
    )


def _identified(details: Mapping[str, str]) -> dict[str, str]:
    """Add an identifier to a message of `worker.audit.owed`: where one comes twice, nothing happened twice."""
    return {**details, "event": uuid.uuid4().hex}


def _objects(studies: Iterable[StudySeen], details: Mapping[str, str] | None = None) -> tuple[ObjectSeen, ...]:
    """Return each study, then each patient once."""
    listed = list(studies)
    made = [
        ObjectSeen(
            study.study_instance_uid,
            codes.STUDY_UID,
            "2",
            "3",
            details=details or {},
            accession_number=study.accession_number,
            instances=study.instances,
        )
        for study in listed
    ]
    patients = dict.fromkeys(study.patient_id or "unknown" for study in listed)
    return (*made, *(ObjectSeen(patient, codes.PATIENT_NUMBER, "1", "1") for patient in patients))
