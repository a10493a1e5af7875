"""Pictures for the model and for reports, made where a codec can do no harm: in a child process with limits.

Input: an adapter and the stored instances of a unit, or the record of what a model saw. Output: a `ModelInput`, or the
very images again. A decoder that crashes or hangs is left out for that instance and the next one is asked. On failure:
`RenderError`, naming the instance, the decoder and the remedy; `RenderInterrupted` where the child was killed
or could not be started.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Final, ParamSpec, TypeVar

from dicom_node.headers import InstanceFile
from dicom_node.sandbox import (
    Sandbox,
    SandboxError,
    SandboxKilled,
    SandboxMemoryError,
    SandboxNotStarted,
    SandboxTimeout,
)
from dicom_node.sandbox_child import load_modules
from models.adapter import AdapterDefinition
from models.drawing import replay
from models.generation import RgbImage
from models.rendering import InputRecord, ModelInput, RenderError, RenderInterrupted
from worker.settings import RenderingSettings

P = ParamSpec("P")
T = TypeVar("T")

#: Of a call's time, what one decoder may take for one frame: enough is left to do the work again without it.
_DECODE_SHARE: Final = 0.25


class Renderer:
    """Renders in a child process, which is started at the first call and kept."""

    def __init__(self, settings: RenderingSettings) -> None:
        self._sandbox = Sandbox(
            memory_bytes=settings.memory_mib * 2**20,
            limit_s=settings.limit_s,
            decode_limit_s=settings.limit_s * _DECODE_SHARE,
        )

    def prepare(self, adapters: Iterable[AdapterDefinition]) -> None:
        """Start the child in the background, and let it import what these adapters draw with."""
        modules = sorted({adapter.render.__module__ for adapter in adapters})

        def load() -> None:
            # What hinders it now hinders the first call, which then says so.
            with suppress(RenderError):
                self._call(load_modules, modules)

        threading.Thread(target=load, name="renderer", daemon=True).start()

    def render(self, adapter: AdapterDefinition, files: Sequence[InstanceFile]) -> ModelInput:
        """Return what the model sees of these instances. Raises `RenderError`."""
        return self._call(adapter.render, tuple(files))

    def replay(self, record: InputRecord, files: Sequence[InstanceFile]) -> tuple[RgbImage, ...]:
        """Return the very images that a model saw. Raises `RenderError`."""
        return self._call(replay, record, tuple(files))

    def sheltered(self, adapter: AdapterDefinition) -> AdapterDefinition:
        """Return the adapter with a `render` that works in the child process."""
        return replace(adapter, render=lambda files: self.render(adapter, files))

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return self._sandbox.call(function, *args, **kwargs)
        except SandboxTimeout as error:
            raise RenderError(f"{error} (rendering.limit_s)") from error
        except SandboxMemoryError as error:
            raise RenderError(f"{error} (rendering.memory_mib)") from error
        except (SandboxKilled, SandboxNotStarted) as error:
            raise RenderInterrupted(str(error)) from error
        except SandboxError as error:
            raise RenderError(str(error)) from error


@cache
def renderer(settings: RenderingSettings) -> Renderer:
    """Return this process's renderer with these limits; it ends with the process."""
    made = Renderer(settings)
    atexit.register(made.close)
    return made
