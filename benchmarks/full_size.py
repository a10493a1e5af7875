"""The true size, once: Gemma 3 4B with random weights through load, LoRA, NF4 and one image, on a CPU.

Input: nothing but disk and memory. Output: seconds of each step and the peak of resident memory. On failure: the step
that failed stands last. `--small` does the same on two narrow layers, to see that the steps work.

The weights are drawn in bfloat16 and written shard by shard, so that the largest tensor (the embedding, 1.3 GB) is all
that is in memory; loading them is the first step that counts. Answers of random weights mean nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

#: As the engine leaves them (`models.engines.resident`): 4-bit blocks do not fit the vision tower's shapes on a CPU.
NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
#: The cataract adapter's.
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
_SHARD_BYTES = 2 << 30
_PROMPT_TOKENS = 100


def architecture(small: bool) -> Gemma3Config:
    """Return gemma-3-4b's configuration, or a narrow one with the same parts and the same vocabulary's token ids."""
    text = {"num_hidden_layers": 34, "hidden_size": 2560, "intermediate_size": 10240, "head_dim": 256}
    vision = {"num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16}
    if small:
        text = {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
        vision = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    return Gemma3Config(
        text_config=Gemma3TextConfig(num_attention_heads=8, num_key_value_heads=4, sliding_window=1024, **text),
        vision_config=SiglipVisionConfig(image_size=896, patch_size=14, vision_use_head=False, **vision),
        mm_tokens_per_image=256,
    )


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print how long a step took, and the most memory that was resident until its end."""
    print(f"{name} ...", flush=True)
    started = time.perf_counter()
    yield
    took = time.perf_counter() - started
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
    print(f"{name:44} {took:8.1f} s   peak {peak_gib:6.2f} GiB", flush=True)


def draw_weights(config: Gemma3Config, folder: Path) -> int:
    """Write random bfloat16 weights shard by shard; return how many parameters they have."""
    with torch.device("meta"):
        empty = Gemma3ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(0)
    shapes = {name: tuple(tensor.shape) for name, tensor in empty.named_parameters()}
    where: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    count = 0

    def close() -> None:
        name = f"model-{len(set(where.values())) + 1:05}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        where.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, shape in shapes.items():
        # Norms of Gemma multiply by one plus their weight; a spread of 0.02 keeps activations in range.
        tensor = torch.empty(shape, dtype=torch.bfloat16)
        shard[name] = tensor.normal_(0.0, 0.02, generator=generator)
        count += tensor.numel()
        if sum(kept.nbytes for kept in shard.values()) >= _SHARD_BYTES:
            close()
    if shard:
        close()
    index = {"metadata": {"total_size": 2 * count}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.architectures = ["Gemma3ForConditionalGeneration"]
    config.save_pretrained(folder)
    return count


def draw_adapter(config: Gemma3Config, folder: Path) -> int:
    """Write a random LoRA of the cataract adapter's shape; return how many parameters it has."""
    with torch.device("meta"):
        empty = peft.get_peft_model(Gemma3ForConditionalGeneration(config), peft.LoraConfig(**LORA))
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name.replace(".default", ""): torch.empty(tuple(tensor.shape)).normal_(0.0, 0.01, generator=generator)
        for name, tensor in empty.named_parameters()
        if tensor.requires_grad
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    empty.peft_config["default"].save_pretrained(folder)
    return sum(tensor.numel() for tensor in tensors.values())


def load(folder: Path, *, nf4: bool) -> Any:
    """Load the base in bfloat16, or with its language model in NF4."""
    quantization = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=NOT_QUANTIZED,
    )
    return Gemma3ForConditionalGeneration.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=quantization if nf4 else None,
        device_map={"": "cpu"},
        local_files_only=True,
        use_safetensors=True,
    ).eval()


def question(config: Gemma3Config) -> dict[str, torch.Tensor]:
    """Return one image (noise, 896 x 896) and a question of random words, encoded as the processor would."""
    rng = np.random.default_rng(2)
    words = rng.integers(1000, 200_000, _PROMPT_TOKENS).tolist()
    image = [config.boi_token_index, *[config.image_token_index] * config.mm_tokens_per_image, config.eoi_token_index]
    ids = torch.tensor([[2, *image, *words]])
    pixels = torch.from_numpy(rng.uniform(-1, 1, (1, 3, 896, 896)).astype(np.float32)).to(torch.bfloat16)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (ids == config.image_token_index).long(),
        "pixel_values": pixels,
    }


def measure(folder: Path, *, small: bool, tokens: int, bf16: bool) -> None:
    """Go through all steps once."""
    config = architecture(small)
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir()
    adapter.mkdir()
    with step("draw and write random weights"):
        count = draw_weights(config, base)
    with step("draw and write a LoRA (r 16, all-linear)"):
        lora_count = draw_adapter(config, adapter)
    print(f"base {count:,} parameters, adapter {lora_count:,}", flush=True)
    for nf4 in (False, True) if bf16 else (True,):
        kind = "NF4" if nf4 else "bfloat16"
        with step(f"load the base, {kind}"):
            model = load(base, nf4=nf4)
        print(f"the base takes {model.get_memory_footprint() / 2**30:.2f} GiB", flush=True)
        with step(f"attach the LoRA, {kind}"):
            switch = peft.PeftModel.from_pretrained(model, adapter, torch_device="cpu").eval()
        asked = question(config)
        for made in (1, tokens):
            with (
                step(f"one image, {asked['input_ids'].shape[1]} tokens in, {made} out, {kind}"),
                torch.inference_mode(),
            ):
                said = model.generate(**asked, do_sample=False, max_new_tokens=made, min_new_tokens=made)
        print(f"answered token ids: {said[0, asked['input_ids'].shape[1] :].tolist()}", flush=True)
        del switch, model


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two narrow layers instead of the 4B architecture")
    parser.add_argument("--tokens", type=int, default=4, help="tokens to answer [4]")
    parser.add_argument("--bf16", action="store_true", help="also without quantisation, before it")
    parser.add_argument("--folder", type=Path, help="where to write 9 GB, removed afterwards [a temporary folder]")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
    transformers.utils.logging.disable_progress_bar()
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
        f"{torch.get_num_threads()} threads",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="full-size-", dir=chosen.folder))
    try:
        with step("in all"):
            measure(folder, small=chosen.small, tokens=chosen.tokens, bf16=chosen.bf16)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
