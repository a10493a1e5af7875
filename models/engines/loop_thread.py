"""An event loop in a thread of its own: asynchronous work for callers that are not.

Input: coroutines, from any thread. Output: their results. On failure: whatever they raise; `EngineError` after `close`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from models.engines.configuration import EngineError

_Result = TypeVar("_Result")


class LoopThread:
    """One loop, one thread, until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-server", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Wait for the result of `work`; whoever is interrupted takes the work with them."""
        if self._loop.is_closed():
            work.close()
            raise EngineError("the engine was closed; load a new one")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Give up what is still running, run `last`, and end the thread; does nothing the second time."""
        if self._loop.is_closed():
            last.close()
            return

        async def end() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await last
            await self._loop.shutdown_default_executor()

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
