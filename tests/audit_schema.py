"""The schema of audit messages (DICOM PS3.15 A.5.1.1), written in RELAX NG's XML syntax, and the messages of a file.

The standard gives it in the compact syntax, which libxml2 does not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from lxml import etree


def _numbers(name: str, last: int) -> str:
    """An optional attribute with a number from 1."""
    values = "".join(f"<value>{number}</value>" for number in range(1, last + 1))
    return f'<optional><attribute name="{name}"><choice>{values}</choice></attribute></optional>'


def _token(name: str, *, optional: bool = True) -> str:
    made = f'<attribute name="{name}"><data type="token"/></attribute>'
    return f"<optional>{made}</optional>" if optional else made


_CODED = f"""{_token("csd-code", optional=False)}{_token("codeSystemName", optional=False)}{_token("displayName")}
{_token("originalText", optional=False)}"""
SCHEMA = f"""
<grammar xmlns="http://relaxng.org/ns/structure/1.0" datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
 <define name="coded">{_CODED}</define>
 <start><element name="AuditMessage">
  <element name="EventIdentification">
   <optional><attribute name="EventActionCode"><choice><value>C</value><value>R</value><value>U</value><value>D</value>
    <value>E</value></choice></attribute></optional>
   <attribute name="EventDateTime"><data type="dateTime"/></attribute>
   <attribute name="EventOutcomeIndicator"><choice><value>0</value><value>4</value><value>8</value><value>12</value>
   </choice></attribute>
   <element name="EventID"><ref name="coded"/></element>
   <zeroOrMore><element name="EventTypeCode"><ref name="coded"/></element></zeroOrMore>
   <optional><element name="EventOutcomeDescription"><text/></element></optional>
  </element>
  <oneOrMore><element name="ActiveParticipant">
   <attribute name="UserID"/><optional><attribute name="AlternativeUserID"/></optional>
   <optional><attribute name="UserName"/></optional>
   <attribute name="UserIsRequestor"><data type="boolean"/></attribute>
   {_token("NetworkAccessPointID")}{_numbers("NetworkAccessPointTypeCode", 5)}
   <zeroOrMore><element name="RoleIDCode"><ref name="coded"/></element></zeroOrMore>
   <optional><element name="MediaIdentifier"><element name="MediaType"><ref name="coded"/></element></element>
   </optional>
  </element></oneOrMore>
  <element name="AuditSourceIdentification">
   {_token("AuditEnterpriseSiteID")}{_token("AuditSourceID", optional=False)}
   <zeroOrMore><element name="AuditSourceTypeCode">{_token("csd-code", optional=False)}
    <optional><group>{_token("codeSystemName", optional=False)}{_token("displayName")}
     {_token("originalText", optional=False)}</group></optional></element></zeroOrMore>
  </element>
  <zeroOrMore><element name="ParticipantObjectIdentification">
   {_token("ParticipantObjectID", optional=False)}{_numbers("ParticipantObjectTypeCode", 4)}
   {_numbers("ParticipantObjectTypeCodeRole", 26)}{_numbers("ParticipantObjectDataLifeCycle", 15)}
   {_token("ParticipantObjectSensitivity")}
   <element name="ParticipantObjectIDTypeCode"><ref name="coded"/></element>
   <choice><element name="ParticipantObjectName"><data type="token"/></element>
    <element name="ParticipantObjectQuery"><data type="base64Binary"/></element></choice>
   <zeroOrMore><element name="ParticipantObjectDetail">{_token("type", optional=False)}
    <attribute name="value"><data type="base64Binary"/></attribute></element></zeroOrMore>
   <zeroOrMore><element name="ParticipantObjectDescription">
    <zeroOrMore><element name="MPPS">{_token("UID", optional=False)}</element></zeroOrMore>
    <zeroOrMore><element name="Accession">{_token("Number", optional=False)}</element></zeroOrMore>
    <zeroOrMore><element name="SOPClass">
     {_token("UID")}<attribute name="NumberOfInstances"><data type="integer"/></attribute>
     <zeroOrMore><element name="Instance">{_token("UID", optional=False)}</element></zeroOrMore>
    </element></zeroOrMore>
    <optional><element name="ParticipantObjectContainsStudy"><zeroOrMore><element name="StudyIDs">
     {_token("UID", optional=False)}</element></zeroOrMore></element></optional>
    <optional><element name="Encrypted"><data type="boolean"/></element></optional>
    <optional><element name="Anonymized"><data type="boolean"/></element></optional>
   </element></zeroOrMore>
  </element></zeroOrMore>
 </element></start>
</grammar>"""


@cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.fromstring(SCHEMA))


def checked(xml: str) -> etree._Element:
    """Return a message, read; fails where the schema does not allow it."""
    message = etree.fromstring(xml)
    _schema().assertValid(message)
    return message


def messages(folder: Path) -> list[etree._Element]:
    """Return all messages of audit files in a folder, each checked."""
    return [checked(line.split("\ufeff")[1]) for path in sorted(folder.glob("audit-*.log")) for line in _lines(path)]


def _lines(path: Path) -> Iterable[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def told(message: etree._Element) -> str:
    """Return a message in short: what happened, who, and about which studies, patients or users."""
    event = message.find("EventIdentification")
    kinds = [code.get("originalText") for code in event.iter("EventID", "EventTypeCode")]
    who = [one.get("UserID") for one in message.iter("ActiveParticipant") if one.get("UserIsRequestor") == "true"]
    about = [one.get("ParticipantObjectID") for one in message.iter("ParticipantObjectIdentification")]
    failed = "" if event.get("EventOutcomeIndicator") == "0" else " failed"
    return f"{' / '.join(kinds)}{failed} by {','.join(who)} about {','.join(about)}"
