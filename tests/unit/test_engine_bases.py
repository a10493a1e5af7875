"""Several base models in one engine: loaded when needed, dropped when there is no room, each with its own adapters."""

from __future__ import annotations

import json
import re
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.engines import (
    AdapterWeights,
    Dtype,
    EngineConfig,
    EngineError,
    EngineOutOfMemoryError,
    WeightsReference,
    load_engine,
)
from models.engines.resident import check_placement, load_resident
from models.engines.transformers import TransformersEngine
from models.generation import Generation, GenerationFailure, LabelAnswer
from models.standin.lessons import DSA, TRAUMA
from models.weights import STANDIN_BASE_ID, STANDIN_FOLDER, WeightsError, standin_config
from tests.unit.test_engine_batches import asked, assert_same

OTHER_BASE = "dicom-worker/other-base"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    """Two bases: the stand-in with trauma, and one with other weights, to which the vessel adapter belongs."""
    folder = tmp_path_factory.mktemp("other")
    base, adapter = folder / "base", folder / "adapter"
    shutil.copytree(STANDIN_FOLDER / "base", base)
    tensors = load_file(base / "model.safetensors")
    save_file({name: tensor * 0.9 for name, tensor in tensors.items()}, base / "model.safetensors", {"format": "pt"})
    shutil.copytree(STANDIN_FOLDER / DSA, adapter)
    about = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": OTHER_BASE}))
    shipped = standin_config(EngineConfig())
    return EngineConfig(
        bases={
            STANDIN_BASE_ID: shipped.bases[STANDIN_BASE_ID],
            OTHER_BASE: WeightsReference(OTHER_BASE, folder=base),
        },
        adapters={
            TRAUMA: shipped.adapters[TRAUMA],
            DSA: AdapterWeights(WeightsReference("dicom-worker/other-dsa", folder=adapter), OTHER_BASE),
        },
        device="cpu",
        dtype=Dtype.FLOAT32,
        threads=1,
    )


REQUESTS = [asked(adapter, 70, 1, LabelAnswer(("patent", "blocked"))) for adapter in (DSA, TRAUMA, DSA)]


def test_each_adapter_answers_on_its_own_base(config: EngineConfig) -> None:
    engine = TransformersEngine(config)
    assert engine.bases.loaded == (STANDIN_BASE_ID,)
    assert engine.provenance(DSA).base == OTHER_BASE, "known before it is in memory"
    answers = engine.generate(REQUESTS)
    assert set(engine.bases.loaded) == {STANDIN_BASE_ID, OTHER_BASE}, "there is room for both"
    assert len({engine.provenance(name).base_digest for name in (DSA, TRAUMA)}) == 2
    engine.close()

    # The same from engines that never knew another base.
    for name, base in ((DSA, OTHER_BASE), (TRAUMA, STANDIN_BASE_ID)):
        only = TransformersEngine(
            replace(config, bases={base: config.bases[base]}, adapters={name: config.adapters[name]})
        )
        own = [request for request in REQUESTS if request.adapter == name]
        expected = [answer for request, answer in zip(REQUESTS, answers, strict=True) if request.adapter == name]
        assert_same(only.generate(own), expected)
        only.close()


def test_the_base_used_longest_ago_makes_room(config: EngineConfig) -> None:
    engine = TransformersEngine(replace(config, max_bases=1))
    first = engine.generate(REQUESTS)
    assert engine.bases.loaded == (OTHER_BASE,)
    assert_same(engine.generate(REQUESTS), first)
    assert engine.bases.loaded == (STANDIN_BASE_ID,), "what is in memory is asked first"
    engine.close()


THIRD_BASE, THIRD_ADAPTER = "dicom-worker/third-base", "cataract_surgery"


@contextmanager
def no_memory_left(monkeypatch: pytest.MonkeyPatch, times: int) -> Iterator[list[str]]:
    """Let torch run out of memory so many times when adapters are put on a base; yield what was still in memory then.

    It happens at the moment when most is held: the base is loaded, and its adapters are not.
    """
    attach = peft.PeftModel.from_pretrained
    models: list[weakref.ref[Any]] = []
    alive: list[str] = []

    def attach_or_fail(model: Any, *args: Any, **kwargs: Any) -> Any:
        alive.append(f"{sum(known() is not None for known in models)} models of earlier tries")
        models.append(weakref.ref(model))
        if len(models) <= times:
            torch.empty(1 << 60)  # what the CPU's allocator says when it has no more
        return attach(model, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(peft.PeftModel, "from_pretrained", attach_or_fail)
        yield alive


def test_a_base_that_does_not_fit_takes_the_place_of_the_one_used_longest_ago(
    config: EngineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(STANDIN_FOLDER / THIRD_ADAPTER, adapter)
    about = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": THIRD_BASE}))
    third = AdapterWeights(WeightsReference("dicom-worker/third", folder=adapter), THIRD_BASE)
    base = WeightsReference(THIRD_BASE, folder=STANDIN_FOLDER / "base")
    engine = TransformersEngine(
        replace(
            config,
            bases={**config.bases, THIRD_BASE: base},
            adapters={**config.adapters, THIRD_ADAPTER: third},
            max_bases=3,
        )
    )
    vessel, abdomen, _ = REQUESTS
    surgery = replace(abdomen, adapter=THIRD_ADAPTER)
    expected = engine.generate([vessel, abdomen])
    engine.generate([abdomen])
    assert engine.bases.loaded == (OTHER_BASE, STANDIN_BASE_ID)

    with no_memory_left(monkeypatch, times=1) as alive:
        (answer,) = engine.generate([surgery])
    assert isinstance(answer, Generation), answer
    assert alive == ["0 models of earlier tries"] * 2, "what the failed try loaded must not take the second's room"
    assert engine.bases.loaded == (STANDIN_BASE_ID, THIRD_BASE), "only the one used longest ago was dropped"

    with no_memory_left(monkeypatch, times=2) as alive:
        failure, still = engine.generate([vessel, surgery])
    assert len(alive) == 2, "it is tried once more, not for ever"
    assert isinstance(failure, GenerationFailure)
    assert failure.transient, "others may have left less room than usual"
    assert re.search(r"does not fit into the memory that cpu has left; use engine\.quantization nf4", failure.reason)
    assert_same([still], [answer])
    assert list(engine.bases.loaded) == [THIRD_BASE]

    assert_same(engine.generate([vessel, abdomen]), expected)
    engine.close()


def test_a_base_that_does_not_fit_even_alone_is_tried_once(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_memory_left(monkeypatch, times=2) as alive, pytest.raises(EngineOutOfMemoryError, match="does not fit"):
        TransformersEngine(config)
    assert len(alive) == 1, "there is nothing to drop"


def test_a_base_that_cannot_be_loaded_fails_its_own_requests_only(config: EngineConfig, tmp_path: Path) -> None:
    broken = tmp_path / "base"
    shutil.copytree(config.bases[OTHER_BASE].folder or Path(), broken)
    about = json.loads((broken / "config.json").read_text())
    about["text_config"]["hidden_size"] = 65
    (broken / "config.json").write_text(json.dumps(about))
    bases = {**config.bases, OTHER_BASE: WeightsReference(OTHER_BASE, folder=broken)}
    engine = TransformersEngine(replace(config, bases=bases))
    vessel, abdomen, _ = engine.generate(REQUESTS)
    assert isinstance(abdomen, Generation)
    assert isinstance(vessel, GenerationFailure)
    assert "cannot be loaded on cpu" in vessel.reason
    assert not vessel.transient
    engine.close()


def test_a_base_has_the_attention_that_its_adapters_authors_name(config: EngineConfig) -> None:
    plain = TransformersEngine(config)
    expected = plain.generate(REQUESTS)
    plain.close()
    own = replace(config.bases[OTHER_BASE], attention="eager")
    engine = TransformersEngine(replace(config, bases={**config.bases, OTHER_BASE: own}))
    assert_same(engine.generate(REQUESTS), expected)
    for hub_id, attention in ((OTHER_BASE, "eager"), (STANDIN_BASE_ID, "sdpa")):
        about = engine.bases.get(hub_id).resident.model.config
        parts = (about, about.text_config, about.vision_config)
        assert {part._attn_implementation for part in parts} == {attention}
    engine.close()


def test_all_weights_are_checked_at_the_start(config: EngineConfig, tmp_path: Path) -> None:
    """Also those of a base that is not loaded yet."""
    away = WeightsReference(OTHER_BASE, folder=tmp_path / "nothing")
    with pytest.raises(WeightsError, match="does not exist"):
        load_engine(replace(config, bases={**config.bases, OTHER_BASE: away}))
    swapped = {**config.adapters, DSA: replace(config.adapters[DSA], base=STANDIN_BASE_ID)}
    with pytest.raises(WeightsError, match="was trained on dicom-worker/other-base"):
        load_engine(replace(config, adapters=swapped))
    with pytest.raises(WeightsError, match=r"engine\.digests"):
        load_engine(replace(config, digests={OTHER_BASE: "00" * 32}))
    with pytest.raises(WeightsError, match="no base model"):
        load_engine(replace(config, bases={}, adapters={}))


# Torch's compiler, imported here for the first time, uses a part of torch that is on its way out.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_the_language_model_is_compiled_on_request_only(config: EngineConfig) -> None:
    base = STANDIN_FOLDER / "base"
    for wanted in (True, False):
        resident = load_resident(replace(config, compile=wanted), base, {})
        assert (resident.model.model.language_model._compiled_call_impl is not None) is wanted


def test_weights_on_another_device_than_the_one_asked_for_are_refused(config: EngineConfig) -> None:
    resident = load_resident(config, STANDIN_FOLDER / "base", {})
    check_placement(resident.model, torch.device("cpu"))
    with pytest.raises(EngineError, match="put on cpu instead of cuda"):
        check_placement(resident.model, torch.device("cuda"))
