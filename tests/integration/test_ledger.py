"""The ledger answers for any study: what came, why it went where it went, what was said, held, sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from tests.integration.hospital import ADA, BLOCKED, Hospital, provenance
from worker import review
from worker.db import queries
from worker.db.records import Instance, Job, Study
from worker.reporting import write_results
from worker.schemas import STANDIN_NOTICE
from worker.settings import DicomDestination
from worker.states import InstanceState

PACS = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=4242)


@pytest.fixture(params=["sqlite", "postgresql"])
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/ledger.db" if sqlite else request.getfixturevalue("postgres_url")
    made = Hospital(tmp_path, url, [PACS])
    yield made
    made.db.close()


def test_a_study_shows_its_route_answer_decision_results_and_deliveries(hospital: Hospital) -> None:
    job_id = hospital.decided_run("A1")
    write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    with hospital.db.reading() as session:
        (study,) = json.loads(json.dumps([s.model_dump(mode="json") for s in queries.studies(session)]))
    assert (study["accession_number"], study["state"], study["instances"]) == ("A1", "delivering", 1)
    (series,) = study["series"]
    assert series["route"] == {
        "adapter": "dsa_patency",
        "adapters": ["dsa_patency"],
        "rule": "adapter's own",
        "reason": "it is one",
    }
    (job,) = study["jobs"]
    assert (job["id"], job["state"], job["findings"], job["confidence"]) == (job_id, "released", BLOCKED, 0.93)
    assert (job["calibrated"], job["decision"], job["decision_reason"]) == (False, "release", "0.93 reaches 0.80")
    assert job["provenance"]["base"] == "google/medgemma-1.5-4b-it"
    assert (job["is_standin"], job["notice"]) == (False, None)
    assert [r["kind"] for r in job["results"]] == ["sr", "sc"]
    for result in job["results"]:
        (delivery,) = result["deliveries"]
        assert (delivery["destination"], delivery["state"], delivery["confirmed"]) == ("pacs", "pending", False)


def test_one_study_shows_what_happened_in_order_and_what_people_decided(hospital: Hospital) -> None:
    job_id = hospital.decided_run("A1", decision="review", decision_reason="0.61 is below 0.95")
    write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    review.edit(hospital.db, job_id, {"patency": "patent"}, ADA, "contrast passes")
    write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    with hospital.db.reading() as session:
        (study,) = queries.study(session, "A1")
        (same,) = queries.study(session, study.study_instance_uid)
    assert same == study
    moves = [(entry.from_state, entry.to_state) for entry in study.history if entry.subject == "job"]
    assert moves == [("decided", "held"), ("held", "accepted"), ("accepted", "verified")]
    assert study.history[0].reason == "0.61 is below 0.95"
    (job,) = study.jobs
    assert job.answer_text == "the answer"
    assert [(r.action, r.comment, r.findings and r.findings["patency"]) for r in job.reviews] == [
        ("edit", "contrast passes", "patent")
    ]


def test_a_stand_ins_answer_carries_the_notice(hospital: Hospital) -> None:
    hospital.decided_run("A1", provenance=provenance(is_standin=True).to_json())
    with hospital.db.reading() as session:
        (job,) = queries.studies(session)[0].jobs
    assert (job.is_standin, job.notice) == (True, STANDIN_NOTICE)


def test_conflicts_and_missing_files_are_counted_apart(hospital: Hospital) -> None:
    hospital.decided_volume("C1", range(10), 1)
    with hospital.db.writing() as session:
        rows = session.query(Instance).order_by(Instance.id).all()
        rows[0].state, rows[1].state = InstanceState.CONFLICT, InstanceState.MISSING
    with hospital.db.reading() as session:
        (study,) = queries.studies(session)
    assert (study.instances, study.conflicts, study.missing) == (8, 1, 1)
    assert (study.series[0].instances, study.series[0].conflicts, study.series[0].missing) == (8, 1, 1)


def test_an_accession_number_may_have_several_studies_and_an_unknown_one_is_said(hospital: Hospital) -> None:
    hospital.decided_run("A1")
    with hospital.db.writing() as session:
        session.add(Study(study_instance_uid="1.2.3.4", accession_number="A1"))
    with hospital.db.reading() as session:
        assert len(queries.study(session, "A1")) == 2
        for unknown in ("A9", ""):
            with pytest.raises(queries.QueryError, match="no study has the UID or accession number"):
                queries.study(session, unknown)


def test_search_finds_parts_and_takes_wildcards_literally(hospital: Hospital) -> None:
    hospital.decided_run("A1")
    hospital.decided_run("B_2")
    with hospital.db.reading() as session:
        assert [s.accession_number for s in queries.studies(session)] == ["B_2", "A1"], "newest first"
        assert [s.accession_number for s in queries.studies(session, search="b_")] == ["B_2"]
        assert len(queries.studies(session, search="p-1")) == 2
        assert queries.studies(session, search="%") == []
        assert [s.accession_number for s in queries.studies(session, limit=1, offset=1)] == ["A1"]


def test_the_number_of_statements_does_not_grow_with_the_number_of_studies(hospital: Hospital) -> None:
    def statements() -> int:
        seen: list[str] = []

        def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            seen.append(statement)

        event.listen(hospital.db.engine, "before_cursor_execute", count)
        try:
            with hospital.db.reading() as session:
                queries.studies(session)
                queries.study(session, "A1")
                queries.review_queue(session)
        finally:
            event.remove(hospital.db.engine, "before_cursor_execute", count)
        return len(seen)

    for number in range(1, 3):
        job_id = hospital.decided_run("A1", number=number, decision="review")
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    few = statements()
    for number in range(3, 6):
        job_id = hospital.decided_run("A1", number=number)
        write_results(hospital.db, hospital.spool, hospital.settings, job_id)
        hospital.decided_run(f"B{number}", decision="review")
    assert statements() == few


def test_a_list_does_not_read_the_raw_answers(hospital: Hospital) -> None:
    hospital.decided_run("A1")
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(hospital.db.engine, "before_cursor_execute", note)
    with hospital.db.reading() as session:
        queries.studies(session)
    assert any(Job.__tablename__ in statement for statement in seen)
    assert not any("jobs_generation" in statement or "jobs.generation" in statement for statement in seen)


def test_what_a_failed_statement_was_given_is_in_no_message(hospital: Hospital) -> None:
    def twice() -> None:
        with hospital.db.writing() as session:
            session.add_all(Study(study_instance_uid="1.2.826.9", patient_name="Doe^Jane") for _ in range(2))

    with pytest.raises(IntegrityError) as failure:
        twice()
    # Such a message goes to the log, with its traceback. (PostgreSQL itself names the key that is there twice.)
    assert "Doe^Jane" not in str(failure.value)
