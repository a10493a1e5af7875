"""A merged adapter: the same answers, loadable by itself, and never written where it would not be right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from models.adapters.dsa_patency.adapter import ADAPTER as DSA_ADAPTER
from models.engines import BASE_ONLY, Dtype, EngineConfig, EngineError, EngineKind, Quantization
from models.engines.comparison import GreedyAnswer, compare
from models.engines.merging import Merge, merge_adapter
from models.engines.standin import load_standin
from models.engines.transformers import EngineCaches, TransformersEngine
from models.generation import Generation, GenerationRequest, JsonAnswer, LabelAnswer, TextAnswer
from models.merge_questions import merge_questions
from models.weights import (
    STANDIN_BASE_ID,
    STANDIN_FOLDER,
    WeightsError,
    is_merged,
    read_merge_record,
    standin_config,
    weight_digests,
    with_merged,
)
from models.weights_inspection import check_weights, inspect_weights
from tests.unit.test_engine_batches import SCHEMA, asked, assert_same

DSA, TRAUMA = "dsa_patency", "abdominal_trauma"
QUESTIONS = merge_questions(DSA_ADAPTER)[:2]


def config() -> EngineConfig:
    """The stand-in's weights, as a site would have MedGemma's."""
    return replace(standin_config(EngineConfig(threads=1)), kind=EngineKind.TRANSFORMERS, device="cpu")


@pytest.fixture(scope="module")
def merge(tmp_path_factory: pytest.TempPathFactory) -> Merge:
    return merge_adapter(
        config(), DSA, tmp_path_factory.mktemp("merge") / "merged", dtype=Dtype.FLOAT32, questions=QUESTIONS
    )


def test_the_note_says_what_was_merged(merge: Merge) -> None:
    record = read_merge_record(merge.folder)
    assert is_merged(merge.folder)
    assert (record.base, record.name, record.dtype) == (STANDIN_BASE_ID, DSA, "float32")
    assert record.base_files == weight_digests(STANDIN_FOLDER / "base")
    assert record.adapter_files == weight_digests(STANDIN_FOLDER / DSA)
    assert merge.tokens >= len(QUESTIONS)
    assert merge.logit_difference < 1e-3
    assert merge.saved_same == 1.0
    assert sorted(path.name for path in merge.folder.parent.iterdir()) == ["merged"], "the temporary folder is gone"


def test_the_merged_model_loads_by_itself_and_answers_as_the_adapter(merge: Merge) -> None:
    model = transformers.AutoModelForImageTextToText.from_pretrained(merge.folder, local_files_only=True)
    base = load_file(STANDIN_FOLDER / "base" / "model.safetensors")
    merged = load_file(merge.folder / "model.safetensors")
    assert set(merged) == set(base), "the key names are the base's: what loads that, loads this"
    assert any(not torch.equal(merged[key], base[key]) for key in base)
    assert model.config.tie_word_embeddings

    alone = replace(config().bases[STANDIN_BASE_ID], folder=merge.folder)
    engine = TransformersEngine(replace(config(), bases={STANDIN_BASE_ID: alone}, adapters={}))
    standin = load_standin(EngineConfig(threads=1))
    try:
        apart = [scores(answer) for answer in standin.generate(list(QUESTIONS))]
        plain = [scores(answer) for answer in standin.generate([asking(BASE_ONLY, q) for q in QUESTIONS])]
        together = [scores(answer) for answer in engine.generate([asking(BASE_ONLY, q) for q in QUESTIONS])]
    finally:
        engine.close()
        standin.close()
    for left, right in zip(apart, together, strict=True):
        assert left == pytest.approx(right, abs=1e-4)
    assert plain != pytest.approx(together, abs=1e-2), "the base alone answers otherwise"


def asking(adapter: str, question: GenerationRequest) -> GenerationRequest:
    return replace(question, adapter=adapter)


def scores(answer: object) -> float:
    assert isinstance(answer, Generation)
    assert answer.label_scores is not None
    return answer.label_scores["patent"]


def test_a_merged_folder_stands_for_adapter_and_base(merge: Merge) -> None:
    """Set as the adapter's folder it needs no base; the others keep theirs."""
    own = config().adapters[DSA]
    set_so = replace(own, reference=replace(own.reference, folder=merge.folder))
    missing = replace(config().bases[STANDIN_BASE_ID], folder=merge.folder / "nowhere")
    only = replace(config(), adapters={DSA: set_so}, bases={STANDIN_BASE_ID: missing})
    assert check_weights(only) == []
    resolved = with_merged(only)
    assert list(resolved.bases) == [own.reference.hub_id]
    assert resolved.bases[own.reference.hub_id].folder == merge.folder
    assert resolved.adapters[DSA].merged
    assert resolved.adapters[DSA].base == own.reference.hub_id
    eager = with_merged(replace(only, bases={STANDIN_BASE_ID: replace(missing, attention="eager")}))
    assert eager.bases[own.reference.hub_id].attention == "eager", "the base's attention, with the adapter merged in"
    both = with_merged(replace(config(), adapters={**config().adapters, DSA: set_so}))
    assert set(both.bases) == {STANDIN_BASE_ID, own.reference.hub_id}
    (state,) = inspect_weights(only)
    assert state.merged is not None
    assert state.merged.base == STANDIN_BASE_ID


@pytest.mark.parametrize("mixing", [False, True], ids=["grouped", "mixed"])
def test_a_merged_adapter_answers_as_base_and_adapter_in_batches_beside_others(merge: Merge, mixing: bool) -> None:
    """The merged model is a base of its own, so one call is answered by two bases; nobody's answer may change."""
    own = config().adapters[DSA]
    set_so = replace(own, reference=replace(own.reference, folder=merge.folder))
    requests = [
        asked(DSA, 80, 2, TextAnswer(20)),
        asked(TRAUMA, 81, 1, TextAnswer(20)),
        asked(DSA, 81, 1, LabelAnswer(("patent", "blocked"))),
        asked(BASE_ONLY, 80, 2, TextAnswer(20)),
        asked(DSA, 82, 3, JsonAnswer(SCHEMA, 40)),
        asked(TRAUMA, 82, 3, JsonAnswer(SCHEMA, 40)),
        asked(DSA, 83, 1, TextAnswer(20)),
    ]
    apart = TransformersEngine(config(), EngineCaches(mixing=mixing))
    expected = apart.generate(requests)
    apart_from = apart.provenance(DSA)
    apart.close()
    for most in (None, 1):
        together = TransformersEngine(
            replace(config(), adapters={**config().adapters, DSA: set_so}, max_bases=most), EngineCaches(mixing=mixing)
        )
        assert_same(together.generate(requests), expected)
        assert_same(together.generate(requests[::-1]), expected[::-1])
        found = together.provenance(DSA)
        together.close()
        assert (found.base_digest, found.adapter_digest) == (apart_from.base_digest, apart_from.adapter_digest)
        assert any(name.startswith("merged/") for name in found.files)


def test_a_merged_folder_of_another_adapter_or_base_is_refused(merge: Merge) -> None:
    other = config().adapters["abdominal_trauma"]
    wrong = replace(other, reference=replace(other.reference, folder=merge.folder))
    (problem,) = check_weights(replace(config(), adapters={"abdominal_trauma": wrong}))
    assert "standin-dsa-patency merged in" in problem

    own = config().adapters[DSA]
    right = replace(own, reference=replace(own.reference, folder=merge.folder))
    pinned = replace(config(), adapters={DSA: right}, digests={STANDIN_BASE_ID: "0" * 64})
    (problem,) = check_weights(pinned)
    assert "0" * 64 in problem
    assert merge.record.base_digest in problem


def test_rounding_is_measured_on_what_was_written(tmp_path: Path) -> None:
    made = merge_adapter(config(), DSA, tmp_path / "rounded", dtype=Dtype.BFLOAT16, questions=QUESTIONS)
    assert made.logit_difference < 1e-3, "the sum is held against the unmerged model before rounding"
    assert made.saved_logit_difference > made.logit_difference
    tensors = load_file(tmp_path / "rounded" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert read_merge_record(tmp_path / "rounded").dtype == "bfloat16"


def test_a_place_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("here")
    with pytest.raises(EngineError, match="not an empty folder"):
        merge_adapter(config(), DSA, tmp_path, dtype=Dtype.FLOAT32, questions=QUESTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_what_does_not_answer_the_same_is_not_kept(tmp_path: Path) -> None:
    """Weights that make every logit NaN can never be shown to agree."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    tensors = load_file(STANDIN_FOLDER / DSA / "adapter_model.safetensors")
    save_file({key: tensor * 1e30 for key, tensor in tensors.items()}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text((STANDIN_FOLDER / DSA / "adapter_config.json").read_text())
    own = config().adapters[DSA]
    broken = replace(config(), adapters={DSA: replace(own, reference=replace(own.reference, folder=adapter))})
    with pytest.raises(EngineError, match=r"answers otherwise|NaNs"):
        merge_adapter(broken, DSA, tmp_path / "out", dtype=Dtype.FLOAT32, questions=QUESTIONS[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_quantised_base_weights_are_refused_with_the_remedy(tmp_path: Path) -> None:
    for path in (STANDIN_FOLDER / "base").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    described = json.loads((tmp_path / "config.json").read_text())
    described["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(described))
    base = replace(config().bases[STANDIN_BASE_ID], folder=tmp_path)
    with pytest.raises(WeightsError, match=r"quantised weights.*engine\.bases"):
        merge_adapter(
            replace(config(), bases={STANDIN_BASE_ID: base}, quantization=Quantization.NF4),
            DSA,
            tmp_path / "out",
            dtype=Dtype.FLOAT32,
            questions=QUESTIONS,
        )


def test_answers_are_compared_up_to_where_they_part() -> None:
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [9.0, 0.0]])
    one = GreedyAnswer([1, 0, 0], logits)
    other = GreedyAnswer([1, 1, 0], logits + torch.tensor([[0.1], [0.5], [7.0]]))
    assert list(compare([one, one], [one, other])) == [0.5, pytest.approx(0.5)]
    assert compare([one], [GreedyAnswer([1, 0, 0], logits * float("nan"))]) == (1.0, float("inf"))
