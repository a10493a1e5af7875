"""Reviewed jobs in a database become a calibration; jobs scored after it say so, and only those of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.adapter import adapters, with_prompt
from models.generation import Generation, JsonAnswer, ModelProvenance
from models.prompting import prompt_digest
from models.question import Question
from worker import pipeline
from worker.calibration import calibrate
from worker.db.calibrations import CalibrationRow, calibrations, take_out_of_use, why_void
from worker.db.columns import utc_now
from worker.db.records import Event, Job, Review, Series, Study
from worker.db.sessions import Database
from worker.settings import Settings
from worker.states import JobState, SeriesState

ADAPTERS = {"dsa_patency": adapters()["dsa_patency"]}
TRAINED = prompt_digest(ADAPTERS["dsa_patency"])
OWN = {"dsa_patency": with_prompt(ADAPTERS["dsa_patency"], "Is the vessel open?")}
PROVENANCE = ModelProvenance("b", "1", "base", "a", "1", "lora", "scripted", "float32", "cpu", "none", False)


class Ledger:
    """Reviewed and unscored jobs as rows."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.db = database
        self.settings = Settings(data_dir=folder, review={"audit_fraction": 0, "organization": "City Hospital"})
        self.count = 0
        with database.writing() as session:
            study = Study(study_instance_uid="1.2", accession_number="A", patient_id="P", patient_name="N")
            series = Series(
                study=study, series_instance_uid="1.2.3", modality="XA", state=SeriesState.ROUTED, revision=1
            )
            session.add_all([study, series])
            session.flush()
            self.ids = {"study_id": study.id, "series_id": series.id}

    def job(self, patent: float, state: JobState, **columns: Any) -> Job:
        self.count += 1
        generation = Generation("", (), {"patent": patent, "blocked": 1 - patent}, "labels", 10, 0.01)
        return Job(
            **self.ids,
            adapter="dsa_patency",
            unit_uid=f"1.2.3.{self.count}",
            revision=1,
            state=state,
            model_input={"incomplete": []},
            generation=generation.to_json(),
            answered_at=utc_now() + timedelta(seconds=self.count),
            **{"provenance": PROVENANCE.to_json(), "prompt_digest": TRAINED, **columns},
        )

    def reviewed(self, patent: float, action: str, *, organization: str = "City Hospital", **columns: Any) -> Job:
        said = "patent" if patent >= 0.5 else "blocked"
        findings = {"patency": said, "probabilities": {"patent": patent, "blocked": 1 - patent}}
        signed = {**findings, "patency": "blocked" if said == "patent" else "patent"} if action == "edit" else findings
        row = self.job(
            patent,
            JobState.REJECTED if action == "reject" else JobState.VERIFIED,
            findings=findings,
            **{
                "confidence": {
                    "probability": max(patent, 1 - patent),
                    "calibrated": False,
                    "method": "label likelihood",
                },
                "decision": "review",
                "decision_reason": "low confidence",
                **columns,
            },
        )
        review = Review(action=action, reviewer_name="Doe^Jane", reviewer_organization=organization)
        review.findings = None if action == "reject" else signed
        row.reviews.append(review)
        return row

    def add(self, *rows: Job) -> None:
        with self.db.writing() as session:
            session.add_all(rows)

    def overconfident(self, count: int = 60, **columns: Any) -> None:
        """Review answers that say 0.97 and are right in three of four cases."""
        rng = np.random.default_rng(1)
        actions = ["edit" if number % 4 == 0 else "accept" for number in range(count)]
        self.add(*(self.reviewed(0.97 + 0.002 * rng.uniform(-1, 1), action, **columns) for action in actions))

    def scored(self, patent: float = 0.97, **columns: Any) -> Job:
        with self.db.writing() as session:
            row = self.job(patent, JobState.GENERATED, **columns)
            session.add(row)
            session.flush()
            job_id = row.id
        assert pipeline.score(self.db, self.settings, ADAPTERS, job_id)
        with self.db.reading() as session:
            return session.get_one(Job, job_id)


@pytest.fixture
def ledger(database: Database, tmp_path: Path) -> Ledger:
    return Ledger(database, tmp_path)


def test_a_job_scored_after_a_calibration_is_calibrated(ledger: Ledger) -> None:
    before = ledger.scored()
    assert before.confidence == {"probability": 0.97, "calibrated": False, "method": "label likelihood"}
    assert before.decision == "release"
    ledger.overconfident()
    (outcome,) = calibrate(ledger.db, ADAPTERS, "dsa_patency")
    assert outcome.calibration is not None
    assert (outcome.calibration.version, outcome.calibration.cases, outcome.calibration.right) == (1, 60, 45)
    after = ledger.scored()
    assert after.confidence is not None
    assert after.confidence["calibrated"]
    assert after.confidence["raw"] == 0.97
    assert after.confidence["probability"] == pytest.approx(0.75, abs=0.03)
    assert "calibration 1 (temperature, 60 reviewed cases)" in after.confidence["method"]
    assert after.decision == "review"


def other_weights(ledger: Ledger) -> dict[str, Any]:
    return {"provenance": {**PROVENANCE.to_json(), "adapter_digest": "another"}}


def other_prompt(ledger: Ledger) -> dict[str, Any]:
    return {"prompt_digest": prompt_digest(OWN["dsa_patency"])}


def prompt_unknown(ledger: Ledger) -> dict[str, Any]:
    """A job that an earlier version answered."""
    return {"prompt_digest": ""}


def taken_out(ledger: Ledger) -> dict[str, Any]:
    with ledger.db.writing() as session:
        assert take_out_of_use(session, "dsa_patency", "") == 1
    return {}


@pytest.mark.parametrize("change", [other_weights, other_prompt, prompt_unknown, taken_out])
def test_other_weights_and_other_words_are_uncalibrated_again(
    ledger: Ledger, change: Callable[[Ledger], dict[str, Any]]
) -> None:
    ledger.overconfident()
    calibrate(ledger.db, ADAPTERS, "dsa_patency")
    job = ledger.scored(**change(ledger))
    assert job.confidence is not None
    assert job.confidence["calibrated"] is False


def test_answers_to_another_prompt_teach_nothing(ledger: Ledger) -> None:
    ledger.overconfident(30)
    ledger.overconfident(3, prompt_digest="")
    (refused,) = calibrate(ledger.db, OWN, "dsa_patency")
    assert refused.calibration is None
    assert refused.counts == {
        "left out: the prompt was another one": 30,
        "left out: answered before prompts were kept with the answers": 3,
    }
    ledger.overconfident(25, **other_prompt(ledger))
    (fitted,) = calibrate(ledger.db, OWN, "dsa_patency")
    assert fitted.calibration is not None
    assert fitted.calibration.cases == 25
    assert fitted.calibration.scope.prompt_digest == prompt_digest(OWN["dsa_patency"])
    # Back to the trained words: the cases of these count again, the others do not.
    (back,) = calibrate(ledger.db, ADAPTERS, "dsa_patency", store=False)
    assert back.calibration is not None
    assert back.calibration.cases == 30


def test_why_a_calibration_is_void_can_be_seen(ledger: Ledger) -> None:
    ledger.overconfident(25)
    calibrate(ledger.db, ADAPTERS, "dsa_patency")

    def said() -> str:
        with ledger.db.reading() as session:
            (row,) = calibrations(session)
            return why_void(session, row)

    assert said() == ""
    ledger.scored(**other_weights(ledger))
    assert "other weights" in said()
    ledger.scored(**other_prompt(ledger))
    assert "another prompt" in said()
    ledger.scored()
    assert said() == "", "the trained words are in use again"
    with ledger.db.writing() as session:
        session.query(CalibrationRow).update({"prompt_digest": ""})
    assert "before prompts were kept" in said()
    assert ledger.scored().confidence == {"probability": 0.97, "calibrated": False, "method": "label likelihood"}


def test_the_digest_tells_prompts_questions_and_answer_forms_apart() -> None:
    """And nothing else: a longer limit or another release threshold is no other question."""
    flare, dsa = adapters()["flare"], ADAPTERS["dsa_patency"]
    asked = [
        flare.asked(Question("classification", labels=("normal", "pneumonia"))),
        flare.asked(Question("classification", labels=("normal", "effusion"))),
        flare.asked(Question("classification", "Which is it?", ("normal", "pneumonia"))),
        flare.asked(Question("counting", labels=("cell",))),
        dsa,
        with_prompt(dsa, dsa.prompt.user, "You are a radiologist."),
        OWN["dsa_patency"],
    ]
    assert len({prompt_digest(adapter) for adapter in asked}) == len(asked)
    trauma = adapters()["abdominal_trauma"]
    assert isinstance(trauma.answer_form, JsonAnswer)
    longer = replace(trauma, answer_form=replace(trauma.answer_form, max_new_tokens=900), version="99")
    assert prompt_digest(longer) == prompt_digest(trauma)
    assert prompt_digest(with_prompt(dsa, f" {dsa.prompt.user}\n")) == TRAINED


def test_versions_follow_one_another_and_only_the_newest_is_used(ledger: Ledger) -> None:
    ledger.overconfident()
    for _ in range(2):
        calibrate(ledger.db, ADAPTERS, "dsa_patency")
    calibrate(ledger.db, ADAPTERS, "dsa_patency", store=False)
    with ledger.db.reading() as session:
        assert [(row.version, row.active) for row in calibrations(session)] == [(2, True), (1, False)]
        assert session.query(Event).filter_by(subject="calibration", to_state="active").count() == 2


def test_jobs_scored_with_a_calibration_are_fitted_by_their_raw_probability(ledger: Ledger) -> None:
    ledger.overconfident(30)
    method = "label likelihood, calibration 1 (temperature, 60 reviewed cases)"
    ledger.overconfident(30, confidence={"probability": 0.75, "calibrated": True, "method": method, "raw": 0.97})
    (outcome,) = calibrate(ledger.db, ADAPTERS, "dsa_patency", store=False)
    assert outcome.fitted is not None
    assert outcome.fitted.cases == 60
    assert outcome.fitted.parameters["temperature"] == pytest.approx(3.3, abs=0.5)


def test_what_cannot_be_learned_from_is_counted_and_said(ledger: Ledger) -> None:
    ledger.overconfident(20)
    ledger.overconfident(4, **other_weights(ledger))
    with ledger.db.writing() as session:  # the other weights answered earlier
        for job in session.query(Job).order_by(Job.answered_at.desc()).limit(4):
            job.answered_at = utc_now() - timedelta(days=1)
    audited = ledger.reviewed(0.97, "accept", decision_reason="audit sample: 5% of all answers are reviewed")
    ledger.add(ledger.reviewed(0.97, "reject"), audited)
    (outcome,) = calibrate(ledger.db, ADAPTERS, "dsa_patency")
    assert outcome.counts == {
        "left out: rejected": 1,
        "left out: other weights, precision or kind of probability": 4,
        "used: held": 20,
        "used: audit sample": 1,
    }
    assert any("20 of 21 cases were reviewed because they were held" in warning for warning in outcome.warnings)


def test_too_few_cases_store_nothing(ledger: Ledger) -> None:
    (nothing,) = calibrate(ledger.db, ADAPTERS, "dsa_patency")
    assert nothing.refusal == "no answer of dsa_patency was reviewed yet"
    ledger.overconfident(19)
    (outcome,) = calibrate(ledger.db, ADAPTERS, "dsa_patency")
    assert "19 reviewed cases are too few, at least 20" in outcome.refusal
    with ledger.db.reading() as session:
        assert calibrations(session) == []


def test_a_site_learns_from_its_own_people_and_others_from_all(ledger: Ledger) -> None:
    ledger.overconfident(40)
    ledger.overconfident(40, organization="Village Clinic")
    calibrate(ledger.db, ADAPTERS, "dsa_patency")
    (village,) = calibrate(ledger.db, ADAPTERS, "dsa_patency", site="Village Clinic")
    assert village.fitted is not None
    assert village.fitted.cases == 40
    job = ledger.scored()
    assert job.confidence is not None
    assert "80 reviewed cases" in job.confidence["method"]
    ledger.settings = Settings(review={"audit_fraction": 0, "organization": "Village Clinic"})
    job = ledger.scored()
    assert job.confidence is not None
    assert "40 reviewed cases" in job.confidence["method"]
