"""Which adapter answers: one for a whole batch, or one for each row of it.

Input: the base model with every LoRA in place, and the rows' adapter names. Output: forward passes under these
adapters. An exception inside leaves nothing behind: PEFT's own way of mixing (`generate(adapter_names=...)`) leaves its
hooks on the layers, after which later calls are answered by the wrong adapter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import peft
from peft.tuners.lora import LoraLayer

from models.engines.configuration import BASE_ONLY

#: PEFT's name for a row that no adapter changes.
_NO_ADAPTER = "__base__"


class AdapterSwitch:
    """Switches the adapters of one resident base model."""

    def __init__(self, model: peft.PeftModel | None) -> None:
        """Take the model with its adapters; None where it has none."""
        self._model = model
        self._layers = [] if model is None else [part for part in model.modules() if isinstance(part, LoraLayer)]
        self._active: str | None = None

    @contextlib.contextmanager
    def answering(self, adapters: Sequence[str]) -> Iterator[None]:
        """Let `adapters[row]` answer for each row of the batches that go through the model meanwhile.

        Rows of different adapters are only right where no pixels are read: image embeddings must come along ready.
        """
        if len(set(adapters)) == 1:
            self._activate(adapters[0])
            yield
            return
        self._activate(next(name for name in adapters if name != BASE_ONLY))
        names = [_NO_ADAPTER if name == BASE_ONLY else name for name in adapters]

        def name_the_rows(_layer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, {**kwargs, "adapter_names": names}

        with contextlib.ExitStack() as hooks:
            for layer in self._layers:
                hooks.callback(layer.register_forward_pre_hook(name_the_rows, with_kwargs=True).remove)
            yield

    def _activate(self, adapter: str) -> None:
        if self._model is None or adapter == self._active:
            return
        tuner = self._model.base_model
        # Unknown until it is done: an exception half-way must not be taken for success the next time.
        was, self._active = self._active, None
        if adapter == BASE_ONLY:
            tuner.disable_adapter_layers()
        else:
            if was in (BASE_ONLY, None):
                tuner.enable_adapter_layers()
            # Without inference_mode, switching turns gradients on.
            self._model.set_adapter(adapter, inference_mode=True)
        self._active = adapter
