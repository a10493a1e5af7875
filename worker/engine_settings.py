"""Settings of the models: what runs them, where their weights lie, and what a site changes about an adapter.

Input: the values of a settings file. Output: frozen sections of `worker.settings.Settings`. An unknown key or a wrong
value raises pydantic's `ValidationError`, which `worker.settings.load_settings` puts in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, SerializationInfo

#: Serialisation context (`{"to": CHILD_PROCESS}`) in which secrets are written out.
CHILD_PROCESS = "child process"


def _reveal_to_children_only(secret: SecretStr, info: SerializationInfo) -> str:
    """Hide a secret from everybody who prints settings; the daemon's own processes are handed it."""
    return secret.get_secret_value() if (info.context or {}).get("to") == CHILD_PROCESS else str(secret)


#: A value that is never printed or logged.
Secret = Annotated[SecretStr, PlainSerializer(_reveal_to_children_only, return_type=str, when_used="json")]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenAISettings(Section):
    """A server that speaks the OpenAI protocol (vLLM and alike); nothing but rendered images and prompts goes there."""

    base_url: str = Field(pattern="^https?://", description="address up to and including /v1")
    models: dict[str, str] = Field(
        {}, description="adapter name -> name of its model on the server, if that is another"
    )
    api_key: Secret = Field(SecretStr(""), description="key, sent as Bearer token; better from the environment")
    ca: Path | None = Field(None, description="PEM file of the authorities that the server's certificate is signed by")
    timeout_s: float = Field(120, gt=0, description="seconds to wait for one answer")
    attempts: int = Field(3, ge=1, description="tries of one request, the first included")
    concurrency: int = Field(8, ge=1, description="requests on their way at once")


class AdapterOptions(Section):
    """What a site changes about one adapter."""

    prompt: Path | None = Field(None, description="text file with the site's own prompt")
    system_prompt: Path | None = Field(None, description="text file with the site's own system prompt")
    language: str | None = Field(None, description="language of free text (BCP 47), of those the adapter has")
    release_at: dict[str, float] = Field(
        {}, description="answer class -> lowest probability that is released; 1.01 holds every answer"
    )
    samples: int = Field(
        0, ge=0, le=16, description="further answers drawn to see whether free text agrees with itself"
    )


class EngineSettings(Section):
    """What runs the models."""

    kind: Literal["transformers", "openai", "standin"] = Field(
        "transformers", description="transformers | openai | standin (drawn phantoms only, its answers mean nothing)"
    )
    bases: dict[str, Path] = Field(
        {}, description="hub id of a base model -> local folder with its weights; else the hub cache is used"
    )
    adapters: dict[str, Path] = Field(
        {}, description="adapter name -> local folder with its LoRA weights; else the hub cache is used"
    )
    enabled: list[str] = Field([], description="adapters to load; empty means all of them")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="number format of the weights; auto is bfloat16 on a GPU and float32 on a CPU"
    )
    quantization: Literal["none", "nf4"] = Field("none", description="nf4: 4-bit NormalFloat with double quantisation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes the GPU where there is one")
    revisions: dict[str, str] = Field({}, description="hub id -> revision (commit hash) to use instead of main")
    digests: dict[str, str] = Field(
        {}, description="hub id -> SHA-256 its files must have; `dicom-worker adapters check` shows it"
    )
    batch: int = Field(8, ge=1, description="requests answered together at most")
    max_bases: int | None = Field(
        None, ge=1, description="base models kept in memory at once; null means as many as the device holds"
    )
    image_cache_mib: int = Field(256, ge=0, description="MiB of image embeddings kept for further questions")
    compile: bool = Field(False, description="compile the language model: minutes at start, faster afterwards")
    openai: OpenAISettings | None = Field(None, description="the server to ask; needed with kind openai")
