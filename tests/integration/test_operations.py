"""What operations are told: counts, reasons, figures and replays, as rows and processes leave them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from dicom_node.spool import Spool
from models.adapter import adapters
from tests import services
from tests.ledger_rows import HELD_JOB, RELEASED_JOB, fill_ledger
from tests.received import Modality
from worker import claims
from worker.assembly import assemble
from worker.audit.trail import folder_of
from worker.audit_settings import SyslogSettings
from worker.db.arrivals import commit_arrivals
from worker.db.columns import utc_now
from worker.db.owed_messages import OwedMessage
from worker.db.process_reports import Reporter, report, reports
from worker.db.records import Delivery, Event, Job, Result, Review, Series, Study
from worker.db.schema import upgrade
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.operations import destinations, failures, rules
from worker.operations.adapters import AdapterStates
from worker.operations.pipeline import pipeline
from worker.operations.replay import ReplayStopped, replay
from worker.operations.shapes import WhyNot
from worker.operations.why_not import why_not
from worker.settings import DiskSettings, Settings, load_settings
from worker.states import DeliveryState, JobState, SeriesState

ADAPTERS = adapters()
PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
RULES = """
- name: no runs from this room
  when: {modality: XA, station_name: "*"}
  adapter: null
"""


class Ledger:
    """A database with settings, and how its rows are changed."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.settings: Settings = load_settings(
            None,
            {
                "data_dir": str(folder / "data"),
                "database_url": database_url,
                "engine": {"kind": "standin"},
                "destinations": [PACS],
                "dicom": {"stable_after_s": 30},
            },
        )
        fill_ledger(self.settings)
        self.db = Database(database_url)
        self.modality = Modality(Spool(folder / "spool"))

    def change(self, table: Any, row_id: object, **columns: object) -> None:
        with self.db.writing() as session:
            session.execute(update(table).where(table.id == row_id).values(**columns))

    def why(self, study_id: int) -> WhyNot:
        with self.db.reading() as session:
            found = why_not(session, self.settings, study_id)
        assert found is not None
        return found

    def words(self, study_id: int) -> str:
        return "\n".join(f"{reason.text} {reason.remedy}" for reason in self.why(study_id).reasons)

    def receive_run(self) -> int:
        (series_id,) = commit_arrivals(self.db, [self.modality.xa_run()], timedelta(seconds=30))
        assert assemble(self.db, self.settings, {"dsa_patency": ADAPTERS["dsa_patency"]}, series_id)
        return series_id


@pytest.fixture
def ledger(database: Database, tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(database.url, tmp_path)
    yield made
    made.db.close()


def test_the_pipeline_counts_what_is_where_and_says_what_is_wrong(ledger: Ledger) -> None:
    ledger.change(Study, 1, first_received_at=utc_now() - timedelta(minutes=5))
    ledger.change(Series, 3, state=SeriesState.RECEIVING)
    with ledger.db.writing() as session:
        move_job(session, session.get_one(Job, HELD_JOB), JobState.QUEUED, "asked again")
    with ledger.db.reading() as session:
        seen = pipeline(session, ledger.settings)
    stages = {stage.name: stage for stage in seen.stages}
    counts = {name: stage.count for name, stage in stages.items()}
    assert counts == {
        "received": 1, "receiving": 1, "stable": 0, "routed": 1, "running": 0, "held": 0, "delivering": 0, "failed": 1,
    }  # fmt: skip
    assert stages["received"].last_hour == 1
    assert stages["stable"].last_hour == 3, "by the events of the last hour"
    assert stages["routed"].oldest_since is not None
    assert stages["held"].oldest_since is None
    assert seen.disk is not None
    assert 0 < seen.disk.free <= seen.disk.total
    assert any("no inference process runs" in trouble for trouble in seen.troubles)
    assert any("no process has reported" in trouble for trouble in seen.troubles)
    assert seen.broker.reachable is None


def test_what_needs_a_person_is_said_on_the_pipeline(ledger: Ledger) -> None:
    died = {"name": "inference", "pid": 7, "alive": True, "up_s": 9, "restarts": 4, "exit_code": -9}
    report(ledger.db, "supervisor", {"processes": [died]})

    def troubles() -> str:
        with ledger.db.reading() as session:
            return "\n".join(pipeline(session, ledger.settings).troubles)

    assert "inference on" in troubles()
    assert "was started 4 times again, and ended with -9 last" in troubles()
    report(ledger.db, "supervisor", {"processes": [died | {"up_s": 900}]})
    assert troubles().count("\n") == 0, "a process that has run for a while since is well; the dead letter is left"
    # A destination that takes nothing, and one that was not tried yet.
    later = utc_now() + timedelta(minutes=3)
    waiting = {"state": DeliveryState.PENDING, "last_error": None}
    ledger.change(Delivery, 1, **waiting)
    assert troubles() == ""
    ledger.change(Delivery, 1, not_before=later, last_error="transient: PACS: [Errno 111] Connection refused", tries=4)
    assert troubles() == "1 result waits for pacs: PACS: Connection refused; see Destinations"
    ledger.change(Delivery, 1, state=DeliveryState.CONFIRMED)
    # A model that hangs: the process is there, and nothing is answered.
    ago = utc_now() - timedelta(minutes=10)
    ledger.change(Job, HELD_JOB, state=JobState.QUEUED, not_before=ago)
    assert "1 job waits for a model for more than a minute, and none is answered" in troubles()
    ledger.change(Job, HELD_JOB, not_before=later)
    assert troubles() == "", "it is to be tried again later"
    ledger.change(Job, HELD_JOB, not_before=ago)
    ledger.change(Job, RELEASED_JOB, state=JobState.RUNNING)
    assert troubles() == "", "one is being answered"
    ledger.change(Job, RELEASED_JOB, state=JobState.RELEASED)
    ledger.change(Job, HELD_JOB, state=JobState.GENERATED, answered_at=ago)
    assert (
        "1 answer waits to be scored or written for more than a minute: see the log of the process steps" in troubles()
    )
    ledger.change(Job, HELD_JOB, state=JobState.HELD)


def test_little_disk_is_what_the_settings_call_so(ledger: Ledger) -> None:
    everything = {"warn_below_gib": 1e6, "keep_free_gib": 1e6}
    short = ledger.settings.model_copy(update={"disk": DiskSettings.model_validate(everything)})
    with ledger.db.reading() as session:
        seen, scarce = pipeline(session, ledger.settings), pipeline(session, short)
    assert seen.disk is not None
    assert scarce.disk is not None
    assert (seen.disk.is_little, seen.disk.is_too_little) == (False, False)
    assert (seen.disk.little, seen.disk.kept_free) == (5 << 30, 1 << 29)
    assert (scarce.disk.is_little, scarce.disk.is_too_little) == (True, True)
    assert any("images are refused" in trouble and "disk.keep_free_gib" in trouble for trouble in scarce.troubles)


def test_audit_messages_that_a_log_server_has_not_got_are_said(ledger: Ledger) -> None:
    syslog = SyslogSettings(host="log.example")
    audit = ledger.settings.audit.model_copy(update={"syslog": syslog})
    settings = ledger.settings.model_copy(update={"audit": audit})
    folder = folder_of(settings)
    folder.mkdir(parents=True)
    line = "<85>1 2026-03-04T10:00:00.000Z vm dicom-worker 1 DICOM+RFC3881 - <AuditMessage/>\n"
    (folder / "audit-20260304-000.log").write_text(line, encoding="utf-8")

    def is_said() -> bool:
        with ledger.db.reading() as session:
            found = pipeline(session, settings).troubles
        return any("audit messages wait for log.example:6514" in trouble for trouble in found)

    assert is_said()
    place = {"file": "audit-20260304-000.log", "offset": len(line)}
    (folder / "sent.json").write_text(json.dumps(place), encoding="utf-8")
    assert not is_said()
    (folder / "audit-20260305-000.log").write_text(line, encoding="utf-8")
    assert is_said()
    place["file"] = "audit-20260305-000.log"
    (folder / "sent.json").write_text(json.dumps(place), encoding="utf-8")
    just_now = f"<85>1 {utc_now():%Y-%m-%dT%H:%M:%S.000Z} vm x 1 y - <AuditMessage/>\n"
    with (folder / "audit-20260305-000.log").open("a", encoding="utf-8") as file:
        file.write(just_now)
    assert not is_said(), "it is about to be sent"


def test_decisions_that_the_audit_files_have_not_got_are_said(ledger: Ledger) -> None:
    def is_said() -> bool:
        with ledger.db.reading() as session:
            found = pipeline(session, ledger.settings).troubles
        return any("audit messages of decisions wait" in trouble for trouble in found)

    def decided_at(moment: str) -> None:
        line = f"<85>1 {moment} vm dicom-worker 1 DICOM+RFC3881 - <AuditMessage/>"
        with ledger.db.writing() as session:
            session.add(OwedMessage(line=line, due_at=utc_now()))

    assert not is_said()
    decided_at(f"{utc_now():%Y-%m-%dT%H:%M:%S.000Z}")
    assert not is_said(), "it is about to be written"
    with ledger.db.writing() as session:
        session.query(OwedMessage).delete()
    decided_at("2026-03-04T10:00:00.000Z")
    assert is_said()


def said(ledger: Ledger) -> int:
    with ledger.db.reading() as session:
        return len(reports(session))


def test_processes_report_and_one_that_is_silent_is_believed_to_be_gone(ledger: Ledger) -> None:
    process = {"name": "node", "pid": 7, "alive": True, "up_s": 90, "restarts": 1, "exit_code": -9}
    engine = {
        "kind": "transformers", "device": "cuda:0", "device_name": "a GPU", "resident": {"base": ["dsa_patency"]},
        "memory_used": 3, "memory_total": 8,
    }  # fmt: skip
    reporter = Reporter(ledger.db, "supervisor", lambda: {"processes": [process]})
    report(ledger.db, "engine", engine)
    report(ledger.db, "broker", {"reachable": False, "rings": {"steps": None}})
    services.wait_until(lambda: said(ledger) == 3, 10, "every report")
    reporter.stop()
    with ledger.db.reading() as session:
        seen = pipeline(session, ledger.settings)
        assert [row.is_fresh for row in reports(session)] == [True, True, True]
    assert [(one.name, one.alive, one.restarts) for one in seen.processes] == [("node", True, 1)]
    assert (seen.engines[0].resident, seen.engines[0].memory_used) == ({"base": ["dsa_patency"]}, 3)
    assert seen.broker.reachable is False
    assert any("broker cannot be reached" in trouble for trouble in seen.troubles)
    with ledger.db.writing() as session:
        for row in reports(session):
            row.at = utc_now() - timedelta(minutes=5)
    with ledger.db.reading() as session:
        seen = pipeline(session, ledger.settings)
    assert any("node on" in trouble and "does not run (it ended with -9)" in trouble for trouble in seen.troubles)
    assert seen.engines[0].is_fresh is False
    assert seen.broker.reachable is None


def test_why_there_is_no_result_in_words(ledger: Ledger) -> None:
    assert "waits for a person: gap of 10 mm after slice 14" in ledger.words(2)
    assert "Not routed: modality MR is not accepted" in ledger.words(3)
    assert "pacs was given up after 0 tries: refused: no" in ledger.words(1)
    assert "send it again" in ledger.words(1)
    assert ledger.why(1).has_result is False
    ledger.change(Series, 3, state=SeriesState.RECEIVING, at_source=40, due_at=utc_now() + timedelta(seconds=5))
    (waiting,) = ledger.why(3).reasons
    assert "1 are here, and its source has 40" in waiting.text
    assert waiting.next_at is not None
    ledger.change(Series, 3, due_at=utc_now() - timedelta(minutes=10), at_source=None)
    assert "`dispatcher` and `steps`" in ledger.words(3)
    ledger.change(Series, 3, state=SeriesState.UNROUTED, route_rule="site rule: spine", route_reason="matches")
    assert "Left alone by site rule: spine" in ledger.words(3)


def test_why_by_state_of_the_job(ledger: Ledger) -> None:
    for columns, words in (
        ({"state": JobState.QUEUED, "error": "the GPU is lost"}, "0 jobs before it. Last: the GPU is lost"),
        ({"state": JobState.RUNNING, "claimed_by": "host:1", "attempts": 2}, "answered by host:1, attempt 2"),
        ({"state": JobState.GENERATED}, "being scored"),
        ({"state": JobState.HELD, "parsed": False, "error": "no JSON"}, "no usable answer"),
        ({"parsed": True, "second_reader": True}, "waits for a second reader"),
        ({"state": JobState.ACCEPTED}, "is signed"),
        ({"state": JobState.RELEASED}, "no destination takes such a result"),
    ):
        ledger.change(Job, HELD_JOB, **columns)
        assert words in ledger.words(2)
    with ledger.db.writing() as session:
        session.add(Review(job_id=HELD_JOB, action="reject", reviewer_name="Curie^Marie", comment="motion"))
    ledger.change(Job, HELD_JOB, state=JobState.REJECTED)
    assert "rejected by Curie^Marie: motion" in ledger.words(2)
    ledger.change(Delivery, 1, state=DeliveryState.CONFIRMED)
    assert (ledger.why(1).has_result, ledger.why(1).reasons) == (True, [])
    with ledger.db.reading() as session:
        assert why_not(session, ledger.settings, 99) is None


def test_a_rejected_answer_that_was_sent_is_said_to_be_taken_back(ledger: Ledger) -> None:
    ledger.change(Delivery, 1, state=DeliveryState.DELIVERED)
    ledger.change(Job, RELEASED_JOB, state=JobState.REJECTED)
    assert "what was sent of it is taken back" in ledger.words(1)
    assert "nothing of it is sent" not in ledger.words(1)
    note = Result(
        job_id=RELEASED_JOB, sop_instance_uid="1.2.99", sop_class_uid="", kind="rejection", digest="", path=""
    )
    note.deliveries = [Delivery(destination="pacs", state=DeliveryState.DEAD, last_error="refused: full")]
    with ledger.db.writing() as session:
        session.add(note)
    assert "REJECTION to pacs was given up after 0 tries: refused: full" in ledger.words(1)


def test_destinations_tell_what_waits_and_what_went_wrong(ledger: Ledger) -> None:
    with ledger.db.reading() as session:
        (pacs,) = destinations.destination_states(session, ledger.settings)
    assert (pacs.dead, pacs.waiting, pacs.last_error, pacs.address) == (1, 0, "refused: no", "PACS@127.0.0.1:104")
    later = utc_now() + timedelta(minutes=3)
    ledger.change(Delivery, 1, state=DeliveryState.PENDING, not_before=later, last_error="it does not answer", tries=4)
    with ledger.db.reading() as session:
        (pacs,) = destinations.destination_states(session, ledger.settings)
    assert (pacs.dead, pacs.waiting, pacs.paused_until, pacs.last_error) == (0, 1, later, "it does not answer")
    assert pacs.oldest_since is not None
    ledger.change(Delivery, 1, state=DeliveryState.CONFIRMED, delivered_at=utc_now(), destination="former")
    with ledger.db.reading() as session:
        (pacs,) = destinations.destination_states(session, ledger.settings)
    assert (pacs.waiting, pacs.delivered) == (0, 0)
    ledger.change(Delivery, 1, state=DeliveryState.DEAD)
    with ledger.db.reading() as session:
        _, former = destinations.destination_states(session, ledger.settings)
    assert (former.name, former.is_known, former.dead) == ("former", False, 1)


def test_failures_are_listed_and_sent_again_by_somebody_who_is_named(ledger: Ledger) -> None:
    with ledger.db.reading() as session:
        (entry,) = destinations.deliveries(session, states=[DeliveryState.DEAD]).deliveries
        assert destinations.deliveries(session, states=[DeliveryState.DELIVERED]).deliveries == []
        assert destinations.deliveries(session, before=entry.id).next_before is None
    assert (entry.accession_number, entry.job_id, entry.last_error) == ("ACC-1", RELEASED_JOB, "refused: no")
    assert destinations.resend(ledger.db, by="Curie^Marie (marie)").queued_again == 1
    assert destinations.resend(ledger.db, by="Curie^Marie (marie)", destination="pacs").queued_again == 0
    with ledger.db.reading() as session:
        last = session.scalars(select(Event).order_by(Event.id.desc()).limit(1)).one()
        assert session.get_one(Delivery, 1).state is DeliveryState.PENDING
    assert (last.subject, last.reason) == ("delivery", "Curie^Marie (marie) asked to send it again")

    # Jobs: those whose answer nobody can judge.
    with ledger.db.reading() as session:
        assert failures.failed_jobs(session).jobs == []
    ledger.change(Job, HELD_JOB, parsed=False, error="the answer is no JSON")
    with ledger.db.reading() as session:
        (job,) = failures.failed_jobs(session).jobs
        assert failures.count_failed(session) == 1
        assert failures.failed_jobs(session, adapter="dsa_patency").jobs == []
    assert (job.id, job.reason, job.modality, job.study_id) == (HELD_JOB, "the answer is no JSON", "CT", 2)


def test_figures_of_an_adapter_follow_its_answers_and_decisions(ledger: Ledger) -> None:
    series_id = ledger.receive_run()
    (claim,) = claims.claim_jobs(ledger.db, ledger.settings, "w", 1)
    answer = {"text": "blocked", "elapsed_s": 2.5}
    claims.finish_claim(ledger.db, claim, JobState.GENERATED, "answered", generation=answer, answered_at=utc_now())
    with ledger.db.writing() as session:
        job = session.scalars(select(Job).where(Job.series_id == series_id)).one()
        move_job(session, job, JobState.DECIDED, "no JSON", findings=None)
        for minutes, action in ((3, "edit"), (2, "accept"), (1, "reject")):
            decided_at = utc_now() - timedelta(minutes=minutes)
            job_id = RELEASED_JOB if minutes > 1 else job.id
            session.add(Review(job_id=job_id, action=action, reviewer_name="A", decided_at=decided_at))
        session.add(Review(job_id=job.id, action="accept", reviewer_name="A", undone_at=utc_now()))
    states = AdapterStates(ledger.settings)
    with ledger.db.reading() as session:
        found = {state.name: state for state in states.all(session)}
    dsa = found["dsa_patency"]
    assert (dsa.usable, dsa.problems, dsa.resident) == (True, [], False)
    assert (dsa.answers, dsa.answers_last_day, dsa.median_answer_s) == (2, 1, 2.5)
    assert (dsa.parsed, dsa.parse_known, dsa.timed) == (1, 2, 1)
    assert dsa.parsed_low is not None
    assert dsa.parsed_low < 0.1
    assert dsa.agreement.model_dump(include={"accepted", "edited", "rejected", "n", "share"}) == {
        "accepted": 1, "edited": 0, "rejected": 1, "n": 2, "share": 0.5,
    }  # fmt: skip
    assert dsa.agreement.low is not None
    assert dsa.agreement.low < 0.5
    assert set(found) == set(ADAPTERS)
    assert found["flare"].agreement.share is None


@pytest.mark.parametrize("page", ["pipeline", "destinations", "failures", "jobs", "adapters", "why not"])
def test_no_page_reads_a_whole_table(sqlite_url: str, tmp_path: Path, page: str) -> None:
    upgrade(Database(sqlite_url))
    ledger = Ledger(sqlite_url, tmp_path)
    asked: dict[str, Callable[[Session], Any]] = {
        "pipeline": lambda session: pipeline(session, ledger.settings),
        "destinations": lambda session: destinations.destination_states(session, ledger.settings),
        "failures": lambda session: destinations.deliveries(session, states=[DeliveryState.DEAD], destination="pacs"),
        "jobs": lambda session: (failures.failed_jobs(session), failures.count_failed(session)),
        "adapters": lambda session: AdapterStates(ledger.settings).all(session),
        "why not": lambda session: why_not(session, ledger.settings, 1),
    }
    statements: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(ledger.db.engine, "before_cursor_execute", keep)
    with ledger.db.reading() as session:
        asked[page](session)
    event.remove(ledger.db.engine, "before_cursor_execute", keep)
    plans = []
    with ledger.db.engine.connect() as connection:
        for statement, parameters in statements:
            explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [(row[-1], statement) for row in explained]
    assert len(plans) >= 1
    small = ("process_reports", "owed_messages", "calibrations", "(subquery", "anon", "CONSTANT", "decided")
    whole = [plan for plan in plans if plan[0].startswith("SCAN") and not any(name in plan[0] for name in small)]
    assert whole == []
    ledger.db.close()


def test_other_rules_are_tried_and_change_nothing(ledger: Ledger) -> None:
    ledger.receive_run()
    tried = rules.read_rules(RULES, ADAPTERS)
    told: list[tuple[int, int]] = []
    found = replay(ledger.db, [], tried, ADAPTERS, days=1, progress=lambda *done: told.append(done))
    assert (found.series, found.changed, told) == (1, 1, [(0, 1), (1, 1)])
    (count,) = found.counts
    assert (count.before, count.after, count.series) == (["dsa_patency"], [], 1)
    (change,) = found.changes
    assert (change.modality, change.rule_after) == ("XA", "site rule: no runs from this room")
    with ledger.db.reading() as session:
        assert session.get_one(Study, change.study_id).jobs[0].state is JobState.QUEUED
    assert change.differs == ["adapters"]
    assert replay(ledger.db, tried, tried, ADAPTERS, days=1).changed == 0
    urgent = rules.read_rules("- {name: x, when: {modality: XA}, adapter: dsa_patency, priority: stat}", ADAPTERS)
    (change,) = replay(ledger.db, [], urgent, ADAPTERS, days=1).changes
    assert (change.before, change.after, change.differs) == (["dsa_patency"], ["dsa_patency"], ["priority"])
    ledger.change(Study, change.study_id, first_received_at=utc_now() - timedelta(days=2))
    assert replay(ledger.db, [], tried, ADAPTERS, days=1).series == 0

    # It can be bounded and stopped.
    for _ in range(2):
        ledger.receive_run()
    found = replay(ledger.db, [], [], ADAPTERS, days=3, series_at_most=2)
    assert (found.series, found.series_in_time) == (2, 3)
    found = replay(ledger.db, [], tried, ADAPTERS, days=3)
    assert [count.series for count in found.counts] == [found.changed] == [3]

    def stop(done: int, _of: int) -> None:
        if done:
            raise ReplayStopped

    with pytest.raises(ReplayStopped):
        replay(ledger.db, [], [], ADAPTERS, days=1, progress=stop)

    # Of one study, rule by rule.
    series_id = ledger.receive_run()
    with ledger.db.reading() as session:
        study_id = session.get_one(Series, series_id).study_id
        explained = rules.explain_study(session, rules.read_rules(RULES, ADAPTERS), ADAPTERS, study_id)
        assert rules.explain_study(session, [], ADAPTERS, 999) is None
        nothing = rules.explain_study(session, [], ADAPTERS, 3)
    assert explained is not None
    (series,) = explained.series
    assert (series.adapters, series.routed_adapters) == ([], ["dsa_patency"])
    assert series.steps[0].rule == "site rule: no runs from this room"
    assert series.steps[0].matched
    assert nothing is not None
    assert (nothing.series, len(nothing.left_out)) == ([], 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "no YAML"),
        ("just words", "YAML list"),
        ("- name: x", r"rule 1 \(x\): when: Field required"),
        ("- {name: x, when: {modalty: CT}, adapter: null}", r"rule 1 \(x\): when.modalty: unknown setting"),
        ("- {name: x, when: {}, adapter: nobody}", "nobody"),
        ("- {name: x, when: {}, adapter: null}\n- spine", "rule 2: a rule has `name`, `when` and `adapter`"),
        ("&a [*a]", "aliases are not followed"),
        ("- !!python/object:os.system {}", "no YAML"),
    ],
)
def test_wrong_rules_are_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(rules.RulesError, match=words):
        rules.read_rules(text, ADAPTERS)


def test_rules_are_read_as_they_are_written() -> None:
    text = "routes:\n- {name: x, when: {modality: CT}, adapter: [flare, abdominal_trauma], priority: stat}\n"
    read = rules.read_rules(text, ADAPTERS)
    assert rules.read_rules(rules.rules_as_yaml(read), ADAPTERS) == read
    assert rules.read_rules(rules.rules_as_yaml([]), ADAPTERS) == []
    shown = rules.rules_in_force(read, ADAPTERS)
    assert (shown[0].name, shown[0].conditions, shown[0].priority) == ("x", ["modality is CT"], "stat")
    assert len(shown) == 1 + len(ADAPTERS)
