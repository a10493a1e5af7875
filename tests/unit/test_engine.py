"""The transformers engine, on the stand-in's weights: exact scores, adapters that matter, answers that parse."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.adapters.abdominal_trauma.adapter import ADAPTER as TRAUMA_ADAPTER
from models.engines import (
    BASE_ONLY,
    Dtype,
    EngineConfig,
    EngineError,
    EngineKind,
    Quantization,
    WeightsReference,
    load_engine,
)
from models.engines.decoding import split_text
from models.engines.encoding import encode
from models.engines.reading import Reading, read
from models.engines.resident import Resident
from models.engines.scoring import score_labels
from models.engines.standin import StandinEngine
from models.engines.transformers import TransformersEngine
from models.generation import (
    Generation,
    GenerationFailure,
    GenerationRequest,
    JsonAnswer,
    LabelAnswer,
    RgbImage,
    TextAnswer,
)
from models.parsing import ParseFailure
from models.standin.evaluation import held_out, request_for
from models.standin.lessons import DSA, TRAUMA, Lesson, chat
from models.weights import STANDIN_FOLDER, WeightsError, combined_digest, standin_config, weight_digests


@pytest.fixture(scope="module")
def angiograms() -> list[Lesson]:
    return held_out(DSA, 4, first=2_000_000)


@pytest.fixture(scope="module")
def abdomen() -> Lesson:
    return held_out(TRAUMA, 1, first=2_000_000)[0]


def processed(resident: Resident, request: GenerationRequest) -> dict[str, torch.Tensor]:
    """The model's inputs as transformers' own processor makes them."""
    text = resident.processor.apply_chat_template(
        [dict(message) for message in request.messages], add_generation_prompt=True, tokenize=False
    )
    pictures = [[Image.fromarray(image) for image in request.images]] if request.images else None
    return dict(resident.processor(text=text, images=pictures, add_special_tokens=False, return_tensors="pt"))


def full_forward_scores(resident: Resident, question: dict[str, torch.Tensor], label: list[int]) -> list[float]:
    """One pass over question and label together, without a cache."""
    said = torch.tensor([label])
    with resident.switch.answering([BASE_ONLY]):
        logits = resident.model(
            input_ids=torch.cat([question["input_ids"], said], 1),
            attention_mask=torch.cat([question["attention_mask"], torch.ones_like(said)], 1),
            token_type_ids=torch.cat([question["token_type_ids"], torch.zeros_like(said)], 1),
            pixel_values=question["pixel_values"],
            use_cache=False,
        ).logits[0, question["input_ids"].shape[1] - 1 : -1]
    return [float(row[token]) for row, token in zip(logits.float().log_softmax(-1), label, strict=True)]


def noise(pictures: int) -> tuple[RgbImage, ...]:
    rng = np.random.default_rng(pictures)
    return tuple(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(pictures))


@pytest.mark.parametrize("pictures", [0, 1, 3])
def test_a_question_is_encoded_as_the_processor_would(engine: StandinEngine, pictures: int) -> None:
    request = GenerationRequest(DSA, chat("Is the vessel patent?", pictures), noise(pictures), TextAnswer(3))
    question = encode(engine.resident.processor, request)
    expected = processed(engine.resident, request)
    assert list(question.ids) == expected["input_ids"][0].tolist()
    image_tokens = [token == engine.resident.model.config.image_token_id for token in question.ids]
    if pictures:
        assert image_tokens == expected["token_type_ids"][0].bool().tolist()
    assert not any(image_tokens[question.prefix :])
    assert (question.prefix > 0) == (pictures > 0)


@pytest.mark.parametrize("pictures", [1, 3, 32])
def test_label_scores_equal_full_forward_passes(engine: StandinEngine, pictures: int) -> None:
    """With 32 pictures the question is longer than the sliding attention window."""
    resident = engine.resident
    request = GenerationRequest(
        BASE_ONLY, chat("Is the vessel patent or blocked?", pictures), noise(pictures), LabelAnswer(("x",))
    )
    words = ("patent", "blocked", "it runs through to the periphery", "zebra")
    labels = [
        resident.processor.tokenizer(f"{word}<end_of_turn>", add_special_tokens=False).input_ids for word in words
    ]
    assert len({len(label) for label in labels}) > 1, "labels of different lengths are padded"
    with torch.inference_mode():
        question = processed(resident, request)
        if pictures == 32:
            assert question["input_ids"].shape[1] > resident.model.config.text_config.sliding_window
        with resident.switch.answering([BASE_ONLY]):
            features = resident.model.get_image_features(question["pixel_values"], return_dict=True).pooler_output
        (opening,) = read(resident, [Reading(BASE_ONLY, question["input_ids"][0].tolist(), list(features))])
        quick = score_labels(resident, opening, labels)
        slow = [full_forward_scores(resident, question, label) for label in labels]
    for left, right in zip(quick, slow, strict=True):
        assert left == pytest.approx(right, abs=1e-5)


def test_a_closed_question_gets_probabilities_that_sum_to_one(engine: StandinEngine, angiograms: list[Lesson]) -> None:
    (answer,) = engine.generate([request_for(angiograms[0])])
    assert answer.label_scores is not None
    assert set(answer.label_scores) == {"patent", "blocked"}
    assert sum(answer.label_scores.values()) == pytest.approx(1.0)
    assert answer.text == max(answer.label_scores, key=lambda label: answer.label_scores[label])  # type: ignore[index]
    assert answer.finish_reason == "labels"
    assert "".join(token.token for token in answer.tokens) == answer.text
    assert answer.prompt_tokens > 3 * 16
    assert answer.elapsed_s > 0
    assert Generation.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_adapters_are_really_used(engine: StandinEngine, angiograms: list[Lesson], abdomen: Lesson) -> None:
    with_adapter, without = engine.generate([request_for(angiograms[0]), request_for(angiograms[0], BASE_ONLY)])
    other = engine.generate([request_for(angiograms[0], TRAUMA)])[0]
    assert with_adapter.label_scores != without.label_scores
    assert with_adapter.label_scores != other.label_scores
    assert without.label_scores is not None
    assert max(without.label_scores.values()) < 0.9, "the base alone only guesses"


def same_answers(some: Sequence[Generation], others: Sequence[Generation]) -> None:
    """The same tokens, and likelihoods that differ by no more than what sums in another order make of them."""
    for left, right in zip(some, others, strict=True):
        assert (left.text, left.finish_reason) == (right.text, right.finish_reason)
        assert [token.token for token in left.tokens] == [token.token for token in right.tokens]
        assert [token.logprob for token in left.tokens] == pytest.approx(
            [token.logprob for token in right.tokens], abs=1e-5
        )
        assert (left.label_scores is None) == (right.label_scores is None)
        if left.label_scores is not None:
            assert left.label_scores == pytest.approx(right.label_scores, abs=1e-5)


def test_order_of_requests_and_of_adapters_changes_nothing(
    engine: StandinEngine, angiograms: list[Lesson], abdomen: Lesson
) -> None:
    requests = [request_for(angiograms[0]), request_for(abdomen), request_for(angiograms[1], BASE_ONLY)]
    requests += [request_for(angiograms[2]), request_for(abdomen, BASE_ONLY)]
    together = engine.generate(requests)
    alone = [engine.generate([request])[0] for request in reversed(requests)][::-1]
    same_answers(together, alone)
    assert not any(parameter.requires_grad for parameter in engine.resident.model.parameters())


def test_trauma_answers_parse_and_their_tokens_join_to_the_text(engine: StandinEngine, abdomen: Lesson) -> None:
    (answer,) = engine.generate([request_for(abdomen)])
    assert answer.finish_reason == "stop"
    assert "".join(token.token for token in answer.tokens) == answer.text
    assert all(token.logprob <= 0 for token in answer.tokens)
    assert answer.text == json.dumps(json.loads(answer.text), separators=(",", ":"))
    findings = TRAUMA_ADAPTER.parse(answer)
    assert not isinstance(findings, ParseFailure)
    assert 0 < TRAUMA_ADAPTER.confidence(answer, findings).probability <= 1


SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["said", "organs", "how_many"],
    "properties": {
        "said": {"type": "string", "maxLength": 40},
        "organs": {"type": "array", "items": {"enum": ["liver", "spleen"]}, "maxItems": 3},
        "how_many": {"type": "integer", "minimum": 0, "maximum": 99},
    },
}


def test_json_parses_whatever_the_model_would_like_to_say(engine: StandinEngine, angiograms: list[Lesson]) -> None:
    """The adapters never saw this schema, or this question; the constraint alone must hold."""
    for number, lesson in enumerate(angiograms):
        for adapter in (DSA, TRAUMA, BASE_ONLY):
            question = chat(f"Name everything, number {number}.", len(lesson.images))
            (answer,) = engine.generate([GenerationRequest(adapter, question, lesson.images, JsonAnswer(SCHEMA, 200))])
            found = json.loads(answer.text)
            assert answer.finish_reason == "stop"
            assert set(found) == set(SCHEMA["required"])
            assert len(found["said"]) <= 40


def test_a_budget_that_just_suffices_is_a_whole_answer_and_one_less_is_said_to_be_cut(
    engine: StandinEngine, abdomen: Lesson
) -> None:
    request = request_for(abdomen)
    assert isinstance(request.answer_form, JsonAnswer)
    whole = engine.generate([request])[0]

    def within(tokens: int) -> Generation:
        return engine.generate(
            [replace(request, answer_form=JsonAnswer(TRAUMA_ADAPTER.answer_form.json_schema, tokens))]
        )[0]  # type: ignore[union-attr]

    enough = within(len(whole.tokens))
    assert (enough.text, enough.finish_reason) == (whole.text, "stop")
    short = within(len(whole.tokens) - 1)
    assert short.finish_reason == "length"
    assert isinstance(TRAUMA_ADAPTER.parse(short), ParseFailure)


def test_free_text_stops_or_says_that_it_was_cut(engine: StandinEngine, angiograms: list[Lesson]) -> None:
    request = request_for(angiograms[0])
    whole, cut = engine.generate(
        [replace(request, answer_form=TextAnswer(20)), replace(request, answer_form=TextAnswer(1))]
    )
    assert (whole.text, whole.finish_reason) == (angiograms[0].answer, "stop")
    assert cut.finish_reason == "length"
    assert whole.label_scores is None


def test_a_letter_spread_over_several_tokens_is_counted_once(engine: StandinEngine) -> None:
    tokenizer = engine.resident.processor.tokenizer
    text = "müde 肝臓 liver 🫀."
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = split_text(tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_provenance_names_the_weights_by_digest(engine: StandinEngine) -> None:
    dsa, trauma, base = (engine.provenance(name) for name in (DSA, TRAUMA, BASE_ONLY))
    assert dsa.is_standin
    assert dsa.engine == "standin"
    assert dsa.base_digest == combined_digest(weight_digests(STANDIN_FOLDER / "base"))
    assert dsa.adapter_digest == combined_digest(weight_digests(STANDIN_FOLDER / DSA))
    assert len({dsa.adapter_digest, trauma.adapter_digest, dsa.base_digest}) == 3
    assert base.adapter_digest == ""
    assert dsa.files["base/model.safetensors"] == sha256(STANDIN_FOLDER / "base" / "model.safetensors")
    assert dsa.files["adapter/adapter_model.safetensors"] == sha256(STANDIN_FOLDER / DSA / "adapter_model.safetensors")
    assert not any(name.startswith("adapter/") for name in base.files)
    assert (dsa.dtype, dsa.device) == ("float32", "cpu")
    assert "transformers" in dsa.software


def test_a_reloaded_engine_gives_the_same_answers(
    engine: StandinEngine, angiograms: list[Lesson], abdomen: Lesson
) -> None:
    requests = [*(request_for(lesson) for lesson in angiograms), request_for(abdomen)]
    again = load_engine(EngineConfig(kind=EngineKind.STANDIN))
    before, after = engine.generate(requests), again.generate(requests)
    same_answers(before, after)
    assert again.provenance(DSA) == engine.provenance(DSA)
    again.close()
    with pytest.raises(EngineError, match="closed"):
        again.generate(requests[:1])


def test_four_bit_weights_answer_alike(engine: StandinEngine, angiograms: list[Lesson]) -> None:
    """The kind `transformers`, quantised to NF4 as the adapters were trained, reading the same folders."""
    shipped = standin_config(EngineConfig())
    config = EngineConfig(
        bases=shipped.bases,
        adapters=shipped.adapters,
        quantization=Quantization.NF4,
        dtype=Dtype.BFLOAT16,
        device="cpu",
        threads=2,
    )
    small = load_engine(config)
    assert isinstance(small, TransformersEngine)
    assert small.provenance(DSA).dtype == "nf4/bfloat16"
    assert not small.provenance(DSA).is_standin
    for left, right in zip(
        small.generate([request_for(lesson) for lesson in angiograms]),
        engine.generate([request_for(lesson) for lesson in angiograms]),
        strict=True,
    ):
        assert left.label_scores == pytest.approx(right.label_scores, abs=0.45)
    small.close()


def test_unknown_adapters_and_mismatched_images_fail_alone_and_are_explained(
    engine: StandinEngine, angiograms: list[Lesson]
) -> None:
    request = request_for(angiograms[0])
    unknown, fewer, answered, no_picture, schema = engine.generate(
        [
            replace(request, adapter="dermatology"),
            replace(request, images=request.images[:2]),
            request,
            replace(request, images=(request.images[0][:, :, 0], *request.images[1:])),  # type: ignore[arg-type]
            replace(request, answer_form=JsonAnswer({"type": "chair"}, 10)),
        ]
    )
    for failure, reason in (
        (unknown, r"'dermatology' is not loaded .*abdominal_trauma, .*dsa_patency"),
        (fewer, "3 image places, but 2 images"),
        (no_picture, r"must be uint8 \(rows, columns, 3\)"),
        (schema, "schema"),
    ):
        assert isinstance(failure, GenerationFailure)
        assert re.search(reason, failure.reason)
        assert not failure.transient
    assert isinstance(answered, Generation)
    with pytest.raises(EngineError, match="'dermatology' is not loaded"):
        engine.provenance("dermatology")


def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu() -> None:
    shipped = standin_config(EngineConfig())
    with pytest.raises(EngineError, match=r"set engine\.device to cpu or auto"):
        load_engine(EngineConfig(bases=shipped.bases, adapters=shipped.adapters, device="cuda:99"))
    with pytest.raises(EngineError, match="use auto, cpu, cuda"):
        load_engine(EngineConfig(bases=shipped.bases, device="abacus"))


@pytest.mark.parametrize("broken", ["config.json", "tokenizer.json", "model.safetensors"])
def test_broken_weights_are_an_engine_error(tmp_path: Path, broken: str) -> None:
    shutil.copytree(STANDIN_FOLDER / "base", tmp_path, dirs_exist_ok=True)
    (tmp_path / broken).write_text("{ cut off")
    with pytest.raises((EngineError, WeightsError), match=r"cannot be loaded|is no safetensors file"):
        load_engine(EngineConfig(bases={"x/broken": WeightsReference("x/broken", folder=tmp_path)}, device="cpu"))
