"""Several people at one queue: claims, what was seen, taking back in time, second readers, re-routing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dicom_node.report import Person
from tests.integration.hospital import ADA, BLOCKED, BOB, Hospital, at_once, killed
from worker import review
from worker.claims import claim_jobs, finish_claim
from worker.db.columns import utc_now
from worker.db.outbox import claim_batch
from worker.db.queries import review_case
from worker.db.records import Delivery, Event, Job
from worker.db.records import Review as ReviewRecord
from worker.db.review_records import CaseClaim
from worker.db.transitions import move_delivery
from worker.db.work_list import Filters, counts, work_list
from worker.reporting import write_results
from worker.retraction import write_rejection_notes
from worker.review import Reviewer, ReviewError, decisions, grace, rerouting
from worker.settings import load_settings
from worker.states import DeliveryState, JobState

SMITH_1 = Reviewer("Smith^Jo", "St Elsewhere", "1")
SMITH_2 = Reviewer("Smith^Jo", "St Elsewhere", "2")
on_both_databases = pytest.mark.parametrize("hospital", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = f"sqlite:///{tmp_path}/ledger.db" if sqlite else request.getfixturevalue("postgres_url")
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242}
    settings = load_settings(None, {"data_dir": str(tmp_path), "destinations": [pacs]})
    made = Hospital(tmp_path, url, settings.destinations)
    yield made
    made.db.close()


def held(hospital: Hospital, accession: str = "A1", **columns: object) -> str:
    return hospital.decided_run(accession, **{"state": JobState.HELD, "model_input": {"incomplete": []}, **columns})


def grace_over(hospital: Hospital, job_id: str) -> None:
    with hospital.db.writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=utc_now() - timedelta(seconds=1)))


def written(hospital: Hospital, job_id: str) -> JobState:
    write_results(hospital.db, hospital.spool, hospital.settings, job_id)
    return hospital.job(job_id).state


def delivered(hospital: Hospital, job_id: str) -> None:
    with hospital.db.writing() as session:
        for sent in hospital.deliveries(job_id):
            row = session.get_one(Delivery, sent.id)
            if row.state is DeliveryState.PENDING:
                for state in (DeliveryState.SENDING, DeliveryState.DELIVERED):
                    move_delivery(session, row, state, "test", study_id=None)


@on_both_databases
def test_only_who_has_a_case_open_decides_about_it(hospital: Hospital) -> None:
    job_id = held(hospital)
    first = review.claim(hospital.db, job_id, ADA, 60)
    assert first is not None
    assert first.is_own
    second = review.claim(hospital.db, job_id, BOB, 60)
    assert second is not None
    assert (second.is_own, second.reviewer_name) == (False, ADA.name)
    decisions = (
        lambda: review.accept(hospital.db, job_id, BOB),
        lambda: review.edit(hospital.db, job_id, {"patency": "patent"}, BOB),
        lambda: review.reject(hospital.db, job_id, BOB, "no"),
        lambda: review.retry(hospital.db, job_id, BOB),
        lambda: review.reroute(hospital.db, job_id, "abdominal_trauma", BOB, "no vessel"),
        lambda: review.ask_second_reader(hospital.db, job_id, BOB, "unsure"),
    )
    for decide in decisions:
        with pytest.raises(ReviewError, match=r"Lovelace\^Ada has job \w+ open since .* it is free when they release"):
            decide()
    assert not review.release(hospital.db, job_id, BOB)
    assert review.release(hospital.db, job_id, ADA)
    review.accept(hospital.db, job_id, BOB)
    with hospital.db.reading() as session:
        assert session.scalars(select(CaseClaim)).all() == [], "a decision ends the claim"
    assert review.claim(hospital.db, job_id, ADA, 60) is None, "there is nothing to decide any more"


def test_a_claim_that_nobody_renews_is_free_for_others(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.claim(hospital.db, job_id, ADA, -1)
    taken = review.claim(hospital.db, job_id, BOB, 60)
    assert taken is not None
    assert taken.is_own
    with pytest.raises(ReviewError, match=r"Broca\^Bob has job"):
        review.accept(hospital.db, job_id, ADA)
    renewed = review.claim(hospital.db, job_id, BOB, 600)
    assert renewed is not None
    assert renewed.since == taken.since
    assert renewed.expires_at > taken.expires_at, "a page that is open keeps the case"
    forgotten = held(hospital, "B2")
    review.claim(hospital.db, forgotten, ADA, -1)
    with hospital.db.reading() as session:
        lines = {line.job_id: line.open_with for line in work_list(session, Filters(), "", BOB.name).lines}
        assert lines == {job_id: BOB.name, forgotten: ""}
        assert not work_list(session, Filters(who="open with me"), "", ADA.name).lines
    assert review.next_case(hospital.db, BOB, after=job_id) == forgotten
    assert review.accept(hospital.db, forgotten, BOB).state is JobState.ACCEPTED


def test_two_people_of_one_name_are_two_by_their_accounts(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.claim(hospital.db, job_id, SMITH_1, 60)
    with pytest.raises(ReviewError, match="open since"):
        review.accept(hospital.db, job_id, SMITH_2)
    # Nobody can tell which of the two is at the command line: it counts as the one who has it.
    assert review.accept(hospital.db, job_id, Person("smith^jo", "St Elsewhere")).state is JobState.ACCEPTED


@on_both_databases
def test_of_many_who_claim_and_sign_at_once_exactly_one_signs(hospital: Hospital) -> None:
    job_id = held(hospital)
    people = [Reviewer(f"Reader^{number}", "St Elsewhere", str(number)) for number in range(6)]
    owners, signed = [], []

    def work(person: Reviewer) -> None:
        state = review.claim(hospital.db, job_id, person, 60)
        if state is not None and state.is_own:
            owners.append(person.name)
        try:
            review.accept(hospital.db, job_id, person)
            signed.append(person.name)
        except ReviewError:
            pass

    at_once(work, people)
    assert len(signed) == 1
    with hospital.db.reading() as session:
        assert [row.reviewer_name for row in session.scalars(select(ReviewRecord))] == signed
    assert owners == signed


def test_a_decision_on_something_that_changed_meanwhile_is_refused(hospital: Hospital) -> None:
    job_id = held(hospital)
    seen = review.seen_digest(hospital.job(job_id))
    with hospital.db.writing() as session:
        session.get_one(Job, job_id).findings = {"patency": "patent", "probabilities": {}}
    for decide in (
        lambda: review.accept(hospital.db, job_id, ADA, seen=seen),
        lambda: review.edit(hospital.db, job_id, {"patency": "patent"}, ADA, seen=seen),
        lambda: review.reject(hospital.db, job_id, ADA, "no", seen=seen),
    ):
        with pytest.raises(ReviewError, match="has changed since it was shown; look at it again"):
            decide()
    now = review.seen_digest(hospital.job(job_id))
    review.accept(hospital.db, job_id, ADA, seen=now)
    with hospital.db.reading() as session:
        assert session.scalars(select(ReviewRecord.seen)).all() == [now], "what was seen is kept with the decision"


@on_both_databases
def test_nothing_is_written_while_a_signature_can_be_taken_back(hospital: Hospital) -> None:
    job_id = hospital.decided_run(decision="review")
    assert written(hospital, job_id) is JobState.HELD
    waited_since = hospital.job(job_id).waiting_since
    review.accept(hospital.db, job_id, ADA, undo_s=60)
    assert written(hospital, job_id) is JobState.ACCEPTED
    assert hospital.deliveries(job_id) == []
    with pytest.raises(ReviewError, match=r"only Lovelace\^Ada can take the decision back"):
        review.undo(hospital.db, job_id, BOB)
    assert review.undo(hospital.db, job_id, ADA).state is JobState.HELD
    assert hospital.job(job_id).waiting_since == waited_since, "it does not go to the end of the queue"
    with hospital.db.reading() as session:
        (kept,) = session.scalars(select(ReviewRecord))
        assert kept.action == "accept"
        assert kept.undone_at is not None
        reasons = list(session.scalars(select(Event.reason).where(Event.subject == "job").order_by(Event.id)))
        assert reasons[-2:] == ["accepted by Lovelace^Ada", "Lovelace^Ada took back: accept"]
    with pytest.raises(ReviewError, match="there is no decision to take back; it is held"):
        review.undo(hospital.db, job_id, ADA)
    review.edit(hospital.db, job_id, {"patency": "patent"}, BOB, undo_s=60)
    grace_over(hospital, job_id)
    assert written(hospital, job_id) is JobState.VERIFIED
    with pytest.raises(ReviewError, match="no decision to take back; it is verified"):
        review.undo(hospital.db, job_id, BOB)


def test_a_signature_cannot_be_taken_back_when_its_time_is_over(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.accept(hospital.db, job_id, ADA, undo_s=60)
    grace_over(hospital, job_id)
    with pytest.raises(ReviewError, match="the time to take the decision back is over; edit what is signed when"):
        review.undo(hospital.db, job_id, ADA)
    assert hospital.job(job_id).state is JobState.ACCEPTED


@on_both_databases
def test_a_rejection_taken_back_leaves_a_released_answer_as_it_was(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    assert written(hospital, job_id) is JobState.RELEASED
    review.reject(hospital.db, job_id, ADA, "wrong vessel", undo_s=60)
    assert hospital.delivery_states(job_id) == {DeliveryState.CANCELLED}, "nothing leaves from now on"
    assert review.undo(hospital.db, job_id, ADA).state is JobState.RELEASED
    assert hospital.delivery_states(job_id) == {DeliveryState.PENDING}


def test_what_was_sent_is_taken_back_only_when_the_rejection_stands(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    written(hospital, job_id)
    delivered(hospital, job_id)
    review.reject(hospital.db, job_id, ADA, "wrong vessel", undo_s=60)
    assert write_rejection_notes(hospital.db, hospital.spool, hospital.settings, job_id) == ()
    grace_over(hospital, job_id)
    assert write_rejection_notes(hospital.db, hospital.spool, hospital.settings, job_id) == ("pacs",)


def test_a_signed_answer_can_be_rejected_and_is_taken_back_where_it_was_sent(hospital: Hospital) -> None:
    job_id = hospital.decided_run(decision="review")
    written(hospital, job_id)
    review.accept(hospital.db, job_id, ADA)
    assert written(hospital, job_id) is JobState.VERIFIED
    delivered(hospital, job_id)
    outcome = review.reject(hospital.db, job_id, BOB, "wrong patient")
    assert "a rejection note follows" in outcome.message
    assert write_rejection_notes(hospital.db, hospital.spool, hospital.settings, job_id) == ("pacs",)


def test_late_images_overtake_a_signature_that_is_taken_back(hospital: Hospital) -> None:
    slices = range(8)
    old = hospital.decided_volume("A1", slices, 1, state=JobState.HELD, model_input={"incomplete": []})
    review.accept(hospital.db, old, ADA, undo_s=60)
    hospital.decided_volume("A1", range(8, 16), 2, state=JobState.HELD, model_input={"incomplete": []})
    assert review.undo(hospital.db, old, ADA).state is JobState.SUPERSEDED


@on_both_databases
def test_a_second_reader_must_be_another_person(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.ask_second_reader(hospital.db, job_id, ADA, "is that a stenosis?", {"patency": "patent"})
    with pytest.raises(ReviewError, match="a second reader is asked already"):
        review.ask_second_reader(hospital.db, job_id, BOB, "unsure too")
    for decide in (
        lambda: review.accept(hospital.db, job_id, ADA),
        lambda: review.edit(hospital.db, job_id, {"patency": "patent"}, ADA),
        lambda: review.reject(hospital.db, job_id, ADA, "no"),
        lambda: review.reroute(hospital.db, job_id, "abdominal_trauma", ADA, "no vessel"),
    ):
        with pytest.raises(ReviewError, match="they asked for a second reader, who must be another person"):
            decide()
    assert review.next_case(hospital.db, ADA) is None
    assert review.next_case(hospital.db, BOB) == job_id
    review.accept(hospital.db, job_id, BOB)
    with hospital.db.reading() as session:
        rows = list(session.scalars(select(ReviewRecord).order_by(ReviewRecord.id)))
    assert [(row.action, row.reviewer_name, row.findings) for row in rows] == [
        ("opinion", ADA.name, {"patency": "patent", "probabilities": {}}),
        ("accept", BOB.name, BLOCKED),
    ]


#: Who may decide where Ada Müller, account 1, asked for a second reader.
SECOND_READERS = [
    (Reviewer("Müller^Ada", "City", "1"), False),
    (Reviewer("Müller^Ada", "City", "2"), False),  # a namesake, or the same person at another log-in
    (Reviewer("MÜLLER ^ ada^", "City", "3"), False),
    (Person("müller^ada", "City"), False),
    (Reviewer("Mu\u0308ller^Ada", "City", "4"), False),  # written with a combining diaeresis
    (Reviewer("Renamed^Ada", "City", "1"), False),
    (Reviewer("Müller^Adam", "City", "5"), True),
    (Person("Broca^Bob", "City"), True),
]


@on_both_databases
def test_a_second_reading_is_offered_to_those_and_only_those_who_may_decide(hospital: Hospital) -> None:
    job_id = held(hospital)
    # An earlier round, which another try has ended, binds nobody.
    review.ask_second_reader(hospital.db, job_id, BOB, "unsure")
    review.retry(hospital.db, job_id, ADA)
    with hospital.db.writing() as session:
        session.execute(update(Job).values(state=JobState.HELD, model_input={"incomplete": []}, findings=BLOCKED))
    review.ask_second_reader(hospital.db, job_id, SECOND_READERS[0][0], "is that a stenosis?")
    for person, may in SECOND_READERS:
        account = person.account if isinstance(person, Reviewer) else ""
        with hospital.db.reading() as session:
            listed = work_list(session, Filters(who="free for me"), account, person.name).lines
        assert [line.job_id for line in listed] == [job_id] * may, person
        assert review.next_case(hospital.db, person) == (job_id if may else None), person
        if may:
            review.accept(hospital.db, job_id, person, undo_s=60)
            review.undo(hospital.db, job_id, person)
        else:
            with pytest.raises(ReviewError, match="who must be another person"):
                review.accept(hospital.db, job_id, person)


def test_a_second_reader_has_seen_the_opinion_of_the_first(hospital: Hospital) -> None:
    job_id = held(hospital)
    seen = review.seen_digest(hospital.job(job_id))
    review.ask_second_reader(hospital.db, job_id, ADA, "look at the second run", seen=seen)
    with pytest.raises(ReviewError, match="has changed since it was shown; look at it again"):
        review.accept(hospital.db, job_id, BOB, seen=seen)
    review.accept(hospital.db, job_id, BOB, seen=review.seen_digest(hospital.job(job_id)))


@pytest.mark.parametrize(
    "decide",
    [
        lambda db, job_id, person, seen: review.accept(db, job_id, person, " clear", seen=seen),
        lambda db, job_id, person, seen: review.edit(db, job_id, {"patency": "patent"}, person, seen=seen),
        lambda db, job_id, person, seen: review.reject(db, job_id, person, "motion", seen=seen),
        lambda db, job_id, person, seen: review.reroute(db, job_id, "abdominal_trauma", person, "", seen=seen),
        lambda db, job_id, person, seen: review.ask_second_reader(db, job_id, person, "unsure", seen=seen),
        lambda db, job_id, person, seen: review.comment(db, job_id, person, "look at the second run"),
    ],
    ids=["accept", "edit", "reject", "reroute", "second reader", "comment"],
)
def test_what_is_sent_again_because_its_answer_was_lost_is_answered_again_and_kept_once(
    hospital: Hospital, decide: Callable[..., review.ReviewOutcome]
) -> None:
    job_id = held(hospital)
    seen = review.seen_digest(hospital.job(job_id))
    first, again = (decide(hospital.db, job_id, ADA, seen) for _ in range(2))
    assert (again.job_id, again.state) == (first.job_id, first.state)
    with hospital.db.reading() as session:
        assert len(session.scalars(select(ReviewRecord)).all()) == 1
    if first.state in (JobState.ACCEPTED, JobState.REJECTED):
        with pytest.raises(ReviewError, match=r"it was \S+ by Lovelace\^Ada at"):
            decide(hospital.db, job_id, BOB, seen)
        with pytest.raises(ReviewError, match=r"it was \S+ by Lovelace\^Ada at"):
            decide(hospital.db, job_id, ADA, "")


def test_the_next_case_is_the_next_of_the_list_that_is_worked_through(hospital: Hospital) -> None:
    held(hospital, "A1", priority=9)
    volume = hospital.decided_volume("C3", range(2), 1, state=JobState.HELD, model_input={"incomplete": []})
    newer = hospital.decided_volume("C4", range(2), 1, state=JobState.HELD, model_input={"incomplete": []})
    assert review.next_case(hospital.db, ADA, filters=Filters(modality="CT")) == volume
    assert review.next_case(hospital.db, ADA, after=volume, filters=Filters(modality="CT")) == newer
    assert review.next_case(hospital.db, ADA, filters=Filters(modality="CT", sort="newest")) == newer


@pytest.mark.parametrize(("said", "kept"), [(2, 2), (0, 0), (99, 4), (-1, 0), (None, None)])
def test_how_much_was_seen_is_kept_as_far_as_it_can_be_believed(
    hospital: Hospital, said: int | None, kept: int | None
) -> None:
    job_id = held(hospital)
    seen = review.seen_digest(hospital.job(job_id))
    outcome = review.edit(hospital.db, job_id, {"patency": "patent"}, ADA, seen=seen, frames_seen=said)
    with hospital.db.reading() as session:
        shown = session.scalars(select(ReviewRecord.shown)).one()
        (told,) = review_case(session, job_id).reviews
    assert shown is not None
    assert (shown["frames_shown"], shown["frames"]) == (kept, None if said is None else 4), "a run of four frames"
    assert (shown["revision"], shown["findings"], shown["adapter_digest"]) == (1, BLOCKED, "a" * 64)
    assert told.shown is not None
    assert (told.shown.frames_shown, told.shown.revision) == (kept, 1)
    words = "unknown" if kept is None else f"{kept} of 4"
    assert outcome.shown == {"images on screen": words, "answer on screen": "revision 1"}


def test_what_nobody_says_was_seen_is_unknown(hospital: Hospital) -> None:
    job_id = held(hospital)
    outcome = review.reject(hospital.db, job_id, ADA, "motion")
    assert outcome.shown == {"images on screen": "unknown", "answer on screen": "unknown"}
    with hospital.db.reading() as session:
        assert session.scalars(select(ReviewRecord.shown)).one() is None
        assert review_case(session, job_id).reviews[0].shown is None


def test_a_refusal_has_its_times_apart_from_its_words(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.claim(hospital.db, job_id, ADA, 60)
    with pytest.raises(ReviewError) as refused:
        review.accept(hospital.db, job_id, BOB)
    pieces = refused.value.worded(lambda at: f"T{at.tzinfo}", lambda case: "this case", lambda who: "Ada Lovelace")
    assert "".join(pieces) == (
        "Ada Lovelace has this case open since TUTC; it is free when they release it, or at TUTC unless their page is "
        "still open then"
    )
    review.accept(hospital.db, job_id, ADA)
    with pytest.raises(ReviewError, match=r"was accepted by Lovelace\^Ada at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"):
        review.reject(hospital.db, job_id, BOB, "no")


def test_another_try_needs_no_second_reader_any_more(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.ask_second_reader(hospital.db, job_id, ADA, "look at the third frame")
    with pytest.raises(ReviewError, match="who must be another person"):
        review.retry(hospital.db, job_id, ADA)  # the same answer would come again, for herself to sign
    review.retry(hospital.db, job_id, BOB)
    assert not hospital.job(job_id).second_reader


@on_both_databases
def test_a_wrong_adapter_is_ended_and_another_one_is_asked(hospital: Hospital) -> None:
    job_id = held(hospital, model_input=None)
    outcome = review.reroute(hospital.db, job_id, "abdominal_trauma", ADA, "no vessel at all")
    assert "abdominal_trauma is asked instead (1 job)" in outcome.message
    assert hospital.job(job_id).state is JobState.REJECTED
    with hospital.db.reading() as session:
        (new,) = session.scalars(select(Job).where(Job.id != job_id))
        assert (new.adapter, new.state, new.revision) == ("abdominal_trauma", JobState.QUEUED, 1)
        assert new.unit_uid == new.series.series_instance_uid
        assert new.doubts[0] == "Lovelace^Ada sent it here from dsa_patency"
        assert "would not have taken it by itself: SOP class" in new.doubts[1]
        new_id = new.id
        last = session.scalars(select(Event).where(Event.subject_id == job_id).order_by(Event.id.desc())).first()
        assert last is not None
        assert last.reason == (
            "re-routed by Lovelace^Ada: wrong adapter, abdominal_trauma is asked instead: no vessel at all"
        )
    with hospital.db.writing() as session:
        session.get_one(Job, new_id).state = JobState.HELD
    review.reroute(hospital.db, new_id, "dsa_patency", BOB, "it is one")
    with hospital.db.reading() as session:
        back = session.scalars(select(Job).where(Job.adapter == "dsa_patency").order_by(Job.revision.desc())).first()
        assert back is not None
        assert (back.state, back.revision, back.unit_uid) == (JobState.QUEUED, 2, hospital.job(job_id).unit_uid)


@on_both_databases
def test_a_re_routing_is_begun_when_it_is_final_and_ends_when_it_is_taken_back(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    assert written(hospital, job_id) is JobState.RELEASED
    outcome = review.reroute(hospital.db, job_id, "abdominal_trauma", ADA, "no vessel", undo_s=60)
    assert "abdominal_trauma is asked instead in 60 s unless that is taken back (1 job)" in outcome.message
    assert hospital.delivery_states(job_id) == {DeliveryState.CANCELLED}, "no more of the old answer is sent"
    settings = hospital.settings
    assert claim_jobs(hospital.db, settings, "here", 5) == [], "the other adapter is not asked yet"
    with pytest.raises(ReviewError, match=r"only Lovelace\^Ada can take the decision back"):
        review.undo(hospital.db, job_id, BOB)
    assert review.undo(hospital.db, job_id, ADA).state is JobState.RELEASED
    assert hospital.delivery_states(job_id) == {DeliveryState.PENDING}
    with hospital.db.reading() as session:
        (new,) = session.scalars(select(Job).where(Job.id != job_id))
        assert new.state is JobState.SUPERSEDED
    grace_over(hospital, new.id)
    assert claim_jobs(hospital.db, settings, "here", 5) == []
    review.reroute(hospital.db, job_id, "abdominal_trauma", ADA, "no vessel after all", undo_s=60)
    with hospital.db.writing() as session:
        session.execute(update(Job).values(not_before=utc_now()))
    with pytest.raises(ReviewError, match="the time to take the decision back is over"):
        review.undo(hospital.db, job_id, ADA)
    (claimed,) = claim_jobs(hospital.db, settings, "here", 5)
    assert claimed.job_id not in (job_id, new.id)


def test_what_was_replaced_before_a_rejection_stays_so_when_that_is_taken_back(hospital: Hospital) -> None:
    job_id = hospital.decided_run()
    written(hospital, job_id)
    replaced, on_its_way = hospital.deliveries(job_id)
    with hospital.db.writing() as session:
        move_delivery(session, session.get_one(Delivery, replaced.id), DeliveryState.CANCELLED, "as sc", study_id=None)
        sending = session.get_one(Delivery, on_its_way.id)
        move_delivery(session, sending, DeliveryState.SENDING, "test", study_id=None)
    review.reject(hospital.db, job_id, ADA, "wrong vessel", undo_s=60)
    with hospital.db.writing() as session:
        sending = session.get_one(Delivery, on_its_way.id)
        move_delivery(session, sending, DeliveryState.PENDING, "the PACS was down", study_id=None)
    claim_batch(hospital.db, "pacs", batch=5, at_once=1)
    assert hospital.delivery_states(job_id) == {DeliveryState.CANCELLED}
    review.undo(hospital.db, job_id, ADA)
    states = {row.id: row.state for row in hospital.deliveries(job_id)}
    assert states == {replaced.id: DeliveryState.CANCELLED, on_its_way.id: DeliveryState.PENDING}


@pytest.mark.parametrize(
    ("adapter", "task", "words"),
    [
        ("no_such", "", "adapter 'no_such' is not enabled here; choose one of"),
        ("flare", "", "must be asked one of"),
        ("dsa_patency", "", "dsa_patency is asked about this already: job"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(hospital: Hospital, adapter: str, task: str, words: str) -> None:
    job_id = held(hospital)
    with pytest.raises(ReviewError, match=words):
        review.reroute(hospital.db, job_id, adapter, ADA, "", task=task)
    assert hospital.job(job_id).state is JobState.HELD


def test_a_comment_decides_nothing(hospital: Hospital) -> None:
    job_id = held(hospital)
    with pytest.raises(ReviewError, match="needs words"):
        review.comment(hospital.db, job_id, ADA, " ")
    review.accept(hospital.db, job_id, ADA)
    review.comment(hospital.db, job_id, BOB, "I agree")
    assert hospital.job(job_id).state is JobState.ACCEPTED
    hospital_job = hospital.decided_run("B2", decision="review")
    written(hospital, hospital_job)
    review.accept(hospital.db, hospital_job, ADA)
    review.comment(hospital.db, hospital_job, BOB, "I agree")
    assert written(hospital, hospital_job) is JobState.VERIFIED, "the comment is not taken for the signature"


def test_a_process_killed_while_it_re_routes_or_takes_that_back_does_all_of_it_or_nothing(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = held(hospital)

    def states() -> list[JobState]:
        with hospital.db.reading() as session:
            return list(session.scalars(select(Job.state).order_by(Job.created_at)))

    with monkeypatch.context() as broken:
        broken.setattr(rerouting, "record_event", killed)
        hospital.killed_while(lambda db: review.reroute(db, job_id, "abdominal_trauma", ADA, "", undo_s=60))
    assert states() == [JobState.HELD]
    review.reroute(hospital.db, job_id, "abdominal_trauma", ADA, "", undo_s=60)
    with monkeypatch.context() as broken:
        broken.setattr(grace, "_send_after_all", killed)
        hospital.killed_while(lambda db: review.undo(db, job_id, ADA))
    assert states() == [JobState.REJECTED, JobState.QUEUED]
    review.undo(hospital.db, job_id, ADA)
    assert states() == [JobState.HELD, JobState.SUPERSEDED]


@on_both_databases
def test_of_two_who_re_route_at_once_one_does(hospital: Hospital) -> None:
    job_id = held(hospital)
    done = []

    def work(person: Person, adapter: str, task: str) -> None:
        try:
            done.append(review.reroute(hospital.db, job_id, adapter, person, "", task=task, undo_s=60))
        except ReviewError as refused:
            assert "it was re-routed by" in str(refused)

    asked = ((ADA, "abdominal_trauma", ""), (BOB, "clinical_caption", "caption"))
    at_once(lambda each: work(*each), asked)
    assert len(done) == 1
    with hospital.db.reading() as session:
        assert len(session.scalars(select(Job).where(Job.state == JobState.QUEUED)).all()) == 1


def test_a_worker_whose_clock_is_ahead_answers_nothing_that_was_taken_back(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.reroute(hospital.db, job_id, "abdominal_trauma", ADA, "", undo_s=60)
    with hospital.db.writing() as session:
        session.execute(update(Job).where(Job.id != job_id).values(not_before=utc_now()))
    (claimed,) = claim_jobs(hospital.db, hospital.settings, "ahead", 5)
    review.undo(hospital.db, job_id, ADA)
    assert not finish_claim(hospital.db, claimed, JobState.GENERATED, "answered")
    assert hospital.job(claimed.job_id).state is JobState.SUPERSEDED


def test_a_re_routing_that_is_answered_already_stands(hospital: Hospital) -> None:
    job_id = held(hospital)
    review.reroute(hospital.db, job_id, "abdominal_trauma", ADA, "", undo_s=60)
    with hospital.db.writing() as session:
        session.execute(update(Job).where(Job.id != job_id).values(state=JobState.HELD))
    with pytest.raises(ReviewError, match="abdominal_trauma has answered already"):
        review.undo(hospital.db, job_id, ADA)
    assert hospital.job(job_id).state is JobState.REJECTED


def test_an_adapter_of_single_images_is_asked_about_each_image_of_the_answer_and_no_later_one(
    hospital: Hospital,
) -> None:
    job_id = hospital.decided_volume("A1", range(3), 1, state=JobState.HELD, model_input={"incomplete": []})
    late = hospital.decided_volume("A1", range(3, 5), 2, state=JobState.HELD, model_input={"incomplete": []})
    outcome = review.reroute(hospital.db, job_id, "dsa_patency", ADA, "no abdomen")
    assert "(3 jobs)" in outcome.message
    with hospital.db.reading() as session:
        units = session.scalars(select(Job.unit_uid).where(Job.adapter == "dsa_patency")).all()
    series_uid = hospital.job(late).unit_uid
    assert sorted(units) == [f"{series_uid}.{number}" for number in (1, 2, 3)]


def test_a_process_killed_while_it_signs_leaves_the_case_as_it_was(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = held(hospital)
    review.claim(hospital.db, job_id, ADA, 60)
    with monkeypatch.context() as broken:
        broken.setattr(decisions, "add_review", killed)
        hospital.killed_while(lambda db: review.accept(db, job_id, ADA, undo_s=60))
    assert hospital.job(job_id).state is JobState.HELD
    claim = review.claim(hospital.db, job_id, ADA, 60)
    assert claim is not None
    assert claim.is_own
    assert review.accept(hospital.db, job_id, ADA).state is JobState.ACCEPTED


@on_both_databases
def test_the_work_list_filters_sorts_and_counts(hospital: Hospital) -> None:
    unsure = held(hospital, "A1", confidence={"probability": 0.4, "calibrated": True, "method": "m"})
    urgent = held(hospital, "B2", priority=9)
    volume = hospital.decided_volume("C3", range(2), 1, state=JobState.HELD, model_input={"incomplete": []})
    held(hospital, "D4", state=JobState.RELEASED)
    review.claim(hospital.db, urgent, BOB, 60)

    def ids(**filters: object) -> list[str]:
        with hospital.db.reading() as session:
            page = work_list(session, Filters.from_json(filters), "", ADA.name)
        assert page.waiting == 3
        assert page.found == len(page.lines)
        return [line.job_id for line in page.lines]

    assert ids() == [urgent, unsure, volume]
    assert ids(sort="waiting") == [unsure, urgent, volume]
    assert ids(sort="least sure")[0] == unsure
    assert ids(modality="CT") == [volume]
    assert ids(adapter="dsa_patency", priority="routine") == [unsure]
    assert ids(search="c3") == [volume]
    assert ids(search="100%") == []
    assert ids(who="free for me") == [unsure, volume]
    assert ids(who="open with me") == []
    review.ask_second_reader(hospital.db, volume, ADA, "unsure")
    assert ids(who="second reader") == [volume]
    assert ids(who="free for me") == [unsure]
    with hospital.db.reading() as session:
        behind_the_end = work_list(session, Filters(modality="XA"), "", ADA.name, offset=50)
        assert (behind_the_end.lines, behind_the_end.found) == ([], 2)
        page, counted = work_list(session, Filters(), "", BOB.name), counts(session)
    (line,) = [line for line in page.lines if line.job_id == urgent]
    assert (line.open_with, line.modality, line.patient_id) == (BOB.name, "XA", "P-1")
    assert counted["adapter"] == {"dsa_patency": 2, "abdominal_trauma": 1}
    assert counted["priority"] == {"stat": 1, "routine": 2}
