"""`dicom-worker adapters check` and `merge` as an operator meets them: tables, JSON, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from models.weights import STANDIN_FOLDER, combined_digest, is_merged, weight_digests
from tests.command_line import cli

DSA = "dsa_patency"


def test_check_shows_digest_and_shape_of_each(here: Path) -> None:
    (here / "dicom-worker.yaml").write_text("engine: {kind: standin}\n")
    done = cli("adapters", "check", "--json")
    assert done.exit_code == 0, done.stderr
    checked = json.loads(done.stdout)
    assert checked["ok"]
    states = {state["adapter"]: state for state in checked["weights"]}
    assert states[DSA]["digest"] == combined_digest(weight_digests(STANDIN_FOLDER / DSA))
    assert (states[DSA]["lora"]["r"], states[DSA]["lora"]["lora_alpha"]) == (8, 16)
    assert "fc1" in states[DSA]["lora"]["target_modules"]
    assert states[None]["digest"] == combined_digest(weight_digests(STANDIN_FOLDER / "base"))
    assert "r 8, alpha 16" in cli("adapters", "check").stdout


def test_check_warns_where_the_file_differs_from_the_card_and_that_is_all(here: Path) -> None:
    folder = here / "adapter"
    shutil.copytree(STANDIN_FOLDER / DSA, folder)
    stored = json.loads((folder / "adapter_config.json").read_text())
    stored |= {"base_model_name_or_path": "google/medgemma-1.5-4b-it", "lora_alpha": 32}
    (folder / "adapter_config.json").write_text(json.dumps(stored))
    engine = {
        "bases": {"google/medgemma-1.5-4b-it": str(STANDIN_FOLDER / "base")},
        "adapters": {DSA: str(folder)},
        "enabled": [DSA],
    }
    (here / "dicom-worker.yaml").write_text(yaml.safe_dump({"engine": engine}))
    done = cli("adapters", "check")
    assert done.exit_code == 0, done.stderr
    assert "alpha is 32, the card says 16" in done.stderr

    engine["digests"] = {"s0close/medgemma-dsa-lora": "0" * 64}  # type: ignore[dict-item]
    (here / "dicom-worker.yaml").write_text(yaml.safe_dump({"engine": engine}))
    done = cli("adapters", "check")
    assert done.exit_code == 1
    assert "0" * 64 in done.stderr
    assert "WRONG" in done.stdout


def test_merge_writes_a_model_once(here: Path) -> None:
    (here / "dicom-worker.yaml").write_text("engine: {kind: standin}\n")
    done = cli("adapters", "merge", DSA, "--out", "merged", "--json")
    assert done.exit_code == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["same_tokens"]
    assert made["record"]["dtype"] == "bfloat16"
    assert is_merged(here / "merged")
    assert "merging" in done.stderr

    again = cli("adapters", "merge", DSA, "--out", "merged")
    assert again.exit_code == 1
    assert "not an empty folder" in again.stderr
    assert cli("adapters", "merge", "nobody", "--out", "other").exit_code == 2
