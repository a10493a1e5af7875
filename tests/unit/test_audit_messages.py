"""Audit messages are what PS3.15 A.5 says they are, whatever the values hold."""

from __future__ import annotations

import base64

import pytest
from lxml import etree

from tests.audit_schema import checked, told
from worker.audit import events
from worker.audit.events import Actor, StudySeen, System
from worker.audit.message import AuditEvent, to_xml
from worker.audit.trail import syslog_line

US = System("4711", "DICOMWORKER", "worker.example")
WHO = Actor("rea", "Curie^Marie", "192.0.2.7")
STUDY = StudySeen("1.2.3", "P-1", "ACC-1", {"1.2.840.10008.5.1.4.1.1.2": 12})
PACS = Actor("PACS", address="pacs.example", ae_title="PACS")
EVENTS = {
    "Application Activity / Application Start by  about ": events.application(US, starts=True),
    "Application Activity / Application Stop by  about ": events.application(US, starts=False),
    "User Authentication / Login by rea about ": events.authentication(US, WHO),
    "User Authentication / Login failed by rea about ": events.authentication(US, WHO, refused="wrong password"),
    "User Authentication / Logout by rea about ": events.authentication(US, WHO, logs_in=False),
    "DICOM Instances Accessed by rea about 1.2.3,P-1": events.accessed(US, WHO, STUDY),
    "DICOM Instances Transferred by PACS about 1.2.3,P-1": events.transferred(
        US, PACS, [STUDY], to_us=True, peer_asked=True
    ),
    "DICOM Instances Transferred by 4711 about 1.2.3,1.2.4,P-1": events.transferred(
        US, PACS, [STUDY, StudySeen("1.2.4", "P-1")], to_us=False, peer_asked=False
    ),
    "Query by rea about /search": events.query(US, WHO, "/search", "q=P-1"),
    "Procedure Record / Review of an automatic answer: accept by rea about 1.2.3,P-1": events.decided(
        US, WHO, STUDY, "a" * 32, "accept", {"images on screen": "12 of 120", "answer on screen": "revision 1"}
    ),
    "Security Alert / Security Roles Changed by rea about vera": events.user_changed(
        US, WHO, "vera", "is viewer", roles=True
    ),
    "Security Alert / Software Configuration by rea about pacs": events.configured(US, WHO, "pacs", "tried at once"),
    "Security Alert / Use of Restricted Function failed by rea about /people": events.refused(US, WHO, "/people"),
}


@pytest.mark.parametrize("short", EVENTS)
def test_every_kind_of_message_is_what_the_schema_allows(short: str) -> None:
    assert told(checked(to_xml(EVENTS[short], "worker.example", "City Hospital"))) == short


def test_a_schema_that_is_not_kept_is_found_out() -> None:
    message = to_xml(EVENTS["User Authentication / Login by rea about "], "x").replace("UserIsRequestor", "IsRequestor")
    with pytest.raises(etree.DocumentInvalid):
        checked(message)


def test_both_sides_of_a_transfer_are_named_with_their_roles() -> None:
    message = checked(to_xml(EVENTS["DICOM Instances Transferred by PACS about 1.2.3,P-1"], "x"))
    theirs, ours = message.iter("ActiveParticipant")
    assert (theirs.find("RoleIDCode").get("csd-code"), ours.find("RoleIDCode").get("csd-code")) == ("110153", "110152")
    assert theirs.get("AlternativeUserID") == "AETITLES=PACS"
    assert (theirs.get("NetworkAccessPointID"), theirs.get("NetworkAccessPointTypeCode")) == ("pacs.example", "1")
    (described,) = message.iter("SOPClass")
    assert dict(described.attrib) == {"UID": "1.2.840.10008.5.1.4.1.1.2", "NumberOfInstances": "12"}


def test_a_search_is_kept_as_it_was_typed() -> None:
    message = checked(to_xml(events.query(US, WHO, "/search", "q=Müller <1>"), "x"))
    (kept,) = message.iter("ParticipantObjectQuery")
    assert base64.b64decode(kept.text).decode() == "q=Müller <1>"


def test_hostile_values_break_neither_the_xml_nor_the_line() -> None:
    nasty = 'P"1\n<86>1 - forged\r\x00\x1b\ufffe\ud800&<a/>\u2028'
    event: AuditEvent = events.decided(US, Actor(nasty, nasty, nasty), StudySeen(nasty, nasty, nasty), nasty, nasty)
    line = syslog_line(event, "host name\n", nasty, nasty)
    assert b"\n" not in line
    assert b"\r" not in line
    header, _, xml = line.decode().partition("\ufeff")
    assert header.split(" ")[:4] == ["<85>1", header.split(" ")[1], "host-name-", "dicom-worker"]
    assert header.split(" ")[5:7] == ["DICOM+RFC3881", "-"]
    assert "forged" in checked(xml).find("ActiveParticipant").get("UserID")
