"""Coded values of audit messages: DICOM PS3.16 CID 400 to 405, and the values of PS3.15 A.5.1.2."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value."""

    value: str
    meaning: str
    system: str = "DCM"


class Action(StrEnum):
    """EventActionCode."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    #: Refused: a wrong password, a role that may not.
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8


# EventID
APPLICATION_ACTIVITY: Final = Code("110100", "Application Activity")
INSTANCES_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
PROCEDURE_RECORD: Final = Code("110111", "Procedure Record")
QUERY: Final = Code("110112", "Query")
SECURITY_ALERT: Final = Code("110113", "Security Alert")
USER_AUTHENTICATION: Final = Code("110114", "User Authentication")

# EventTypeCode
APPLICATION_START: Final = Code("110120", "Application Start")
APPLICATION_STOP: Final = Code("110121", "Application Stop")
LOGIN: Final = Code("110122", "Login")
LOGOUT: Final = Code("110123", "Logout")
SOFTWARE_CONFIGURATION: Final = Code("110131", "Software Configuration")
RESTRICTED_FUNCTION: Final = Code("110132", "Use of Restricted Function")
ROLES_CHANGED: Final = Code("110136", "Security Roles Changed")
USER_CHANGED: Final = Code("110137", "User Security Attributes Changed")

# RoleIDCode
APPLICATION: Final = Code("110150", "Application")
DESTINATION: Final = Code("110152", "Destination Role ID")
SOURCE: Final = Code("110153", "Source Role ID")

# ParticipantObjectIDTypeCode
STUDY_UID: Final = Code("110180", "Study Instance UID")
PATIENT_NUMBER: Final = Code("2", "Patient Number", "RFC-3881")
SEARCH_CRITERIA: Final = Code("10", "Search Criteria", "RFC-3881")
USER_IDENTIFIER: Final = Code("11", "User Identifier", "RFC-3881")
URI: Final = Code("12", "URI", "RFC-3881")

#: Our own codes: what a reviewer decided.
DECISIONS: Final = "99DICOMWORKER"
