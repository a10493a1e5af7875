"""Weights: found or missed with a message that helps, told apart by digest, matched with their base."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest

from models import lora
from models.adapter import LoraConfiguration, adapters
from models.engines import AdapterWeights, EngineConfig, EngineError, EngineKind, WeightsReference, load_engine
from models.lora import LoraFile, differences, read_lora
from models.weights import (
    STANDIN_BASE_ID,
    STANDIN_FOLDER,
    WeightsError,
    combined_digest,
    find_weights,
    standin_config,
    weight_digests,
)
from models.weights_inspection import check_weights

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


def adapter_folder(folder: Path, **changes: object) -> Path:
    """A copy of the stand-in's vessel adapter whose configuration says something else."""
    shutil.copytree(STANDIN_FOLDER / "dsa_patency", folder)
    stored = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**stored, **changes}))
    return folder


def with_folder(folder: Path, **changes: Any) -> EngineConfig:
    """The stand-in as ordinary weights, one adapter, from this folder."""
    shipped = standin_config(EngineConfig())
    own = shipped.adapters["dsa_patency"]
    adapter = replace(own, reference=replace(own.reference, folder=folder))
    return replace(shipped, kind=EngineKind.TRANSFORMERS, adapters={"dsa_patency": adapter}, **changes)


@pytest.mark.parametrize(
    ("changes", "named", "mergeable"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'", False),
        ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'", False),
        ({"use_dora": True}, "DoRA", True),
        ({"bias": "lora_only"}, "bias: lora_only", True),
        ({"target_parameters": ["q_proj.weight"]}, "target_parameters", True),
        ({"alora_invocation_tokens": [1, 2]}, "activated LoRA", False),
        ({"layer_replication": [[0, 2], [1, 3]]}, "doubles layers", False),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa'", False),
        ({"use_tomorrow": {"x": 1}, "peft_version": "9.0"}, "PEFT 9.0 and uses use_tomorrow", False),
    ],
)
def test_what_the_engine_cannot_run_is_refused(
    tmp_path: Path, changes: dict[str, object], named: str, mergeable: bool
) -> None:
    (problem,) = check_weights(with_folder(adapter_folder(tmp_path / "a", **changes)))
    assert named in problem
    assert str(tmp_path / "a") in problem
    assert ("dicom-worker adapters merge dsa_patency --out DIR" in problem) is mergeable


@pytest.mark.parametrize(
    "changes",
    [
        {"modules_to_save": ["lm_head", "embed_tokens"]},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 3}},
        {"lora_bias": True},
        {"use_tomorrow": None},
    ],
)
def test_what_it_can_run_is_let_through(tmp_path: Path, changes: dict[str, object]) -> None:
    assert check_weights(with_folder(adapter_folder(tmp_path / "a", **changes))) == []


def test_every_key_that_peft_can_write_was_thought_of() -> None:
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields <= lora._UNDERSTOOD | set(lora._OTHER_KINDS)


def test_another_digest_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "a")
    hub_id = "dicom-worker/standin-dsa-patency"
    digest = combined_digest(weight_digests(folder))
    assert check_weights(with_folder(folder, digests={hub_id: digest})) == []
    (folder / "adapter_config.json").write_text((folder / "adapter_config.json").read_text() + "\n")
    (problem,) = check_weights(with_folder(folder, digests={hub_id: digest}))
    assert hub_id in problem
    assert digest in problem
    assert combined_digest(weight_digests(folder)) in problem
    assert str(folder) in problem
    assert "engine.digests" in problem


def test_a_download_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "a")
    tensors = folder / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    (problem,) = check_weights(with_folder(folder))
    assert "not copied as a whole" in problem
    tensors.write_bytes(b"<html>sign in</html>")
    (problem,) = check_weights(with_folder(folder))
    assert "no safetensors file" in problem


def test_an_adapter_with_pickled_weights_only_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    (problem,) = check_weights(with_folder(folder))
    assert "pickle" in problem
    assert "ask its author for safetensors" in problem


def test_an_adapter_that_is_on_no_hub_asks_for_its_folder(tmp_path: Path) -> None:
    unpublished = WeightsReference("local/medgemma-lora", "local", published=False)
    shipped = standin_config(EngineConfig())
    config = replace(
        shipped,
        kind=EngineKind.TRANSFORMERS,
        adapters={"clinical_caption": AdapterWeights(unpublished, STANDIN_BASE_ID)},
        cache_dir=tmp_path,
    )
    (problem,) = check_weights(config)
    assert "engine.adapters.clinical_caption" in problem
    assert "hf download" not in problem


def test_where_the_file_differs_from_the_card_the_difference_is_named() -> None:
    own = read_lora(STANDIN_FOLDER / "abdominal_trauma")
    seven = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert differences(own, LoraConfiguration(16, 32, 0.05, seven)) == []
    r, alpha = differences(own, LoraConfiguration(64, 16, 0.1, seven))
    assert r == "r is 16, the card says 64"
    assert alpha == "alpha is 32, the card says 16"
    (targets,) = differences(own, LoraConfiguration(16, 32, 0.05, "all-linear"))
    assert "all-linear" in targets
    assert differences(own, LoraConfiguration(16, 8, 0.05, seven, unstated=frozenset({"lora_alpha"}))) == []
    assert differences(own, LoraConfiguration(64, 16, 0.1, seven, or_else=LoraConfiguration(16, 32, 0.1, seven))) == []
    (nearer,) = differences(own, LoraConfiguration(64, 16, 0.1, seven, or_else=LoraConfiguration(8, 32, 0.1, seven)))
    assert nearer == "r is 16, the card says 8"
    assert differences(read_lora(STANDIN_FOLDER / "dsa_patency"), LoraConfiguration(8, 16, 0.1, "all-linear")) == []


def test_an_engine_without_its_server_says_so() -> None:
    with pytest.raises(EngineError, match=r"engine\.openai\.base_url names no server"):
        load_engine(EngineConfig(kind=EngineKind.OPENAI))


def test_checking_and_configuring_load_no_torch() -> None:
    program = (
        "import sys; from models.engines import EngineConfig, EngineKind; "
        "from models.weights_inspection import check_weights; "
        "check_weights(EngineConfig(kind=EngineKind.STANDIN)); "
        "sys.exit(','.join(m for m in ('torch', 'transformers', 'peft') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("adapter", "r", "alpha", "silent"),
    [
        # The caption adapter's card gives a rank and modules, and no alpha; FLARE's gives two ranks with their alphas.
        ("clinical_caption", 16, 32, True),
        ("clinical_caption", 8, 16, False),
        ("flare", 16, 32, True),
        ("flare", 64, 16, True),
        ("flare", 16, 16, False),
        ("dsa_patency", 8, 32, False),
    ],
)
def test_only_what_a_card_says_can_be_contradicted(adapter: str, r: int, alpha: int, silent: bool) -> None:
    card = adapters()[adapter].lora_configuration
    assert (differences(LoraFile(r, alpha, card.target_modules, None, {}), card) == []) is silent
