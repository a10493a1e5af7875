"""ModelInput + prompt -> `GenerationRequest`: chat messages in the transformers form, images first, the question last.

Input: an adapter and a rendered input. Output: the request an engine answers. It cannot fail on a valid adapter; an
input without images raises `ValueError`, because no adapter here answers without looking.
"""

from __future__ import annotations

from typing import Any

from models.adapter import AdapterDefinition
from models.generation import GenerationRequest, TextAnswer
from models.rendering import ModelInput


def build_request(adapter: AdapterDefinition, model_input: ModelInput) -> GenerationRequest:
    """Return the request: the system prompt if the adapter has one, then one user turn of all images and the question.

    The order (images, then text) is the one in every author's example.

    Raises:
        ValueError: The input holds no image.
    """
    if not model_input.images:
        raise ValueError(f"adapter {adapter.name}: the model input holds no image; rendering must supply at least one")
    messages: list[dict[str, Any]] = []
    if adapter.prompt.system:
        messages.append({"role": "system", "content": [{"type": "text", "text": adapter.prompt.system}]})
    content: list[dict[str, str]] = [{"type": "image"} for _ in model_input.images]
    content.append({"type": "text", "text": adapter.prompt.user})
    messages.append({"role": "user", "content": content})
    return GenerationRequest(
        adapter=adapter.name,
        messages=tuple(messages),
        images=model_input.images,
        answer_form=adapter.answer_form,
        samples=adapter.samples if isinstance(adapter.answer_form, TextAnswer) else 0,
    )
