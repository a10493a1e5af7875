"""What goes wrong in a batch: too little memory, one poisoned request, a device that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from models.engines import EngineConfig, EngineDeviceError
from models.engines.standin import StandinEngine, load_standin
from models.engines.transformers import EngineCaches
from models.generation import Generation, GenerationFailure, GenerationRequest, LabelAnswer, TextAnswer
from models.standin.lessons import DSA, TRAUMA
from tests.unit.test_engine_batches import asked, assert_same


@pytest.fixture(scope="module", params=[False, True], ids=["grouped", "mixed"])
def engine(request: pytest.FixtureRequest) -> Iterator[StandinEngine]:
    loaded = load_standin(EngineConfig(batch=8, threads=1), caches=EngineCaches(mixing=request.param))
    yield loaded
    loaded.close()


REQUESTS = [asked((DSA, TRAUMA)[seed % 2], 50 + seed, 1 + seed % 3, TextAnswer(8)) for seed in range(6)]


@contextmanager
def a_device_that(fails: Callable[[dict[str, Any]], None], engine: StandinEngine) -> Iterator[None]:
    """Let the language model's last layer, after the adapters' hooks are in place, fail as a device would."""

    def before(_module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        fails(inputs)

    hook = engine.resident.model.model.language_model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def test_a_batch_that_does_not_fit_is_halved_until_it_does(engine: StandinEngine) -> None:
    expected = engine.generate(REQUESTS)
    rows: list[int] = []

    def hold_three_rows(inputs: dict[str, Any]) -> None:
        rows.append(inputs["inputs_embeds"].shape[0])
        if rows[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with a_device_that(hold_three_rows, engine):
        assert_same(engine.generate(REQUESTS), expected)
    assert max(rows) > 2
    assert_same(engine.generate(REQUESTS), expected)


def test_a_request_that_never_fits_may_be_tried_again_and_the_others_are_answered(engine: StandinEngine) -> None:
    large = asked(DSA, 60, 20, TextAnswer(8))
    expected = engine.generate(REQUESTS)
    engine.bases.forget_prefixes()

    def hold_two_hundred_tokens(inputs: dict[str, Any]) -> None:
        if inputs["inputs_embeds"].shape[1] > 200:
            torch.empty(1 << 60)  # what the CPU's allocator says when it has no more

    with a_device_that(hold_two_hundred_tokens, engine):
        *answers, failure = engine.generate([*REQUESTS, large])
    assert_same(answers, expected)
    assert isinstance(failure, GenerationFailure)
    assert failure.transient
    assert "20 images for adapter dsa_patency: more memory is needed than cpu has left" in failure.reason


def test_a_poisoned_request_fails_alone(engine: StandinEngine) -> None:
    """Scores that are not numbers, and an exception that nobody foresaw."""
    poison = asked(DSA, 61, 4, TextAnswer(8))
    poisoned_labels = replace(poison, answer_form=LabelAnswer(("patent", "blocked")))
    expected = engine.generate(REQUESTS)
    engine.bases.forget_prefixes()

    def four_pictures(inputs: dict[str, Any]) -> bool:
        return bool(inputs["inputs_embeds"].shape[1] > 4 * 16 + 20)

    def not_a_number(inputs: dict[str, Any]) -> None:
        if four_pictures(inputs):
            inputs["inputs_embeds"] *= float("nan")

    def unforeseen(inputs: dict[str, Any]) -> None:
        if four_pictures(inputs):
            raise IndexError("nobody foresaw this")

    for fails, request, reason in (
        (not_a_number, poison, "not numbers"),
        (not_a_number, poisoned_labels, "not numbers"),
        (unforeseen, poison, "4 images for adapter dsa_patency: IndexError: nobody foresaw this"),
    ):
        with a_device_that(fails, engine):
            first, failure, *others = engine.generate([REQUESTS[0], request, *REQUESTS[1:]])
        assert isinstance(failure, GenerationFailure)
        assert reason in failure.reason
        assert not failure.transient
        assert_same([first, *others], expected)
        assert isinstance(engine.generate([poison])[0], Generation), "nothing of it stays behind"
        engine.bases.forget_prefixes()


def test_after_a_failure_no_hook_stays_on_the_adapters(engine: StandinEngine) -> None:
    def fail(inputs: dict[str, Any]) -> None:
        raise RuntimeError("in the middle")

    with a_device_that(fail, engine):
        assert all(isinstance(answer, GenerationFailure) for answer in engine.generate(REQUESTS))
    assert not any(module._forward_pre_hooks for module in engine.resident.model.modules())


def test_a_lost_device_is_not_survived(engine: StandinEngine) -> None:
    def lose(inputs: dict[str, Any]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with a_device_that(lose, engine), pytest.raises(EngineDeviceError, match="lost to this process: CUDA error"):
        engine.generate(REQUESTS)


def test_a_request_with_no_others_is_an_empty_call(engine: StandinEngine) -> None:
    nothing: list[GenerationRequest] = []
    assert engine.generate(nothing) == []
