"""A server of the OpenAI protocol with the stand-in behind it, and faults that a test can switch on.

It speaks what the engine needs of the protocol: `GET /v1/models` with vLLM's `root` and `parent`, and
`POST /v1/chat/completions` with pictures as data URIs, JSON schemas, log-probabilities and several answers. The most
likely first tokens come from a model that is loaded here with transformers and PEFT alone. It runs in a thread of the
test's own process; every byte that comes in is kept.
"""

from __future__ import annotations

import base64
import io
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image
from uvicorn.protocols.http.h11_impl import H11Protocol

from models.engines.standin import StandinEngine
from models.generation import Generation, GenerationFailure, GenerationRequest, JsonAnswer, TextAnswer
from models.weights import STANDIN_FOLDER
from tests.services.process import LOCALHOST, free_port, wait_until
from tests.tls_files import TlsFiles

BASE = "dicom-worker/standin-base"
#: What a real server writes about a part of a request that it does not know.
UNKNOWN_PART = "Extra inputs are not permitted: {}"
END_OF_TURN = "<end_of_turn>"


@dataclass
class Faults:
    """What goes wrong; a test sets it before it asks."""

    #: Answers to the next requests instead of the true ones, in order.
    next_answers: list[Callable[[], Response]] = field(default_factory=list)
    #: Parts of a body that are refused with 400.
    unknown_parts: set[str] = field(default_factory=set)
    #: Parts of a body that are taken and not heeded.
    ignored_parts: set[str] = field(default_factory=set)
    #: Seconds before a completion is answered.
    delay_s: float = 0.0
    #: What the model thinks, split off as vLLM's reasoning parsers do.
    reasoning: str = ""


class OpenAIServer:
    """The server, from `start` to `stop`; its models are named as the adapters are."""

    def __init__(self, engine: StandinEngine, names: Mapping[str, str], *, key: str = "", tls: TlsFiles | None = None):
        """Serve the stand-in's adapters: name on this server -> adapter."""
        self.names, self.key, self.port = dict(names), key, free_port()
        self.faults = Faults()
        #: Bodies of the completions asked for, and every byte received.
        self.bodies: list[dict[str, Any]] = []
        self.received = bytearray()
        self.most_at_once = 0
        self._at_once = 0
        self._engine = engine
        self._lock = threading.Lock()
        self._tls = tls
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The address of the protocol."""
        return f"{'https' if self._tls else 'http'}://{LOCALHOST}:{self.port}/v1"

    def start(self) -> None:
        """Begin to answer."""
        received = self.received

        class Recording(H11Protocol):
            def data_received(self, data: bytes) -> None:
                received.extend(data)
                super().data_received(data)

        certificates: dict[str, Any] = {}
        if self._tls:
            certificates = {"ssl_certfile": str(self._tls.certificate), "ssl_keyfile": str(self._tls.key)}
        config = uvicorn.Config(
            self._app(), host=LOCALHOST, port=self.port, http=Recording, ws="none", log_config=None,
            timeout_graceful_shutdown=1, lifespan="off", **certificates,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="openai-server")
        self._thread.start()
        wait_until(lambda: self._server is None or self._server.started, 30, "the OpenAI server ready")

    def stop(self) -> None:
        """Answer no more; `start` begins anew on the same port."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._server = self._thread = None

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def let_in(request: Request, call_next: Any) -> Any:
            if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
                return refusal(401, f"Unauthorized: {request.headers.get('authorization')}")
            return await call_next(request)

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            served = [
                {"id": name, "root": f"standin/{adapter}", "parent": BASE, "owned_by": "tests"}
                for name, adapter in self.names.items()
            ]
            return {"object": "list", "data": [{"id": BASE, "root": BASE, "parent": None}, *served]}

        @app.post("/v1/chat/completions")
        def complete(body: dict[str, Any]) -> Response:
            with self._lock:
                self.bodies.append(body)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                fault = self.faults.next_answers.pop(0) if self.faults.next_answers else None
            try:
                time.sleep(self.faults.delay_s)
                return fault() if fault else self._complete(body)
            finally:
                with self._lock:
                    self._at_once -= 1

        return app

    def _complete(self, body: dict[str, Any]) -> Response:
        for part in self.faults.unknown_parts & body.keys():
            return refusal(400, UNKNOWN_PART.format(part))
        body = {name: value for name, value in body.items() if name not in self.faults.ignored_parts}
        if body["model"] not in self.names:
            return refusal(404, f"The model `{body['model']}` does not exist.")
        request = self._request(body)
        answer = self._engine.generate([request])[0]
        if isinstance(answer, GenerationFailure):
            return refusal(500, answer.reason)
        choice = {"index": 0, "message": self._message(answer), "finish_reason": answer.finish_reason}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": self._logprobs(body, request, answer)}
        choices = [{**choice, "index": number} for number in range(body.get("n", 1))]
        return JSONResponse({"object": "chat.completion", "choices": choices, "usage": {"prompt_tokens": 17}})

    def _request(self, body: dict[str, Any]) -> GenerationRequest:
        images, messages = [], []
        for message in body["messages"]:
            parts = message["content"]
            parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
            images += [picture_of(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
            content = [{"type": "image"} if part["type"] == "image_url" else part for part in parts]
            messages.append({"role": message["role"], "content": content})
        schema = body.get("response_format", {}).get("json_schema")
        form = JsonAnswer(schema["schema"], body["max_tokens"]) if schema else TextAnswer(body["max_tokens"])
        return GenerationRequest(self.names[body["model"]], messages, tuple(images), form)

    def _message(self, answer: Generation) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if self.faults.reasoning:
            message["reasoning_content"] = self.faults.reasoning
        return message

    def _logprobs(self, body: dict[str, Any], request: GenerationRequest, answer: Generation) -> list[dict[str, Any]]:
        places = [entry(token.token, token.logprob) for token in answer.tokens]
        if self.faults.reasoning:
            places = [entry(self.faults.reasoning, -1.0), *places]
        if count := body.get("top_logprobs"):
            first = 1 if self.faults.reasoning else 0
            places[first]["top_logprobs"] = first_tokens(request, count)
        return [*places, entry(END_OF_TURN, 0.0)]


def refusal(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as the protocol has it."""
    return JSONResponse({"error": {"message": words, "code": status}}, status, dict(headers or {}))


def entry(token: str, logprob: float) -> dict[str, Any]:
    """Return one place of the protocol's `logprobs.content`."""
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": []}


def picture_of(data_uri: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the pixels in a data URI."""
    with Image.open(io.BytesIO(png_of(data_uri))) as picture:
        return np.asarray(picture.convert("RGB"))


def png_of(data_uri: str) -> bytes:
    """Return the file in a data URI."""
    head, _, data = data_uri.partition(",")
    assert head == "data:image/png;base64", head
    return base64.b64decode(data, validate=True)


_models: dict[str, Any] = {}
_models_lock = threading.Lock()


def first_tokens(request: GenerationRequest, count: int) -> list[dict[str, Any]]:
    """Return the most likely first tokens of an answer, by transformers and PEFT without any of our engines."""
    with _models_lock, torch.inference_mode():
        folder: Path = STANDIN_FOLDER
        if "processor" not in _models:
            _models["processor"] = transformers.AutoProcessor.from_pretrained(folder / "base")
        processor = _models["processor"]
        if request.adapter not in _models:
            base = transformers.AutoModelForImageTextToText.from_pretrained(folder / "base", dtype=torch.float32)
            with warnings.catch_warnings():
                # PEFT asks transformers by the property's old name.
                warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
                _models[request.adapter] = peft.PeftModel.from_pretrained(base, folder / request.adapter).eval()
        text = processor.apply_chat_template(list(request.messages), add_generation_prompt=True, tokenize=False)
        pictures = [[Image.fromarray(image) for image in request.images]]
        inputs = processor(text=text, images=pictures, add_special_tokens=False, return_tensors="pt")
        likely = _models[request.adapter](**inputs).logits[0, -1].float().log_softmax(-1).topk(count)
        return [
            entry(processor.tokenizer.decode([token]), value)
            for value, token in zip(likely.values.tolist(), likely.indices.tolist(), strict=True)
        ]
