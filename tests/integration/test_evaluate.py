"""`evaluate` and `calibrate` as a person uses them: phantoms on disk, the stand-in engine, a page and JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.adapter import adapters
from models.phantoms import draw_vessel_run
from models.prompting import prompt_digest
from tests.command_line import cli
from worker.db.calibrations import calibrations
from worker.db.columns import utc_now
from worker.db.records import Job, Review, Series, Study
from worker.db.schema import upgrade
from worker.db.sessions import Database
from worker.demo.phantom_studies import write_xa_run
from worker.settings import load_settings
from worker.states import JobState

RUNS = 12


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with easy XA runs, every third one blocked, and their manifest."""
    folder = tmp_path_factory.mktemp("phantoms")
    entries = []
    for number in range(RUNS):
        blocked = number % 3 == 0
        run = draw_vessel_run(np.random.default_rng(2_000_000 + number), blocked=blocked, difficulty=0.1)
        path = write_xa_run(folder / f"run{number}", run.pixels)
        named = path.parent.name if number % 2 else str(path.relative_to(folder))
        entries.append({"paths": [named], "truth": {"patency": "blocked" if blocked else "patent"}})
    (folder / "manifest.json").write_text(json.dumps(entries))
    (folder / "lines.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries[:4]))
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with settings."""
    monkeypatch.chdir(tmp_path)
    Path("dicom-worker.yaml").write_text("engine: {kind: standin, batch: 5}\nreview: {organization: Here}\n")
    return tmp_path


def evaluated(manifest: Path, *more: object) -> dict[str, Any]:
    done = cli("evaluate", "--adapter", "dsa_patency", "--manifest", manifest, "--json", *more)
    assert done.exit_code == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_stand_in_is_measured_and_everything_is_written(phantoms: Path, here: Path) -> None:
    document = evaluated(phantoms / "manifest.json", "--out", "report")
    counts = [document[name] for name in ("entries", "answered", "unparsed", "failed")]
    assert counts == [RUNS, RUNS, 0, 0]
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert {"accuracy", "sensitivity", "specificity", "balanced accuracy", "format adherence"} <= set(figures)
    assert figures["accuracy"]["value"] >= 0.8
    assert figures["sensitivity"]["n"] == RUNS / 3
    assert figures["accuracy"]["low"] < figures["accuracy"]["value"]
    (curve,) = document["reliability"]
    assert curve["kind"] == "raw"
    assert sum(part["cases"] for part in curve["bins"]) == RUNS
    assert "means nothing" in document["notice"]
    assert json.loads((here / "report" / "evaluation.json").read_text()) == document
    answers = [json.loads(line) for line in (here / "report" / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == RUNS
    right = [answer["findings"]["patency"] == answer["truth"]["patency"] for answer in answers]
    assert sum(right) / RUNS == pytest.approx(figures["accuracy"]["value"])
    assert [answer["quality"] for answer in answers] == right
    page = (here / "report" / "evaluation.html").read_text()
    assert page.count("<svg") == 2
    assert "sensitivity" in page
    assert "means nothing" in page
    # Nothing from elsewhere: no address, no file, no script.
    assert not re.search(r"https?:|//[a-z]|src=|<link|<script|@import|url\((?!#)|href=\"(?!#)", page)


def test_the_table_is_for_people(phantoms: Path) -> None:
    done = cli("evaluate", "--adapter", "dsa_patency", "--manifest", phantoms / "lines.jsonl", "--limit", 2)
    assert done.exit_code == 0, done.stderr
    for words in ("2 cases", "accuracy", "Wilson", "area under risk-coverage", "warning:", "2 cases are few"):
        assert words in done.stdout


def test_a_case_that_cannot_be_shown_fails_alone_and_counts_as_wrong(phantoms: Path, tmp_path: Path) -> None:
    entries = json.loads((phantoms / "manifest.json").read_text())[:3]
    for entry in entries:
        entry["paths"] = [str(phantoms / entry["paths"][0])]
    whole = next((phantoms / "run1").iterdir())
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(whole.read_bytes()[:-5000])
    entries[1] = {"paths": ["broken.dcm"], "truth": {"patency": "patent"}, "id": "the broken one"}
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    document = evaluated(tmp_path / "manifest.json")
    assert (document["answered"], document["failed"]) == (2, 1)
    assert any("the broken one: the images cannot be shown to the model" in text for text in document["warnings"])
    specificity = next(figure for figure in document["figures"] if figure["name"] == "specificity")
    assert specificity["value"] <= 0.5


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (
            {"paths": ["none.dcm"], "truth": {"patency": "patent"}},
            ["entry 2", "there is no file or folder", "none.dcm"],
        ),
        ({"paths": ["run0"], "truth": {"patency": "open"}}, ["entry 2", "patency", "'patent' or 'blocked'"]),
        ({"paths": ["run0"], "truth": {"patencie": "patent"}}, ["entry 2", "patency", "expected is patency"]),
        ({"paths": ["run0"]}, ["entry 2", 'has no "truth"']),
        ({"path": ["run0"], "truth": {"patency": "patent"}}, ["entry 2", "unknown key 'path'"]),
        ({"paths": ["run0", "run1"], "truth": {"patency": "patent"}}, ["entry 2", "2 runs"]),
        ({"paths": ["manifest.json"], "truth": {"patency": "patent"}}, ["entry 2", "is not a DICOM file"]),
        ({"image": "manifest.json", "truth": {"patency": "patent"}}, ["entry 2", "no picture"]),
        ("run0", ["entry 2", "is not an object"]),
    ],
)
def test_a_wrong_entry_is_named_before_anything_is_loaded(phantoms: Path, entry: Any, named: list[str]) -> None:
    good = {"paths": ["run0"], "truth": {"patency": "blocked"}}
    wrong = phantoms / "wrong.json"
    wrong.write_text(json.dumps([good, entry]))
    done = cli("evaluate", "--adapter", "dsa_patency", "--manifest", wrong)
    assert done.exit_code == 2
    assert done.stdout == ""
    for words in named:
        assert words in done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--adapter", "no_such", "--manifest", "m.json"], "no adapter no_such"),
        (["--adapter", "dsa_patency", "--manifest", "m.json"], "m.json: cannot be read"),
        (["--adapter", "dsa_patency", "--manifest", "m.json", "--task", "counting"], "no task 'counting'"),
        (["--adapter", "flare", "--manifest", "m.json"], "--task is missing; flare has classification, counting"),
        (
            ["--adapter", "flare", "--manifest", "m.json", "--label", "cyst"],
            "go with --task; flare has the tasks class",
        ),
        (["--adapter", "dsa_patency", "--manifest", "m.json", "--text", "Open?"], "dsa_patency has but one question"),
        (["--adapter", "clinical_caption", "--manifest", "m.json", "--language", "xx"], "does not answer in 'xx'"),
    ],
)
def test_wrong_usage_is_said_clearly(words: list[str], named: str) -> None:
    done = cli("evaluate", *words)
    assert done.exit_code == 2
    assert named in done.stderr


def test_reviewed_answers_calibrate_and_the_evaluation_shows_both(phantoms: Path) -> None:
    assert cli("calibrate", "dsa_patency").exit_code == 1  # no database yet
    settings = load_settings()
    database = Database(settings.resolved_database_url)
    upgrade(database)
    none = cli("calibrate", "dsa_patency")
    assert none.exit_code == 1
    assert "no answer of dsa_patency was reviewed yet" in none.stdout
    provenance = evaluated(phantoms / "manifest.json", "--limit", 1)["provenance"]
    _fill(database, provenance)
    tried = cli("calibrate", "dsa_patency", "--dry-run")
    assert "would be fitted" in tried.stdout
    assert "reviewed because they were held" in tried.stdout.replace("\n", " ")
    done = cli("calibrate", "dsa_patency", "--json")
    assert done.exit_code == 0, done.stderr
    (outcome,) = json.loads(done.stdout)["outcomes"]
    assert (outcome["version"], outcome["fitted"]["cases"]) == (1, 24)
    listed = json.loads(cli("calibrations", "--json").stdout)
    assert [(row["adapter"], row["version"], row["active"]) for row in listed] == [("dsa_patency", 1, True)]
    document = evaluated(phantoms / "manifest.json", "--out", "both")
    assert [curve["kind"] for curve in document["reliability"]] == ["raw", "calibration 1"]
    assert "calibration 1" in Path("both/evaluation.html").read_text()
    # Other words are answered otherwise: what was learned from answers to the trained ones says nothing about them.
    Path("own.md").write_text("Is the vessel open?")
    Path("own.yaml").write_text(Path("dicom-worker.yaml").read_text() + "adapters: {dsa_patency: {prompt: own.md}}\n")
    document = evaluated(phantoms / "manifest.json", "--limit", 4, "--config", "own.yaml")
    assert [curve["kind"] for curve in document["reliability"]] == ["raw"]
    refused = cli("calibrate", "dsa_patency", "--config", "own.yaml")
    assert refused.exit_code == 1
    assert "24 left out: the prompt was another one" in refused.stdout
    assert "uncalibrated from now on" in cli("calibrate", "dsa_patency", "--off").stdout
    with database.reading() as session:
        assert [row.active for row in calibrations(session)] == [False]
    database.close()


def _fill(database: Database, provenance: dict[str, Any]) -> None:
    """Write 24 reviewed answers that said 0.9 and were right in two of three cases."""

    with database.writing() as session:
        study = Study(study_instance_uid="1.2", accession_number="A", patient_id="P", patient_name="N")
        series = Series(study=study, series_instance_uid="1.2.3", modality="XA", revision=1)
        session.add_all([study, series])
        session.flush()
        for number in range(24):
            right = number % 3 != 0
            job = Job(
                study_id=study.id,
                series_id=series.id,
                adapter="dsa_patency",
                unit_uid=f"1.2.3.{number}",
                revision=1,
                state=JobState.VERIFIED,
                findings={"patency": "blocked"},
                confidence={"probability": 0.9, "calibrated": False, "method": "label likelihood"},
                provenance=provenance,
                prompt_digest=prompt_digest(adapters()["dsa_patency"]),
                answered_at=utc_now(),
                decision="review",
                decision_reason="low confidence",
            )
            signed = {"patency": "blocked" if right else "patent"}
            review = Review(action="accept" if right else "edit", reviewer_name="Doe^Jane", findings=signed)
            job.reviews.append(review)
            session.add(job)
