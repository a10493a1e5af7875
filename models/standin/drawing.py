"""Pupils drawn in several processes, and kept where training may begin again.

Input: the subject, seeds, and the processor. Output: pupils, in the order of the seeds. With a folder, what was drawn
once is read from it again.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import torch

from models.standin.classroom import Pupil, seat
from models.standin.curriculum import SUBJECTS

log = structlog.get_logger()

#: Lessons that a process draws before it hands them over.
_TOGETHER = 50


def draw_pupils(adapter: str, count: int, processor: Any, *, workers: int, kept: Path | None = None) -> list[Pupil]:
    """Draw the varied lessons with seeds 0 to `count` - 1."""
    file = kept / f"{adapter}-{count}.pt" if kept else None
    if file is not None and file.is_file():
        pupils: list[Pupil] = torch.load(file, weights_only=False)
        return pupils
    log.info("drawing phantoms", action="train", adapter=adapter, count=count)
    starts = range(0, count, _TOGETHER)
    draw = partial(_draw, adapter, count, processor)
    if workers == 1:
        pupils = [one for start in starts for one in draw(start)]
    else:
        with ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            # Cloned, because what comes from another process keeps a file open.
            pupils = [
                Pupil(one.lesson, one.pixels.clone(), one.prompt) for some in pool.map(draw, starts) for one in some
            ]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(pupils, file)
    return pupils


def _draw(adapter: str, count: int, processor: Any, start: int) -> list[Pupil]:
    draw = SUBJECTS[adapter].draw
    return [seat(processor, draw(seed, True)) for seed in range(start, min(start + _TOGETHER, count))]
