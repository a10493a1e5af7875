"""An adapter's own `adapter_config.json`: read, and held against what the engine and the merge can do.

Input: the folder of an adapter. Output: its LoRA shape, and in words what stands against using it. On failure:
`ValueError` or `OSError` where the file cannot be understood. Nothing here needs torch or PEFT.

What was found with PEFT 0.21 on a Gemma 3, several adapters on one base: rank and alpha patterns, rank-stabilised
scaling, `modules_to_save`, trained token rows and LoRA biases answer as they do alone. Trained base biases stay in the
base when another adapter answers. DoRA and target parameters cannot share a batch with other adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.weight_files import read_json

if TYPE_CHECKING:
    from models.adapter import LoraConfiguration

#: What "all-linear" stands for in Gemma 3: the language model's projections and the vision tower's.
_ALL_LINEAR = frozenset(
    "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj out_proj fc1 fc2".split()  # noqa: SIM905  reads as a list
)

#: Keys of peft.LoraConfig that change nothing for answering, or that PEFT does rightly beside other adapters.
_UNDERSTOOD = frozenset(
    {
        *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"),
        *("peft_version", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out"),
        *("use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "modules_to_save"),
        *("trainable_token_indices", "lora_bias", "ensure_weight_tying", "qalora_group_size", "megatron_core"),
        # How training began or ran; the trained weights say it all.
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config"),
        # Looked at one by one below.
        *("bias", "use_dora", "target_parameters", "init_lora_weights"),
    }
)

#: Begin-of-training methods that leave the base as it is; the others (PiSSA, OLoRA, ...) change the base weights.
_HARMLESS_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")

#: Other things a LoRA can be, none of which the engine can run beside other adapters.
_OTHER_KINDS = {
    "layer_replication": "it doubles layers of the base",
    "alora_invocation_tokens": "it is an activated LoRA, which begins to act in the middle of a prompt",
    "use_qalora": "it is a QA-LoRA",
    "use_bdlora": "it is a block-diagonal LoRA",
    "arrow_config": "it is a router over other adapters (Arrow)",
    "kasa_config": "it is a KaSA adapter, which cuts down the weights of the base",
    "monteclora_config": "it is a MonteCLoRA adapter",
    "velora_config": "it is a VeLoRA adapter",
    "megatron_config": "it was made for Megatron",
}


@dataclass(frozen=True, slots=True)
class LoraFile:
    """What an adapter_config.json says."""

    r: int
    lora_alpha: float
    target_modules: str | tuple[str, ...]
    #: What it was trained on, as its author's machine named it; None where the file does not say.
    base: str | None
    #: Everything in the file.
    stored: Mapping[str, Any]

    @property
    def shape(self) -> str:
        """Return rank, alpha and target modules in one line."""
        targets = self.target_modules if isinstance(self.target_modules, str) else ", ".join(self.target_modules)
        extra = [name for name in ("modules_to_save", "rank_pattern", "alpha_pattern") if self.stored.get(name)]
        return f"r {self.r}, alpha {self.lora_alpha:g}: {targets}" + (f" (and {', '.join(extra)})" if extra else "")


def read_lora(folder: Path) -> LoraFile:
    """Read a folder's adapter_config.json.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no PEFT configuration of a LoRA; the message says what it is.
    """
    stored = read_json(folder / "adapter_config.json")
    kind = stored.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"its peft_type is {kind!r}; only LORA can be run here")
    if stored.get("task_type") not in (None, "CAUSAL_LM"):
        raise ValueError(f"its task_type is {stored['task_type']!r}: it does not write text (CAUSAL_LM)")
    rank, alpha, targets = stored.get("r"), stored.get("lora_alpha"), stored.get("target_modules")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise ValueError(f"its r is {rank!r} and its lora_alpha {alpha!r}; both must be numbers")
    if not isinstance(targets, str):
        targets = tuple(sorted(str(target) for target in targets or ()))
    return LoraFile(rank, alpha, targets, stored.get("base_model_name_or_path"), stored)


def obstacles_to_use(lora: LoraFile) -> list[str]:
    """Return why the adapter cannot answer beside others on one base; empty where it can."""
    found = obstacles_to_merging(lora)
    if lora.stored.get("bias") not in (None, "none"):
        found.append(f"it trains biases of the base (bias: {lora.stored['bias']}), which other adapters would see")
    if lora.stored.get("use_dora"):
        found.append("it is a DoRA, which cannot share a batch with other adapters")
    if lora.stored.get("target_parameters"):
        found.append("it has target_parameters, which cannot share a batch with other adapters")
    return found


def obstacles_to_merging(lora: LoraFile) -> list[str]:
    """Return why the adapter can neither be merged into its base nor be used; empty where it can be merged."""
    found = [words for key, words in _OTHER_KINDS.items() if lora.stored.get(key)]
    beginning = lora.stored.get("init_lora_weights", True)
    if beginning not in _HARMLESS_BEGINNINGS:
        found.append(
            f"it fits a base that its training changed (init_lora_weights: {beginning!r}); its author can convert it "
            f"(PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )
    known = _UNDERSTOOD | set(_OTHER_KINDS)
    if strange := sorted(key for key, value in lora.stored.items() if value and key not in known):
        version = lora.stored.get("peft_version", "of an unknown version")
        found.append(f"it was written by PEFT {version} and uses {', '.join(strange)}, which is not known here")
    return found


def differences(lora: LoraFile, card: LoraConfiguration) -> list[str]:
    """Return where the file differs from what the author's card says, at its nearest reading; the file counts."""
    readings = [card] if card.or_else is None else [card, card.or_else]
    return min((_differences(lora, reading) for reading in readings), key=len)


def _differences(lora: LoraFile, card: LoraConfiguration) -> list[str]:
    found = []
    if "r" not in card.unstated and lora.r != card.r:
        found.append(f"r is {lora.r}, the card says {card.r}")
    if "lora_alpha" not in card.unstated and lora.lora_alpha != card.lora_alpha:
        found.append(f"alpha is {lora.lora_alpha:g}, the card says {card.lora_alpha:g}")
    if "target_modules" not in card.unstated and _targets(lora.target_modules) != _targets(card.target_modules):
        ours, theirs = (
            value if isinstance(value, str) else ", ".join(sorted(value))
            for value in (lora.target_modules, card.target_modules)
        )
        found.append(f"the target modules are {ours}; the card says {theirs}")
    return found


def _targets(named: str | tuple[str, ...]) -> frozenset[str]:
    if isinstance(named, str):
        return _ALL_LINEAR if named == "all-linear" else frozenset({named})
    # A file may name each layer in full (model.layers.0.self_attn.q_proj).
    return frozenset(target.rsplit(".", 1)[-1] for target in named)
