"""What an engine is to be: kind, weights, precision, device. Plain values; reading them loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

#: Request to this adapter name: the base model answers alone. For comparisons; no folder may have this name.
BASE_ONLY = "base"


class EngineError(Exception):
    """The engine cannot be set up or cannot answer this request; the message says why and what to do. Permanent."""

    #: True where the same request may succeed later.
    transient = False


class EngineOutOfMemoryError(EngineError):
    """The device ran out of memory on this request. Transient: others may have left less room than usual."""

    transient = True


class EngineDeviceError(EngineError):
    """The device failed in a way that only a new process can mend. Transient: the request is not to blame."""

    transient = True


class EngineKind(StrEnum):
    """Which machinery answers."""

    #: A resident base model with LoRA adapters, in this process.
    TRANSFORMERS = "transformers"
    #: The tiny checkpoint in this package: real code path, meaningless answers.
    STANDIN = "standin"
    #: A separate server that speaks the OpenAI protocol.
    OPENAI = "openai"


class Dtype(StrEnum):
    """Precision of weights and arithmetic."""

    #: bfloat16 on a GPU, float32 on a CPU.
    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Quantization(StrEnum):
    """How the base model's weights are stored in memory."""

    NONE = "none"
    #: 4-bit NormalFloat with double quantisation (QLoRA, Dettmers 2023); vision tower and projector stay as they are.
    NF4 = "nf4"


@dataclass(frozen=True, slots=True)
class WeightsReference:
    """Weights by their name on the hub, and where they lie if not in the hub cache."""

    hub_id: str
    #: A commit hash, tag or branch.
    revision: str = "main"
    licence: str = ""
    #: A folder with the files; it wins over the hub cache. It keeps its `hub_id`, by which adapters name their base.
    folder: Path | None = None
    #: False where they can be had from no hub: a site must name the folder.
    published: bool = True
    #: Of a base: its own attention (`EngineConfig.attention`); None takes the engine's.
    attention: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter's LoRA weights, and the base model they belong on."""

    reference: WeightsReference
    #: Hub id of the base: a key of `EngineConfig.bases`.
    base: str
    #: True where `base` has this adapter merged in already: nothing is attached to it (`models.weights.with_merged`).
    merged: bool = False


@dataclass(frozen=True, slots=True)
class OpenAIServer:
    """A server that speaks the OpenAI protocol (vLLM and alike)."""

    #: Up to and including "/v1".
    base_url: str
    #: Adapter name -> the name under which the server has its model; an adapter that is left out goes by its own name.
    models: Mapping[str, str] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    #: PEM file of the authorities that the server's certificate must be signed by; None takes the system's.
    ca: Path | None = None
    timeout_s: float = 120.0
    #: Tries of one request, the first included.
    attempts: int = 3
    #: Requests on their way at once.
    concurrency: int = 8


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything needed to load an engine.

    Nothing is downloaded, code that comes with weights is never run, and only safetensors are read.
    """

    kind: EngineKind = EngineKind.TRANSFORMERS
    #: Hub id -> base model. Needed by `transformers`; `standin` brings its own.
    bases: Mapping[str, WeightsReference] = field(default_factory=dict)
    #: Adapter name -> its LoRA weights and their base.
    adapters: Mapping[str, AdapterWeights] = field(default_factory=dict)
    #: Hub id -> combined SHA-256 (`models.weights.combined_digest`) that a site insists on.
    digests: Mapping[str, str] = field(default_factory=dict)
    dtype: Dtype = Dtype.AUTO
    quantization: Quantization = Quantization.NONE
    #: "auto", "cpu", "cuda" or "cuda:N". A GPU that was asked for and is not there is an error, never the CPU.
    device: str = "auto"
    #: transformers' `attn_implementation`: "sdpa", "eager", "flash_attention_2"; for bases that name none of their own.
    attention: str = "sdpa"
    #: Hub cache; None is the hub library's own (`HF_HOME`).
    cache_dir: Path | None = None
    #: CPU threads; None leaves it to torch.
    threads: int | None = None
    #: JSON file that remembers the digests of large weight files between starts; None hashes anew each time.
    digest_cache: Path | None = None
    #: Requests answered in one batch at most.
    batch: int = 8
    #: Base models kept in memory at once, those used last; None means as many as the device holds.
    max_bases: int | None = None
    #: Room for the image embeddings that are kept for further questions on the same images, in MiB.
    image_cache_mib: int = 256
    #: Compile the language model (`torch.compile`): minutes at start, faster afterwards.
    compile: bool = False
    #: Needed by `openai`.
    server: OpenAIServer | None = None

    def attention_of(self, base: WeightsReference) -> str:
        """Return the attention that a base is loaded with."""
        return base.attention or self.attention
