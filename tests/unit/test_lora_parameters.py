"""The adapters' LoRA shapes on the true 4B architecture give their authors' parameter counts. No weights needed."""

from __future__ import annotations

import peft
import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

from models.adapter import LoraConfiguration
from models.adapters.abdominal_trauma.adapter import ADAPTER as TRAUMA
from models.adapters.dsa_patency.adapter import ADAPTER as DSA

#: gemma-3-4b, which MedGemma 4B is.
BASE_PARAMETERS = 4_300_079_472


@pytest.fixture(scope="module")
def gemma_4b() -> Gemma3ForConditionalGeneration:
    """The whole architecture on the meta device: shapes without memory."""
    config = Gemma3Config(
        text_config=Gemma3TextConfig(
            hidden_size=2560,
            intermediate_size=10240,
            num_hidden_layers=34,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=256,
            sliding_window=1024,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,
            num_attention_heads=16,
            image_size=896,
            patch_size=14,
            vision_use_head=False,
        ),
        mm_tokens_per_image=256,
    )
    with torch.device("meta"):
        return Gemma3ForConditionalGeneration(config)


def trainable(model: Gemma3ForConditionalGeneration, lora: LoraConfiguration) -> int:
    targets = lora.target_modules
    with torch.device("meta"):
        adapted = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=lora.r,
                lora_alpha=lora.lora_alpha,
                lora_dropout=lora.lora_dropout,
                target_modules=targets if isinstance(targets, str) else list(targets),
                task_type="CAUSAL_LM",
            ),
        )
    count = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    adapted.unload()
    return count


def test_the_base_is_the_4b_architecture(gemma_4b: Gemma3ForConditionalGeneration) -> None:
    assert sum(parameter.numel() for parameter in gemma_4b.parameters()) == BASE_PARAMETERS


# PEFT asks transformers by a property's old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(
    ("lora", "expected"),
    [
        pytest.param(TRAUMA.lora_configuration, 32_788_480, id="abdominal trauma"),
        pytest.param(LoraConfiguration(16, 16, 0.05, "all-linear"), 38_497_792, id="cataract"),
        pytest.param(DSA.lora_configuration, 19_248_896, id="dsa"),
        pytest.param(LoraConfiguration(16, 32, 0.05, ("q_proj", "v_proj")), 6_447_104, id="caption"),
        pytest.param(
            LoraConfiguration(64, 16, 0.1, TRAUMA.lora_configuration.target_modules), 131_153_920, id="flare, r 64"
        ),
    ],
)
def test_lora_shapes_have_their_authors_parameter_counts(
    gemma_4b: Gemma3ForConditionalGeneration, lora: LoraConfiguration, expected: int
) -> None:
    assert trainable(gemma_4b, lora) == expected


def test_the_trauma_share_is_the_one_its_card_reports() -> None:
    assert round(100 * 32_788_480 / (BASE_PARAMETERS + 32_788_480), 4) == 0.7567
