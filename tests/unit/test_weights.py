"""Weights: found or missed with a message that helps, told apart by digest, matched with their base."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models.engines import AdapterWeights, EngineConfig, EngineError, EngineKind, WeightsReference, load_engine
from models.weights import (
    STANDIN_BASE_ID,
    STANDIN_FOLDER,
    WeightsError,
    check_weights,
    combined_digest,
    find_weights,
    standin_config,
    weight_digests,
)

MEDGEMMA = WeightsReference("google/medgemma-1.5-4b-it", "main", "Health AI Developer Foundations terms of use")
DSA = WeightsReference("s0close/medgemma-dsa-lora", "main", "follows the base model's terms")


def test_missing_weights_say_what_to_do(tmp_path: Path) -> None:
    config = EngineConfig(
        bases={MEDGEMMA.hub_id: MEDGEMMA},
        adapters={"dsa_patency": AdapterWeights(DSA, MEDGEMMA.hub_id)},
        cache_dir=tmp_path,
    )
    problems = check_weights(config)
    assert len(problems) == 2
    assert "google/medgemma-1.5-4b-it" in problems[0]
    assert "hf download google/medgemma-1.5-4b-it --revision main" in problems[0]
    assert "Health AI Developer Foundations" in problems[0]
    assert "folder" in problems[0]
    assert "dicom-worker run --profile demo" in problems[0]
    assert "s0close/medgemma-dsa-lora" in problems[1]
    with pytest.raises(WeightsError, match="hf download google/medgemma"):
        load_engine(config)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere of the settings does not exist"):
        find_weights(replace(MEDGEMMA, folder=tmp_path / "nowhere"), adapter=False)


def test_pickled_weights_are_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(WeightsError, match=r"lacks model\.safetensors"):
        find_weights(replace(MEDGEMMA, folder=tmp_path), adapter=False)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"x")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(WeightsError, match="lacks model-00002-of-00002"):
        find_weights(replace(MEDGEMMA, folder=tmp_path), adapter=False)


def test_weights_in_the_hub_cache_are_found_with_their_commit(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--s0close--medgemma-dsa-lora"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(STANDIN_FOLDER / "dsa_patency", snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = find_weights(DSA, adapter=True, cache_dir=tmp_path)
    assert found.folder == snapshot
    assert found.revision == commit


def test_an_adapter_of_another_base_is_refused() -> None:
    shipped = standin_config(EngineConfig())
    medgemma = replace(MEDGEMMA, folder=STANDIN_FOLDER / "base")
    config = EngineConfig(
        bases={MEDGEMMA.hub_id: medgemma},
        adapters={name: replace(own, base=MEDGEMMA.hub_id) for name, own in shipped.adapters.items()},
    )
    problems = check_weights(config)
    assert len(problems) == len(shipped.adapters)
    assert f"was trained on {STANDIN_BASE_ID}" in problems[0]
    assert "google/medgemma-1.5-4b-it" in problems[0]


def test_the_shipped_stand_in_is_whole() -> None:
    assert check_weights(EngineConfig(kind=EngineKind.STANDIN)) == []
    manifest = json.loads((STANDIN_FOLDER / "manifest.json").read_text())
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((STANDIN_FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_digests_are_remembered_until_a_file_changes(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    file = weights / "model.safetensors"
    file.write_bytes(b"first")
    cache = tmp_path / "digests.json"
    first = weight_digests(weights, cache)
    assert first == {"model.safetensors": hashlib.sha256(b"first").hexdigest()}

    remembered = json.loads(cache.read_text())
    cache.write_text(json.dumps(dict.fromkeys(remembered, "from the cache")))
    assert weight_digests(weights, cache) == {"model.safetensors": "from the cache"}

    file.write_bytes(b"other")
    os.utime(file, ns=(1, 1))
    second = weight_digests(weights, cache)
    assert second == {"model.safetensors": hashlib.sha256(b"other").hexdigest()}
    assert combined_digest(first) != combined_digest(second)


def test_a_broken_digest_cache_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    cache = tmp_path / "cache.txt"
    cache.write_text("{ not json")
    assert weight_digests(tmp_path, cache)["model.safetensors"] == hashlib.sha256(b"x").hexdigest()


def test_an_engine_that_is_not_built_yet_says_so() -> None:
    with pytest.raises(EngineError, match="cannot run yet"):
        load_engine(EngineConfig(kind=EngineKind.OPENAI))


def test_checking_and_configuring_load_no_torch() -> None:
    program = (
        "import sys; from models.engines import EngineConfig, EngineKind; from models.weights import check_weights; "
        "check_weights(EngineConfig(kind=EngineKind.STANDIN)); "
        "sys.exit(','.join(m for m in ('torch', 'transformers', 'peft') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
