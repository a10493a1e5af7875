"""What batching and the caches save: `python -m benchmarks.engine [--json FILE]`.

A random model of the true Gemma 3 architecture with more than 100 million parameters and two LoRA adapters answers the
same requests in several ways; all of them in one run, so that their ratios hold on a machine that is busy. The answers
mean nothing and must be the same in each way. The table goes to standard error, the JSON document to standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from models.engines import AdapterWeights, Dtype, EngineConfig, WeightsReference
from models.engines.transformers import EngineCaches, TransformersEngine
from models.generation import Generation, GenerationRequest, TextAnswer
from models.standin.lessons import chat
from models.weights import STANDIN_FOLDER

BASE, ADAPTERS = "benchmark/base", ("first", "second")
PICTURES, TOKENS, BATCH = 2, 8, 8
NOTHING_KEPT = EngineCaches(prefixes=0, mixing=False)


def write_model(folder: Path) -> int:
    """Write a random base with its adapters, and the stand-in's processor; return the number of parameters."""
    base = folder / "base"
    shutil.copytree(STANDIN_FOLDER / "base", base, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    values = json.loads((STANDIN_FOLDER / "base" / "config.json").read_text(encoding="utf-8"))
    values["text_config"] |= {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 96,
        "query_pre_attn_scalar": 96,
        # Gemma 3: five layers that see a window, then one that sees everything.
        "layer_types": ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(12)],
    }
    values["vision_config"] |= {
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
    }
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(Gemma3Config(**values))
    # It begins at zero, with which a random model would not look at its images.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.02)
    parameters = sum(int(tensor.numel()) for tensor in model.parameters())
    # No token ends an answer, so that all have the same length.
    model.generation_config.eos_token_id = model.config.text_config.vocab_size - 1
    model.save_pretrained(base)
    for name in ADAPTERS:
        lora = peft.LoraConfig(
            r=16,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            init_lora_weights=False,
            base_model_name_or_path=BASE,
        )
        adapted = peft.get_peft_model(model, lora, adapter_name="default")
        adapted.peft_config["default"].base_model_name_or_path = BASE
        adapted.save_pretrained(folder / name)
        model = adapted.unload()
    return parameters


def engine_config(folder: Path) -> EngineConfig:
    """Return the configuration that loads what `write_model` wrote."""
    return EngineConfig(
        bases={BASE: WeightsReference(BASE, folder=folder / "base")},
        adapters={
            name: AdapterWeights(WeightsReference(f"benchmark/{name}", folder=folder / name), BASE) for name in ADAPTERS
        },
        dtype=Dtype.FLOAT32,
        device="cpu",
        digest_cache=folder / "digests.json",
        batch=BATCH,
        image_cache_mib=0,
    )


def requests(first_seed: int, *, same_images: bool = False) -> list[GenerationRequest]:
    """Return a batch of requests, the adapters in turns."""
    made = []
    for number in range(BATCH):
        rng = np.random.default_rng(first_seed if same_images else first_seed + number)
        images = tuple(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(PICTURES))
        adapter = ADAPTERS[0 if same_images else number % 2]
        words = f"What is to be seen, asked in {number + 1} ways?"
        made.append(GenerationRequest(adapter, chat(words, PICTURES), images, TextAnswer(TOKENS)))
    return made


@dataclass(frozen=True, slots=True)
class Way:
    """One way of answering a batch."""

    name: str
    answer: Callable[[Sequence[GenerationRequest]], list[Any]]
    asked: list[GenerationRequest]


def load_per_request(config: EngineConfig, asked: Sequence[GenerationRequest]) -> list[Any]:
    """Load base and adapter for each request, as a script that is started for each study does."""
    answers = []
    for request in asked:
        engine = TransformersEngine(replace(config, adapters={request.adapter: config.adapters[request.adapter]}))
        answers += engine.generate([request])
        engine.close()
    return answers


def one_by_one(engine: TransformersEngine) -> Callable[[Sequence[GenerationRequest]], list[Any]]:
    """Return a way that makes one call for each request."""
    return lambda asked: [engine.generate([request])[0] for request in asked]


def ways_to_answer(config: EngineConfig, engines: ExitStack) -> list[Way]:
    """Load an engine of each kind, which `engines` closes, and return every way of answering with them."""

    def loaded(own: EngineConfig, caches: EngineCaches) -> TransformersEngine:
        return engines.enter_context(closing(TransformersEngine(own, caches)))

    plain = loaded(config, NOTHING_KEPT)
    mixed = loaded(config, EngineCaches(prefixes=0, mixing=True))
    remembering = loaded(replace(config, image_cache_mib=64), NOTHING_KEPT)
    prefixes = loaded(config, EngineCaches(prefixes=2, mixing=False))
    different, same = requests(1), requests(100, same_images=True)
    return [
        Way("load base and adapter for each request", lambda asked: load_per_request(config, asked), different),
        Way("switch adapters for each request", one_by_one(plain), different),
        Way("batches grouped by adapter", plain.generate, different),
        Way("mixed batches", mixed.generate, different),
        Way("grouped, image embeddings known", remembering.generate, different),
        Way("8 questions on the same images, loading for each", lambda asked: load_per_request(config, asked), same),
        Way("the same, one by one", one_by_one(plain), same),
        Way("the same, prefix read once", one_by_one(prefixes), same),
        Way("the same in one batch, prefix read once", prefixes.generate, same),
    ]


def measure(config: EngineConfig, rounds: int) -> list[dict[str, Any]]:
    """Answer in every way, in turns; return the median seconds per request of each."""
    took: dict[str, list[float]] = defaultdict(list)
    said: dict[str, list[str]] = {}
    with ExitStack() as engines:
        ways = ways_to_answer(config, engines)
        for turn in range(rounds + 1):  # the first is warm-up
            for way in ways:
                started = time.perf_counter()
                answers = way.answer(way.asked)
                if turn:
                    took[way.name].append((time.perf_counter() - started) / len(way.asked))
                said[way.name] = [answer.text for answer in answers if isinstance(answer, Generation)]
    # Ways are compared with the first one that was asked the same.
    first = {id(way.asked): way for way in reversed(ways)}
    for way in ways:
        assert said[way.name] == said[first[id(way.asked)].name], f"{way.name}: other answers"
        assert len(said[way.name]) == BATCH
    return [row(way.name, took[way.name], first[id(way.asked)].name, took) for way in ways]


def row(name: str, seconds: list[float], against: str, took: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return what one way took, beside the way it is held against."""
    median = statistics.median(seconds)
    return {
        "way": name,
        "seconds_per_request": round(median, 4),
        "range": [round(min(seconds), 4), round(max(seconds), 4)],
        "times_as_fast": round(statistics.median(took[against]) / median, 2),
        "as": against,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds, after one that is not")
    parser.add_argument("--json", type=Path, help="file for the figures; else standard output")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_model(Path(folder))
        rows = measure(engine_config(Path(folder)), arguments.rounds)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}",
        "parameters": parameters,
        "images_per_request": PICTURES,
        "tokens_per_answer": TOKENS,
        "ways": rows,
    }
    print(f"{parameters / 1e6:.0f}M parameters, {document['machine']}", file=sys.stderr)
    for found in rows:
        took = f"{found['seconds_per_request']:7.3f} s  {found['times_as_fast']:6.1f} x"
        print(f"{found['way']:45} {took}  ({found['as']})", file=sys.stderr)
    text = json.dumps(document, indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
