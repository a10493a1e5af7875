"""The stand-in's body: a very small model of the true Gemma 3 architecture, with its own tokenizer and processor.

Input: the sentences it has to be able to say. Output: an untrained model and a processor that the same
`from_pretrained` calls load which load MedGemma. Pictures are 112 x 112 pixels, sixteen tokens each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Gemma3TextConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

IMAGE_PIXELS, PATCH_PIXELS, IMAGE_TOKENS = 112, 14, 16

#: In Gemma's order, so that ids 0..2 mean the same as there.
SPECIAL_TOKENS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)

#: Gemma's turns: a system message is put before the first user turn's text.
CHAT_TEMPLATE = """{{ bos_token }}
{%- set system = namespace(text='') -%}
{%- for message in messages -%}
  {%- if message['role'] == 'system' -%}
    {%- if message['content'] is string -%}{%- set system.text = message['content'] + '\n\n' -%}
    {%- else -%}{%- set system.text = message['content'][0]['text'] + '\n\n' -%}{%- endif -%}
  {%- else -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' + system.text }}
    {%- set system.text = '' -%}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- else -%}
      {%- for part in message['content'] -%}
        {%- if part['type'] == 'image' -%}{{ '<start_of_image>' }}
        {%- else -%}{{ part['text'] | trim }}{%- endif -%}
      {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""


def build_processor(sentences: Iterable[str]) -> Any:
    """Learn a byte-level BPE vocabulary from the sentences and return the processor around it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        sentences,
        trainers.BpeTrainer(
            vocab_size=1024,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        **{f"{role}_token": f"<{role}>" for role in ("pad", "eos", "bos", "unk")},
        padding_side="left",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )
    pictures = Gemma3ImageProcessorPil(
        size={"height": IMAGE_PIXELS, "width": IMAGE_PIXELS},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        do_pan_and_scan=False,
    )
    return Gemma3Processor(
        image_processor=pictures, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE, image_seq_length=IMAGE_TOKENS
    )


def build_model(processor: Any, seed: int) -> Any:
    """Return an untrained model for this processor's vocabulary. The same seed gives the same weights."""
    torch.manual_seed(seed)
    tokenizer = processor.tokenizer
    token = tokenizer.convert_tokens_to_ids
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=2048,
        sliding_window=512,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        pad_token_id=token("<pad>"),
        eos_token_id=token("<eos>"),
        bos_token_id=token("<bos>"),
    )
    vision = SiglipVisionConfig(
        hidden_size=80,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_PIXELS,
        patch_size=PATCH_PIXELS,
        vision_use_head=False,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=token("<start_of_image>"),
        eoi_token_index=token("<end_of_image>"),
        image_token_index=token("<image_soft_token>"),
        eos_token_id=[token("<eos>"), token("<end_of_turn>")],
    )
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        # The architecture starts this at zero, which would make the model blind.
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(0.0, 0.05)
        # Gemma multiplies embeddings by sqrt(hidden size): keep them near unit length.
        model.model.language_model.embed_tokens.weight.normal_(0.0, 0.05)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=token("<bos>"),
        eos_token_id=[token("<eos>"), token("<end_of_turn>")],
        pad_token_id=token("<pad>"),
    )
    return model
