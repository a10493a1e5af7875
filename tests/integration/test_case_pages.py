"""The work list and the case pages, as browsers of several people use them; without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from dicom_node.report import Person
from models.question import Question
from tests.audit_schema import messages, told
from tests.integration.hospital import BLOCKED, INJURED, Hospital
from tests.people import PASSWORD, browser_of, log_in, quick_hashes
from tests.web_server import web_settings
from worker import review
from worker.db.calibrations import CalibrationRow
from worker.db.columns import utc_now
from worker.db.people import Account, OpenSession
from worker.db.records import Instance, Job, Review, Study
from worker.people import accounts
from worker.roles import Role
from worker.states import JobState, Priority
from worker.web.app import create_app

PEOPLE = {
    "ada": (Role.REVIEWER, "Lovelace^Ada"),
    "bob": (Role.REVIEWER, "Broca^Bob"),
    "vera": (Role.VIEWER, "Viewer^V"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, Hospital, dict[str, TestClient]]]:
    """The pages of a hospital with two reviewers and a viewer, each logged in with a browser."""
    folder = tmp_path_factory.mktemp("pages")
    settings = web_settings(folder, login="required")
    settings = settings.model_copy(update={"review": settings.review.model_copy(update={"organization": "City"})})
    app = create_app(settings)
    hospital = Hospital(folder, settings.resolved_database_url, [])
    with quick_hashes(), TestClient(app):
        with app.state.database.writing() as session:
            for login, (role, name) in PEOPLE.items():
                accounts.add(session, login, role, person_name=name, password=PASSWORD)
        browsers = {login: browser_of(app) for login in PEOPLE}
        for login, browser in browsers.items():
            log_in(browser, login)
        yield app, hospital, browsers
    hospital.db.close()


@pytest.fixture
def hospital(house: tuple[FastAPI, Hospital, dict[str, TestClient]]) -> Iterator[Hospital]:
    """The hospital; what waited before waits no more."""
    with house[1].db.writing() as session:
        session.execute(update(Job).values(state=JobState.SUPERSEDED))
    return house[1]


@pytest.fixture
def ada(house: tuple[FastAPI, Hospital, dict[str, TestClient]]) -> TestClient:
    return house[2]["ada"]


@pytest.fixture
def bob(house: tuple[FastAPI, Hospital, dict[str, TestClient]]) -> TestClient:
    return house[2]["bob"]


@pytest.fixture
def vera(house: tuple[FastAPI, Hospital, dict[str, TestClient]]) -> TestClient:
    return house[2]["vera"]


numbers = iter(range(1, 1000))


def held(hospital: Hospital, **columns: object) -> str:
    return hospital.decided_run(f"R{next(numbers)}", state=JobState.HELD, decision="review", **columns)


def held_volume(hospital: Hospital) -> str:
    return hospital.decided_volume(f"V{next(numbers)}", range(3), 1, state=JobState.HELD, decision="review")


def section(page: str, heading: str) -> str:
    """What stands below a heading, in small letters."""
    return page.split(f"<h2>{heading}</h2>")[1].split("</section>")[0].lower()


def form(page: str, action: str) -> dict[str, list[str]]:
    """What a browser would send of the form with this action."""
    found = re.search(rf'<form[^>]*action="{re.escape(action)}"[^>]*>(.*?)</form>', page, re.DOTALL)
    assert found, f"no form {action} on the page"
    body = re.sub(r"<template>.*?</template>", "", found[1], flags=re.DOTALL)
    fields: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*>", body):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and ('type="checkbox"' not in tag or " checked" in tag):
            fields.setdefault(name[1], []).append(unescape(value[1]) if value else "")
    for name, text in re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', body, re.DOTALL):
        fields.setdefault(name, []).append(unescape(text))
    for name, options in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', body, re.DOTALL):
        chosen = re.search(r"<option(?: value=\"([^\"]*)\")? selected>([^<]*)", options) or re.search(
            r"<option(?: value=\"([^\"]*)\")?>([^<]*)", options
        )
        value = "" if chosen is None else chosen[2] if chosen[1] is None else chosen[1]
        fields.setdefault(name, []).append(value)
    return fields


def send(browser: TestClient, page: str, action: str, **changed: object) -> httpx.Response:
    """Fill in and send a form of a page."""
    answer: httpx.Response = browser.post(action, data={**form(page, action), **changed})
    return answer


def test_accepting_leads_to_the_next_case_and_can_be_taken_back_there(hospital: Hospital, ada: TestClient) -> None:
    first, second = held(hospital, priority=9), held(hospital)
    seen = review.seen_digest(hospital.job(first))
    page = ada.get(f"/cases/{first}").text
    for words in ("Vessel blocked (occluded), probability 0.93 (uncalibrated)", "Verified by Ada Lovelace, City",
                  "never compared with reviewed cases", "Sign as Ada Lovelace", "0.93 reaches 0.80"):  # fmt: skip
        assert words in page
    answer = send(ada, page, f"/cases/{first}/accept", comment="clear")
    assert answer.url.path == f"/cases/{second}"
    assert "Accepted and signed" in answer.text
    job = hospital.job(first)
    assert job.state is JobState.ACCEPTED
    assert 20 < (job.not_before - utc_now()).total_seconds() <= 30
    with hospital.db.reading() as session:
        (decided,) = session.scalars(select(Review).where(Review.job_id == first))
    assert (decided.reviewer_name, decided.reviewer_organization, decided.comment) == ("Lovelace^Ada", "City", "clear")
    assert decided.seen == seen
    taken_back = send(ada, answer.text, f"/cases/{first}/undo")
    assert taken_back.url.path == f"/cases/{first}"
    assert "taken back" in taken_back.text
    assert hospital.job(first).state is JobState.HELD


def test_after_the_last_case_comes_the_empty_list(hospital: Hospital, ada: TestClient) -> None:
    only = held(hospital)
    answer = send(ada, ada.get(f"/cases/{only}").text, f"/cases/{only}/reject", reason="motion")
    assert answer.url.path == "/"
    assert "Nothing waits for a person" in answer.text
    assert "Rejected" in answer.text
    assert "Take it back" in answer.text
    assert hospital.job(only).state is JobState.REJECTED


def test_findings_are_edited_in_the_adapters_own_form_and_shown_before_they_are_signed(
    hospital: Hospital, ada: TestClient
) -> None:
    job_id = held_volume(hospital)
    action = f"/cases/{job_id}/edit"
    page = ada.get(f"/cases/{job_id}").text
    assert form(page, action)["f.organs_involved"] == ["liver"]
    wrong = send(ada, page, action, **{"f.bleeding_description": "", "f.severity_estimate": "severe"})
    assert wrong.status_code == 422
    assert "Field required" in wrong.text
    assert form(wrong.text, action)["f.severity_estimate"] == ["severe"], "what was typed stays"
    changes = {"f.severity_estimate": "severe", "f.organs_involved": ["liver", "spleen"],
               "f.differential_diagnosis.1": "contusion"}  # fmt: skip
    shown = send(ada, page, action, step="look", **changes)
    assert "What you sign" in shown.text
    assert "edited by a person" in shown.text
    report = section(shown.text, "Your report")
    assert [word in report for word in ("severe", "spleen", "contusion", "mild")] == [True, True, True, False]
    assert hospital.job(job_id).state is JobState.HELD
    back = send(ada, shown.text, action, step="change")
    assert form(back.text, action)["f.organs_involved"] == ["liver", "spleen"]
    signed = send(ada, shown.text, action, step="sign")
    assert "Signed with your changes" in signed.text
    decided_page = section(ada.get(f"/cases/{job_id}").text, "What is signed")
    assert ("severe" in decided_page, "mild" in decided_page) == (True, False)
    with hospital.db.reading() as session:
        (decided,) = session.scalars(select(Review).where(Review.job_id == job_id))
    assert decided.findings == {
        **INJURED,
        "severity_estimate": "severe",
        "organs_involved": ["liver", "spleen"],
        "differential_diagnosis": ["laceration", "contusion"],
    }


def test_a_case_that_another_person_has_open_cannot_be_decided(
    hospital: Hospital, ada: TestClient, bob: TestClient
) -> None:
    job_id = held(hospital)
    page, other = ada.get(f"/cases/{job_id}").text, bob.get(f"/cases/{job_id}").text
    token = form(page, f"/cases/{job_id}/release")
    assert "open with you" in ada.post(f"/cases/{job_id}/claim", data=token).text
    taken = bob.post(f"/cases/{job_id}/claim", data=form(other, "/logout")).text
    assert "open with Ada Lovelace" in taken
    assert "data-taken" in taken, "what the page's script closes its forms by"
    assert "Ada Lovelace" in bob.get("/").text
    refused = send(bob, other, f"/cases/{job_id}/accept")
    assert refused.status_code == 409
    assert "Ada Lovelace has this case open since <time" in refused.text
    assert hospital.job(job_id).state is JobState.HELD
    send(ada, page, f"/cases/{job_id}/release")
    assert send(bob, other, f"/cases/{job_id}/accept").status_code == 200
    late = send(ada, page, f"/cases/{job_id}/accept")
    assert late.status_code == 409
    assert "it was accepted by Bob Broca at <time" in late.text


def test_a_page_that_only_renews_its_claim_keeps_no_session_open(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    token = form(ada.get(f"/cases/{job_id}").text, "/logout")
    long_ago = utc_now() - timedelta(seconds=600)
    with hospital.db.writing() as session:
        session.execute(update(OpenSession).values(seen_at=long_ago))
    ada.post(f"/cases/{job_id}/claim", data=token, headers={"X-Background": "1"})
    with hospital.db.reading() as session:
        assert set(session.scalars(select(OpenSession.seen_at))) == {long_ago}


def test_what_changed_since_it_was_shown_is_not_signed(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    page = ada.get(f"/cases/{job_id}").text
    with hospital.db.writing() as session:
        session.get_one(Job, job_id).findings = {"patency": "patent", "probabilities": {}}
    refused = send(ada, page, f"/cases/{job_id}/accept")
    assert refused.status_code == 409
    assert "has changed since it was shown" in refused.text
    assert "Vessel patent" in refused.text, "the page shows it as it is now"


def test_a_second_reader_is_another_person(hospital: Hospital, ada: TestClient, bob: TestClient) -> None:
    job_id = held(hospital)
    page = ada.get(f"/cases/{job_id}").text
    send(ada, page, f"/cases/{job_id}/second-reader", opinion="is that a stenosis?")
    own = ada.get(f"/cases/{job_id}").text
    assert "another person decides" in own
    assert f"/cases/{job_id}/claim" not in own, "who only looks keeps nobody from deciding"
    assert "second reader" in bob.get("/").text
    seen_by_bob = bob.get(f"/cases/{job_id}").text
    first = seen_by_bob.index("The first reader</b>, Ada Lovelace")
    assert first < seen_by_bob.index("is that a stenosis?") < seen_by_bob.index(f"/cases/{job_id}/accept")
    assert seen_by_bob.count("is that a stenosis?") == 2, "there, and in the history"
    assert ada.post(f"/cases/{job_id}/accept", data=form(page, f"/cases/{job_id}/accept")).status_code == 409
    assert send(bob, seen_by_bob, f"/cases/{job_id}/accept").status_code == 200


def test_one_person_with_two_accounts_is_no_second_reader(
    house: tuple[FastAPI, Hospital, dict[str, TestClient]], hospital: Hospital, ada: TestClient
) -> None:
    database = house[0].state.database
    with quick_hashes(), database.writing() as session:
        again = accounts.add(session, "ada.2", Role.REVIEWER, person_name="lovelace ^ADA", password=PASSWORD)
        number = again.id
    with quick_hashes():
        other = browser_of(house[0])
        log_in(other, "ada.2")
    job_id = held(hospital)
    page = ada.get(f"/cases/{job_id}").text
    send(ada, page, f"/cases/{job_id}/second-reader", opinion="is that a stenosis?")
    seen = other.get(f"/cases/{job_id}").text
    assert "Somebody of your name asked for a second reader: another person decides" in seen
    refused = other.post(
        f"/cases/{job_id}/accept",
        data={
            **form(page, f"/cases/{job_id}/accept"),
            "csrf_token": form(seen, "/logout")["csrf_token"],
            "seen": review.seen_digest(hospital.job(job_id)),
        },
    )
    assert refused.status_code == 409
    assert "an administrator gives the one who decides a name of their own" in refused.text
    assert hospital.job(job_id).state is JobState.HELD
    with database.writing() as session:  # two people after all
        accounts.name(session.get_one(Account, number), "Lovelace^Ada^Byron", "City")
    assert send(other, other.get(f"/cases/{job_id}").text, f"/cases/{job_id}/accept").status_code == 200


def test_a_wrong_adapter_is_replaced(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    page = ada.get(f"/cases/{job_id}").text
    answer = send(ada, page, f"/cases/{job_id}/reroute", target="clinical_caption|caption", reason="no vessel")
    assert "Re-routed" in answer.text
    with hospital.db.reading() as session:
        new = session.scalars(select(Job).where(Job.adapter == "clinical_caption")).one()
    assert (new.state, new.question_key) == (JobState.QUEUED, "caption")
    assert new.question == Question("caption").to_json(), "that is what it will be asked"
    assert hospital.job(job_id).state is JobState.REJECTED


def test_who_may_only_look_is_told_so_and_can_decide_nothing(hospital: Hospital, vera: TestClient) -> None:
    job_id = held(hospital)
    page = vera.get(f"/cases/{job_id}").text
    assert "deciding is for the role reviewer" in page
    assert f"/cases/{job_id}/accept" not in page
    for action in ("accept", "edit", "reject", "retry", "reroute", "second-reader", "undo", "claim", "comment"):
        assert vera.post(f"/cases/{job_id}/{action}", data=form(page, "/logout")).status_code == 403
    assert hospital.job(job_id).state is JobState.HELD


def test_a_form_of_no_page_of_ours_is_refused(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    for token in ("", "guessed"):
        answer = ada.post(f"/cases/{job_id}/reject", data={"reason": "x", "seen": "", "csrf_token": token})
        assert answer.status_code == 403
    assert hospital.job(job_id).state is JobState.HELD


def test_a_line_of_the_list_says_how_urgent_a_case_is_and_why_it_waits(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(
        hospital,
        priority=Priority.STAT.rank,
        waiting_since=utc_now() - timedelta(hours=3, minutes=20, seconds=30),
        decision_reason="below the limit of 0.95",
        confidence={"probability": 0.93, "calibrated": True, "method": "label likelihood"},
    )
    line = ada.get("/").text.split(f'<tr id="case-{job_id}"')[1].split("</tr>")[0]
    cells = [" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in re.findall(r"<td>(.*?)</td>", line, re.DOTALL)]
    waits, study, *rest = cells
    assert (waits, study.split()[1:]) == ("3 h 20 min stat", ["XA", "patient", "P-1"])
    sure = "0.93 label likelihood"
    assert rest == ["Vessel patency on angiography", "patency: blocked", sure, "below the limit of 0.95"]


def test_filters_are_kept_and_no_address_holds_what_was_searched_for(
    hospital: Hospital, ada: TestClient, bob: TestClient
) -> None:
    run, volume = held(hospital), held_volume(hospital)
    first = ada.get("/").text
    assert run in first
    assert volume in first
    found = send(ada, first, "/worklist", search="V", adapter="abdominal_trauma")
    assert found.url.path == "/"
    assert set(found.url.params) == {"view"}
    assert volume in found.text
    assert run not in found.text
    lines = ada.get("/worklist/lines", params=dict(found.url.params)).text
    assert volume in lines
    assert "<html" not in lines
    saved = send(ada, found.text, "/worklist/views", name="Trauma in the night")
    view = saved.url.params["view"]
    assert "Trauma in the night" in ada.get("/").text
    assert run in bob.get("/", params={"view": view}).text, "another person's view does not exist"
    assert "None of the 2 cases" in send(ada, first, "/worklist", search="no such").text
    send(ada, saved.text, f"/worklist/views/{view}/forget")
    assert "Trauma in the night" not in ada.get("/").text


def test_other_studies_of_the_same_patient_are_shown_with_their_answers(hospital: Hospital, ada: TestClient) -> None:
    older, newer = held(hospital), held(hospital)
    stranger = held(hospital)
    with hospital.db.writing() as session:
        studies = {job_id: session.get_one(Job, job_id).study for job_id in (older, newer, stranger)}
        for number, (job_id, study) in enumerate(studies.items()):
            study.patient_id, study.patient_birth_date = "P-77", "19600101"
            study.study_description = f"angiography {number}"
            if job_id == stranger:
                study.patient_birth_date = "19991231"
    page = ada.get(f"/cases/{newer}").text
    assert "angiography 0" in page
    assert f"/cases/{older}" in page
    assert "angiography 2" not in page, "the same ID with another birth date is another person's"


def test_the_patient_is_named_where_the_images_are_and_in_no_list_title_or_address(
    hospital: Hospital, ada: TestClient
) -> None:
    job_id = held(hospital)
    with hospital.db.writing() as session:
        session.execute(update(Study).values(patient_name="Yamada^Tarou=山田^太郎"))
    for address in ("/", "/studies"):
        assert "Yamada" not in ada.get(address).text
    page = ada.get(f"/cases/{job_id}").text
    assert "<b>Tarou Yamada / 山田 太郎</b>" in page
    assert page.count("Yamada") == 1


def test_a_case_that_is_not_there_is_not_found(ada: TestClient) -> None:
    answer = ada.get("/cases/9")
    assert answer.status_code == 404
    assert "There is no such case" in answer.text


def test_an_answer_without_findings_can_be_rejected_or_tried_again(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital, findings=None, model_input=None, confidence=None, decision_reason="failed 3 times")
    page = ada.get(f"/cases/{job_id}").text
    assert "There is no usable answer" in page
    assert f"/cases/{job_id}/accept" not in page
    assert "the model never saw the images" in page
    send(ada, page, f"/cases/{job_id}/retry")
    assert hospital.job(job_id).state is JobState.QUEUED


def test_the_same_person_at_the_command_line_and_on_the_pages_is_one(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    review.ask_second_reader(hospital.db, job_id, Person("Lovelace^Ada", "City"), "unsure")
    assert "another person decides" in ada.get(f"/cases/{job_id}").text


def test_a_probability_is_written_in_one_way(hospital: Hospital, ada: TestClient) -> None:
    probabilities = {"patent": 0.0111, "blocked": 0.9889}
    job_id = held(
        hospital,
        findings={**BLOCKED, "probabilities": probabilities},
        confidence={"probability": 0.9889, "calibrated": False, "method": "label likelihood"},
    )
    page = ada.get(f"/cases/{job_id}").text
    assert "Probability: 0.98<" in page
    for shown in (page, ada.get(f"/studies/{hospital.job(job_id).study_id}").text):
        assert "<dd>0.98</dd>" in shown
        assert not re.search(r">[^<]*0\.988?9", shown)


def test_every_look_at_a_case_and_every_word_about_it_is_told(
    house: tuple[FastAPI, Hospital, dict[str, TestClient]], hospital: Hospital, bob: TestClient
) -> None:
    folder = house[0].state.audit.folder

    def study_of(job_id: str) -> tuple[str, str]:
        with hospital.db.reading() as session:
            study = session.get_one(Job, job_id).study
            return study.study_instance_uid, study.accession_number

    def said_of(job_id: str) -> list[str]:
        return [line.split(" by ")[0] for line in map(told, messages(folder)) if f" {study_of(job_id)[0]}," in line]

    # A decision that is refused shows the whole case.
    shown = held(hospital)
    token = form(bob.get("/account").text, "/logout")["csrf_token"][0]
    answer = bob.post(f"/cases/{shown}/undo", data={"csrf_token": token})
    assert answer.status_code == 409
    assert "Vessel blocked" in answer.text
    assert said_of(shown) == ["DICOM Instances Accessed"]
    # A case may be named by its accession number, too.
    remarked = held(hospital)
    bob.post(f"/cases/{study_of(remarked)[1]}/comment", data={"csrf_token": token, "text": "seen"})
    with hospital.db.reading() as session:
        assert len(session.get_one(Job, remarked).reviews) == 1
    assert len(said_of(remarked)) == 1


def test_a_study_shows_what_was_taken_back_as_that(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    send(ada, ada.get(f"/cases/{job_id}").text, f"/cases/{job_id}/accept", comment="too fast")
    study = f"/studies/{hospital.job(job_id).study_id}"
    assert re.search(r"Accepted by Ada Lovelace, City, <time[^>]*>[^<]*</time>: too fast", ada.get(study).text)
    review.undo(hospital.db, job_id, review.Reviewer("Lovelace^Ada", "City"))
    assert re.search(r"Accepted by Ada Lovelace, City, <time.*</time>, taken back <time.*</time>: too fast",
                     ada.get(study).text)  # fmt: skip


def test_a_case_and_its_last_look_say_whose_images_they_are(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    with hospital.db.writing() as session:
        job = session.get_one(Job, job_id)
        job.study.patient_birth_date, accession = "19600131", job.study.accession_number
        image = session.scalars(select(Instance).where(Instance.series_id == job.series_id)).one()
        image.header = {**image.header, "patient_sex": "F", "patient_age_years": 66.4}
    page = ada.get(f"/cases/{job_id}").text
    sign = send(ada, page, f"/cases/{job_id}/edit", step="look").text
    for shown in (page, sign):
        assert re.search(r"patient \S+ · born 1960-01-31 · 66 years · female", shown)
        assert accession in shown
        assert f'hx-post="/cases/{job_id}/claim"' in shown, "the case stays this person's while they look"


def test_what_a_person_changed_is_marked_before_they_sign(hospital: Hospital, ada: TestClient) -> None:
    job_id = held_volume(hospital)
    page = ada.get(f"/cases/{job_id}").text
    sign = send(ada, page, f"/cases/{job_id}/edit", step="look", **{"f.severity_estimate": "severe"}).text
    changed = re.findall(r'<tr class="changed"><th scope="row">([^<]*)', sign)
    assert [name.strip() for name in changed] == ["severity estimate"]
    assert re.search(r"<td>severe</td><td class=\"soft\">mild</td>", sign)


def test_findings_that_contradict_each_other_are_said_to_do_so_before_they_are_signed(
    hospital: Hospital, ada: TestClient
) -> None:
    job_id = held_volume(hospital)
    page = ada.get(f"/cases/{job_id}").text
    assert "contradict each other" not in page
    sign = send(ada, page, f"/cases/{job_id}/edit", step="look", **{"f.severity_estimate": "none"}).text
    assert "These findings contradict each other" in sign
    signed = send(ada, sign, f"/cases/{job_id}/edit", step="sign")  # it is theirs to say
    assert "Signed with your changes" in signed.text


def test_an_edit_that_changes_nothing_is_an_acceptance(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    action = f"/cases/{job_id}/edit"
    sign = send(ada, ada.get(f"/cases/{job_id}").text, action, step="look").text
    assert "Nothing: you accept it as it is" in sign
    assert "edited by a" not in sign
    assert "Accepted and signed" in send(ada, sign, action, step="sign").text
    with hospital.db.reading() as session:
        (decided,) = session.scalars(select(Review).where(Review.job_id == job_id))
    assert (decided.action, decided.findings) == ("accept", BLOCKED)


def test_adapters_that_are_not_for_the_images_come_last_and_say_so(hospital: Hospital, ada: TestClient) -> None:
    page = ada.get(f"/cases/{held(hospital)}").text
    (choices,) = re.findall(r'<select id="target".*?</select>', page, re.DOTALL)
    (last,) = re.findall(r"<option[^>]*>([^<]*)</option></select>", choices)
    assert last.endswith("(not for these images)")
    assert 'title="SOP class X-Ray Angiographic Image Storage is not accepted">Abdominal trauma on CT' in page


def test_a_second_reader_is_asked_with_findings_and_words_of_the_same_page(hospital: Hospital, ada: TestClient) -> None:
    job_id = held_volume(hospital)
    action = f"/cases/{job_id}/edit"
    sign = send(ada, ada.get(f"/cases/{job_id}").text, action, step="look", **{"f.severity_estimate": "severe"})
    send(ada, sign.text, action, step="second reader", comment="the spleen?")
    with hospital.db.reading() as session:
        (opinion,) = session.scalars(select(Review).where(Review.job_id == job_id))
    assert (opinion.action, opinion.comment) == ("opinion", "the spleen?")
    assert opinion.findings == {**INJURED, "severity_estimate": "severe"}


def test_next_goes_on_in_the_list_that_a_person_has_filtered(hospital: Hospital, ada: TestClient) -> None:
    volumes = [held_volume(hospital), held_volume(hospital)]
    run = held(hospital, priority=900)
    listed = send(ada, ada.get("/").text, "/worklist", adapter="abdominal_trauma")
    view = listed.url.params["view"]
    assert f'href="/cases/{volumes[0]}?view={view}"' in listed.text
    first = ada.get("/cases/next", params={"view": view})
    assert first.url.path == f"/cases/{volumes[0]}"
    second = send(ada, first.text, f"/cases/{volumes[0]}/accept")
    assert second.url.path == f"/cases/{volumes[1]}"
    after_the_last = send(ada, second.text, f"/cases/{volumes[1]}/reject", reason="motion")
    assert (after_the_last.url.path, after_the_last.url.params["view"]) == ("/", view)
    assert "None of the 1 cases that wait meets these filters" in after_the_last.text
    assert ada.get("/cases/next").url.path == f"/cases/{run}"


def test_a_decided_case_says_so_and_can_be_taken_back_where_it_is_shown(
    hospital: Hospital, ada: TestClient, bob: TestClient
) -> None:
    job_id = held(hospital)
    answer = send(ada, ada.get(f"/cases/{job_id}").text, f"/cases/{job_id}/reject", reason="motion")
    assert "nothing of it is sent" in answer.text
    assert "written and sent" not in answer.text
    assert "Rejected</b> by Ada Lovelace" in bob.get(f"/cases/{job_id}").text
    assert "nothing is to be decided here any more" in bob.get(f"/cases/{job_id}").text
    assert "Take it back" not in bob.get(f"/cases/{job_id}").text
    again = ada.get(f"/cases/{job_id}").text
    assert "Take it back" in again
    send(ada, again, f"/cases/{job_id}/undo")
    assert hospital.job(job_id).state is JobState.HELD


def test_a_rerouting_is_taken_back_in_time(hospital: Hospital, ada: TestClient) -> None:
    job_id = held(hospital)
    page = ada.get(f"/cases/{job_id}").text
    answer = send(ada, page, f"/cases/{job_id}/reroute", target="clinical_caption|caption")
    assert "The other adapter is asked in" in answer.text
    send(ada, answer.text, f"/cases/{job_id}/undo")
    assert hospital.job(job_id).state is JobState.HELD


def test_what_is_signed_is_corrected_from_its_own_page(hospital: Hospital, ada: TestClient) -> None:
    job_id = held_volume(hospital)
    action = f"/cases/{job_id}/edit"
    sign = send(ada, ada.get(f"/cases/{job_id}").text, action, step="look", **{"f.severity_estimate": "severe"})
    send(ada, sign.text, action, step="sign")
    with hospital.db.writing() as session:
        job = session.get_one(Job, job_id)
        job.state, job.not_before = JobState.VERIFIED, utc_now()
    page = ada.get(f"/cases/{job_id}").text
    assert "Correct what is signed" in page
    assert f"/cases/{job_id}/accept" not in page
    assert form(page, action)["f.severity_estimate"] == ["severe"], "one begins with what is signed"
    sign = send(ada, page, action, step="look", **{"f.severity_estimate": "moderate"})
    assert re.search(r"<td>moderate</td><td class=\"soft\">severe</td>", sign.text)
    same = send(ada, page, action, step="look").text
    assert "it stands signed like this" in same
    assert 'value="sign"' not in same
    assert "Signed with your changes" in send(ada, sign.text, action, step="sign").text


def test_how_many_images_were_on_the_screen_is_kept_and_a_form_of_no_answer_decides_nothing(
    hospital: Hospital, ada: TestClient
) -> None:
    job_id = held(hospital)
    page = ada.get(f"/cases/{job_id}").text
    refused = send(ada, page, f"/cases/{job_id}/accept", seen="", looked="x")
    assert refused.status_code == 409
    assert "changed since it was shown" in refused.text
    send(ada, page, f"/cases/{job_id}/accept", looked="3")
    with hospital.db.reading() as session:
        (decided,) = session.scalars(select(Review).where(Review.job_id == job_id))
    assert decided.shown is not None
    assert (decided.shown["frames_shown"], decided.shown["frames"]) == (3, 4)
    assert "3 of 4 images on screen" in ada.get(f"/cases/{job_id}").text


def test_what_was_asked_and_not_found_is_said(hospital: Hospital, ada: TestClient) -> None:
    question = Question("multi_label", labels=("hemorrhage", "exudate"))
    job_id = held(hospital, adapter="flare", question=question.to_json(), findings={"labels": ["exudate"]})
    page = ada.get(f"/cases/{job_id}").text
    assert "multi label of hemorrhage, exudate" in page
    assert "Not named:</b> hemorrhage" in page


def test_a_probability_comes_with_what_it_was_calibrated_on(hospital: Hospital, ada: TestClient) -> None:
    fitted: dict[str, Any] = {"adapter": "dsa_patency", "method": "temperature", "parameters": {}, "dtype": "float32"}
    digests = {"confidence_method": "label likelihood", "base_digest": "b", "adapter_digest": "a"}
    with hospital.db.writing() as session:
        for version, cases in ((7, 41), (8, 97)):
            row = CalibrationRow(version=version, cases=cases, right_cases=cases - 3, **fitted, **digests)
            row.fitted_at = utc_now() + timedelta(days=version - 7.5)
            session.add(row)
    confidence = {"probability": 0.91, "calibrated": True, "method": "label likelihood, calibrated"}
    page = ada.get(f"/cases/{held(hospital, confidence=confidence, answered_at=utc_now())}").text
    assert "0.91<" in page
    assert "uncalibrated" not in page
    assert "version 7, fitted on 41 reviewed cases, 38 of them right" in page, "the one that was there, not a later one"
    page = ada.get(f"/cases/{held(hospital, confidence={**confidence, 'calibrated': False})}").text
    assert "0.91 (uncalibrated)" in page
    assert "never compared with reviewed cases" in page


def test_a_likelihood_of_words_is_not_shown_as_the_probability_of_a_finding(
    hospital: Hospital, ada: TestClient
) -> None:
    confidence = {"probability": 0.97, "calibrated": False, "method": "length-normalised likelihood of the text"}
    page = ada.get(f"/cases/{held(hospital, confidence=confidence)}").text
    assert "Likelihood of the words 0.97 (uncalibrated)" in page
    assert "It says nothing of whether they are right" in page
    assert "<meter" not in page
    assert "words 0.97 (uncalibrated)" in ada.get("/").text


def test_the_answer_comes_before_how_the_model_came_to_it(hospital: Hospital, ada: TestClient) -> None:
    held(hospital, findings={"thinking_process": "The frame shows a tip.", "final_answer": "Go on."})
    assert "final answer: Go on.; thinking process: The frame shows a tip." in ada.get("/").text


def test_objects_are_told_one_by_one_with_their_names_first(hospital: Hospital, ada: TestClient) -> None:
    objects = [{"box_2d": [1, 2, 30, 40], "label": "mass"}, {"box_2d": [5, 6, 70, 80], "label": "nodule"}]
    question = Question("detection", labels=("nodule", "mass"))
    job_id = held(hospital, adapter="flare", question=question.to_json(), findings={"objects": objects})
    assert "mass (box 2d 1, 2, 30, 40); nodule (box 2d 5, 6, 70, 80)" in ada.get("/").text
    page = ada.get(f"/cases/{job_id}").text
    assert "Box: top, left, bottom, right, in thousandths of the picture" in page
    assert "data-draw" in page


def test_an_answer_that_does_not_stand_leads_to_the_one_that_does(hospital: Hospital, ada: TestClient) -> None:
    old = held_volume(hospital)
    with hospital.db.writing() as session:
        job = session.get_one(Job, old)
        newer = Job(
            study_id=job.study_id,
            series_id=job.series_id,
            adapter=job.adapter,
            unit_uid=job.unit_uid,
            revision=2,
            state=JobState.QUEUED,
        )
        session.add(newer)
        job.state = JobState.SUPERSEDED
        session.flush()
        new = newer.id
    assert f'<a href="/cases/{new}">the newer one</a> stands in its place' in ada.get(f"/cases/{old}").text
    page = ada.get(f"/cases/{new}").text
    assert "there is nothing to decide yet" in page
    assert "There is no answer yet" in page
    assert "no usable answer" not in page
