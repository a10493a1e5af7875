"""HL7 v2 messages: read by another program they say what was meant, whatever characters are in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import hl7
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.marking import RESEARCH_STATEMENT, STANDIN_WARNING
from dicom_node.report import Person
from tests.sample_reports import CHARSET_FILES, awkward_headers, frames_of, trauma_report, vessel_report
from tests.statements import CT, signed, statement
from worker.messages.hl7_text import escape, patient_names, unescape
from worker.messages.hl7v2 import Applications, addressed, build_oru, build_retraction, control_id
from worker.messages.statement import UNSIGNED_STATEMENT, MessageError, Standing, name_groups

AWKWARD = awkward_headers()
ODD = ("birth date in year 0", "missing patient id", "sex question mark", "study date in words")


def read(message: bytes) -> Any:
    """Return the message as the `hl7` package reads it."""
    return hl7.parse(message.decode("utf-8"))


def observations(message: bytes) -> dict[str, Any]:
    """Return the OBX segments by the text of what they are about; of several, the last."""
    return {str(segment[3][0][1]): segment for segment in read(message).segments("OBX")}


def test_an_answer_nobody_signed_is_preliminary_and_says_how_its_probability_was_made() -> None:
    message = build_oru(statement())
    parsed, said = read(message), observations(message)
    assert str(parsed["MSH.F9.R1.C1"]) == "ORU"
    assert (str(parsed["MSH.F12"]), str(parsed["MSH.F18"])) == ("2.5.1", "UNICODE UTF-8")
    assert str(parsed["OBR.F25"]) == "P"
    assert {str(segment[11]) for segment in parsed.segments("OBX")} == {"P"}
    words = [unescape(str(segment[5])) for segment in parsed.segments("OBX") if str(segment[2]) == "FT"]
    assert words[:2] == [UNSIGNED_STATEMENT, RESEARCH_STATEMENT]
    assert str(said["Occlusion"][5]) == "52101004^Present^SCT"
    probability = said["Probability (uncalibrated)"]
    assert (str(probability[2]), str(probability[5]), str(probability[6])) == ("NM", "0.93", "1^no units^UCUM")
    assert str(probability[17]) == "^label likelihood (uncalibrated)"
    assert str(said["Finding Site"][5]) == "59820001^Blood Vessel^SCT"


def test_the_study_the_order_and_the_report_in_the_pacs_are_named() -> None:
    made = statement()
    made = replace(made, subject=replace(made.subject, accession_number="A-1"))
    message = build_oru(made)
    parsed, said = read(message), observations(message)
    assert str(said["DICOM Study"][5]) == f"^{made.subject.study_instance_uid}^ISO"
    assert str(said["SOP Instance UID of the structured report"][5]) == "^2.25.11^ISO"
    assert [str(parsed[f"OBR.F{number}"]) for number in (2, 18)] == ["A-1", "A-1"]
    assert str(parsed.segment("PID")[3]) == "1CT1^^^^PI"
    assert str(parsed.segment("PID")[5]).startswith("CompressedSamples^CT1")
    own_number = str(parsed["OBR.F3"])
    names = Applications("WORKER", "AI|Lab", "RIS", "St Elsewhere")
    sent = read(addressed(message, names))
    assert [sent.unescape(str(sent[f"MSH.F{number}"])) for number in range(3, 7)] == [
        *("WORKER", "AI|Lab", "RIS", "St Elsewhere")
    ]
    assert str(sent["OBR.F3"]) == "A-1"
    own = read(addressed(message, replace(names, filler_number="result")))
    assert str(own["OBR.F3"]) == own_number


@pytest.mark.parametrize(("standing", "status"), [(Standing.FINAL, "F"), (Standing.AMENDED, "C")])
def test_what_a_person_signed_is_final_and_what_they_changed_is_a_correction(standing: Standing, status: str) -> None:
    message = build_oru(signed(statement(), standing))
    parsed = read(message)
    assert str(parsed["OBR.F25"]) == status
    assert str(parsed.segment("OBR")[32]) == "&Ōta&Hanako"
    assert {str(segment[11]) for segment in parsed.segments("OBX")} == {status}
    assert {str(segment[16]) for segment in parsed.segments("OBX")} == {"^Ōta^Hanako"}
    assert UNSIGNED_STATEMENT not in message.decode()


def test_a_stand_in_is_sent_as_training_and_says_that_it_means_nothing() -> None:
    message = build_oru(statement(vessel_report([frames_of(CT)], is_standin=True)))
    parsed = read(message)
    assert str(parsed["MSH.F11"]) == "T"
    assert str(parsed.segments("OBX")[0][5]) == STANDIN_WARNING
    assert str(parsed["OBR.F4.R1.C2"]).startswith(STANDIN_WARNING)
    assert str(read(build_oru(statement()))["MSH.F11"]) == "P"
    assert str(read(build_retraction(message, "A", "b", datetime.now(UTC)))["MSH.F11"]) == "T"


def test_a_repeat_is_the_same_to_the_byte_and_another_answer_has_another_control_id() -> None:
    made = statement(trauma_report([frames_of(CT)]))
    message = build_oru(made)
    assert message == build_oru(made)
    assert len(control_id(message)) == 20
    others = {control_id(build_oru(signed(made))), control_id(build_oru(statement()))}
    assert control_id(message) not in others
    keys = [(str(segment[3]), str(segment[4])) for segment in read(message).segments("OBX")]
    assert len(set(keys)) == len(keys), "a receiver that files by OBX-3 and OBX-4 must keep every line"
    later = [(str(segment[3]), str(segment[4])) for segment in read(build_oru(signed(made))).segments("OBX")]
    assert set(later) < set(keys), "what is signed must take the place of what was not"


def test_what_is_said_no_longer_is_deleted_in_every_later_message() -> None:
    before = statement(trauma_report([frames_of(CT)]))
    fewer = replace(before, report=replace(before.report, findings=before.report.findings[:1]))
    told = build_oru(before)
    for message in (build_oru(fewer, told), build_oru(fewer, build_oru(fewer, told))):
        deleted = [str(segment[3][0][1]) for segment in read(message).segments("OBX") if str(segment[11]) == "D"]
        assert deleted == ["Laceration", "Finding Site", "Active contrast extravasation", "Finding Site"]
        numbers = [str(segment[1]) for segment in read(message).segments("OBX")]
        assert numbers == [str(number + 1) for number in range(len(numbers))]


def test_a_retraction_posts_all_that_was_told_as_wrong() -> None:
    told = build_oru(statement(trauma_report([frames_of(CT)])))
    taken_back = read(build_retraction(told, "Ota, Hanako", "wrong | patient", datetime(2026, 3, 2, tzinfo=UTC)))
    assert str(taken_back["OBR.F25"]) == "X"
    first, *others = taken_back.segments("OBX")
    assert "Taken back by Ota, Hanako: wrong | patient" in unescape(str(first[5]))
    assert {str(segment[11]) for segment in others} == {"W"}
    assert len(others) == len(read(told).segments("OBX"))
    assert str(taken_back["MSH.F10"]) != control_id(told)


@pytest.mark.parametrize("name", ODD)
def test_odd_header_still_gives_a_message_that_can_be_read(name: str) -> None:
    source = AWKWARD[name]
    parsed = read(build_oru(statement(vessel_report([frames_of(source)]), source)))
    patient, order = parsed.segment("PID"), parsed.segment("OBR")
    assert str(patient[8]) == ("U" if name in ("sex question mark", "missing patient id") else "O")
    assert str(patient[3]) == ("" if name == "missing patient id" else "1CT1^^^^PI")
    assert str(patient[7]) == ""
    assert str(order[7])[:8] == ("" if name == "study date in words" else "20040119")


def test_names_in_other_scripts_are_kept_with_suffix_before_prefix() -> None:
    source = CHARSET_FILES / "chrH31.dcm"
    parsed = read(build_oru(statement(vessel_report([frames_of(source)]), source)))
    names = [str(name) for name in parsed.segment("PID")[5]]
    assert names == ["Yamada^Tarou^^^^^L^A", "山田^太郎^^^^^L^I", "やまだ^たろう^^^^^L^P"]
    assert patient_names(name_groups("Adams^John^Quincy^Rev.^B.A.")) == "Adams^John^Quincy^B.A.^Rev.^^L^A"
    assert patient_names(name_groups("=山田^太郎")) == "山田^太郎^^^^^L^I"
    assert patient_names(name_groups("")) == ""


def test_a_day_before_the_year_1000_has_four_digits_of_year() -> None:
    made = statement()
    ancient = replace(made, subject=replace(made.subject, birth_date=date(4, 1, 2)))
    assert str(read(build_oru(ancient)).segment("PID")[7]) == "00040102"


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_stays_in_its_field_and_comes_back(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("|^~&\r\n\x0b\x1c")
    assert escape(unescape(escaped)) == escaped
    escaped.encode("utf-8")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = "".join(c for c in lines if c in "\t\n" or not (c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff")).strip()
    assert unescape(escaped) == kept


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_no_answer_can_break_out_of_its_segment(headline: str, patient_id: str) -> None:
    base = SIGNED
    made = replace(
        base,
        report=replace(base.report, headline=headline),
        subject=replace(base.subject, patient_id=patient_id, accession_number=patient_id),
        signer=Person("A^B|\rOBX", "x"),
    )
    parsed = read(addressed(build_oru(made), Applications(patient_id)))
    assert [str(segment[0]) for segment in parsed] == [str(segment[0]) for segment in read(build_oru(base))]


SIGNED = signed(statement())


def test_what_is_no_message_of_ours_is_refused() -> None:
    for broken in (b"", b"PID|1", b"\xff\xfe"):
        with pytest.raises(MessageError, match="earlier HL7 message"):
            build_retraction(broken, "A", "", datetime.now(UTC))
