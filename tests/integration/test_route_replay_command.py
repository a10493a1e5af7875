"""`route replay` as a person or a script meets it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from dicom_node.spool import Spool
from models.adapter import adapters
from tests.received import Modality
from tests.web_server import web_settings
from worker.assembly import assemble
from worker.cli import app
from worker.db.arrivals import commit_arrivals
from worker.db.sessions import Database


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings with one run in the ledger."""
    settings = web_settings(tmp_path)
    database = Database(settings.resolved_database_url)
    run = Modality(Spool(tmp_path / "spool")).xa_run()
    (series_id,) = commit_arrivals(database, [run], timedelta(seconds=30))
    assert assemble(database, settings, adapters(), series_id)
    database.close()
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(settings.data_dir), "engine": {"kind": "standin"}}))
    return file


def replay(config: Path, rules: str, *words: str) -> Result:
    file = config.parent / "rules.yaml"
    file.write_text(rules)
    return CliRunner().invoke(app, ["route", "replay", "--rules", str(file), "--config", str(config), *words])


def test_it_tells_what_other_rules_would_have_done(config: Path) -> None:
    rules = "routes:\n- {name: none of these, when: {modality: XA}, adapter: null}\n"
    done = replay(config, rules)
    assert done.exit_code == 0
    assert "1 of 1 series of the last 7 days would go another way" in done.stdout
    assert "site rule: none of these" in done.stdout
    report = json.loads(replay(config, rules, "--days", "1", "--json").stdout)
    assert (report["changed"], report["counts"]) == (1, [{"before": ["dsa_patency"], "after": [], "series": 1}])
    assert json.loads(replay(config, "[]", "--json").stdout)["changed"] == 0


def test_wrong_rules_end_with_what_is_wrong(config: Path) -> None:
    done = replay(config, "- {name: x, when: {modalty: CT}, adapter: nobody}")
    assert done.exit_code == 2
    assert "when.modalty: unknown setting" in done.stderr
    missing = CliRunner().invoke(app, ["route", "replay", "--rules", "none.yaml", "--config", str(config)])
    assert missing.exit_code == 2
    assert "cannot be read" in missing.stderr
