"""Batches, caches and prefixes change nothing but the time: every answer equals that of a single request alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from models.engines import BASE_ONLY, EngineConfig
from models.engines.batching import Place, plan_batches
from models.engines.standin import StandinEngine, load_standin
from models.engines.transformers import EngineCaches
from models.generation import (
    Generation,
    GenerationFailure,
    GenerationRequest,
    JsonAnswer,
    LabelAnswer,
    RgbImage,
    TextAnswer,
)
from models.standin.lessons import DSA, TRAUMA, chat

NOTHING_KEPT = EngineCaches(prefixes=0, mixing=False)
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["organs", "how_many"],
    "properties": {
        "organs": {"type": "array", "items": {"enum": ["liver", "spleen"]}, "maxItems": 3},
        "how_many": {"type": "integer", "minimum": 0, "maximum": 99},
    },
}


@pytest.fixture(scope="module")
def alone() -> Iterator[StandinEngine]:
    """One request at a time, and nothing kept between them."""
    loaded = load_standin(EngineConfig(batch=1, image_cache_mib=0, threads=1), caches=NOTHING_KEPT)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module", params=[False, True], ids=["grouped", "mixed"])
def together(request: pytest.FixtureRequest) -> Iterator[StandinEngine]:
    """Batches, with everything kept."""
    loaded = load_standin(EngineConfig(batch=8, threads=1), caches=EngineCaches(mixing=request.param))
    yield loaded
    loaded.close()


def pictures(seed: int, count: int) -> tuple[RgbImage, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(count))


def asked(
    adapter: str, seed: int, count: int, form: LabelAnswer | JsonAnswer | TextAnswer, words: str = "What is to be seen?"
) -> GenerationRequest:
    return GenerationRequest(adapter, chat(words, count), pictures(seed, count), form)


def assert_same(
    found: Sequence[Generation | GenerationFailure], expected: Sequence[Generation | GenerationFailure]
) -> None:
    for left, right in zip(found, expected, strict=True):
        assert isinstance(left, Generation), left
        assert isinstance(right, Generation), right
        assert (left.text, left.finish_reason, left.prompt_tokens) == (
            right.text,
            right.finish_reason,
            right.prompt_tokens,
        )
        assert [token.token for token in left.tokens] == [token.token for token in right.tokens]
        assert [token.logprob for token in left.tokens] == pytest.approx(
            [token.logprob for token in right.tokens], abs=1e-4
        )
        assert left.samples == right.samples
        assert (left.label_scores is None) == (right.label_scores is None)
        if left.label_scores is not None:
            assert left.label_scores == pytest.approx(right.label_scores, abs=1e-4)


EVERYTHING = [
    asked(DSA, 1, 3, LabelAnswer(("patent", "blocked"))),
    asked(TRAUMA, 2, 1, JsonAnswer(SCHEMA, 60)),
    asked(DSA, 3, 1, TextAnswer(25)),
    asked(BASE_ONLY, 1, 3, TextAnswer(12)),
    asked(TRAUMA, 4, 32, JsonAnswer(SCHEMA, 60), "Which organs, seen on more pictures than the window is long?"),
    asked(TRAUMA, 5, 2, TextAnswer(1)),
    asked(DSA, 6, 0, TextAnswer(9), "No picture at all."),
    asked(BASE_ONLY, 7, 2, LabelAnswer(("patent", "blocked", "it runs through to the periphery"))),
    replace(asked(DSA, 8, 2, TextAnswer(15)), samples=3),
    asked(TRAUMA, 9, 2, JsonAnswer(SCHEMA, 5)),
]


def test_a_batch_of_everything_equals_single_requests(alone: StandinEngine, together: StandinEngine) -> None:
    assert_same(together.generate(EVERYTHING), [alone.generate([request])[0] for request in EVERYTHING])


def test_questions_on_the_same_images_read_them_once(alone: StandinEngine, together: StandinEngine) -> None:
    """32 pictures are more tokens than the sliding window holds."""
    words = ("Blocked?", "Which organs are hurt, and how many of them do you count in all?", "What else is there?")
    for seed, count in ((11, 2), (12, 32)):
        questions = [asked(TRAUMA, seed, count, TextAnswer(12), text) for text in words]
        questions += [replace(questions[0], answer_form=LabelAnswer(("liver", "none")))]
        expected = [alone.generate([question])[0] for question in questions]
        before = together.images.embedded
        assert_same(together.generate(questions), expected)
        assert together.images.embedded == before + count
        # And in calls that follow one another: nothing of the images is read again.
        one_by_one = [together.generate([question])[0] for question in questions]
        assert_same(one_by_one, expected)
        assert together.images.embedded == before + count
    other_adapter = replace(questions[0], adapter=DSA)
    assert_same(together.generate([other_adapter]), alone.generate([other_adapter]))


def test_prefixes_are_kept_for_the_last_images_only() -> None:
    engine = load_standin(EngineConfig(image_cache_mib=0, threads=1), caches=EngineCaches(prefixes=1))
    first, second = (asked(DSA, seed, 1, LabelAnswer(("patent", "blocked"))) for seed in (21, 22))
    for request, embedded in ((first, 1), (first, 1), (second, 2), (second, 2), (first, 3)):
        engine.generate([request])
        assert engine.images.embedded == embedded
    engine.close()


def test_embeddings_are_kept_per_adapter_and_up_to_a_size(alone: StandinEngine) -> None:
    engine = load_standin(EngineConfig(image_cache_mib=1, threads=1), caches=NOTHING_KEPT)
    form = LabelAnswer(("patent", "blocked"))
    for request, embedded in (
        (asked(DSA, 31, 2, form), 2),
        (asked(DSA, 31, 2, form, "Another question"), 2),
        (asked(TRAUMA, 31, 2, form), 4),
        (asked(DSA, 31, 2, form), 4),
        # 16 tokens of 64 numbers, 4 bytes each: 4 KiB a picture, 256 pictures in 1 MiB.
        (asked(DSA, 32, 127, form), 131),
        (asked(DSA, 33, 127, form), 258),
        # The vessel adapter's first two were used after the trauma adapter's, which made room.
        (asked(DSA, 31, 2, form), 258),
        (asked(TRAUMA, 31, 2, form), 260),
    ):
        found = engine.generate([request])
        assert engine.images.embedded == embedded
        if len(request.images) == 2:
            assert_same(found, alone.generate([request]))
    engine.close()


def test_samples_are_drawn_anew_but_the_same_on_every_run(alone: StandinEngine) -> None:
    request = replace(asked(BASE_ONLY, 41, 1, TextAnswer(20)), samples=6)
    (answer,) = alone.generate([request])
    (again,) = alone.generate([request])
    (greedy,) = alone.generate([replace(request, samples=0)])
    assert isinstance(answer, Generation)
    assert isinstance(greedy, Generation)
    assert (answer.text, len(answer.samples)) == (greedy.text, 6)
    assert len(set(answer.samples)) > 1
    assert isinstance(again, Generation)
    assert again.samples == answer.samples
    assert greedy.samples == ()


def test_batches_have_one_base_and_one_adapter_unless_they_are_mixed() -> None:
    names = [("x", "a")] * 3 + [("y", "c")] * 2 + [("x", "b")] * 2 + [("x", "a")] * 2
    places = [Place(number, base, adapter, "", 10) for number, (base, adapter) in enumerate(names)]
    assert plan_batches(places, 4, mixing=False) == [[0, 1, 2, 7], [8], [5, 6], [3, 4]]
    assert plan_batches(places, 4, mixing=True) == [[0, 1, 2, 7], [8, 5, 6], [3, 4]]


def test_requests_on_the_same_images_share_a_batch() -> None:
    places = [Place(n, "x", "a", prefix, length) for n, (prefix, length) in enumerate([("p", 9), ("q", 9)] * 4)]
    assert plan_batches(places, 4, mixing=False) == [[0, 2, 4, 6], [1, 3, 5, 7]]
