"""ModelInput + prompt -> `GenerationRequest`: chat messages in the transformers form, images first, the question last.

Input: an adapter and a rendered input. Output: the request an engine answers, and a digest that tells what is asked
from anything else. It cannot fail on a valid adapter; an input without images raises `ValueError`, because no adapter
here answers without looking.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from models.adapter import AdapterDefinition
from models.generation import GenerationRequest, JsonAnswer, LabelAnswer, TextAnswer
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


def prompt_digest(adapter: AdapterDefinition) -> str:
    """Return the SHA-256 (hexadecimal) of what the adapter is asked, whatever the images: words, labels, JSON schema.

    `adapter` is one that has been asked (`AdapterDefinition.asked`). Limits of length are left out: they change which
    answers are cut off, not what an answer means.
    """
    form = adapter.answer_form
    asked: dict[str, Any] = {"system": adapter.prompt.system or "", "user": adapter.prompt.user}
    if isinstance(form, LabelAnswer):
        asked["labels"] = list(form.labels)
    elif isinstance(form, JsonAnswer):
        asked["json_schema"] = form.json_schema
    written = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()
