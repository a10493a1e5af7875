"""Merging: one adapter's LoRA weights added into its base model, written as a model of its own.

Input: an `EngineConfig`, the adapter's name, an empty place, and a few questions. Output: a folder that transformers
and vLLM load (safetensors, processor, tokenizer, chat template, generation configuration, a note of what was merged),
and a `Merge` that says how the answers compare. On failure: `EngineError` or `WeightsError`, and nothing is kept.

The sum is made, and held against the unmerged model, in float32: there the answers must be the same tokens. Rounding
to bfloat16 comes after and may change an answer; how far is measured on the saved model and told, not hidden.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors import SafetensorError

from models.engines.comparison import compare, greedy_answer
from models.engines.configuration import Dtype, EngineConfig, EngineError, EngineKind
from models.engines.resident import choose_device
from models.generation import GenerationRequest
from models.lora import obstacles_to_merging, read_lora
from models.merge_record import MergeRecord, is_merged, write_merge_record
from models.weight_files import read_json
from models.weights import (
    FoundWeights,
    WeightsError,
    check_base_match,
    check_pin,
    find_weights,
    standin_config,
    weight_digests,
)

#: Written beside the weights where the base has them; the processor writes its own files again.
_COPIED = ("chat_template.jinja", "chat_template.json", "tokenizer.model", "generation_config.json")


@dataclass(frozen=True, slots=True)
class Merge:
    """A merged model, and how it compares with base and adapter apart."""

    folder: Path
    record: MergeRecord
    #: Questions asked, and tokens answered to all of them.
    questions: int
    tokens: int
    #: Greatest difference of a logit over all answered tokens, both in float32.
    logit_difference: float
    #: The saved model in its own number format against the unmerged one in float32: share of questions with the same
    #: tokens, and the greatest difference of a logit up to the first other token.
    saved_same: float
    saved_logit_difference: float
    #: False where the adapter trained input and output embeddings apart; not every server takes that.
    tied_embeddings: bool


def merge_adapter(
    config: EngineConfig,
    name: str,
    out: Path,
    *,
    dtype: Dtype,
    questions: Sequence[GenerationRequest],
    progress: Callable[[str], None] = lambda step: None,
) -> Merge:
    """Merge an adapter into its base, write the model to `out`, and make sure that it answers the same.

    Args:
        config: Its bases and adapters; device and attention are used, quantisation is not.
        name: Which adapter.
        out: A folder that does not exist, or is empty.
        dtype: Number format of the merged weights; `AUTO` is bfloat16.
        questions: What both are asked; the answer form is left aside, all are answered in free words.
        progress: Told of each step.

    Raises:
        WeightsError: Weights are missing, do not fit together, or cannot be merged.
        EngineError: The answers differ, or the model cannot be loaded or written.
    """
    if not questions:
        raise ValueError("a merge is checked by questions; give at least one")
    if config.kind == EngineKind.STANDIN:
        config = standin_config(config)
    base, adapter = _found(config, name)
    out = out.expanduser().absolute()
    config = replace(config, attention=config.attention_of(base.reference))
    _refuse_used_place(out)
    progress("hashing the files that go in")
    record = _record(name, base, adapter, dtype, config)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise EngineError(f"{out} cannot be written: {error}") from error
    try:
        merge = _merge_into(place, config, base, adapter, record, questions, progress)
        # The temporary folder is for its owner only; a model may be read by others, as the umask says.
        place.chmod(0o777 & ~_umask())
        if out.exists():
            out.rmdir()
        place.rename(out)
    except OSError as error:
        raise EngineError(f"the merged model cannot be written to {out}: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    progress(f"written to {out}")
    return Merge(out, record, *merge)


def _merge_into(
    place: Path,
    config: EngineConfig,
    base: FoundWeights,
    adapter: FoundWeights,
    record: MergeRecord,
    questions: Sequence[GenerationRequest],
    progress: Callable[[str], None],
) -> tuple[int, int, float, float, float, bool]:
    device = choose_device(config.device)
    try:
        processor = transformers.AutoProcessor.from_pretrained(base.folder, local_files_only=True)
        progress("loading base and adapter in float32")
        switch = _load_adapted(base.folder, adapter.folder, device, config.attention)
        progress(f"asking base and adapter {len(questions)} questions")
        apart = [greedy_answer(switch.get_base_model(), processor, question, device) for question in questions]
        progress("merging")
        merged = switch.merge_and_unload(safe_merge=True)
        progress(f"asking the merged model the same {len(questions)} questions")
        together = [greedy_answer(merged, processor, question, device) for question in questions]
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise EngineError(f"{adapter.folder} cannot be merged into {base.folder}: {error}") from error
    same, difference = compare(apart, together)
    if same < 1 or not difference < float("inf"):
        raise EngineError(
            f"the merged model answers otherwise than base and adapter apart: {same:.0%} of {len(questions)} questions "
            f"have the same tokens, greatest logit difference {difference:.3g}. Nothing was written. Run the adapter "
            f"unmerged"
        )
    tied = bool(merged.config.tie_word_embeddings)
    progress(f"writing the model as {record.dtype}")
    _save(merged, processor, base.folder, place, record)
    del switch, merged
    gc.collect()
    progress("loading what was written, and asking it")
    saved = _load(place, device, config.attention, None)
    saved_same, saved_difference = compare(
        apart, [greedy_answer(saved, processor, question, device) for question in questions]
    )
    if record.dtype == Dtype.FLOAT32 and saved_same < 1:
        raise EngineError(
            f"the model as written answers otherwise: {saved_same:.0%} of {len(questions)} questions have the same "
            f"tokens, greatest logit difference {saved_difference:.3g}. Nothing was kept"
        )
    return len(apart), sum(len(a.ids) for a in apart), difference, saved_same, saved_difference, tied


def _found(config: EngineConfig, name: str) -> tuple[FoundWeights, FoundWeights]:
    """Return base and adapter, when they are there, fit together, and can be merged."""
    own = config.adapters.get(name)
    if own is None:
        raise WeightsError(f"there is no adapter {name!r} with weights; there are {', '.join(sorted(config.adapters))}")
    adapter = find_weights(own.reference, adapter=True, cache_dir=config.cache_dir, name=name)
    if is_merged(adapter.folder):
        raise WeightsError(f"{adapter.folder} (engine.adapters.{name}) is merged already; set the adapter's own folder")
    base = find_weights(config.bases[own.base], adapter=False, cache_dir=config.cache_dir)
    check_base_match(adapter, base.reference)
    for found in (base, adapter):
        check_pin(found, config)
    try:
        obstacles = obstacles_to_merging(read_lora(adapter.folder))
        if read_json(base.folder / "config.json").get("quantization_config"):
            obstacles.append(
                f"{base.folder} holds quantised weights, and a sum with those is rounded again; set engine.bases to "
                f"the full-precision weights of {base.reference.hub_id} (engine.quantization nf4 may stay as it is)"
            )
    except (OSError, ValueError) as error:
        raise WeightsError(f"adapter {name}: {adapter.folder} cannot be merged: {error}") from error
    if obstacles:
        raise WeightsError(f"adapter {name}: {adapter.folder} cannot be merged: {'; '.join(obstacles)}")
    return base, adapter


def _record(name: str, base: FoundWeights, adapter: FoundWeights, dtype: Dtype, config: EngineConfig) -> MergeRecord:
    return MergeRecord(
        name=name,
        base=base.reference.hub_id,
        base_revision=base.revision,
        adapter=adapter.reference.hub_id,
        adapter_revision=adapter.revision,
        base_files=weight_digests(base.folder, config.digest_cache),
        adapter_files=weight_digests(adapter.folder, config.digest_cache),
        dtype=(Dtype.BFLOAT16 if dtype == Dtype.AUTO else dtype).value,
        software=f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}",
    )


def _refuse_used_place(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EngineError(f"{out} exists and is not an empty folder; name another, or remove it first")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _load(folder: Path, device: torch.device, attention: str, dtype: torch.dtype | None) -> Any:
    """Load a model; without a `dtype`, in the one it was written in."""
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype="auto" if dtype is None else dtype,
        attn_implementation=attention,
        device_map={"": device},
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()


def _load_adapted(base: Path, adapter: Path, device: torch.device, attention: str) -> peft.PeftModel:
    model = _load(base, device, attention, torch.float32)
    with warnings.catch_warnings():
        # PEFT asks transformers by the property's old name; nothing that we could do otherwise.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return peft.PeftModel.from_pretrained(model, adapter, torch_device=str(device)).eval()


def _save(merged: Any, processor: Any, base: Path, place: Path, record: MergeRecord) -> None:
    merged.to(torch.bfloat16 if record.dtype == Dtype.BFLOAT16 else torch.float32)
    merged.save_pretrained(place)
    processor.save_pretrained(place)
    for name in _COPIED:
        if (base / name).is_file() and not (place / name).is_file():
            shutil.copyfile(base / name, place / name)
    write_merge_record(place, record)
