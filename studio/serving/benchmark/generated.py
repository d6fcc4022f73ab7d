"""Transformers' generate as a way to answer: a process of its own that takes requests in static batches."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from studio import openmp
from studio.errors import ServingError
from studio.serving.benchmark.demand import Demand, watched
from studio.serving.benchmark.figures import Answer
from studio.serving.benchmark.workload import Ask
from studio.settings import ROOT

WORKER = (sys.executable, "-m", "studio.worker.generate_bench")
LINE_MAX_BYTES = 1 << 28


@dataclass(frozen=True)
class Generator:
    """A process that holds the model. `batched`: all clients' requests at once, else one after another."""

    process: asyncio.subprocess.Process
    batched: bool

    async def put(self, asks: Sequence[Ask], clients: int, limit_s: float) -> tuple[list[Answer], Demand]:
        """The answers that so many clients get, each asking again when its answer is complete.

        Raises:
            ServingError: the process ended.
        """
        batch = clients if self.batched else 1
        asked = {"prompts": [ask.prompt for ask in asks], "tokens": [ask.tokens for ask in asks], "batch": batch}
        assert self.process.stdin
        async with watched([psutil.Process(self.process.pid)]) as watch:
            self.process.stdin.write(json.dumps({**asked, "limit_s": limit_s}).encode() + b"\n")
            told = await self.hear()
            return answers(asks, told["batches"], batch, clients), watch.demand()

    async def hear(self) -> dict[str, Any]:
        """The next line that the process says."""
        assert self.process.stdout
        if line := await self.process.stdout.readline():
            value: dict[str, Any] = json.loads(line)
            return value
        code = await self.process.wait()
        raise ServingError(f"The process that generates with Transformers ended with code {code}; the log says why")


@asynccontextmanager
async def opened(model: str, dtype: str, threads: int, batched: bool) -> AsyncIterator[Generator]:
    """A process that has loaded the model; it ends with the block.

    Raises:
        ServingError: it could not load it.
    """
    process = await asyncio.create_subprocess_exec(
        *WORKER, model, dtype, str(threads), env=environment(threads), cwd=ROOT, limit=LINE_MAX_BYTES,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    generator = Generator(process, batched)
    try:
        await generator.hear()
        yield generator
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def environment(threads: int, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the process: the same OpenMP and as many threads as vLLM has."""
    values = {**inherited, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    return values | openmp.environment(inherited)


def answers(asks: Sequence[Ask], batches: Sequence[Mapping[str, Any]], batch: int, clients: int) -> list[Answer]:
    """What each client saw. It asks again when its answer is there, and waits while earlier batches are worked on.

    An answer that is shorter than the longest of its batch was complete at its own last token; whoever asked is not
    told before the batch ends, but a stream would have shown it.
    """
    found: list[Answer] = []
    for index, ask in enumerate(asks[: len(batches) * batch]):
        steps: list[float] = batches[index // batch]["token_s"][: ask.tokens]
        asked = found[index - clients].ended_s if index >= clients else 0.0
        gaps = tuple(later - earlier for earlier, later in itertools.pairwise(steps))
        found.append(Answer(asked, steps[0], steps[-1], len(steps), gaps))
    return found
