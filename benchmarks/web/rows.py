"""A hospital's database: studies with their answers, results, deliveries and history, as the daemon leaves them.

Input: an empty database of this version, and how many studies. Output: rows, written in bulk. What is large in a real
ledger is large here: headers, recipes, and the raw answers with the probability of each token.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from dicom_node.headers import InstanceHeader
from dicom_node.report import SourceFrames
from models.adapters.abdominal_trauma.findings import TraumaFindings
from models.generation import ModelProvenance
from models.rendering import InputRecord
from worker.db.columns import Record
from worker.db.records import Delivery, Event, Instance, Job, Result, Review, Series, Study
from worker.db.sessions import Database
from worker.db.study_terms import StudyTerm, terms_of
from worker.states import DeliveryState, InstanceState, JobState, SeriesState

NOW = datetime.now(UTC)
#: State -> share of the answers.
STATES = {JobState.VERIFIED: 0.60, JobState.RELEASED: 0.33, JobState.REJECTED: 0.02, JobState.SUPERSEDED: 0.02,
          JobState.HELD: 0.03}  # fmt: skip
#: State -> share of the deliveries: what a destination that was down for a day leaves behind.
DELIVERIES = {DeliveryState.CONFIRMED: 0.99, DeliveryState.DEAD: 0.004, DeliveryState.UNCONFIRMED: 0.004,
              DeliveryState.PENDING: 0.002}  # fmt: skip
#: Share of the held answers that could not be read.
UNREADABLE = 0.05
ROWS_AT_ONCE = 1000
#: Slices of every thousandth study.
LARGE_SERIES = 500
PATIENTS_PER_STUDY = 0.4
ADAPTERS = (("dsa_patency", "XA", 6), ("abdominal_trauma", "CT", 5))
_ANSWER = "the vessel is blocked in its middle third; contrast stops and the distal branches are not filled. " * 2
_IMAGE = {"dsa_patency": "1.2.840.10008.5.1.4.1.1.12.1", "abdominal_trauma": "1.2.840.10008.5.1.4.1.1.2"}


def fill(database: Database, studies: int, seed: int = 1) -> None:
    """Write the rows."""
    chance = random.Random(seed)
    tables: tuple[type[Record], ...] = (Study, StudyTerm, Series, Instance, Job, Result, Delivery, Review, Event)
    waiting: dict[type[Record], list[dict[str, Any]]] = {table: [] for table in tables}
    instance_id = 0
    with database.writing() as session:
        for number in range(1, studies + 1):
            for table, row in _study(number, studies, chance):
                if table is Instance:
                    instance_id += 1
                    row["id"] = instance_id
                waiting[table].append(row)
            if number % ROWS_AT_ONCE == 0 or number == studies:
                for table, rows in waiting.items():
                    if rows:
                        session.execute(insert(table), rows)
                    rows.clear()
    if not database.is_sqlite:
        with database.engine.begin() as connection:
            for name in (table.__tablename__ for table in tables if table not in (Job, StudyTerm)):
                last = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"  # noqa: S608
                connection.exec_driver_sql(last)
    settle(database)


def settle(database: Database) -> None:
    """Leave a database that was filled at once as one is that has been in use for long: vacuumed, with statistics.

    What autovacuum does after so many rows would else be measured together with the pages. SQLite has no such thing:
    its planner knows nothing of what is in the tables.
    """
    if database.is_sqlite:
        return
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
        connection.exec_driver_sql("CHECKPOINT")


def _study(number: int, studies: int, chance: random.Random) -> Iterator[tuple[type[Record], dict[str, Any]]]:
    uid = f"1.2.826.0.1.3680043.10.9.{number}"
    received = NOW - timedelta(minutes=5 * (studies - number))
    patient = chance.randrange(max(int(studies * PATIENTS_PER_STUDY), 1))
    adapter, modality, _ = ADAPTERS[number % len(ADAPTERS)]
    accession = f"ACC{number:07d}"
    name = f"Name{patient}^Given"
    identity = {"accession_number": accession, "patient_id": f"PAT{patient:06d}", "patient_name": name}
    yield Study, {
        "id": number, "study_instance_uid": uid, **identity, "issuer_of_patient_id": "City",
        "patient_birth_date": f"19{patient % 90 + 10}0101", "study_date": f"{received:%Y%m%d}",
        "study_description": f"{modality} examination", "first_received_at": received,
    }  # fmt: skip
    for term in terms_of(*identity.values(), f"{modality} examination"):
        yield StudyTerm, {"study_id": number, "term": term}
    yield Series, {
        "id": number, "study_id": number, "series_instance_uid": f"{uid}.1", "modality": modality,
        "state": SeriesState.ROUTED, "revision": 1, "last_instance_at": received, "route_adapter": adapter,
        "route_rule": f"adapter: {adapter}", "route_reason": f"SOP class and modality {modality} accepted",
    }  # fmt: skip
    slices = LARGE_SERIES if number % 1000 == 1 else 2
    for index in range(slices):
        header = {
            **_HEADER, **identity, "sop_class_uid": _IMAGE[adapter], "sop_instance_uid": f"{uid}.1.{index}",
            "study_instance_uid": uid, "series_instance_uid": f"{uid}.1", "modality": modality,
        }  # fmt: skip
        yield Instance, {
            "series_id": number, "sop_instance_uid": f"{uid}.1.{index}", "sop_class_uid": _IMAGE[adapter],
            "transfer_syntax_uid": "1.2.840.10008.1.2.1", "state": InstanceState.STORED,
            "digest": f"{number:032x}{index:032x}", "size_bytes": 1 << 19, "path": f"spool/{number}/{index}.dcm",
            "header": header, "calling_ae_title": "MODALITY", "received_at": received, "revision": 1,
        }  # fmt: skip
    yield from _job(number, uid, ADAPTERS[number % len(ADAPTERS)], received, chance)


def _job(
    number: int, uid: str, asked: tuple[str, str, int], received: datetime, chance: random.Random
) -> Iterator[tuple[type[Record], dict[str, Any]]]:
    job_id, (adapter, modality, priority) = f"{number:032x}", asked
    state = chance.choices(list(STATES), list(STATES.values()))[0]
    probability = round(chance.random(), 4)
    is_read = state is not JobState.HELD or chance.random() > UNREADABLE
    answered = received + timedelta(seconds=30)
    yield Job, {
        "id": job_id, "study_id": number, "series_id": number, "adapter": adapter, "modality": modality,
        "question_key": "", "unit_uid": f"{uid}.1.0" if adapter == "dsa_patency" else f"{uid}.1", "revision": 1,
        "state": state, "priority": priority if number % 7 else 9, "created_at": received, "not_before": received,
        "attempts": 1, "doubts": [], "prompt_digest": "p" * 64, "answered_at": answered, "waiting_since": answered,
        "second_reader": number % 50 == 0, "probability": probability, "parsed": is_read,
        "findings": _findings(adapter, probability) if is_read else None,
        "confidence": {"probability": probability, "calibrated": False, "method": "label likelihood", "raw": None},
        "decision": "review" if state is JobState.HELD else "release",
        "decision_reason": f"low confidence: probability {probability} is below 0.95", "error": None,
        "model_input": _model_input(uid, adapter), "provenance": _PROVENANCE, "generation": _generation(chance),
    }  # fmt: skip
    yield from _history(number, job_id, received)
    if state not in (JobState.HELD, JobState.SUPERSEDED):
        yield from _results(number, job_id, uid, answered, chance, is_signed=state is JobState.VERIFIED)


def _findings(adapter: str, probability: float) -> dict[str, Any]:
    if adapter == "dsa_patency":
        return {"patency": "blocked", "probabilities": {"patent": 1 - probability, "blocked": probability}}
    return TraumaFindings(
        injury_pattern="liver laceration",
        organs_involved=["liver"],
        bleeding_description="small haematoma, no active bleeding",
        severity_estimate="mild",
        differential_diagnosis=["contusion"],
    ).model_dump(mode="json")


def _model_input(uid: str, adapter: str) -> dict[str, Any]:
    frames = [{**_FRAME, "sop_class_uid": _IMAGE[adapter], "sop_instance_uid": f"{uid}.1.0",
               "series_instance_uid": f"{uid}.1", "frame_numbers": [number]} for number in (7, 8, 9)]  # fmt: skip
    return {**_RECORD, "image_sources": frames, "sources": frames}


def _generation(chance: random.Random) -> dict[str, Any]:
    tokens = [
        {"token": word, "log_probability": -chance.random(), "alternatives": [["x", -1.5]] * 3}
        for word in _ANSWER.split()
    ]
    return {"text": _ANSWER, "tokens": tokens, "label_scores": None, "finish_reason": "stop", "elapsed_s": 1.2}


def _history(number: int, job_id: str, received: datetime) -> Iterator[tuple[type[Record], dict[str, Any]]]:
    steps = [("series", str(number), state) for state in ("stable", "routed")]
    steps += [("job", job_id, state) for state in ("running", "generated", "decided", "released")]
    for index, (subject, subject_id, state) in enumerate(steps):
        yield Event, {
            "id": number * 8 + index, "at": received + timedelta(seconds=index), "study_id": number,
            "subject": subject, "subject_id": subject_id, "from_state": None, "to_state": state,
            "reason": "as the pipeline says it, in a sentence of usual length",
        }  # fmt: skip


def _results(
    number: int, job_id: str, uid: str, answered: datetime, chance: random.Random, *, is_signed: bool
) -> Iterator[tuple[type[Record], dict[str, Any]]]:
    for index, kind in enumerate(("sr", "sc")):
        result_id = number * 2 + index
        yield Result, {
            "id": result_id, "job_id": job_id, "sop_instance_uid": f"{uid}.9.{index}",
            "sop_class_uid": "1.2.840.10008",
            "kind": kind, "verified": is_signed, "digest": "e" * 64, "path": f"spool/{result_id}",
            "created_at": answered,
        }  # fmt: skip
        sent = chance.choices(list(DELIVERIES), list(DELIVERIES.values()))[0]
        went = sent is DeliveryState.CONFIRMED
        yield Delivery, {
            "id": result_id, "result_id": result_id, "destination": "pacs", "state": sent,
            "attempts": 0, "tries": 1, "not_before": answered, "delivered_at": answered if went else None,
            "asks": 1, "denials": 0, "last_error": None if went else "pacs refused it: 0xA700 out of resources",
        }  # fmt: skip
    if is_signed:
        yield Review, {
            "id": number, "job_id": job_id, "action": "accept", "account": "1", "reviewer_name": "Lovelace^Ada",
            "reviewer_organization": "City", "comment": "", "seen": "", "from_state": "held", "decided_at": answered,
        }  # fmt: skip


_PROVENANCE = asdict(
    ModelProvenance("base", "1", "b" * 64, "lora", "1", "a" * 64, "transformers", "bfloat16", "cuda", "software", False)
)
_HEADER = InstanceHeader(
    "", "", "", "", "1.2.840.10008.1.2.1", rows=512, columns=512, has_pixel_data=True, station_name="SCANNER 1"
).to_json()
_RECORD = InputRecord(
    (SourceFrames("", "", "", (1,)),),
    (),
    {"frames": list(range(60)), "window": [40, 400], "instances": [{"transfer_syntax": "1.2.840.10008.1.2.1"}]},
    ("gap of 10 mm after slice 14",),
    (0,),
    "d" * 64,
    (),
).to_json()
_FRAME = _RECORD["image_sources"][0]
