"""Loading: a base model with its LoRA adapters into the memory of one device, where they stay.

Input: an `EngineConfig` and where its weights lie. Output: a `Resident`. On failure: `EngineError` that names the
setting. Nothing goes to another device than the one asked for; weights are read from safetensors only, and no code that
comes with them is run.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from models.engines.configuration import Dtype, EngineConfig, EngineError, EngineOutOfMemoryError, Quantization
from models.engines.faults import is_out_of_memory
from models.engines.switching import AdapterSwitch

#: Left unquantised: the vision tower's shapes do not fit 4-bit blocks on every device, and they are small.
_NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]

#: What transformers, PEFT and torch raise at files, settings and devices that they cannot use.
_CANNOT_LOAD = (
    *(OSError, ValueError, KeyError, RuntimeError, MemoryError, ImportError),
    *(SafetensorError, StrictDataclassError),
)


@dataclass(frozen=True, slots=True)
class Resident:
    """A base model and its adapters in memory."""

    #: The base model with LoRA layers in place; called directly, so that no wrapper changes its inputs.
    model: Any
    switch: AdapterSwitch
    processor: Any
    device: torch.device
    dtype: torch.dtype
    eos_token_ids: tuple[int, ...]


def load_resident(config: EngineConfig, base: Path, adapters: Mapping[str, Path]) -> Resident:
    """Load base, processor and adapters.

    Raises:
        EngineError: The device or precision cannot be had, or the files do not fit the architecture.
        EngineOutOfMemoryError: The device has not enough memory left.
    """
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    transformers.utils.logging.disable_progress_bar()
    try:
        processor = transformers.AutoProcessor.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            base,
            dtype=dtype,
            attn_implementation=config.attention,
            quantization_config=_quantization(config.quantization, dtype),
            device_map={"": device},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        ).eval()
        switch = AdapterSwitch(_attach(model, adapters, device))
    except _CANNOT_LOAD as error:
        if is_out_of_memory(error):
            raise EngineOutOfMemoryError(
                f"the model in {base} does not fit into the memory that {device} has left; use engine.quantization "
                f"nf4, engine.max_bases 1, or a larger device"
            ) from error
        raise EngineError(f"the model in {base} cannot be loaded on {device} as {dtype}: {error}") from error
    check_placement(model, device)
    if getattr(processor.image_processor, "do_pan_and_scan", False):
        raise EngineError(f"the model in {base} cuts images into crops (do_pan_and_scan), which no adapter here knows")
    if config.compile:
        # Compiled at the first pass, for any number of rows and tokens.
        model.model.language_model.compile(dynamic=True)
    return Resident(model, switch, processor, device, dtype, _eos_token_ids(model, processor.tokenizer))


def choose_device(wanted: str) -> torch.device:
    """Return the device; "auto" takes a GPU if there is one. Raises `EngineError` for a GPU that is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EngineError(f"engine.device is {wanted!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise EngineError(
            f"engine.device is {wanted!r}, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices "
            f"here; install a CUDA build of torch and its driver, or set engine.device to cpu or auto"
        )
    return device


def choose_dtype(wanted: Dtype, device: torch.device) -> torch.dtype:
    """Return the precision; "auto" is bfloat16 on a GPU and float32 on a CPU."""
    if wanted == Dtype.AUTO:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if wanted == Dtype.BFLOAT16 else torch.float32


def check_placement(model: Any, device: torch.device) -> None:
    """Refuse weights that ended up elsewhere (on the CPU, on disk), where they would be slow without a word."""
    elsewhere = sorted(
        {
            str(tensor.device)
            for tensor in [*model.parameters(), *model.buffers()]
            if tensor.device.type != device.type or device.index not in (None, tensor.device.index)
        }
    )
    if elsewhere:
        raise EngineError(
            f"parts of the model were put on {', '.join(elsewhere)} instead of {device}; free memory there, or use "
            f"engine.quantization nf4 or a larger device"
        )


def _quantization(wanted: Quantization, dtype: torch.dtype) -> transformers.BitsAndBytesConfig | None:
    if wanted == Quantization.NONE:
        return None
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=_NOT_QUANTIZED,
    )


def _attach(model: Any, adapters: Mapping[str, Path], device: torch.device) -> peft.PeftModel | None:
    """Load every adapter beside the base, none of them merged, so that switching costs nothing."""
    switch: peft.PeftModel | None = None
    with warnings.catch_warnings():
        # PEFT asks transformers by the property's old name; nothing that we could do otherwise.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        for name, folder in adapters.items():
            if switch is None:
                switch = peft.PeftModel.from_pretrained(model, folder, adapter_name=name, torch_device=str(device))
            else:
                switch.load_adapter(folder, adapter_name=name, torch_device=str(device))
    return switch.eval() if switch is not None else None


def _eos_token_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return every token that ends an answer: the model's own list, the tokenizer's, and the end of a turn."""
    declared = model.generation_config.eos_token_id
    ids: Sequence[int] = declared if isinstance(declared, Sequence) else [declared]
    turn_end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    candidates = [*ids, tokenizer.eos_token_id, None if turn_end == tokenizer.unk_token_id else turn_end]
    return tuple(dict.fromkeys(token for token in candidates if token is not None))
