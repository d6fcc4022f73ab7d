"""The course of a benchmark: every way to answer, one after another, each put to every load."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from studio import models
from studio.config.bench import INT8, BenchConfig
from studio.errors import SeedbedError
from studio.files import append_line
from studio.runs.store import Store
from studio.serving import command, memory
from studio.serving.benchmark import figures, generated, int8, report, served, workload
from studio.serving.benchmark.demand import Demand
from studio.serving.benchmark.figures import Answer, Measured
from studio.serving.benchmark.variants import Variant, variants
from studio.serving.benchmark.workload import Ask, Case

WARM_TOKENS = 4

Tell = Callable[[int, int, float | None, str], None]


class Way(Protocol):
    """Something that answers."""

    async def put(self, asks: list[Ask], clients: int, limit_s: float) -> tuple[list[Answer], Demand]:
        """The answers that so many clients get, and what that took."""


class Course:
    """One benchmark under way. `tell` hears (done, all, seconds left, what is done now)."""

    def __init__(self, config: BenchConfig, folder: Path, tell: Tell) -> None:
        self.config = config
        self.folder = folder
        self.tell = tell
        self.cases = workload.cases(config)
        self.measured: list[Measured] = []
        self.failed: dict[str, str] = {}
        self.begun = time.monotonic()
        self.total = len(config.variants) * len(self.cases) * config.repeats

    async def go(self) -> None:
        """Measure everything. A way that cannot be had is noted, and the next one is taken."""
        for variant in variants(self.config, self.folder):
            done = len(self.measured)
            try:
                async with self._opened(variant) as way:
                    await self._measure(variant, way)
            except SeedbedError as error:
                self.failed[variant.name] = str(error)
                self.total -= len(self.cases) * self.config.repeats - (len(self.measured) - done)
                report.write(self.folder, self.config, self.measured, self.failed)

    @asynccontextmanager
    async def _opened(self, variant: Variant) -> AsyncIterator[Way]:
        def starting(message: str) -> None:
            self._say(f"{variant.name}: {message}")

        if variant.name == INT8:
            starting("rounding its weights")
            await int8.write(self.config.model_name_or_path, Path(variant.serve.model_name_or_path))
        starting("starting")
        if variant.is_server:
            async with served.opened(Store(self.folder / "servers"), variant.serve, starting) as answering:
                yield answering
            return
        name = models.resolve(variant.serve.model_name_or_path)
        dtype = memory.settled(variant.serve).dtype  # as of the servers
        async with generated.opened(name, dtype, _threads(variant), variant.batched) as generator:
            yield generator

    async def _measure(self, variant: Variant, way: Way) -> None:
        vocabulary = workload.vocabulary(variant.serve.model_name_or_path)
        for repeat in range(self.config.repeats):
            for case in self.cases:
                self._say(f"{variant.name}: {_about(case)}")
                asks = workload.asks(self.config, case, repeat, vocabulary)
                if repeat == 0:  # what is only slow the first time is no part of the figures
                    await way.put([Ask(ask.prompt[::-1], WARM_TOKENS) for ask in asks[: case.clients]], case.clients, 0)
                answers, demand = await way.put(asks, case.clients, self.config.limit_s)
                self._note(figures.measured(variant.name, case, answers, demand))

    def _note(self, found: Measured) -> None:
        self.measured.append(found)
        append_line(self.folder / "measured.jsonl", {**asdict(found), "at": time.time()})
        report.write(self.folder, self.config, self.measured, self.failed)

    def _say(self, message: str) -> None:
        done = len(self.measured)
        left = (time.monotonic() - self.begun) / done * (self.total - done) if done else None
        self.tell(done, self.total, left, message)


async def run(config: BenchConfig, folder: Path, tell: Tell) -> dict[str, Any]:
    """Do the whole benchmark in its run directory; the figures for result.json.

    Raises:
        ServingError: not one of the ways could be measured.
    """
    course = Course(config, folder, tell)
    await course.go()
    return report.result(course.measured, course.failed)


def _threads(variant: Variant) -> int:
    """As many as vLLM takes for the same model: otherwise threads would be compared."""
    path = models.resolve(variant.serve.model_name_or_path)
    parameters = models.check(Path(path)).parameters if models.is_local(path) else None
    return command.threads(variant.serve, parameters) or max(1, len(os.sched_getaffinity(0)) - 1)


def _about(case: Case) -> str:
    clients = "1 client" if case.clients == 1 else f"{case.clients} clients"
    return f"{clients}, {case.prompt_tokens} + {case.output_tokens} tokens"
