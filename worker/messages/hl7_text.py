"""Text, times and names as HL7 v2.5.1 writes them (chapters 2 and 2A), with the usual delimiters. Pure.

Input: text of any kind. Output: text that stays within its field, and its way back. Escape sequences as in section 2.7;
a line break is the formatted text command `.br` (2.7.6), which is what a reader of HL7 shows as one. Characters beyond
ASCII stay as they are: MSH-18 says UNICODE UTF-8. (The escaping of the `hl7` package writes them as numbers of one
byte, which cannot hold them.)
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Final

from dicom_node.codes import Code
from dicom_node.marking import clean_text
from dicom_node.report import Person
from worker.messages.statement import NameGroup, name_groups

_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\n": "\\.br\\"}
_MEANINGS: Final = {escape: character for character, escape in _ESCAPES.items()}
_ESCAPED: Final = re.compile(r"\\(?:[EFSTR]|\.br)\\")
#: Table 4000: which script a name is in, by the component groups of PS3.5 6.2.1.
_REPRESENTATIONS: Final = ("A", "I", "P")


def escape(text: str) -> str:
    """Return text for a component; control characters are left out, any line break becomes one command."""
    lines = clean_text(text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(_ESCAPES.get(character, character) for character in lines)


def unescape(text: str) -> str:
    """Return the text that `escape` wrote."""
    return _ESCAPED.sub(lambda match: _MEANINGS[match[0]], text)


def one_line(text: str) -> str:
    """Return text for a component that has no lines, such as a name."""
    return escape(" ".join(text.split()))


def components(*values: str) -> str:
    """Return values, escaped already, as one field; empty ones at the end are left out."""
    return "^".join(values).rstrip("^")


def coded(code: Code, text: str = "") -> str:
    """Return a code as CWE: identifier, text, name of coding system, for which table 0396 has DICOM's designators."""
    return components(one_line(code.value), one_line(text or code.meaning), code.scheme)


def time_stamp(moment: date | datetime | None) -> str:
    """Return a day, or an aware time with its offset from UTC (DTM)."""
    if moment is None:
        return ""
    day = f"{moment.year:04}{moment.month:02}{moment.day:02}"
    return f"{day}{moment:%H%M%S%z}" if isinstance(moment, datetime) else day


def patient_names(groups: tuple[NameGroup, ...]) -> str:
    """Return a DICOM person name as XPN, a repetition for each script: suffix comes before prefix in HL7."""
    names = []
    for group, representation in zip(groups, _REPRESENTATIONS, strict=False):
        if group.text:
            written = (group.family, group.given, group.middle, group.suffix, group.prefix)
            names.append("^".join((*map(one_line, written), "", "L", representation)))
    return "~".join(names)


def observer(person: Person) -> str:
    """Return a person as XCN: no number, family and given name."""
    group = _first_group(person)
    return components("", one_line(group.family), one_line(group.given), one_line(group.middle))


def interpreter(person: Person) -> str:
    """Return a person as NDL, whose first component is a name in subcomponents."""
    group = _first_group(person)
    return "&".join(("", one_line(group.family), one_line(group.given), one_line(group.middle))).rstrip("&")


def _first_group(person: Person) -> NameGroup:
    return next((group for group in name_groups(person.name) if group.text), NameGroup(person.name, "", "", "", ""))
