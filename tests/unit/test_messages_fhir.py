"""FHIR messages: valid R4, as sure as the answer and no surer, and the same whoever writes them again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node import codes
from dicom_node.marking import RESEARCH_STATEMENT, STANDIN_WARNING
from dicom_node.report import Narrative
from tests.sample_reports import ANSWERED_AT, CHARSET_FILES, awkward_headers, frames_of, trauma_report, vessel_report
from tests.statements import CT, signed, statement
from worker.messages.fhir import addressed, build_bundle, build_retraction
from worker.messages.statement import UNSIGNED_STATEMENT, MessageError, Standing, Statement, name_groups

AWKWARD = awkward_headers()


def resources(bundle: bytes, kind: str) -> list[dict[str, Any]]:
    entries = json.loads(bundle)["entry"]
    return [entry["resource"] for entry in entries if entry["resource"]["resourceType"] == kind]


def report_of(bundle: bytes) -> dict[str, Any]:
    (found,) = resources(bundle, "DiagnosticReport")
    return found


def test_an_answer_nobody_signed_is_preliminary_and_says_how_its_probability_was_made() -> None:
    bundle = build_bundle(statement())
    report, (observation,) = report_of(bundle), resources(bundle, "Observation")
    assert (report["status"], observation["status"]) == ("preliminary", "preliminary")
    assert "resultsInterpreter" not in report
    assert UNSIGNED_STATEMENT in report["conclusion"]
    assert RESEARCH_STATEMENT in report["conclusion"]
    assert "must be read by a physician" in report["conclusion"]
    assert report["code"]["coding"][0]["system"] == "http://loinc.org"
    assert observation["code"]["coding"][0] == {
        "system": "http://snomed.info/sct",
        "code": codes.OCCLUSION.value,
        "display": "Occlusion",
    }
    assert observation["valueCodeableConcept"]["text"] == "Present"
    assert observation["bodySite"]["coding"][0]["code"] == codes.BLOOD_VESSEL.value
    (probability,) = observation["component"]
    assert probability["valueQuantity"]["value"] == 0.93
    assert probability["code"]["text"] == "Probability (uncalibrated)"
    assert "label likelihood (uncalibrated)" in observation["method"]["text"]


def test_the_images_the_study_the_order_and_the_report_in_the_pacs_are_named() -> None:
    made = statement()
    bundle = build_bundle(made)
    report, (observation,) = report_of(bundle), resources(bundle, "Observation")
    study = {"system": "urn:dicom:uid", "value": f"urn:oid:{made.subject.study_instance_uid}"}
    assert report["imagingStudy"][0]["identifier"] == study
    assert {"system": "urn:dicom:uid", "value": "urn:oid:2.25.11"} in report["identifier"]
    assert report["subject"]["identifier"]["value"] == "1CT1"
    named = [reference["identifier"]["value"] for reference in observation["derivedFrom"]]
    assert named == [study["value"], f"urn:oid:{made.report.sources[0].sop_instance_uid}"]
    (device,) = resources(bundle, "Device")
    assert device["identifier"][0]["value"].removeprefix("urn:oid:") == made.report.algorithm.device_uid
    assert observation["device"]["reference"] == json.loads(bundle)["entry"][0]["fullUrl"]
    ordered = replace(made, subject=replace(made.subject, accession_number="A|1"))
    assert report_of(build_bundle(ordered))["basedOn"][0]["identifier"]["value"] == "A|1"


@pytest.mark.parametrize(("standing", "edited"), [(Standing.FINAL, False), (Standing.AMENDED, True)])
def test_what_a_person_signed_is_final_and_what_they_changed_is_theirs(standing: Standing, edited: bool) -> None:
    bundle = build_bundle(signed(statement(), standing))
    report, (observation,) = report_of(bundle), resources(bundle, "Observation")
    assert (report["status"], observation["status"]) == (standing.value, standing.value)
    assert "Ōta, Hanako" in report["resultsInterpreter"][0]["display"]
    assert report["performer"][0]["display"] == "St. Anna Hospital"
    assert UNSIGNED_STATEMENT not in report["conclusion"]
    assert ("device" not in observation) is edited
    assert ("performer" in observation) is edited


def test_a_stand_in_says_everywhere_that_it_means_nothing() -> None:
    bundle = build_bundle(statement(vessel_report([frames_of(CT)], is_standin=True)))
    report = report_of(bundle)
    assert report["conclusion"].startswith(STANDIN_WARNING)
    assert report["code"]["text"].startswith(STANDIN_WARNING)
    for entry in json.loads(bundle)["entry"]:
        assert entry["resource"]["meta"]["security"][0]["code"] == "HTEST"
    assert all(found["note"][0]["text"] == STANDIN_WARNING for found in resources(bundle, "Observation"))


def test_every_resource_is_written_by_a_condition_and_a_repeat_is_the_same_to_the_byte() -> None:
    made = statement(trauma_report([frames_of(CT)]))
    bundle = build_bundle(made)
    assert bundle == build_bundle(made)
    entries = json.loads(bundle)["entry"]
    assert len(resources(bundle, "Observation")) == len(made.report.findings)
    for entry in entries:
        condition = entry["request"].get("ifNoneExist") or entry["request"]["url"].partition("?")[2]
        own = entry["resource"]["identifier"][0]["value"]
        assert condition == f"identifier=urn:ietf:rfc:3986%7C{own}"
    urls = [entry["fullUrl"] for entry in entries]
    assert len(set(urls)) == len(urls)
    later = entries_by_url(build_bundle(signed(made)))
    assert set(later) == set(urls), "the signed answer must become the next version of the same resources"


def entries_by_url(bundle: bytes) -> dict[str, Any]:
    return {entry["fullUrl"]: entry["resource"] for entry in json.loads(bundle)["entry"]}


def test_what_is_said_no_longer_is_marked_as_an_error_in_every_later_message() -> None:
    before = statement(trauma_report([frames_of(CT)]))
    fewer = replace(before, report=replace(before.report, findings=before.report.findings[:1]))
    told = build_bundle(before)
    for bundle in (build_bundle(fewer, told), build_bundle(fewer, build_bundle(fewer, told))):
        states = [found["status"] for found in resources(bundle, "Observation")]
        assert states.count("preliminary") == 1
        assert states.count("entered-in-error") == len(before.report.findings) - 1
        assert len(report_of(bundle)["result"]) == 1


def test_a_retraction_marks_all_that_was_told_and_repeats_no_answer() -> None:
    told = build_bundle(statement(trauma_report([frames_of(CT)])))
    taken_back = build_retraction(told, "Ota, Hanako", "wrong patient", datetime(2026, 3, 2, tzinfo=UTC))
    Bundle.model_validate_json(taken_back)
    marked = resources(taken_back, "Observation") + resources(taken_back, "DiagnosticReport")
    assert {found["status"] for found in marked} == {"entered-in-error"}
    assert report_of(taken_back)["conclusion"].startswith("Taken back by Ota, Hanako: wrong patient")
    assert set(entries_by_url(taken_back)) < set(entries_by_url(told))
    assert b'"device"' not in taken_back, "a reference to an entry that is not there fails the transaction"


def test_a_server_that_has_the_patients_links_them_itself() -> None:
    bundle = addressed(build_bundle(statement()), "urn:oid:1.2.3")
    Bundle.model_validate_json(bundle)
    assert report_of(bundle)["subject"]["reference"] == "Patient?identifier=urn:oid:1.2.3%7C1CT1"
    assert report_of(bundle)["subject"]["identifier"]["system"] == "urn:oid:1.2.3"
    nameless = statement()
    nameless = replace(nameless, subject=replace(nameless.subject, patient_id=""))
    assert "reference" not in report_of(addressed(build_bundle(nameless), "urn:oid:1.2.3"))["subject"]


@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_odd_header_still_gives_a_valid_message(name: str) -> None:
    source = AWKWARD[name]
    report = report_of(build_bundle(statement(vessel_report([frames_of(source)]), source)))
    assert report["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{source.StudyInstanceUID}"


def test_names_in_other_scripts_are_kept() -> None:
    source = CHARSET_FILES / "chrH31.dcm"
    report = report_of(build_bundle(statement(vessel_report([frames_of(source)]), source)))
    assert report["subject"]["display"] == "Yamada, Tarou"
    made: Statement = statement(vessel_report([frames_of(source)]), source)
    assert [group.text for group in made.subject.name] == ["Yamada, Tarou", "山田, 太郎", "やまだ, たろう"]


def test_what_is_no_message_of_ours_is_refused() -> None:
    for broken in (b"", b"{}", b'{"entry": [{}]}', b'{"entry": [1]}'):
        with pytest.raises(MessageError, match="earlier FHIR message"):
            build_retraction(broken, "A", "", datetime.now(UTC))


BASE = signed(statement(trauma_report([frames_of(CT)])))
TOLD = build_bundle(BASE)


@settings(max_examples=20, deadline=None)
@given(st.text(), st.text(), st.text(min_size=1))
def test_whatever_the_images_or_the_model_say_the_message_is_valid(words: str, identifier: str, name: str) -> None:
    subject = replace(
        BASE.subject,
        patient_id=identifier,
        issuer_of_patient_id=words,
        accession_number=identifier,
        study_description=words,
        name=name_groups(name),
    )
    finding = replace(BASE.report.findings[0], tracking_id=words, finding_type=codes.NAMED_IN_TEXT)
    report = replace(
        BASE.report, headline=words, findings=(finding,), narratives=(Narrative(codes.IMPRESSION, identifier),)
    )
    build_retraction(build_bundle(replace(BASE, report=report, subject=subject), TOLD), name, words, ANSWERED_AT)
