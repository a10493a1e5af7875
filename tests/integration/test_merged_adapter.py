"""A site that runs one adapter merged into its base and another one unmerged: merged once, then used as configured."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sqlalchemy import select

from dicom_node.scp import AssociationRecord
from dicom_node.spool import Spool
from models.engines import load_engine
from models.phantoms import draw_vessel_run
from models.weights import STANDIN_FOLDER
from tests.command_line import cli
from tests.logging_state import logging_as_before
from tests.received import Modality, association
from worker import pipeline
from worker.assembly import assemble
from worker.db.arrivals import Arrival, commit_arrivals
from worker.db.records import Job
from worker.db.schema import upgrade
from worker.db.sessions import Database
from worker.demo.phantom_studies import write_xa_run
from worker.engine_setup import engine_config
from worker.settings import load_settings
from worker.site import enabled_adapters

DSA, TRAUMA = "dsa_patency", "abdominal_trauma"
BASE = "google/medgemma-1.5-4b-it"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two settings files: all adapters apart, and the vessel adapter as `adapters merge` wrote it."""
    folder = tmp_path_factory.mktemp("site")
    for name in (DSA, TRAUMA):
        shutil.copytree(STANDIN_FOLDER / name, folder / name)
        stored = json.loads((folder / name / "adapter_config.json").read_text())
        stored["base_model_name_or_path"] = BASE
        (folder / name / "adapter_config.json").write_text(json.dumps(stored))
    engine = {
        "kind": "transformers",
        "device": "cpu",
        "enabled": [DSA, TRAUMA],
        "bases": {BASE: str(STANDIN_FOLDER / "base")},
        "adapters": {DSA: str(folder / DSA), TRAUMA: str(folder / TRAUMA)},
    }
    write_settings(folder, "apart", engine)
    arguments = ["adapters", "merge", DSA, "--out", folder / "merged", "--dtype", "float32"]
    with logging_as_before():
        done = cli(*arguments, "--config", folder / "apart.yaml")
    assert done.exit_code == 0, done.stderr
    assert f"engine.adapters.{DSA}: {folder / 'merged'}" in done.stdout
    write_settings(folder, "merged", engine | {"adapters": {DSA: str(folder / "merged"), TRAUMA: str(folder / TRAUMA)}})
    return folder


def write_settings(folder: Path, name: str, engine: dict[str, Any]) -> None:
    settings = {"data_dir": str(folder / f"data-{name}"), "engine": engine, "review": {"audit_fraction": 0}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))


def test_the_check_knows_it_for_what_it_is(site: Path) -> None:
    done = cli("adapters", "check", "--json", "--config", site / "merged.yaml")
    assert done.exit_code == 0, done.stderr
    states = {state["adapter"]: state for state in json.loads(done.stdout)["weights"]}
    assert states[DSA]["merged"]["base"] == BASE
    assert states[TRAUMA]["merged"] is None


def test_infer_answers_the_same(site: Path, tmp_path: Path) -> None:
    run = draw_vessel_run(np.random.default_rng(5), blocked=True, difficulty=0.1)
    path = write_xa_run(tmp_path, run.pixels)
    units = []
    for name in ("apart", "merged"):
        done = cli("infer", DSA, path, "--json", "--config", site / f"{name}.yaml")
        assert done.exit_code == 0, done.stderr
        (unit,) = json.loads(done.stdout)["units"]
        units.append(unit)
    apart, merged = units
    assert apart["findings"]["patency"] == "blocked"
    assert (merged["answer_text"], merged["decision"]) == (apart["answer_text"], apart["decision"])
    assert merged["confidence"] == pytest.approx(apart["confidence"], abs=1e-4)
    for part in ("base", "base_digest", "adapter", "adapter_digest"):
        assert merged["provenance"][part] == apart["provenance"][part]
    assert merged["provenance"]["files"].keys() > apart["provenance"]["files"].keys()


def test_a_batch_of_jobs_of_several_adapters_is_answered_the_same(site: Path, tmp_path: Path) -> None:
    """Through the ledger: one claim of jobs that belong to the merged model and to the base with its adapter."""
    answered = [answers(site / f"{name}.yaml", tmp_path / name) for name in ("apart", "merged")]
    apart, merged = answered
    assert [adapter for adapter, _, _ in apart] == [DSA, DSA, TRAUMA]
    for (_, text, sure), (_, same_text, same_sure) in zip(apart, merged, strict=True):
        assert same_text == text
        assert same_sure == pytest.approx(sure, abs=1e-4)


def answers(config: Path, folder: Path) -> list[tuple[str, str, float]]:
    """Take in two runs and a CT, work on all of them at once, and return (adapter, words, probability) of each."""
    settings = load_settings(config)
    adapters = enabled_adapters(settings)
    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'ledger.db'}")
    upgrade(database)
    modality = Modality(Spool(folder / "spool"))
    runs, slices = [modality.xa_run(), modality.xa_run()], modality.ct_series(20, body_part="ABDOMEN")
    arrivals: list[Arrival | AssociationRecord] = [*runs, *slices, association(instances=22)]
    units = [*(run.header.sop_instance_uid for run in runs), slices[0].header.series_instance_uid]
    engine = load_engine(engine_config(settings))
    try:
        for series_id in commit_arrivals(database, arrivals, timedelta(seconds=10)):
            assemble(database, settings, adapters, series_id)
        ready = pipeline.infer(database, settings, adapters, engine, "worker-1")
        assert len(ready) == 3
        for job_id in ready:
            assert pipeline.score(database, settings, adapters, job_id)
        with database.reading() as session:
            jobs = {job.unit_uid: job for job in session.scalars(select(Job))}
        found = []
        for unit_uid in units:
            job = jobs[unit_uid]
            assert job.generation is not None
            sure = job.confidence["probability"] if job.confidence else float("nan")
            found.append((job.adapter, job.generation["text"], sure))
        return found
    finally:
        engine.close()
        database.close()
